//! The HTTP client that every request to Elasticsearch goes through.
//!
//! It sends one request and returns one reply, of whatever status: judging, waiting and sending again are
//! left to the callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, EXPECT};
use ureq::http::request::Builder;
use ureq::http::{HeaderMap, HeaderValue, Method, Request};
use ureq::{Agent, AsSendBody};

use crate::config;
use crate::exit::Failure;
use crate::http::{self, TransportError, retry_after};
use crate::secret::Secret;

/// Characters of a server's error text that are passed on at most.
const MAX_REASON_CHARS: usize = 400;

/// The bounds of one request.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time for name, TCP connection and TLS handshake.
    pub connect: Duration,
    /// Time for the whole request, from the first byte sent to the last one received.
    pub call: Duration,
    /// The same for a request that is made although the run is to stop.
    pub last_call: Duration,
    /// Bytes of a reply's body: more is an error, so that no server can exhaust the memory.
    pub reply_bytes: u64,
    /// Idle connections kept at most: as many as threads send at once, or some would connect anew for each request.
    pub idle_connections: usize,
}

impl Default for Limits {
    /// For one thread: 10 s to connect; 90 s for a request, above the minute that Elasticsearch itself waits for a primary
    /// shard; 10 s for one that holds up the end of a run; 64 MiB for a reply, many times that of the largest bulk
    /// request.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            call: Duration::from_secs(90),
            last_call: Duration::from_secs(10),
            reply_bytes: 64 << 20,
            idle_connections: 1,
        }
    }
}

/// What a request body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// One JSON value.
    Json,
    /// One JSON value a line, as `_bulk` takes it.
    Ndjson,
}

impl ContentType {
    fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            ContentType::Json => "application/json",
            ContentType::Ndjson => "application/x-ndjson",
        })
    }
}

/// A complete reply, of whatever status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The name of the error in an Elasticsearch reply (`error.type`), `""` where there is none.
    pub fn error_type(&self) -> String {
        self.error_field("type").unwrap_or_default()
    }

    /// Whether the server says what is wrong as Elasticsearch does, which something before it does not.
    pub fn has_error(&self) -> bool {
        self.error_field("reason").is_some()
    }

    /// What the server says is wrong, as one short line for an operator.
    pub fn reason(&self) -> String {
        let mut text =
            self.error_field("reason").unwrap_or_else(|| String::from_utf8_lossy(&self.body).into());
        // Of a key that is refused, the reason says no more than that; this says that it has expired, say.
        if let Some(why) = self.error_field("additional_unsuccessful_credentials") {
            text = format!("{why}: {text}");
        }
        // Control characters could forge lines of a log.
        let text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON_CHARS);
        format!("HTTP {} {}", self.status, text.collect::<String>()).trim_end().to_owned()
    }

    fn error_field(&self, name: &str) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        text_of_error(body.get("error")?, name).map(str::to_owned)
    }
}

/// A text of an `error` object; where `error` is itself a text, that is its reason.
pub fn text_of_error<'e>(error: &'e Value, name: &str) -> Option<&'e str> {
    let text = if name == "reason" && error.is_string() { error } else { error.get(name)? };
    text.as_str()
}

/// The client. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
    base_url: Arc<str>,
    authorization: HeaderValue,
    api_key: Secret,
    limits: Limits,
    /// Whether there has been a reply, so that what answers speaks as the URL says.
    has_answered: Arc<AtomicBool>,
}

impl Client {
    /// A client for the given server, with the bounds of [`Limits::default`]. Opens no connection yet.
    ///
    /// # Errors
    ///
    /// A usage failure where the CA file or the API key cannot be used.
    pub fn new(settings: &config::Elasticsearch) -> Result<Self, Failure> {
        Self::with_limits(settings, Limits::default())
    }

    /// As [`Client::new`], with bounds of one's own.
    ///
    /// # Errors
    ///
    /// As for [`Client::new`].
    pub fn with_limits(settings: &config::Elasticsearch, limits: Limits) -> Result<Self, Failure> {
        Ok(Self {
            agent: agent(settings, limits)?,
            base_url: settings.url.as_str().into(),
            authorization: authorization(settings)?,
            api_key: settings.api_key.clone(),
            limits,
            has_answered: Arc::default(),
        })
    }

    /// The same client, with no more time than this for a request.
    pub fn within(&self, call: Duration) -> Self {
        Self { limits: Limits { call: call.min(self.limits.call), ..self.limits }, ..self.clone() }
    }

