//! The indices that `--create-indices` makes.

use serde_json::{Value, json};

use super::client::{Client, ContentType, Reply};
use super::preflight::error::{PreflightError, answer};
use super::preflight::lookup;
use super::schema::{TOMBSTONE_FIELDS, kinds, mappings, post_fields};
use crate::model::Names;

/// An index to make where its alias is missing.
struct Plan {
    alias: &'static str,
    index: String,
    mappings: Value,
}

/// Makes the index `NAME_v1` with the alias `NAME` for each of the names, each
/// where the name of the alias means nothing yet. Never touches what exists.
///
/// Returns the names of the indices made.
///
/// # Errors
///
/// Refused where the server does not allow it, unavailable where it cannot for now.
pub fn create_missing(client: &Client, names: Names) -> Result<Vec<String>, PreflightError> {
    let plans = [
        Plan {
            alias: names.posts,
            index: made_for(names.posts),
            mappings: mappings(names.fields, &kinds(post_fields(names.fields))),
        },
        Plan {
            alias: names.tombstones,
            index: made_for(names.tombstones),
            mappings: mappings(names.fields, &kinds(TOMBSTONE_FIELDS)),
        },
    ];
    let mut made = Vec::new();
    for plan in plans {
        if !exists(client, plan.alias)? && create(client, &plan)? {
            made.push(plan.index);
        }
    }
    Ok(made)
}

/// The index that is made for an alias that is missing.
pub(super) fn made_for(alias: &str) -> String {
    format!("{alias}_v1")
}

/// Whether the name of an alias means anything. Asked as preflight does, and refused where that cannot tell: what
/// exists must never be touched, and a server that does not know `HEAD` answers it with 404 as well.
fn exists(client: &Client, alias: &'static str) -> Result<bool, PreflightError> {
    match lookup::ask(client, alias)? {
        None => Ok(false),
        Some(indices) if !indices.is_empty() => Ok(true),
        Some(_) => Err(not_told(alias)),
    }
}

/// Why nothing is made where it is not told what exists.
pub(super) fn not_told(alias: &'static str) -> PreflightError {
    PreflightError::refused(
        alias,
        format!(
            "--create-indices: this server does not tell this key whether there is an index or alias {alias}: \
             grant this run the index privilege view_index_metadata, or make it by hand and leave the option away"
        ),
    )
}

/// Why nothing is made where the index is there already, and the alias is not.
pub(super) fn without_alias(alias: &'static str, index: &str) -> PreflightError {
    PreflightError::refused(
        alias,
        format!("index {index} exists without the alias {alias}: add {alias} to {index}, or remove {index}"),
    )
}

/// Makes an index together with its alias, in one step; false where another process was faster.
fn create(client: &Client, plan: &Plan) -> Result<bool, PreflightError> {
    let body = json!({"aliases": {plan.alias: {"is_write_index": true}}, "mappings": plan.mappings});
    let path = format!("/{}", plan.index);
    let reply = client.put(&path, ContentType::Json, body.to_string().as_bytes());
    match judge_created(plan, &answer(client, reply)?)? {
        Created::Now => Ok(true),
        // The other process made the alias with the index; where there is none, the index is something else.
        Created::Before if exists(client, plan.alias)? => Ok(false),
        Created::Before => Err(without_alias(plan.alias, &plan.index)),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Created {
    Now,
    Before,
}

fn judge_created(plan: &Plan, reply: &Reply) -> Result<Created, PreflightError> {
    match (reply.status, reply.error_type().as_str()) {
        (200, _) => Ok(Created::Now),
        (400, "resource_already_exists_exception") => Ok(Created::Before),
        (403, _) => Err(PreflightError::refused(
            "privileges",
            format!(
                "this run may not create {} with the alias {}: {}",
                plan.index,
                plan.alias,
                reply.reason()
            ),
        )),
        _ => Err(PreflightError::unexpected(plan.alias, &format!("PUT /{}", plan.index), reply)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::preflight::tests::client;
    use super::*;

    // Recorded from Elasticsearch 9.5.3, shortened by its root_cause.
    const EXISTS: &str = r#"{"error":{"type":"resource_already_exists_exception","reason":"index [posts_v1/fGDshabXTE2kJhVUjSKLag] already exists","index_uuid":"fGDshabXTE2kJhVUjSKLag","index":"posts_v1"},"status":400}"#;
    const MISSING: &str = include_str!("../../../test_data/replies/preflight_missing.json");
    const THERE: &str = include_str!("../../../test_data/replies/preflight_right.json");
    const CREATED: &str = r#"{"acknowledged":true,"shards_acknowledged":true,"index":"posts_v1"}"#;

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status, retry_after: None, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn only_what_is_missing_is_made() {
        assert_eq!(create_missing(&client(vec![(200, THERE), (200, THERE)]), Names::default()), Ok(vec![]));
        let made =
            create_missing(&client(vec![(200, THERE), (404, MISSING), (200, CREATED)]), Names::default());
        assert_eq!(made, Ok(vec!["post_tombstones_v1".to_owned()]));
    }

    #[test]
    fn what_cannot_be_told_to_be_missing_is_left_alone_and_refused() {
        for status in [400, 403, 405, 501] {
            let error = create_missing(&client(vec![(status, ""); 4]), Names::default()).unwrap_err();
            assert!(matches!(error, PreflightError::Refused(_)), "{error:?}");
            assert!(error.to_string().contains("does not tell"), "{error}");
        }
    }

    #[test]
    fn an_index_made_by_another_process_meanwhile_is_no_error() {
        let replies = vec![(404, MISSING), (400, EXISTS), (200, THERE), (200, THERE)];
        assert_eq!(create_missing(&client(replies), Names::default()), Ok(vec![]));
    }

    #[test]
    fn an_index_that_exists_without_its_alias_is_left_alone_and_refused() {
        let error =
            create_missing(&client(vec![(404, MISSING), (400, EXISTS), (404, MISSING)]), Names::default())
                .unwrap_err();
        assert!(matches!(error, PreflightError::Refused(_)), "{error:?}");
        assert!(error.to_string().contains("posts_v1 exists without the alias posts"), "{error}");
    }

    #[test]
    fn a_server_that_cannot_create_for_now_is_unavailable() {
        let error = create_missing(&client(vec![(404, MISSING), (503, "")]), Names::default()).unwrap_err();
        assert!(matches!(error, PreflightError::Unavailable(_)), "{error:?}");
    }

    #[test]
    fn a_create_that_the_server_does_not_allow_is_refused_with_its_reason() {
        let plan = Plan { alias: "posts", index: "posts_v1".into(), mappings: json!({}) };
        for (status, kind) in [(403, "security_exception"), (400, "mapper_parsing_exception")] {
            let body = format!(r#"{{"error":{{"type":"{kind}","reason":"the server's reason"}}}}"#);
            let error = judge_created(&plan, &reply(status, &body)).unwrap_err();
            assert!(matches!(error, PreflightError::Refused(_)), "{error:?}");
            assert!(error.to_string().contains("the server's reason"), "{error}");
        }
    }
}
