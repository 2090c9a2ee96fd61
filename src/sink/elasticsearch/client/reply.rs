//! A reply of the server, and the error that it describes.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::auth;

/// Maximum length of a server's error text that is passed on, in characters.
pub(super) const MAX_REASON_CHARS: usize = 400;

/// A complete reply, of any status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// How long the server asks the client to wait.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// Returns the name of the error in an Elasticsearch reply (`error.type`); `""` if there is none.
    pub fn error_type(&self) -> String {
        self.error_field("type").unwrap_or_default()
    }

    /// Returns whether the reply describes an error as Elasticsearch does. Proxies do not.
    pub fn has_error(&self) -> bool {
        self.error_field("reason").is_some()
    }

    /// Returns whether a proxy answered instead of Elasticsearch: an ingress's error page, a redirect, a gateway
    /// without a route.
    pub fn is_page(&self) -> bool {
        let is_html = || self.body.trim_ascii_start().starts_with(b"<");
        match self.status {
            // Elasticsearch answers with an object, or with nothing.
            200..=299 => self.body.trim_ascii_start().first().is_some_and(|first| *first != b'{'),
            300..=399 => true,
            400 | 403 if auth::is_amazons(self.status, &self.body) => false,
            401 if auth::hides_api(self.status, &self.body) => false,
            _ => match serde_json::from_slice::<Value>(&self.body) {
                // Elasticsearch answers with an empty object if nothing matches the request.
                Ok(body) => {
                    body != Value::Object(Map::new()) && !body.get("error").is_some_and(is_elasticsearchs)
                }
                // OpenSearch answers 401 with plain text, or without any.
                Err(_) => self.status != 401 || is_html(),
            },
        }
    }

    /// Returns the error as one short line for users.
    pub fn reason(&self) -> String {
        let mut text =
            self.error_field("reason").unwrap_or_else(|| String::from_utf8_lossy(&self.body).into());
        // The reason of a search says only that it failed (`all shards failed`).
        if self.error_type() == "search_phase_execution_exception"
            && let Some(error) = self.error()
            && let Some(cause) = error.pointer("/root_cause/0/reason").and_then(Value::as_str)
        {
            text = format!("{text}: {cause}");
        }
        // The reason only says that a key is refused. This field says why, for example that it has expired.
        if let Some(why) = self.error_field("additional_unsuccessful_credentials") {
            text = format!("{why}: {text}");
        }
        // Control characters could forge log lines.
        let text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON_CHARS);
        format!("HTTP {} {}", self.status, text.collect::<String>()).trim_end().to_owned()
    }

    /// Returns the body of a reply of status 200 as JSON of this type; None: it is something else.
    pub(in crate::sink::elasticsearch) fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok().filter(|_| self.status == 200)
    }

    /// Returns whether the reply says that there is no such index or alias. A proxy's 404 does not say that.
    pub(in crate::sink::elasticsearch) fn is_of_missing_index(&self) -> bool {
        self.status == 404 && self.error_type() == "index_not_found_exception"
    }

    fn error_field(&self, name: &str) -> Option<String> {
        text_of_error(&self.error()?, name).map(str::to_owned)
    }

    fn error(&self) -> Option<Value> {
        let mut body: Value = serde_json::from_slice(&self.body).ok()?;
        body.get_mut("error").map(Value::take)
    }
}

/// Returns whether an `error` is written as by Elasticsearch. Gateways write their errors as JSON, too. Elasticsearch's
/// have a type and a reason; those that are only a text quote something in brackets, or name an exception.
///
/// Source: Elasticsearch, `RestController` and `ElasticsearchException`.
fn is_elasticsearchs(error: &Value) -> bool {
    match error {
        Value::String(text) => text.contains('[') || text.contains("Exception"),
        error => error.get("type").is_some_and(Value::is_string) && error.get("reason").is_some(),
    }
}

/// Type of the error of OpenSearch's k-NN plugin while the cluster is low on memory. The plugin returns it as the cause of
/// a parsing error, although it passes. Seen in 2.19.4.
pub const KNN_BREAKER: &str = "knn_circuit_breaker_exception";

/// Returns a text field of an `error` object. If `error` is itself a text, that text is the reason.
pub fn text_of_error<'e>(error: &'e Value, name: &str) -> Option<&'e str> {
    let breaker = error.get("caused_by").filter(|cause| cause["type"] == KNN_BREAKER);
    let error = breaker.unwrap_or(error);
    let text = if name == "reason" && error.is_string() { error } else { error.get(name)? };
    text.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_failed_search_names_its_cause() {
        let body = br#"{"error":{"root_cause":[{"type":"illegal_argument_exception","reason":"Result window is too large"}],
            "type":"search_phase_execution_exception","reason":"all shards failed"},"status":400}"#;
        let reply = Reply { status: 400, retry_after: None, body: body.to_vec() };
        assert_eq!(reply.reason(), "HTTP 400 all shards failed: Result window is too large");
    }

    #[test]
    fn a_page_differs_from_an_answer_of_elasticsearch() {
        let error = r#"{"error":{"type":"x","reason":"y"},"status":404}"#;
        let is_page = |status, body: &str| {
            Reply { status, retry_after: None, body: body.as_bytes().to_vec() }.is_page()
        };
        let of_gateways = [
            "<html>",
            r#"{"message":"no Route matched"}"#,
            r#"{"statusCode":404,"message":"Cannot POST /_bulk","error":"Not Found"}"#,
            r#"{"error":{"code":403,"message":"no","status":"PERMISSION_DENIED"}}"#,
            r#"{"error":{"type":"authentication_error","message":"no"}}"#,
            r#"{"error":null}"#,
        ];
        for status in [302, 307, 400, 401, 403, 404, 405, 410, 417] {
            for body in of_gateways {
                assert!(is_page(status, body), "{status} {body}");
            }
            // OpenSearch answers 401 with plain text.
            for body in ["", "404 page not found"] {
                assert_eq!(is_page(status, body), status != 401, "{status} {body}");
            }
        }
        for status in [400, 401, 403, 404, 405] {
            for body in [
                error,
                r#"{"error":"Incorrect HTTP method for uri [/] and method [PUT], allowed: [GET]","status":405}"#,
                r#"{"error":"alias [posts] missing","status":404}"#,
                r#"{"error":"No ElasticsearchException found","status":403}"#,
                "{}",
            ] {
                assert!(!is_page(status, body), "{status} {body}");
            }
        }
        for body in [" \n<!doctype html>", "OK", "null", "[]", "\u{1f}\u{8b}"] {
            assert!(is_page(200, body), "{body}");
        }
        assert!(!is_page(200, " {}") && !is_page(200, ""));
        let amazons = r#"{"Message":"User: anonymous is not authorized to perform: es:ESHttpPost"}"#;
        assert!(!is_page(403, amazons));
    }
}
