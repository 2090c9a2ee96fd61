//! A reply of the server, and what it says of an error.

use std::time::Duration;

use serde_json::Value;

/// Characters of a server's error text that are passed on at most.
pub(super) const MAX_REASON_CHARS: usize = 400;

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
