//! A request to Elasticsearch and what it comes to.

use std::borrow::Cow;
use std::cell::Cell;
use std::time::Duration;

use ureq::http::{HeaderMap, HeaderValue, Method};

use super::Reply;
use crate::http::TransportError;

/// The bounds of one request.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Time for name lookup, TCP connection and TLS handshake.
    pub connect: Duration,
    /// Time for the whole request, from the first byte sent to the last one received.
    pub call: Duration,
    /// As `call`, for a request made although the run is to stop.
    pub last_call: Duration,
    /// Largest body of a reply in bytes. More is an error, so that no server can exhaust the memory.
    pub reply_bytes: u64,
    /// Idle connections kept at most. Should equal the number of sending threads, or some reconnect for each
    /// request.
    pub idle_connections: usize,
}

impl Default for RequestLimits {
    /// The limits for one thread: 10 s to connect; 90 s for a request, above the minute that Elasticsearch itself waits
    /// for a primary shard; 10 s for a request that delays the end of a run; 64 MiB for a reply, many times that of the
    /// largest bulk request.
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

/// The type of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// One JSON value.
    Json,
    /// One JSON value per line, as `_bulk` takes it.
    Ndjson,
}

impl ContentType {
    pub(super) fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            ContentType::Json => "application/json",
            ContentType::Ndjson => "application/x-ndjson",
        })
    }
}

/// What a server has said to a request that asks whether its body is wanted (`Expect: 100-continue`, RFC 9110, section
/// 10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It was not asked.
    No,
    /// It has agreed, or it does not know the question, which a second request without it has shown.
    Agreed,
    /// It has answered the request without the body.
    Refused,
    /// Nothing, for as long as is waited for that.
    ToldNothing,
}

/// A bulk request, and what it has come to.
pub struct Posted {
    /// The reply; an error where there is no complete one.
    pub reply: Result<Reply, TransportError>,
    /// Bytes of the body that were sent, before compression. As often as it was sent, if to several nodes.
    pub sent: u64,
    /// The answer to the question that came first.
    pub asked: Asked,
}

/// A request without node and credentials.
#[derive(Clone, Debug)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) kind: Option<ContentType>,
    /// None if there is no body.
    pub(super) body: Option<Cow<'a, [u8]>>,
    pub(super) is_gzip: bool,
    pub(super) asks_first: bool,
    /// Counts the bytes of the body that are sent.
    pub(super) sent: Option<&'a Sent>,
}

/// What has been sent of a body.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) bytes: Cell<u64>,
    /// Whether it was sent although the server had said nothing to the question for it.
    pub(super) unasked: Cell<bool>,
}

impl<'a> Ask<'a> {
    pub(super) fn get(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            kind: None,
            body: None,
            is_gzip: false,
            asks_first: false,
            sent: None,
        }
    }

    pub(super) fn with_body(method: Method, path: &'a str, kind: ContentType, body: &'a [u8]) -> Self {
        let body = Some(Cow::Borrowed(body));
        Self { method, path, kind: Some(kind), body, is_gzip: false, asks_first: false, sent: None }
    }
}

/// A reply with its headers, and the headers of the request that it answers.
pub(super) struct Answered {
    pub(super) reply: Reply,
    pub(super) headers: HeaderMap,
    pub(super) sent: HeaderMap,
}
