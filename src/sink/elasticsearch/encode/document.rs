//! The lines of a bulk request: action and document of a post or a tombstone, and the delete that follows one.
//!
//! Documents and field order are those of contract section 3.

use super::VectorEncoding;
use super::text::{write_number, write_string, write_vector_array, write_vector_base64};
use crate::model::Version;
use crate::model::{Deletion, Embeddings, Post, Vector};
use crate::sink::elasticsearch::schema::{POSTS, TOMBSTONES, VECTOR_FIELDS};
use crate::timestamp::write_rfc3339_millis;

/// Appends the two lines that index a post. `indexed_at` is in milliseconds since 1970.
pub fn write_post(
    out: &mut Vec<u8>,
    post: &Post<'_>,
    embeddings: &Embeddings<'_>,
    vectors: VectorEncoding,
    version: Version,
    indexed_at: i64,
) {
    write_index(out, POSTS, post.at_uri, version);
    write_first(out, "at_uri", post.at_uri);
    write_text(out, "author_did", &post.author_did);
    write_text(out, "content", &post.content);
    if let Some(created_at) = post.created_at {
        write_time(out, "created_at", created_at);
    }
    let links = [
        ("thread_root_post", &post.thread_root_post),
        ("thread_parent_post", &post.thread_parent_post),
        ("quote_post", &post.quote_post),
    ];
    for (name, uri) in links {
        if let Some(uri) = uri {
            write_text(out, name, uri);
        }
    }
    write_embeddings(out, embeddings, vectors);
    write_time(out, "indexed_at", indexed_at);
    out.extend_from_slice(b"}\n");
}

/// Appends the two lines that index a tombstone. Times are in milliseconds since 1970.
pub fn write_tombstone(
    out: &mut Vec<u8>,
    deletion: &Deletion<'_>,
    deleted_at: i64,
    version: Version,
    indexed_at: i64,
) {
    write_index(out, TOMBSTONES, deletion.at_uri, version);
    write_tombstone_document(out, deletion.at_uri, &deletion.author_did, deleted_at, indexed_at);
}

/// Appends the two lines that index the tombstone of an account, under its DID. Times are in milliseconds since
/// 1970. The `at_uri` is that of the account's repository, `at://DID` (AT Protocol, "AT URI scheme").
pub fn write_account_tombstone(
    out: &mut Vec<u8>,
    did: &str,
    deleted_at: i64,
    version: Version,
    indexed_at: i64,
) {
    write_index(out, TOMBSTONES, did, version);
    write_tombstone_document(out, &format!("at://{did}"), did, deleted_at, indexed_at);
}

fn write_tombstone_document(
    out: &mut Vec<u8>,
    at_uri: &str,
    author_did: &str,
    deleted_at: i64,
    indexed_at: i64,
) {
    write_first(out, "at_uri", at_uri);
    write_text(out, "author_did", author_did);
    write_time(out, "deleted_at", deleted_at);
    write_time(out, "indexed_at", indexed_at);
    out.extend_from_slice(b"}\n");
}

/// Appends the action line that indexes the document on the next line into `index`.
pub fn write_index(out: &mut Vec<u8>, index: &str, at_uri: &str, version: Version) {
    write_action(out, "index", index, at_uri, version.of_index());
}

/// Appends the line that deletes a post from `index`.
pub fn write_delete(out: &mut Vec<u8>, index: &str, at_uri: &str, version: Version) {
    write_action(out, "delete", index, at_uri, version.of_delete());
}

/// `external_gte`: the same version again is no conflict, so that a repeated request is a success.
fn write_action(out: &mut Vec<u8>, action: &str, index: &str, id: &str, version: u64) {
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

fn write_embeddings(out: &mut Vec<u8>, embeddings: &Embeddings<'_>, encoding: VectorEncoding) {
    let [l12, l6] = VECTOR_FIELDS;
    let fields = [(l12, embeddings.all_minilm_l12_v2), (l6, embeddings.all_minilm_l6_v2)];
    let mut before: &[u8] = b",\"embeddings\":{";
    for (name, vector) in fields {
        if let Some(vector) = vector {
            out.extend_from_slice(before);
            write_name(out, name);
            write_vector(out, vector, encoding);
            before = b",";
        }
    }
    if before == b"," {
        out.push(b'}');
    }
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

fn write_first(out: &mut Vec<u8>, name: &str, text: &str) {
    out.push(b'{');
    write_name(out, name);
    write_string(out, text);
}

fn write_text(out: &mut Vec<u8>, name: &str, text: &str) {
    out.push(b',');
    write_name(out, name);
    write_string(out, text);
}

fn write_time(out: &mut Vec<u8>, name: &str, millis: i64) {
    out.push(b',');
    write_name(out, name);
    out.push(b'"');
    write_rfc3339_millis(out, millis);
    out.push(b'"');
}
