//! Writes the action lines of bulk requests.

use super::text::{write_number, write_string};
use crate::model::Version;

/// End of an action line. [`TargetFields`] inserts fields before it.
pub const END: &[u8] = b"}}\n";

/// Fields of an action that depend on the index or alias it writes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetFields<'c> {
    /// Whether the name has to be an alias.
    pub require_alias: bool,
    /// The routing; None: the index does not require one.
    pub routing: Option<&'c str>,
}

impl TargetFields<'_> {
    /// Returns whether there is nothing to write.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }

    /// Appends the fields to an action line that has no [`END`] yet.
    pub fn write(self, out: &mut Vec<u8>) {
        if self.require_alias {
            out.extend_from_slice(b",\"require_alias\":true");
        }
        write_routing(out, self.routing);
    }
}

/// Appends the routing, if there is one, to an action or to a document of a look-up.
pub fn write_routing(out: &mut Vec<u8>, routing: Option<&str>) {
    if let Some(routing) = routing {
        out.extend_from_slice(b",\"routing\":");
        write_string(out, routing);
    }
}

/// Appends the action line that indexes the document on the next line into `index`.
pub fn write_index(out: &mut Vec<u8>, index: &str, at_uri: &str, version: Version) {
    begin(out, "index", index, at_uri);
    write_version(out, version.of_index());
}

/// Appends the action line that deletes a post from `index`, with a version above that of every post.
pub fn write_delete(out: &mut Vec<u8>, index: &str, at_uri: &str, version: Version) {
    begin(out, "delete", index, at_uri);
    write_version(out, version.of_delete());
}

/// Appends the action line that deletes a post if it has not changed. `place` is the `_seq_no` and `_primary_term` that
/// a look-up found.
pub fn write_delete_found(
    out: &mut Vec<u8>,
    index: &str,
    at_uri: &str,
    place: (u64, u64),
    routing: Option<&str>,
) {
    begin(out, "delete", index, at_uri);
    write_place(out, place);
    write_routing(out, routing);
    out.extend_from_slice(END);
}

/// Id of the [guard](write_guard). No real document has it.
pub const GUARD: &str = "megastream_ingest-guard";

/// A `_seq_no` that no document reaches.
pub const NEVER: u64 = 1 << 62;

/// Appends an action that writes nothing, under a condition that cannot hold. In a request with it, no delete creates a
/// missing index.
///
/// Servers ignore `require_alias` in deletes, and create a missing index on a delete with an external version, unless
/// another action of the request has `require_alias` for its name (seen in Elasticsearch 8.12 to 9.5, OpenSearch 2.19 and
/// 3.5).
pub fn write_guard(out: &mut Vec<u8>, index: &str, is_routed: bool) {
    begin(out, "index", index, GUARD);
    write_place(out, (NEVER, 1));
    out.extend_from_slice(b",\"pipeline\":\"_none\"");
    TargetFields { require_alias: true, routing: is_routed.then_some(GUARD) }.write(out);
    out.extend_from_slice(END);
    out.extend_from_slice(b"{}\n");
}

fn begin(out: &mut Vec<u8>, action: &str, index: &str, id: &str) {
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(action.as_bytes());
    out.extend_from_slice(b"\":{\"_index\":");
    write_string(out, index);
    out.extend_from_slice(b",\"_id\":");
    write_string(out, id);
}

/// Appends a version and the end of the action line. The version is `external_gte`, so that repeating a request with the
/// same version succeeds instead of conflicting.
fn write_version(out: &mut Vec<u8>, version: u64) {
    out.extend_from_slice(b",\"version\":");
    write_number(out, version);
    out.extend_from_slice(b",\"version_type\":\"external_gte\"");
    out.extend_from_slice(END);
}

/// Appends the condition that the document has not changed.
fn write_place(out: &mut Vec<u8>, (seq_no, primary_term): (u64, u64)) {
    out.extend_from_slice(b",\"if_seq_no\":");
    write_number(out, seq_no);
    out.extend_from_slice(b",\"if_primary_term\":");
    write_number(out, primary_term);
}
