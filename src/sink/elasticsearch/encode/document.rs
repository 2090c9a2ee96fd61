//! The lines of a bulk request: action and document of a post or a tombstone, and the delete that follows one.
//!
//! Documents and their order of fields are those of [`schema`](crate::sink::elasticsearch::schema).

use super::VectorEncoding;
use super::text::{write_number, write_string, write_vector_array, write_vector_base64};
use crate::model::{Action, Document, Embeddings, Vector, Version};
use crate::sink::elasticsearch::schema::{Names, POST_FIELDS, TOMBSTONE_FIELDS, VECTORS, Value};
use crate::timestamp::write_rfc3339_millis;

/// Appends the two lines of an action: what it does, and its document. `indexed_at` is in milliseconds since 1970.
pub fn write_action(
    out: &mut Vec<u8>,
    names: Names,
    action: &Action,
    document: &Document<'_>,
    vectors: VectorEncoding,
    indexed_at: i64,
) {
    write_index(out, names.of(action.kind), &action.id, action.version);
    let mut fields = Fields { out, vectors, indexed_at, is_first: true };
    match document {
        Document::Post { post, embeddings } => {
            POST_FIELDS.iter().for_each(|field| fields.write(field.name, (field.read)(post, embeddings)));
            out.push(b'}');
        }
        Document::Tombstone(tombstone) => {
            TOMBSTONE_FIELDS.iter().for_each(|field| fields.write(field.name, (field.read)(tombstone)));
            out.push(b'}');
        }
        Document::Replayed(document) => out.extend_from_slice(document.as_bytes()),
    }
    out.push(b'\n');
}

/// Appends the action line that indexes the document on the next line into `index`.
pub fn write_index(out: &mut Vec<u8>, index: &str, at_uri: &str, version: Version) {
    write_metadata(out, "index", index, at_uri, version.of_index());
}

/// Appends the line that deletes a post from `index` under a version above that of every post.
pub fn write_delete(
    out: &mut Vec<u8>,
    index: &str,
    at_uri: &str,
    version: Version,
    require_alias: bool,
    routing: Option<&str>,
) {
    write_metadata(out, "delete", index, at_uri, version.of_delete());
    let more: &[u8] = if require_alias { b",\"require_alias\":true" } else { b"" };
    append(out, more, routing);
}

/// Appends the line that deletes a post that was found, if it is still the same: `place` is its `_seq_no` and
/// `_primary_term`.
pub fn write_delete_found(
    out: &mut Vec<u8>,
    index: &str,
    at_uri: &str,
    (seq_no, primary_term): (u64, u64),
    routing: Option<&str>,
) {
    out.extend_from_slice(b"{\"delete\":{\"_index\":");
    write_string(out, index);
    out.extend_from_slice(b",\"_id\":");
    write_string(out, at_uri);
    out.extend_from_slice(b",\"if_seq_no\":");
    write_number(out, seq_no);
    out.extend_from_slice(b",\"if_primary_term\":");
    write_number(out, primary_term);
    out.extend_from_slice(b"}}\n");
    append(out, b"", routing);
}

/// Puts more into the action line that `out` ends with.
fn append(out: &mut Vec<u8>, more: &[u8], routing: Option<&str>) {
    if more.is_empty() && routing.is_none() {
        return;
    }
    out.truncate(out.len().saturating_sub(b"}}\n".len()));
    out.extend_from_slice(more);
    if let Some(routing) = routing {
        out.extend_from_slice(b",\"routing\":");
        write_string(out, routing);
    }
    out.extend_from_slice(b"}}\n");
}

/// `external_gte`: the same version again is no conflict, so that a repeated request is a success.
fn write_metadata(out: &mut Vec<u8>, action: &str, index: &str, id: &str, version: u64) {
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(action.as_bytes());
    out.extend_from_slice(b"\":{\"_index\":");
    write_string(out, index);
    out.extend_from_slice(b",\"_id\":");
    write_string(out, id);
    out.extend_from_slice(b",\"version\":");
    write_number(out, version);
    out.extend_from_slice(b",\"version_type\":\"external_gte\"}}\n");
}

/// A document that is being written, field by field.
struct Fields<'o> {
    out: &'o mut Vec<u8>,
    vectors: VectorEncoding,
    indexed_at: i64,
    is_first: bool,
}

impl Fields<'_> {
    fn write(&mut self, name: &str, value: Value<'_>) {
        match value {
            Value::Absent => {}
            Value::Text(text) => {
                self.name(name);
                write_string(self.out, text);
            }
            Value::Time(millis) => self.time(name, millis),
            Value::Now => self.time(name, self.indexed_at),
            Value::Vectors(embeddings) if VECTORS.iter().all(|field| (field.read)(embeddings).is_none()) => {}
            Value::Vectors(embeddings) => {
                self.name(name);
                write_embeddings(self.out, embeddings, self.vectors);
            }
        }
    }

    fn time(&mut self, name: &str, millis: i64) {
        self.name(name);
        self.out.push(b'"');
        write_rfc3339_millis(self.out, millis);
        self.out.push(b'"');
    }

    fn name(&mut self, name: &str) {
        self.out.push(if self.is_first { b'{' } else { b',' });
        self.is_first = false;
        write_name(self.out, name);
    }
}

fn write_embeddings(out: &mut Vec<u8>, embeddings: &Embeddings<'_>, encoding: VectorEncoding) {
    let mut before = b'{';
    for field in VECTORS {
        if let Some(vector) = (field.read)(embeddings) {
            out.push(before);
            write_name(out, field.name);
            write_vector(out, vector, encoding);
            before = b',';
        }
    }
    out.push(b'}');
}

fn write_vector(out: &mut Vec<u8>, vector: &Vector, encoding: VectorEncoding) {
    match encoding {
        VectorEncoding::Array => write_vector_array(out, vector),
        VectorEncoding::Base64 => write_vector_base64(out, vector),
    }
}

/// A field's name and colon. Names are ours and need no escape.
fn write_name(out: &mut Vec<u8>, name: &str) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}
