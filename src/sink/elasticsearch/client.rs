//! The HTTP client for all requests to Elasticsearch.
//!
//! It sends one request and returns one reply, of any status. Callers judge, wait and retry. The client itself repeats
//! a request only at another node after a node failed, with new credentials after they changed, and without `Expect` if
//! the server does not support it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ureq::Agent;
use ureq::http::Method;
use ureq::http::header::DATE;

use super::product::Product;
use crate::auth::Auth;
use crate::common::exit::Failure;
use crate::common::mutex::Mutex;
use crate::config;
use crate::http::encoding::gzip;
use crate::http::nodes::Nodes;
use crate::http::{self, TransportError};
use crate::process::shutdown::Stop;

mod counted;
mod failover;
pub(super) mod reply;
mod request;
mod sending;

pub use self::reply::{KNN_BREAKER, Reply, text_of_error};
use self::request::{Answered, Outgoing, Sent};
pub use self::request::{ExpectAnswer, Posted, RequestLimits};

/// How long a request with `Expect` waits for an answer. Then its body is sent anyway.
const EXPECT_LIMIT: Duration = Duration::from_secs(1);

/// Time limit for name resolution, TCP connection and TLS handshake.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Client for one cluster. Clones share connections and state.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
    nodes: Arc<Nodes>,
    auth: Auth,
    limits: RequestLimits,
    /// The end of the run, after which a request that is under way goes to no further node.
    stop: Option<Stop>,
    /// Gzip level of bulk requests; 0 sends them uncompressed.
    compression: u8,
    /// Whether the server, or a proxy in front of it, has refused `Expect`.
    refuses_expect: Arc<AtomicBool>,
    /// The product, once it is known.
    product: Arc<OnceLock<Product>>,
    /// Number of requests that failed, at any node.
    outages: Arc<AtomicU64>,
    /// The last answer that did not come from Elasticsearch, and whether any answer came from it.
    pages: Arc<Mutex<(Option<String>, bool)>>,
    /// The paths of requests answered with pages, since the record of pages began.
    paths_of_pages: Arc<Mutex<BTreeSet<String>>>,
    /// Paths that a proxy in front of the server hides, as far as the preflight has seen. Pages there are not recorded.
    hidden_paths: Arc<Mutex<BTreeSet<String>>>,
    /// Whether credentials are masked in replies of status 200, too. Only documents that are compared are read as they
    /// are: a password may be a word of a post.
    masks_content: bool,
}

#[cfg(test)]
impl Client {
    /// Creates a client with [`RequestLimits::default`].
    pub(super) fn new(settings: &config::Elasticsearch) -> Result<Self, Failure> {
        Self::with_limits(settings, RequestLimits::default())
    }
}

impl Client {
    /// Creates a client for the given server. Opens no connection yet.
    ///
    /// # Errors
    ///
    /// Returns a usage failure if a certificate file cannot be used.
    pub fn with_limits(settings: &config::Elasticsearch, limits: RequestLimits) -> Result<Self, Failure> {
        Ok(Self {
            agent: agent(settings, limits.idle_connections)?,
            nodes: Arc::new(Nodes::new(settings.urls.clone())),
            auth: settings.auth.clone(),
            limits,
            stop: None,
            compression: settings.compression,
            refuses_expect: Arc::default(),
            product: Arc::default(),
            outages: Arc::default(),
            pages: Arc::default(),
            paths_of_pages: Arc::default(),
            hidden_paths: Arc::default(),
            masks_content: true,
        })
    }

    /// Returns a client whose requests that are under way at this stop go to no further node.
    pub fn stopping_at(self, stop: &Stop) -> Self {
        Self { stop: Some(stop.clone()), ..self }
    }

    /// Returns a client that shares everything, but limits a request to this time.
    pub fn within(&self, call: Duration) -> Self {
        Self { limits: RequestLimits { call: call.min(self.limits.call), ..self.limits }, ..self.clone() }
    }

    /// Returns a client with a short time limit, for requests made although the run is to stop.
    pub fn with_short_limit(&self) -> Self {
        self.within(self.limits.last_call)
    }

    /// Records that every node has answered, because another client has had answers from them.
    pub fn mark_nodes_answered(&self) {
        (0..self.nodes.len()).for_each(|node| self.nodes.answered(node));
    }

    /// Records the product for all clones. Only the first call counts.
    pub fn set_product(&self, product: Product) {
        let _ = self.product.set(product);
    }

    /// Returns the product; the default until it is known.
    pub fn product(&self) -> Product {
        self.product.get().copied().unwrap_or_default()
    }

    /// Returns how many requests have failed because a connection broke or a node was away. If the number has grown, a
    /// node may have restarted.
    pub fn outages(&self) -> u64 {
        self.outages.load(Ordering::Relaxed)
    }

    /// Returns a client whose replies of status 200 have to be masked before anything of them is shown.
    pub fn without_masks(&self) -> Self {
        Self { masks_content: false, ..self.clone() }
    }

    /// Masks credentials in text from outside.
    pub fn mask(&self, text: &mut Vec<u8>) {
        self.auth.cut_out_of(text);
    }

    /// Returns a client with its own record of pages ([`Reply::is_page`]), which starts empty.
    pub fn recording_pages(&self) -> Self {
        Self { pages: Arc::default(), paths_of_pages: Arc::default(), ..self.clone() }
    }

    /// Takes the paths of the pages recorded so far for paths that a proxy always hides. A page there says nothing about
    /// an outage.
    pub fn expect_pages(&self) {
        self.hidden_paths.lock().append(&mut self.paths_of_pages.lock());
    }

