//! Decides how the vectors of posts are encoded: as configured, or as a test shows that the server reads them.
//!
//! Base64 is less than half the size of an array and far cheaper to index. But only Elasticsearch 9.3 and later read it
//! as big-endian f32. Others refuse the document, or read it in the other byte order, which is garbage without an
//! error. A key without cluster privileges can ask for neither product nor version, so base64 is tried: a [`Prover`]
//! sends one post of the run with base64 vectors, ahead of its batch, and reads it back. Arrays are sent until the same
//! vectors come back, and from then on if anything else comes back.
//!
//! The post is delivered like any other, and once more in its batch with the same version. Only the second delivery
//! counts. A misread post is replaced at once. If the run is killed in between, the next run replaces the post, since
//! it sends the archive again. A worker waits for the server during the test, and so do workers that need the result: a
//! few round trips per run.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::bulk::Bulk;
use super::bulk::look_up::look_up_body;
use super::encode::VectorEncoding;
use super::encode::document::write_action;
use crate::common::mutex::Mutex;
use crate::common::timestamp::now_millis;
use crate::http::TransportError;
use crate::model::schema::vectors;
use crate::model::{
    Action, ActionKind, Archive, Batch, Document, Embeddings, FieldChoice, Names, Outcomes, Post, Version,
};
use crate::sink::elasticsearch::client::Reply;
use crate::sink::upcoming::Upcoming;

/// Maximum number of posts that are tried. After that the server is assumed to read only arrays.
const MAX_ATTEMPTS: u32 = 20;

/// A multi get, like the look-up of tombstones: the documented key may use it, and it is realtime. From 9.2 on, vectors
/// are returned only on request. Servers that do not know the parameter do not read base64 either.
const READ_BACK: &str = "/_mget?_source_includes=embeddings&_source_exclude_vectors=false\
    &filter_path=docs.found,docs._version,docs._source,docs.error.type";

/// Relative error allowed between sent and returned values. Indices with cosine similarity store unit vectors and
/// lengths separately. What they return is off by one or two roundings (2^-23), however it was sent.
const ROUNDING: f32 = 1e-6;

/// A post that base64 may be tried with.
pub struct Sample<'a> {
    /// Version of the post: the position of its event in the order.
    pub version: Version,
    /// The post.
    pub post: &'a Post<'a>,
    /// Its vectors.
    pub embeddings: &'a Embeddings<'a>,
    /// The chosen fields, which include vectors or not.
    pub fields: FieldChoice,
}

/// Finds out, once for all workers, whether the server reads vectors as base64. Posts use arrays until then.
#[derive(Default)]
pub struct Prover {
    decided: OnceLock<VectorEncoding>,
    /// Posts tried so far. Locked during an attempt, so that other workers wait for its result.
    attempts: Mutex<u32>,
}

/// Result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Finding {
    /// The server reads base64.
    Proven,
    /// The server does not read base64, or returns something that readers do not expect. The text says which.
    Refuted(String),
    /// The attempt showed neither. The text says why.
    Inconclusive(String),
}

impl Prover {
    /// Creates a prover that has nothing to find out: all posts use this encoding.
    pub fn decided(encoding: VectorEncoding) -> Self {
        Self { decided: encoding.into(), ..Self::default() }
    }

    /// Returns the encoding as far as it is decided.
    pub fn so_far(&self) -> VectorEncoding {
        self.decided.get().copied().unwrap_or(VectorEncoding::Array)
    }

    /// Returns the encoding for the vectors of this post. If it is undecided, sends the post with `bulk` to find out.
    pub fn encoding(&self, sample: &Sample<'_>, bulk: &Bulk<'_>) -> VectorEncoding {
        if self.decided.get().is_none() && sample.shows_byte_order() {
            let mut attempts = self.attempts.lock();
            // Another worker may have found out while this one waited.
            if self.decided.get().is_none() {
                *attempts += 1;
                self.decide(self.attempt(sample, bulk), *attempts);
            }
        }
        self.so_far()
    }

    /// Decides after an attempt that has shown something, or after enough attempts.
    fn decide(&self, finding: Finding, attempts: u32) {
        let (encoding, why) = match finding {
            Finding::Proven => (
                VectorEncoding::Base64,
                "a post sent that way was read back with the same vectors".to_owned(),
            ),
            Finding::Refuted(why) => (VectorEncoding::Array, why),
            Finding::Inconclusive(why) if attempts >= MAX_ATTEMPTS => {
                let why = format!("{attempts} posts have not shown whether base64 is read; the last: {why}");
                (VectorEncoding::Array, why)
            }
            Finding::Inconclusive(why) => {
                log::debug!("it is not known yet whether vectors can be sent as base64: {why}");
                return;
            }
        };
        let name = match encoding {
            VectorEncoding::Array => "arrays",
            VectorEncoding::Base64 => "base64",
        };
        log::info!("vectors are sent as {name}: {why}");
        // The lock is held, so no other thread can have decided.
        let _ = self.decided.set(encoding);
    }

