//! Parses the server's replies about the settings of an index. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::NAME;
use crate::sink::elasticsearch::answer::NoAnswer;
use crate::sink::elasticsearch::client::Reply;
use crate::sink::elasticsearch::flat::{Values, flatten};
use crate::sink::elasticsearch::flush::is_serverless;

/// Returns the settings of an index; None: there is no such index.
pub(super) fn parse_settings(index: &str, reply: &Reply) -> Result<Option<Values>, NoAnswer> {
    #[derive(Deserialize)]
    struct Index {
        settings: Value,
    }
    match reply.status {
        // A missing index needs nothing restored.
        _ if reply.is_of_missing_index() => return Ok(None),
        403 => return Err(not_allowed(index, reply)),
        _ => {}
    }
    let mut indices = reply
        .json()
        .filter(|indices: &BTreeMap<String, Index>| !indices.is_empty())
        .ok_or_else(|| NoAnswer::unexpected(NAME, &format!("GET /{index}/_settings"), reply))?;
    Ok(indices.remove(index).map(|index| flatten(&index.settings)))
}

pub(super) fn gone(index: &str) -> NoAnswer {
    NoAnswer::refused(NAME, format!("the index {index} no longer exists: run again"))
}

/// Checks that an update of settings is in force.
pub(super) fn judge_update(index: &str, reply: &Reply) -> Result<(), NoAnswer> {
    match reply.status {
        200 if reply.json::<Value>().is_some_and(|update| update["acknowledged"] == true) => Ok(()),
        200 => Err(NoAnswer::unavailable(format!("the settings of {index} are not in force yet"))),
        403 => Err(not_allowed(index, reply)),
        _ if is_serverless(reply) => Err(NoAnswer::refused(
            NAME,
            format!(
                "--bulk-load-settings: this is an Elasticsearch Serverless, which sets replicas and refresh \
                 by itself ({}): remove the option",
                reply.reason()
            ),
        )),
        _ => Err(NoAnswer::unexpected(NAME, &format!("PUT /{index}/_settings"), reply)),
    }
}

fn not_allowed(index: &str, reply: &Reply) -> NoAnswer {
    let text = format!(
        "this run may not change the settings of {index}: grant it the index privilege manage on {index} \
         ({})",
        reply.reason()
    );
    NoAnswer::refused(NAME, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status, retry_after: None, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn settings_are_read_whatever_their_form() {
        // Recorded from Elasticsearch 9.5.3, shortened.
        let body = r#"{"posts_v1":{"settings":{"index.number_of_replicas":"1","index.query.default_field":["content","at_uri"]}}}"#;
        let expected = Values::from([("index.number_of_replicas".into(), "1".into())]);
        assert_eq!(parse_settings("posts_v1", &reply(200, body)), Ok(Some(expected.clone())));
        for settings in [
            r#"{"index":{"number_of_replicas":"1","refresh_interval":null}}"#,
            r#"{"index":{"number_of_replicas":1}}"#,
            r#"{"index.number_of_replicas":1}"#,
        ] {
            let body = format!(r#"{{"posts_v1":{{"settings":{settings}}}}}"#);
            assert_eq!(parse_settings("posts_v1", &reply(200, &body)), Ok(Some(expected.clone())), "{body}");
        }
    }

    #[test]
    fn an_index_is_gone_only_if_the_server_says_so() {
        let gone = r#"{"error":{"type":"index_not_found_exception","reason":"no such index [posts_v1]"}}"#;
        assert_eq!(parse_settings("posts_v1", &reply(404, gone)), Ok(None));
        for (status, body) in [(404, "{}"), (200, "<html>"), (200, "{}"), (204, "")] {
            assert!(parse_settings("posts_v1", &reply(status, body)).is_err(), "{status} {body}");
        }
    }

    #[test]
    fn serverless_is_refused_with_advice() {
        let body = r#"{"error":{"type":"illegal_argument_exception","reason":"Settings [index.number_of_replicas] are not available when running in serverless mode"}}"#;
        let error = judge_update("posts_v1", &reply(400, body)).unwrap_err();
        assert!(error.to_string().contains("remove the option"), "{error}");
    }

    #[test]
    fn an_update_counts_only_when_it_is_acknowledged() {
        assert_eq!(judge_update("posts_v1", &reply(200, r#"{"acknowledged":true}"#)), Ok(()));
        for (status, body, refused) in [
            (200, r#"{"acknowledged":false}"#, false),
            (403, r#"{"error":{"type":"security_exception","reason":"x"}}"#, true),
            (400, r#"{"error":{"type":"illegal_argument_exception","reason":"x"}}"#, true),
        ] {
            let error = judge_update("posts_v1", &reply(status, body)).unwrap_err();
            assert_eq!(matches!(error, NoAnswer::Refused(_)), refused, "{error}");
        }
    }
}
