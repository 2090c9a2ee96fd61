//! The error of one action or look-up, and what it means.

use serde::Deserialize;
use serde_json::Value;

use super::{Answer, Refusal, refused};
use crate::sink::elasticsearch::client::{KNN_BREAKER, text_of_error};
use crate::sink::elasticsearch::outcome::{LICENSE_ADVICE, lacks_license};

/// Error of one action or look-up. Missing or null parts do not make the answer unreadable: the status counts, and one
/// odd error must not cost the other items their outcome.
#[derive(Default, Deserialize)]
#[serde(from = "Value")]
pub(super) struct ItemError {
    pub(super) kind: String,
    pub(super) reason: String,
}

impl From<Value> for ItemError {
    fn from(error: Value) -> Self {
        let text = |field| text_of_error(&error, field).unwrap_or_default().to_owned();
        let mut reason = text("reason");
        // A parsing error may name only the field.
        let cause = error.get("caused_by").and_then(|cause| text_of_error(cause, "reason"));
        if let Some(cause) = cause.filter(|cause| !reason.contains(cause)) {
            reason = format!("{reason}: {cause}");
        }
        Self { kind: text("type"), reason }
    }
}

/// Maximum length of a server's text in a log line, in characters.
pub(super) const LONGEST_REASON: usize = 500;

impl ItemError {
    pub(super) fn describe(&self) -> String {
        let reason: String = self.reason.chars().take(LONGEST_REASON).collect();
        format!("{}: {reason}", self.kind)
    }

    /// Returns whether an index is blocked or closed, or its vectors are. All of these pass: blocks are lifted, and an
    /// index that is closed to change its settings is opened again. None is the document's fault.
    pub(super) fn is_block(&self) -> bool {
        ["cluster_block_exception", "index_closed_exception", KNN_BREAKER].contains(&self.kind.as_str())
    }

    /// Returns whether somebody set the block, so that it stays until somebody removes it, or the index is a searchable
    /// snapshot (OpenSearch, `IndexMetadata`). The block of a full disk is lifted automatically.
    pub(super) fn is_lasting_block(&self) -> bool {
        self.is_block()
            && ["index write (api)", "index read-only (api)", "remote index is read-only"]
                .iter()
                .any(|block| self.reason.contains(block))
    }

    /// Returns whether a version conflict is one of `version_type: internal`, which refuses every new document. This
    /// program never sends that type, but a pipeline may set `_version_type`. Source: Elasticsearch, `VersionType`.
    pub(super) fn is_of_internal_version(&self) -> bool {
        ["is different than the one provided", "document does not exist (expected version"]
            .iter()
            .any(|words| self.reason.contains(words))
    }

    /// Returns whether the error means that the indices behind a name have changed. Source: seen in Elasticsearch 8.12
    /// to 9.5 and OpenSearch 2.19 to 3.9.
    pub(super) fn means_move(&self) -> bool {
        match self.kind.as_str() {
            "index_not_found_exception" | "routing_missing_exception" => true,
            "security_exception" => self.wants_to_create(),
            "illegal_argument_exception" => {
                self.reason.contains("no write index is defined for alias")
                    || self.reason.contains("has more than one ind")
            }
            _ => false,
        }
    }

    /// Returns whether the server would create a missing index if this run might do so. Elasticsearch ignores
    /// `require_alias` in deletes.
    fn wants_to_create(&self) -> bool {
        ["indices:admin/auto_create", "indices:admin/create]"]
            .iter()
            .any(|action| self.reason.contains(action))
    }

    /// Returns the message that stops the run if nothing has changed.
    pub(super) fn move_message(&self) -> String {
        let what = self.describe();
        match self.kind.as_str() {
            _ if self.wants_to_create() || self.reason.contains("is not an alias") => format!(
                "an index is missing or is not an alias ({what}): create it, or run with --create-indices; \
                 if this run does not write to it, an ingest pipeline sends documents there: remove that \
                 pipeline"
            ),
            "index_not_found_exception" => {
                format!("an index is missing ({what}): create it, or run with --create-indices")
            }
            "routing_missing_exception" => {
                format!(
                    "an index requires routing, but this run cannot see that in its mapping ({what}): grant \
                     view_index_metadata"
                )
            }
            _ if self.reason.contains("has more than one ind") => format!(
                "an alias has several indices, but the server does not show them to this run ({what}): grant \
                 view_index_metadata"
            ),
            _ => format!("an alias cannot be used ({what}): mark one of its indices with is_write_index"),
        }
    }

    /// Returns the answer to a request that is not allowed. `lacks` describes what the run may not do, `grant` says what
    /// helps.
    pub(super) fn not_allowed(&self, lacks: &str, grant: &str) -> Answer {
        let what = self.describe();
        Answer::Forbidden(refused(if lacks_license(&self.reason) {
            format!("{LICENSE_ADVICE} ({what})")
        } else {
            format!("{lacks} ({what}): {grant}")
        }))
    }

    /// Classifies the error of one document of a look-up.
    pub(super) fn look_up_answer(&self) -> Answer {
        match self.kind.as_str() {
            "security_exception" => self.not_allowed("this run may not read an index", "grant read on it"),
            _ if self.means_move() => Answer::Moved(refused(self.move_message())),
            _ => Answer::Retry(self.describe()),
        }
    }

    /// Returns the refusal of an action with this status.
    pub(super) fn into_refusal(self, status: u16) -> Refusal {
        let error_type = if self.kind.is_empty() { "refused".to_owned() } else { self.kind };
        let reason =
            if self.reason.is_empty() { format!("status {status}, without a reason") } else { self.reason };
        Refusal { error_type, reason }
    }
}