    /// Sends a post as base64 and checks the result. Replaces the post at once if it may have been misread.
    fn attempt(&self, sample: &Sample<'_>, bulk: &Bulk<'_>) -> Finding {
        let sent = send(bulk, sample, VectorEncoding::Base64);
        if sent.tally.indexed > 0 {
            let finding = judge(read_back(bulk, sample), sample);
            if finding != Finding::Proven {
                send(bulk, sample, VectorEncoding::Array);
            }
            return finding;
        }
        // A post refused in both encodings shows nothing about the encoding.
        if let Some(refused) = sent.dead_letters.first()
            && send(bulk, sample, VectorEncoding::Array).tally.indexed > 0
        {
            return Finding::Refuted(format!("the server refuses base64 ({})", refused.error_type));
        }
        Finding::Inconclusive("the post was not indexed".into())
    }
}

fn send(bulk: &Bulk<'_>, sample: &Sample<'_>, encoding: VectorEncoding) -> Outcomes {
    bulk.deliver(&sample.batch(bulk.targets.now().names, encoding), &mut Upcoming::nothing())
}

fn read_back(bulk: &Bulk<'_>, sample: &Sample<'_>) -> Result<Reply, TransportError> {
    let posts = &bulk.targets.now().posts;
    let index = posts.name_for(&posts.write_index);
    let body = look_up_body(&[(index, posts.requires_routing(), sample.post.at_uri)]);
    bulk.client_to_finish().post(READ_BACK, &body)
}

impl Sample<'_> {
    /// Returns its vectors, with the names of their fields.
    fn vectors(&self) -> impl Iterator<Item = (&'static str, &[f32])> {
        vectors(self.fields, self.embeddings)
    }

    /// Returns whether one of its vectors would differ in the other byte order. Zeros are the same in both.
    fn shows_byte_order(&self) -> bool {
        let swapped = |value: &f32| f32::from_bits(value.to_bits().swap_bytes());
        self.vectors().any(|(_, vector)| vector.iter().any(|value| !is_same(*value, swapped(value))))
    }

    /// Creates a batch with only this post. Its archive is not reported: the post's own batch follows.
    fn batch(&self, names: Names, encoding: VectorEncoding) -> Batch {
        let &Sample { version, post, embeddings, .. } = self;
        let archive = Archive { name: String::new(), path: PathBuf::new(), ..Archive::default() };
        let mut body = Vec::new();
        // The final delivery checks whether the author's account is deleted.
        let action = Action::new(ActionKind::Post, version, post.at_uri);
        write_action(&mut body, names, &action, &Document::Post { post, embeddings }, encoding, now_millis());
        let action = Action { lines: 0..body.len(), ..action };
        Batch { archive: Arc::new(archive), body, actions: vec![action] }
    }
}

/// Judges the document that was read back after the server confirmed the post.
fn judge(reply: Result<Reply, TransportError>, sample: &Sample<'_>) -> Finding {
    let reply = match reply {
        Ok(reply) if reply.status == 200 => reply,
        Ok(reply) => return Finding::Inconclusive(format!("it cannot be read back: {}", reply.reason())),
        Err(error) => return Finding::Inconclusive(format!("it cannot be read back: {error}")),
    };
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let document = &body["docs"][0];
    if let Some(error) = document["error"]["type"].as_str() {
        return Finding::Inconclusive(format!("it cannot be read back: {error}"));
    }
    if document["found"] != true || document["_version"] != sample.version.of_index() {
        return Finding::Inconclusive("another event of the post came in between".into());
    }
    let embeddings = &document["_source"]["embeddings"];
    for (field, vector) in sample.vectors() {
        match &embeddings[field] {
            Value::Array(values) if is_same_vector(vector, values) => {}
            Value::Array(_) => {
                return Finding::Refuted("sent as base64, they are read back with other values".into());
            }
            Value::String(_) => {
                return Finding::Refuted(
                    "the index returns them as they were sent, and readers expect arrays \
                     (index.mapping.exclude_source_vectors is false)"
                        .into(),
                );
            }
            _ => return Finding::Refuted("the index does not return them, so nothing can be proven".into()),
        }
    }
    Finding::Proven
}

fn is_same_vector(vector: &[f32], values: &[Value]) -> bool {
    values.len() == vector.len()
        && vector
            .iter()
            .zip(values)
            .all(|(&sent, got)| got.as_f64().is_some_and(|got| is_same(sent, got as f32)))
}

/// Returns whether two values are the same except for rounding. NaN is never the same.
fn is_same(sent: f32, got: f32) -> bool {
    (sent - got).abs() <= sent.abs() * ROUNDING + f32::MIN_POSITIVE
}

#[cfg(test)]
mod tests;
