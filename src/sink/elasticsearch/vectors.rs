//! Decides how the vectors of posts are written: as configured, or as the server is proven to read them.
//!
//! Base64 is less than half the size of an array and far cheaper to index. But only Elasticsearch 9.3 and later read it
//! as big-endian f32. Others refuse the document, or read it in the other byte order, which is garbage without an
//! error. A key without cluster privileges can ask for neither product nor version, so base64 is tried: a [`Prover`]
//! sends one post of the run with base64 vectors, ahead of its batch, and reads it back. Until the same vectors come
//! back, and whenever anything else does, arrays are sent.
//!
//! The post is delivered like any other, and once more in its batch under the same version; only the second delivery
//! counts. A misread post is replaced at once. If the run is killed in between, the next run replaces it, since it
//! sends the archive again. A worker waits for the server meanwhile, and so do those that need the answer: a few round
//! trips per run.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::{Value, json};

use super::bulk::Bulk;
use super::encode::VectorEncoding;
use super::encode::document::write_action;
use crate::http::TransportError;
use crate::model::Names;
use crate::model::schema::vectors;
use crate::model::{
    Action, ActionKind, Archive, Batch, Document, Embeddings, FieldChoice, Outcomes, Post, Version,
};
use crate::sink::elasticsearch::client::{ContentType, Reply};
use crate::timestamp::now_millis;

/// Posts tried before the server is assumed to read arrays only.
const MOST_ATTEMPTS: u32 = 20;

/// A multi get, like the look-up of tombstones: the documented key may use it, and it is realtime. From 9.2 on vectors
/// are not returned unless asked for; servers that do not know the parameter refuse base64 as well.
const READ_BACK: &str = "/_mget?_source_includes=embeddings&_source_exclude_vectors=false\
    &filter_path=docs.found,docs._version,docs._source,docs.error.type";

/// The relative error allowed between sent and returned values. Indices with cosine similarity store unit vectors and
/// lengths separately; what they return is off by a rounding or two (2^-23), whichever way it was sent.
const ROUNDING: f32 = 1e-6;

/// How the vectors of posts are written.
pub enum Vectors {
    /// The same way in all posts.
    Decided(VectorEncoding),
    /// As arrays until a post proves that the server reads base64, then as base64.
    Auto(Prover),
}

/// A post to encode.
pub struct Sample<'a> {
    /// The position of its event in the order.
    pub version: Version,
    /// The post.
    pub post: &'a Post<'a>,
    /// Its vectors.
    pub embeddings: &'a Embeddings<'a>,
    /// The choice of fields, which decides the vectors.
    pub fields: FieldChoice,
}

/// Finds out, once for all workers, whether the server reads vectors as base64.
pub struct Prover {
    index: String,
    decided: OnceLock<VectorEncoding>,
    /// Posts tried so far. Locked during an attempt: the other workers wait for its result.
    attempts: Mutex<u32>,
}

/// The result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Finding {
    /// The server reads base64.
    Proven,
    /// It does not, or it returns something that readers do not expect. The text says which.
    Refuted(String),
    /// The attempt showed neither. The text says why.
    Nothing(String),
}

impl Vectors {
    /// The encoding for the vectors of this post. If it is not decided yet, finds out by sending with `bulk`.
    pub fn encoding(&self, sample: &Sample<'_>, bulk: &Bulk<'_>) -> VectorEncoding {
        match self {
            Vectors::Decided(encoding) => *encoding,
            Vectors::Auto(prover) => prover.encoding(sample, bulk),
        }
    }
}

impl Prover {
    /// Starts undecided. Posts are read back from `index`, a name with a single index behind it, in which all vectors
    /// are `dense_vector`.
    pub fn new(index: String) -> Self {
        Self { index, decided: OnceLock::new(), attempts: Mutex::new(0) }
    }

    fn encoding(&self, sample: &Sample<'_>, bulk: &Bulk<'_>) -> VectorEncoding {
        if self.decided.get().is_none() && sample.is_telling() {
            let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
            // Another worker may have found out while this one waited.
            if self.decided.get().is_none() {
                *attempts += 1;
                self.decide(self.attempt(sample, bulk), *attempts);
            }
        }
        self.decided.get().copied().unwrap_or(VectorEncoding::Array)
    }

