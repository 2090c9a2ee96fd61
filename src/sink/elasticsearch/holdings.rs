//! Checks whether the indices hold about as many documents as the marked archives have brought.
//!
//! Without this check, an index that was lost and created again looks like success: all archives are marked, and
//! nothing is left to do.

use serde_json::Value;

use super::client::{Client, Reply};
use crate::model::{Done, Names};
use crate::observe::finding::Check;

/// Rows per document above which the count is suspicious. A row becomes at most one document, and posts occur several
/// times.
const MAX_ROWS_PER_DOCUMENT: u64 = 10;

/// Warns if the indices hold far fewer documents than were loaded. None: all is well, or the server does not show the
/// count.
pub fn ask(client: &Client, names: Names, brought: Done) -> Option<Check> {
    if brought.archives == 0 {
        return None;
    }
    let path = format!("/{},{}/_count?filter_path=count", names.posts, names.tombstones);
    judge(&client.post(&path, b"").ok()?, names, brought)
}

fn judge(reply: &Reply, names: Names, brought: Done) -> Option<Check> {
    let count =
        if reply.is_of_missing_index() { 0 } else { reply.json::<Value>()?.get("count")?.as_u64()? };
    let is_suspicious = count == 0 || count.saturating_mul(MAX_ROWS_PER_DOCUMENT) < brought.rows;
    is_suspicious
        .then(|| lost(&format!("{} and {} hold {count} documents", names.posts, names.tombstones), brought))
}

/// Returns the warning for an empty or nearly empty index although archives are marked. `what` names the index.
pub fn lost(what: &str, Done { archives, rows }: Done) -> Check {
    let text = format!(
        "{what}, but the state file lists {archives} archives as processed ({rows} rows): if an index was \
         lost or created again, load all of them again with a new state file (SPOOL_STATE_FILE)"
    );
    Check::warning("indices", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_fewer_documents_than_rows_are_a_warning() {
        let says = |status, body: &str, rows| {
            let reply = Reply { status, retry_after: None, body: body.as_bytes().to_vec() };
            judge(&reply, Names::default(), Done { archives: 2, rows }).is_some()
        };
        let missing = r#"{"error":{"type":"index_not_found_exception","reason":"no such index [posts]"}}"#;
        for (status, body, rows, expected) in [
            (200, r#"{"count":0}"#, 0, true),
            (200, r#"{"count":9}"#, 100, true),
            (200, r#"{"count":10}"#, 100, false),
            (200, r#"{"count":1}"#, 0, false),
            (404, missing, 100, true),
            (404, "<html>", 100, false),
            (403, "{}", 100, false),
            (200, "{}", 100, false),
        ] {
            assert_eq!(says(status, body, rows), expected, "{status} {body} {rows}");
        }
    }
}