    /// Returns the last answer that was a page, as one line.
    pub fn page(&self) -> Option<String> {
        self.pages.lock().0.clone()
    }

    /// Like [`Client::page`], but None if any answer was not a page.
    pub fn only_page(&self) -> Option<String> {
        let pages = self.pages.lock();
        pages.0.clone().filter(|_| !pages.1)
    }

    /// Returns the base URLs for messages. They hold no credentials.
    pub fn base_url(&self) -> String {
        self.urls().collect::<Vec<_>>().join(", ")
    }

    /// Returns the base URLs.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.nodes.urls()
    }

    /// Returns advice if a reply refuses the credentials; None for any other reply.
    pub fn refusal(&self, reply: &Reply) -> Option<String> {
        self.auth.refusal(reply.status, &reply.body)
    }

    /// Adds advice to the failure of a run whose credentials are refused.
    pub fn with_advice(&self, failure: Failure) -> Failure {
        Failure { message: format!("{}; {}", failure.message, self.auth.advice()), ..failure }
    }

    /// Sends a `GET`. The path starts with `/` and may have a query.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no complete reply. A status of 4xx or 5xx is a reply.
    pub fn get(&self, path: &str) -> Result<Reply, TransportError> {
        Ok(self.send(&Outgoing::get(path))?.reply)
    }

    /// Like [`Client::get`]; also returns the `Date` of the reply, if it has one.
    pub fn get_with_date(&self, path: &str) -> Result<(Reply, Option<String>), TransportError> {
        let Answered { reply, headers, .. } = self.send(&Outgoing::get(path))?;
        let date = headers.get(DATE).and_then(|date| date.to_str().ok()).map(str::to_owned);
        Ok((reply, date))
    }

    /// Like [`Client::get`], but sends a `POST` of a JSON value, with `Content-Length`. The body is not copied.
    pub fn post(&self, path: &str, body: &[u8]) -> Result<Reply, TransportError> {
        Ok(self.send(&Outgoing::with_body(Method::POST, path, body))?.reply)
    }

    /// Sends a `PUT`; otherwise like [`Client::post`].
    pub fn put(&self, path: &str, body: &[u8]) -> Result<Reply, TransportError> {
        Ok(self.send(&Outgoing::with_body(Method::PUT, path, body))?.reply)
    }

    /// Sends a bulk request. With `expects_continue` (`Expect: 100-continue`), the body follows after the server has
    /// accepted it, or has not answered for a second.
    ///
    /// A server that finds a body too large may answer 413 and close the connection during the upload. That reply is
    /// lost, and the result is [`TransportError::Interrupted`]. Asking first gets the reply, and a busy server can
    /// refuse without receiving the body. It costs a round trip.
    pub fn post_bulk(&self, path: &str, body: &[u8], expects_continue: bool) -> Posted {
        let expects_continue = expects_continue && !self.refuses_expect.load(Ordering::Relaxed);
        let counted = Sent::default();
        let gzip = if self.compression > 0 { gzip(body, self.compression) } else { None };
        let is_gzip = gzip.is_some();
        let to_send = gzip.map_or(Cow::Borrowed(body), Cow::Owned);
        let whole = to_send.len() as u64;
        let ask = Outgoing {
            content_type: Some("application/x-ndjson"),
            body: Some(to_send),
            is_gzip,
            expects_continue,
            sent: Some(&counted),
            ..Outgoing::with_body(Method::POST, path, body)
        };
        let reply = self.send(&ask).map(|answered| answered.reply);
        let on_wire = counted.bytes.get();
        let expect_answer = match (expects_continue, on_wire) {
            (false, _) => ExpectAnswer::NotAsked,
            (true, 0) if whole > 0 && reply.is_ok() => ExpectAnswer::Refused,
            _ if counted.unanswered.get() => ExpectAnswer::NoAnswer,
            _ => ExpectAnswer::Accepted,
        };
        // Converts compressed bytes to bytes of the body, in proportion.
        let sent = u128::from(on_wire) * body.len() as u128 / u128::from(whole.max(1));
        Posted { reply, sent: u64::try_from(sent).unwrap_or(u64::MAX), on_wire, expect_answer }
    }

    /// Records whether the reply to a request for this path was a page.
    fn record_page(&self, path: &str, reply: &Reply) {
        let path = path.split('?').next().unwrap_or(path);
        let mut pages = self.pages.lock();
        if reply.is_page() {
            if !self.hidden_paths.lock().contains(path) {
                pages.0 = Some(reply.reason());
                self.paths_of_pages.lock().insert(path.to_owned());
            }
        } else {
            pages.1 = true;
        }
    }
}

fn agent(settings: &config::Elasticsearch, idle_connections: usize) -> Result<Agent, Failure> {
    let client_cert = settings.client_cert.as_ref();
    http::agent(&http::HttpSettings {
        ca_cert: settings.ca_cert.as_deref().map(|path| (path, http::CA_CERT)),
        ca_fingerprint: settings.ca_fingerprint,
        client_cert: client_cert.map(|(certificate, key)| (certificate.as_path(), key.as_path())),
        is_https: settings.urls.iter().any(|url| url.starts_with("https:")),
        skip_tls_verify: settings.skip_tls_verify,
        idle_connections,
        ..http::HttpSettings::new(&settings.proxies, CONNECT_LIMIT)
    })
}

#[cfg(test)]
mod tests;