    /// Decides after an attempt that has shown something, or after enough attempts.
    fn decide(&self, finding: Finding, attempts: u32) {
        let (encoding, why) = match finding {
            Finding::Proven => (
                VectorEncoding::Base64,
                "a post sent that way was read back with the same vectors".to_owned(),
            ),
            Finding::Refuted(why) => (VectorEncoding::Array, why),
            Finding::Nothing(why) if attempts >= MOST_ATTEMPTS => {
                let why = format!("{attempts} posts have not shown whether base64 is read; the last: {why}");
                (VectorEncoding::Array, why)
            }
            Finding::Nothing(why) => {
                log::debug!("whether vectors can be sent as base64 is still open: {why}");
                return;
            }
        };
        let name = match encoding {
            VectorEncoding::Array => "arrays",
            VectorEncoding::Base64 => "base64",
        };
        log::info!("vectors are sent as {name}: {why}");
        // The lock is held, so nobody else can have decided.
        let _ = self.decided.set(encoding);
    }

    /// Sends a post as base64 and checks the result. Replaces at once a post that may have been misread.
    fn attempt(&self, sample: &Sample<'_>, bulk: &Bulk<'_>) -> Finding {
        let sent = send(bulk, sample, VectorEncoding::Base64);
        if sent.tally.indexed > 0 {
            let finding = judge(self.read_back(sample, bulk), sample);
            if finding != Finding::Proven {
                send(bulk, sample, VectorEncoding::Array);
            }
            return finding;
        }
        // A post refused in both encodings says nothing about the encoding.
        if let Some(refused) = sent.dead_letters.first()
            && send(bulk, sample, VectorEncoding::Array).tally.indexed > 0
        {
            return Finding::Refuted(format!("the server refuses base64 ({})", refused.error_type));
        }
        Finding::Nothing("the post was not indexed".into())
    }

    fn read_back(&self, sample: &Sample<'_>, bulk: &Bulk<'_>) -> Result<Reply, TransportError> {
        let body = json!({"docs": [{"_index": self.index, "_id": sample.post.at_uri}]}).to_string();
        bulk.client_to_finish().post(READ_BACK, ContentType::Json, body.as_bytes())
    }
}

fn send(bulk: &Bulk<'_>, sample: &Sample<'_>, encoding: VectorEncoding) -> Outcomes {
    bulk.deliver(&sample.batch(bulk.targets.now().names, encoding))
}

impl Sample<'_> {
    /// Its vectors, with the names of their fields.
    fn vectors(&self) -> impl Iterator<Item = (&'static str, &[f32])> {
        vectors(self.fields, self.embeddings)
    }

    /// Whether one of its vectors would differ in the other byte order. Zeros are the same in both.
    fn is_telling(&self) -> bool {
        let swapped = |value: &f32| f32::from_bits(value.to_bits().swap_bytes());
        self.vectors().any(|(_, vector)| vector.iter().any(|value| !is_same(*value, swapped(value))))
    }

    /// A batch of the post alone. Its archive is not reported: the post's own batch follows.
    fn batch(&self, names: Names, encoding: VectorEncoding) -> Batch {
        let &Sample { version, post, embeddings, .. } = self;
        let archive = Archive { name: String::new(), path: PathBuf::new(), ..Archive::default() };
        let mut body = Vec::new();
        // The final delivery checks whether the account of its author is deleted.
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
        Ok(reply) => return Finding::Nothing(format!("it cannot be read back: {}", reply.reason())),
        Err(error) => return Finding::Nothing(format!("it cannot be read back: {error}")),
    };
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let document = &body["docs"][0];
    if let Some(error) = document["error"]["type"].as_str() {
        return Finding::Nothing(format!("it cannot be read back: {error}"));
    }
    if document["found"] != true || document["_version"] != sample.version.of_index() {
        return Finding::Nothing("another event of the post came in between".into());
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

/// Whether two values are the same except for rounding. NaN is never the same.
fn is_same(sent: f32, got: f32) -> bool {
    (sent - got).abs() <= sent.abs() * ROUNDING + f32::MIN_POSITIVE
}

#[cfg(test)]
mod tests;
