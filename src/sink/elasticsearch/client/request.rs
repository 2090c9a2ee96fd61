//! A request to Elasticsearch and its result.

use std::borrow::Cow;
use std::cell::Cell;
use std::time::Duration;

use ureq::http::{HeaderMap, Method};

use super::Reply;
use crate::http::TransportError;

/// Limits of one request.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Time limit for the whole request, from the first byte sent to the last one received.
    pub call: Duration,
    /// Like `call`, for requests made although the run is to stop.
    pub last_call: Duration,
    /// Largest body of a reply, in bytes. A larger one is an error, so that no server can exhaust the memory.
    pub reply_bytes: u64,
    /// Maximum number of idle connections. Should equal the number of sending threads; otherwise some reconnect for
    /// each request.
    pub idle_connections: usize,
}

impl Default for RequestLimits {
    /// Returns the limits for one thread: 90 s for a request, more than the minute that Elasticsearch itself waits for a
    /// primary shard; 10 s for a request that delays the end of a run; 64 MiB for a reply, many times that of the largest
    /// bulk request.
    fn default() -> Self {
        Self {
            call: Duration::from_secs(90),
            last_call: Duration::from_secs(10),
            reply_bytes: 64 << 20,
            idle_connections: 1,
        }
    }
}

/// Answer of a server to `Expect: 100-continue`, which asks whether it wants the body (RFC 9110, section 10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectAnswer {
    /// The request had no `Expect`.
    NotAsked,
    /// The server accepted the body. Also used if it does not support `Expect`, and a second request without it was
    /// sent.
    Accepted,
    /// The server answered the request without the body.
    Refused,
    /// The server sent no answer before the time limit, and the body was sent anyway.
    NoAnswer,
}

/// Result of a bulk request.
pub struct Posted {
    /// The reply, or an error if there is no complete one.
    pub reply: Result<Reply, TransportError>,
    /// Bytes of the body that were sent, before compression. A body sent to several nodes counts for each.
    pub sent: u64,
    /// The same bytes as sent, after compression.
    pub on_wire: u64,
    /// Answer to `Expect`.
    pub expect_answer: ExpectAnswer,
}

/// A request, without node and credentials.
#[derive(Clone, Debug, Default)]
pub(super) struct Outgoing<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) content_type: Option<&'static str>,
    pub(super) body: Option<Cow<'a, [u8]>>,
    pub(super) is_gzip: bool,
    pub(super) expects_continue: bool,
    pub(super) sent: Option<&'a Sent>,
}

/// How much of a body has been sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) bytes: Cell<u64>,
    /// Whether the body was sent although the server had not answered `Expect`.
    pub(super) unanswered: Cell<bool>,
}

impl<'a> Outgoing<'a> {
    pub(super) fn get(path: &'a str) -> Self {
        Self { path, ..Self::default() }
    }

    /// Returns whether the request costs a node little and changes nothing, so that it may be sent to all nodes at once.
    /// A bulk request that is pushed back has to slow down the senders instead.
    pub(super) fn is_small(&self) -> bool {
        self.sent.is_none() && self.method != Method::PUT
    }

    /// Creates a request with one JSON value.
    pub(super) fn with_body(method: Method, path: &'a str, body: &'a [u8]) -> Self {
        let content_type = Some("application/json");
        Self { method, content_type, body: Some(Cow::Borrowed(body)), ..Self::get(path) }
    }
}

/// A reply with its headers, and the headers of its request.
pub(super) struct Answered {
    pub(super) reply: Reply,
    pub(super) headers: HeaderMap,
    pub(super) sent: HeaderMap,
}
