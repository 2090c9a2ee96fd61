//! Looks up an id through a name about which the server shows nothing. That needs only the right to read.

use serde_json::{Value, json};

use crate::sink::elasticsearch::answer::{NoAnswer, answer};
use crate::sink::elasticsearch::client::{Client, ContentType, text_of_error};

/// A look-up of an id that no document has.
const LOOK_UP: &str = "/_mget?_source=false&filter_path=docs.error.type,docs.error.reason";

/// Refuses an alias of several indices, since deletes through it would reach only one of them. A look-up by id through
/// such a name fails.
pub(super) fn refuse_several(client: &Client, name: &'static str) -> Result<(), NoAnswer> {
    let body = json!({"docs": [{"_index": name, "_id": "-"}]}).to_string();
    let reply = answer(client, client.post(LOOK_UP, ContentType::Json, body.as_bytes()))?;
    let found: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let reason = found.pointer("/docs/0/error").and_then(|error| text_of_error(error, "reason"));
    // Requests of the run itself report every other error.
    if !reason.is_some_and(|reason| reason.contains("has more than one ind")) {
        return Ok(());
    }
    let text = format!(
        "{name} is an alias of several indices, and the server does not show them to this run, so deletes would reach \
         only one of them: {}",
        client.product().grant("view_index_metadata")
    );
    Err(NoAnswer::refused(name, text))
}
