//! Answers to requests other than bulk requests, and why there is none.

use std::fmt;
use std::time::Duration;

use super::client::{Client, Reply};
use super::outcome::{URL_ADVICE, foreign_answer, is_unavailable};
use super::product::Product;
use crate::common::exit::{ExitCode, Failure};
use crate::http::{CA_CERT, TransportError};
use crate::observe::finding::{Check, Status};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// At least one check failed. Waiting does not change that.
    Refused(Vec<Check>),
    /// Elasticsearch cannot be reached, or cannot answer for now.
    Unavailable(Outage),
}

/// Why Elasticsearch has no answer for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// What happened, in one line.
    pub why: String,
    /// How long the server asks the client to wait.
    pub retry_after: Option<Duration>,
}

impl NoAnswer {
    /// Creates the error for no answer, if the server gives no time to wait.
    pub fn unavailable(why: impl Into<String>) -> Self {
        Self::Unavailable(Outage { why: why.into(), retry_after: None })
    }

    /// Creates the error for no answer, with the time to wait in this reply.
    pub fn unavailable_as(why: impl Into<String>, reply: &Reply) -> Self {
        Self::Unavailable(Outage { why: why.into(), retry_after: reply.retry_after })
    }

    pub(super) fn refused(name: &'static str, text: impl Into<String>) -> Self {
        Self::Refused(vec![Check::failed(name, text)])
    }

    /// Creates the error for a reply that does not answer the request.
    pub(super) fn unexpected(name: &'static str, question: &str, reply: &Reply) -> Self {
        Self::refused(name, format!("unexpected answer to {question}: {}", reply.reason()))
    }

    /// Creates the error for a reply that comes from something other than Elasticsearch.
    pub(super) fn not_elasticsearchs(question: &str, reply: &Reply) -> Self {
        let text =
            format!("the answer to {question} is not Elasticsearch's ({}): {URL_ADVICE}", reply.reason());
        Self::refused("connection", text)
    }

    /// Creates the error for a server of which every answer so far was a page such as this one.
    pub(super) fn only_pages(page: &str) -> Self {
        Self::refused("connection", format!("the answer is not Elasticsearch's ({page}): {URL_ADVICE}"))
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoAnswer::Unavailable(Outage { why, .. }) => {
                write!(f, "Elasticsearch is unavailable: {why}")
            }
            NoAnswer::Refused(checks) => {
                let failed = checks.iter().filter(|check| check.status == Status::Failed);
                let texts: Vec<_> = failed.map(|check| format!("{}: {}", check.name, check.text)).collect();
                write!(f, "preflight refused: {}", texts.join("; "))
            }
        }
    }
}

impl std::error::Error for NoAnswer {}

impl From<NoAnswer> for Failure {
    fn from(error: NoAnswer) -> Self {
        let code = match error {
            NoAnswer::Refused(_) => ExitCode::Refused,
            NoAnswer::Unavailable(_) => ExitCode::Unavailable,
        };
        Failure::new(code, error.to_string())
    }
}

/// Runs `ask`, and treats a refusal that came with a proxy's page (an ingress, a redirect) as an outage: the server
/// itself has answered before.
pub(super) fn pages_as_outages<T>(
    client: &Client,
    ask: impl FnOnce(&Client) -> Result<T, NoAnswer>,
) -> Result<T, NoAnswer> {
    ask(client).map_err(|error| match (error, client.page()) {
        (NoAnswer::Refused(_), Some(page)) => NoAnswer::unavailable(foreign_answer(&page)),
        (error, _) => error,
    })
}

/// Returns the reply, or an error if there is no usable one: the transport failed, the key is refused, or the server
/// cannot answer now.
pub(super) fn answer(client: &Client, result: Result<Reply, TransportError>) -> Result<Reply, NoAnswer> {
    let url = client.base_url();
    if let Some(product) = result.as_ref().ok().and_then(Product::of_refusal) {
        client.set_product(product);
    }
    match result {
        Ok(reply) if client.urls().any(|url| has_stray_path(url, &reply)) => Err(NoAnswer::refused(
            "connection",
            format!(
                "Elasticsearch does not answer at the path of {url} ({}): leave the path out of ELASTICSEARCH_URL",
                reply.reason()
            ),
        )),
        Ok(reply) => match client.refusal(&reply) {
            Some(what_to_do) => {
                Err(NoAnswer::refused("credentials", format!("{what_to_do} ({})", reply.reason())))
            }
            None => judge_status(reply),
        },
        Err(TransportError::Refused(why) | TransportError::RefusedByProxy(why)) => {
            Err(NoAnswer::refused("connection", format!("{url}: {why}")))
        }
        Err(error @ TransportError::Tls(_)) => Err(NoAnswer::refused(
            "certificate",
            format!(
                "{url}: {error}: check the scheme and host in ELASTICSEARCH_URL and the dates of the \
                 certificate, and name its issuer's root with {CA_CERT}"
            ),
        )),
        Err(error) => Err(NoAnswer::unavailable(format!("{url}: {error}"))),
    }
}

/// Returns whether Elasticsearch itself gets the path of the base URL and does not know it. Bulk requests would still
/// work (`/<index>/_bulk`, where each action names its own index), but the indices could not be inspected. A proxy in
/// front of Elasticsearch removes that path.
pub(super) fn has_stray_path(url: &str, reply: &Reply) -> bool {
    let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    let path = path.trim_end_matches('/');
    let seen = format!("no handler found for uri [/{path}/");
    reply.status == 400 && !path.is_empty() && reply.reason().contains(&seen)
}

/// Judges statuses that have the same meaning for every request; part of [`answer`].
fn judge_status(reply: Reply) -> Result<Reply, NoAnswer> {
    match reply.status {
        300..=399 => Err(NoAnswer::refused(
            "connection",
            format!(
                "the server redirects (HTTP {}), and redirects are not followed: set ELASTICSEARCH_URL to \
                 the address of Elasticsearch itself",
                reply.status
            ),
        )),
        407 => Err(NoAnswer::refused(
            "connection",
            "the proxy requires other credentials (HTTP 407): give them as http://user:password@… in \
             INGEST_PROXY",
        )),
        _ if is_unavailable(&reply) => Err(NoAnswer::unavailable_as(reply.reason(), &reply)),
        _ => Ok(reply),
    }
}
