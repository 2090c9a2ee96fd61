//! Sends one request to one node.

use std::sync::atomic::Ordering;

use ureq::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use ureq::http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use ureq::{AsSendBody, SendBody};

use super::counted::Counted;
use super::request::{Answered, Outgoing};
use super::{Client, EXPECT_LIMIT, Reply};
use crate::common::text::ascii_encoded;
use crate::http::encoding::decoded;
use crate::http::{TransportError, retry_after};

/// Removes a UTF-8 byte order mark, which some gateways add, and which no JSON may have (RFC 8259, section 8.1).
fn without_byte_order_mark(mut body: Vec<u8>) -> Vec<u8> {
    const MARK: &[u8] = b"\xEF\xBB\xBF";
    if body.starts_with(MARK) {
        body.drain(..MARK.len());
    }
    body
}

impl Client {
    /// Sends a request to a node. Repeats it with new credentials if the old ones are refused and have changed, and
    /// without `Expect` if that is refused.
    pub(super) fn send_to(&self, node: usize, ask: &Outgoing<'_>) -> Result<Answered, TransportError> {
        let first = self.send_once(node, ask);
        if first.as_ref().map_or(true, |answered| matches!(answered.reply.status, 502..=504)) {
            self.outages.fetch_add(1, Ordering::Relaxed);
        }
        let mut answered = first?;
        let mut expects_continue = ask.expects_continue;
        if answered.reply.status == 417 && expects_continue {
            self.refuses_expect.store(true, Ordering::Relaxed);
            expects_continue = false;
            answered = self.send_once(node, &Outgoing { expects_continue, ..ask.clone() })?;
        }
        let Reply { status, body, .. } = &answered.reply;
        if self.auth.renew(&answered.sent, *status, body) {
            answered = self.send_once(node, &Outgoing { expects_continue, ..ask.clone() })?;
        }
        Ok(answered)
    }

    fn send_once(&self, node: usize, ask: &Outgoing<'_>) -> Result<Answered, TransportError> {
        let uri: Uri = format!("{}{}", self.nodes.url(node), ascii_encoded(ask.path))
            .parse()
            .map_err(|_| TransportError::Other("this path does not give a URL".to_owned()))?;
        let mut headers = HeaderMap::new();
        let body = ask.body.as_deref();
        self.auth.authorize(ask.method.as_str(), &uri, &mut headers, body.unwrap_or_default())?;
        if let Some(content_type) = ask.content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if ask.is_gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if ask.expects_continue {
            headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
        }
        let mut request =
            Request::builder().method(&ask.method).uri(uri).body(()).map_err(ureq::Error::from)?;
        *request.headers_mut() = headers.clone();
        match (body, ask.sent) {
            (None, _) => self.receive(node, request, headers),
            (Some(body), None) => self.receive(node, request.map(|()| body), headers),
            (Some(body), Some(sent)) => {
                request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
                let mut counted = Counted::new(body, sent, ask.expects_continue);
                self.receive(node, request.map(|()| SendBody::from_reader(&mut counted)), headers)
            }
        }
    }

    /// Adds what may be wrong to the error of a node that breaks the connection and has never answered.
    fn may_expect_https(&self, node: usize, error: TransportError) -> TransportError {
        match error {
            TransportError::Interrupted(why)
                if self.nodes.url(node).starts_with("http:") && !self.nodes.has_answered(node) =>
            {
                TransportError::Interrupted(format!("{why} (does the server expect https?)"))
            }
            error => error,
        }
    }

    fn receive(
        &self,
        node: usize,
        request: Request<impl AsSendBody>,
        sent: HeaderMap,
    ) -> Result<Answered, TransportError> {
        let request = self
            .agent
            .configure_request(request)
            .timeout_global(Some(self.limits.call))
            .timeout_await_100(Some(EXPECT_LIMIT))
            .build();
        let response = self.agent.run(request).map_err(|error| self.may_expect_https(node, error.into()))?;
        self.nodes.answered(node);
        let (head, mut body) = response.into_parts();
        let limit = self.limits.reply_bytes;
        let read = body.with_config().limit(limit).read_to_vec();
        let body = read.map_err(|error| TransportError::from(error).after_head())?;
        let body = without_byte_order_mark(decoded(&head.headers, body, limit)?);
        let mut reply = Reply { status: head.status.as_u16(), retry_after: retry_after(&head.headers), body };
        // A page may quote the request, and is quoted in turn.
        if self.masks_content || head.status != StatusCode::OK || reply.is_page() {
            self.mask(&mut reply.body);
        }
        Ok(Answered { reply, headers: head.headers, sent })
    }
}