    /// The same client, for a request that is made although the run is to stop.
    pub fn in_haste(&self) -> Self {
        self.within(self.limits.last_call)
    }

    /// Takes note of a reply, for all clones.
    pub fn note_answer(&self) {
        self.has_answered.store(true, Ordering::Relaxed);
    }

    /// Whether there has been a reply.
    pub fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }

    /// The base URL, which holds no credential.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// `GET`; the path begins with `/` and may have a query.
    ///
    /// # Errors
    ///
    /// Where there is no complete reply. A status of 4xx or 5xx is a reply.
    pub fn get(&self, path: &str) -> Result<Reply, TransportError> {
        self.run(self.request(Method::GET, path), ())
    }

    /// As [`Client::get`], with the `Date` of the reply where it has one.
    ///
    /// # Errors
    ///
    /// As for [`Client::get`].
    pub fn get_with_date(&self, path: &str) -> Result<(Reply, Option<String>), TransportError> {
        let (reply, headers) = self.run_for_headers(self.request(Method::GET, path), ())?;
        let date = headers.get(DATE).and_then(|date| date.to_str().ok()).map(str::to_owned);
        Ok((reply, date))
    }

    /// `POST`. The body is sent from where it lies, under its `Content-Length`.
    ///
    /// # Errors
    ///
    /// As for [`Client::get`].
    pub fn post(&self, path: &str, kind: ContentType, body: &[u8]) -> Result<Reply, TransportError> {
        self.run(self.request(Method::POST, path).header(CONTENT_TYPE, kind.header()), body)
    }

    /// `PUT`. Otherwise as [`Client::post`].
    ///
    /// # Errors
    ///
    /// As for [`Client::get`].
    pub fn put(&self, path: &str, kind: ContentType, body: &[u8]) -> Result<Reply, TransportError> {
        self.run(self.request(Method::PUT, path).header(CONTENT_TYPE, kind.header()), body)
    }

    /// As [`Client::post`], but the body follows only once the server has agreed to its size, or has said
    /// nothing for a second (`Expect: 100-continue`, RFC 9110, section 10.1.1).
    ///
    /// A server that finds a body too large may answer 413 and close while it is still being sent; that
    /// arrives here as [`TransportError::Interrupted`], since the reply is lost with the connection.
    /// Asked first, it can say so. This costs a round trip, so it is for such second attempts only.
    ///
    /// # Errors
    ///
    /// As for [`Client::get`].
    pub fn post_asking_first(
        &self,
        path: &str,
        kind: ContentType,
        body: &[u8],
    ) -> Result<Reply, TransportError> {
        let request = self.request(Method::POST, path).header(EXPECT, "100-continue");
        self.run(request.header(CONTENT_TYPE, kind.header()), body)
    }

    fn request(&self, method: Method, path: &str) -> Builder {
        Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base_url))
            .header(AUTHORIZATION, self.authorization.clone())
    }

    fn run(&self, request: Builder, body: impl AsSendBody) -> Result<Reply, TransportError> {
        Ok(self.run_for_headers(request, body)?.0)
    }

    fn run_for_headers(
        &self,
        request: Builder,
        body: impl AsSendBody,
    ) -> Result<(Reply, HeaderMap), TransportError> {
        let request = request.body(body).map_err(ureq::Error::from)?;
        let request = self.agent.configure_request(request).timeout_global(Some(self.limits.call)).build();
        let response = self.agent.run(request)?;
        let (head, mut body) = response.into_parts();
        let read = body.with_config().limit(self.limits.reply_bytes).read_to_vec();
        let mut body = read.map_err(|error| TransportError::from(error).after_the_head())?;
        self.api_key.cut_out_of(&mut body);
        let reply = Reply { status: head.status.as_u16(), retry_after: retry_after(&head.headers), body };
        Ok((reply, head.headers))
    }
}

fn agent(settings: &config::Elasticsearch, limits: Limits) -> Result<Agent, Failure> {
    http::agent(&http::Settings {
        ca_cert: settings.ca_cert.as_deref(),
        is_https: settings.url.starts_with("https:"),
        skip_tls_verify: settings.skip_tls_verify,
        connect_limit: limits.connect,
        // A request as a whole has its limit.
        head_limit: None,
        read_limit: None,
        idle_connections: limits.idle_connections,
    })
}

/// The header with the key, marked as sensitive so that no `Debug` prints it.
fn authorization(settings: &config::Elasticsearch) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::try_from(format!("ApiKey {}", settings.api_key.expose())).map_err(|_| {
        Failure::usage("ELASTICSEARCH_API_KEY holds characters that no HTTP header can carry")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
