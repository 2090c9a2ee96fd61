//! Sends the server a document to judge, which no index keeps.
//!
//! Rules about mappings are never complete: plugins have their own types, formats and pipelines. So a real document is
//! sent under a condition that cannot hold (`if_seq_no` of a document that does not exist). The server parses a
//! document before it checks the condition. It answers 409 to a document that it would accept and 400 to one that it
//! refuses, and keeps neither. Fields that the mapping does not have are left out, since the server would add them to
//! it.
//!
//! Source: Elasticsearch, "Optimistic concurrency control"; seen in 9.5.3.

use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use super::Needs;
use super::fields::Sent;
use super::settings::Pipelines;
use crate::common::text::percent_encoded;
use crate::model::FieldChoice;
use crate::model::schema::{Kind, vector_names};
use crate::observe::finding::Check;
use crate::sink::elasticsearch::answer::{NoAnswer, answer};
use crate::sink::elasticsearch::client::{Client, Reply};
use crate::sink::elasticsearch::encode::VectorEncoding;
use crate::sink::elasticsearch::encode::action::NEVER;
use crate::sink::elasticsearch::encode::text::write_vector;
use crate::sink::elasticsearch::lookup::{Index, property};
use crate::sink::elasticsearch::targets::{Target, routing_of};

mod place;

/// Returns the author of the nth document. No real account has this DID.
fn author(nth: usize) -> String {
    format!("did:plc:megastream_ingest-check-{nth}")
}

/// Returns the `_id` of the nth document, which no real document has. It is the `at_uri`, as in every document.
fn id(nth: usize) -> String {
    format!("at://{}/app.bsky.feed.post/check", author(nth))
}

/// A document to send.
pub(super) struct Probe<'p> {
    pub(super) client: &'p Client,
    pub(super) target: &'p Target,
    /// The index that takes the document.
    pub(super) index: &'p Index,
    pub(super) needs: Needs,
    /// The fields of the document.
    pub(super) fields: Vec<Sent>,
}

impl Probe<'_> {
    /// Sends a document, and judges the answer. If pipelines `may_move` it, sends others, too, and judges where they would
    /// be. Returns no check if the answers show nothing.
    pub(super) fn offer(&self, may_move: bool) -> Vec<Check> {
        let Target { name, .. } = self.target;
        let Some(first) = self.ask(0, VectorEncoding::Array) else { return Vec::new() };
        let mut checks = Vec::from_iter(judge(name, *name == self.needs.names.tombstones, &first));
        if may_move {
            checks.extend(place::judge(self, first));
        }
        checks
    }

    /// Sends a post with base64 vectors. Returns whether the server accepts it; None: the answer shows nothing.
    pub(super) fn offer_base64(&self) -> Option<bool> {
        match self.ask(0, VectorEncoding::Base64)?.status {
            409 => Some(true),
            400 => Some(false),
            _ => None,
        }
    }

    /// Sends the nth document.
    fn ask(&self, nth: usize, encoding: VectorEncoding) -> Option<Reply> {
        let Self { client, target, needs, .. } = self;
        let mappings = self.index.mappings.as_ref()?;
        let document = document(nth, mappings, &self.fields, needs.names.fields, encoding).to_string();
        let id = id(nth);
        let mut path =
            format!("/{}/_doc/{}?if_seq_no={NEVER}&if_primary_term=1", target.name, percent_encoded(&id));
        if target.is_alias() {
            path.push_str("&require_alias=true");
        }
        if let Some(routing) = routing_of(&id, target.requires_routing()) {
            path.push_str("&routing=");
            path.push_str(&percent_encoded(routing));
        }
        if let Some(pipeline) = needs.pipeline {
            path.push_str("&pipeline=");
            path.push_str(&percent_encoded(pipeline));
        }
        // Some proxies refuse the id in the path with a page. It shows nothing about the server.
        client.recording_pages().put(&path, document.as_bytes()).ok()
    }
}

/// Judges whether vectors can be sent as base64. Only a `dense_vector` is known to read it correctly.
pub(super) fn judge_base64(target: &Target, taken: Option<bool>) -> Check {
    let name = &target.name;
    let why = match (target.dense_vectors, taken) {
        (true, Some(true)) => {
            return Check::ok(
                "vectors",
                format!("{name} accepts vectors as base64 (tried with a document that no index keeps)"),
            );
        }
        (false, _) => "does not map all vectors as dense_vector, as far as this run can see",
        (true, Some(false)) => "refuses vectors as base64, which Elasticsearch accepts from 9.3 on",
        (true, None) => {
            "cannot be tried now with a document that no index keeps, for example because of a pipeline, a \
             block or a missing privilege"
        }
    };
    Check::failed(
        "vectors",
        format!("--vector-encoding base64: {name} {why}: remove the option, or give array"),
    )
}

/// Builds the nth document, with a value for each field in the mapping.
fn document(
    nth: usize,
    mappings: &Value,
    sent: &[Sent],
    choice: FieldChoice,
    encoding: VectorEncoding,
) -> Value {
    let mut document = Map::new();
    for &(name, kind) in sent {
        let members = |members| {
            property(mappings, name).map(|mapped| self::document(nth, mapped, members, choice, encoding))
        };
        let value = match kind {
            Kind::Keyword if name == "author_did" => json!(author(nth)),
            Kind::Keyword | Kind::Link => json!(id(nth)),
            Kind::Text | Kind::Words => json!("A post that no index keeps."),
            Kind::Date => json!("2025-10-30T12:34:56.789Z"),
            Kind::Boolean => json!(true),
            Kind::Integer => json!(1),
            Kind::Nested(fields) | Kind::Object(fields) => members(fields).unwrap_or_default(),
            Kind::Vectors => vectors(mappings, name, choice, encoding),
        };
        if property(mappings, name).is_some() && value != json!({}) {
            document.insert(name.to_owned(), value);
        }
    }
    Value::Object(document)
}

/// Builds vectors of length 1 for the fields in the mapping. Leaves out a vector that would fix the dimension of its
/// field.
fn vectors(mappings: &Value, object: &str, choice: FieldChoice, encoding: VectorEncoding) -> Value {
    let unit = |dims: u64| {
        let mut vector = vec![0.0_f32; usize::try_from(dims).unwrap_or_default()];
        for (value, part) in vector.iter_mut().zip([0.5, -0.5, 0.5, -0.5]) {
            *value = part;
        }
        let mut written = Vec::new();
        write_vector(&mut written, &vector, encoding);
        serde_json::from_slice::<Value>(&written).unwrap_or_default()
    };
    let mapped = property(mappings, object);
    let is_mapped = |name: &str| mapped.is_some_and(|object| property(object, name).is_some());
    let named = vector_names(choice).into_iter().filter(|vector| is_mapped(vector.name));
    named
        .filter_map(|vector| Some((vector.name.to_owned(), unit(vector.dims?))))
        .collect::<Map<_, _>>()
        .into()
}

/// Judges the answer to the document.
fn judge(name: &str, is_tombstones: bool, reply: &Reply) -> Option<Check> {
    let (kind, reason) = (reply.error_type(), reply.reason());
    let what = "a document that no index keeps was tried";
    let failed = |text: String| Some(Check::failed("document", text));
    match (reply.status, kind.as_str()) {
        (409, _) if id_of_conflict(&reason).is_some_and(|found| !is_id(found)) => {
            failed(format!("an ingest pipeline of {name} changes the _id ({what}): remove it"))
        }
        (409, _) => {
            Some(Check::ok("document", format!("{name} accepts documents as they are sent ({what})")))
        }
        (200, _) if is_noop(reply) && is_tombstones => failed(format!(
            "an ingest pipeline drops documents for {name} ({what}), so deleted posts would come back: \
             remove it"
        )),
        (200, _) if is_noop(reply) => Some(Check::warning(
            "document",
            format!(
                "an ingest pipeline drops documents for {name} ({what}): posts that it drops are rejected"
            ),
        )),
        // A proxy has decoded the path.
        (400, _) if reason.contains("no handler found") => None,
        (400, _) if reason.contains("pipeline with id") => failed(format!(
            "{name} has an ingest pipeline that is missing ({reason}): create it, or remove it from the index"
        )),
        (
            400,
            "document_parsing_exception" | "mapper_parsing_exception" | "strict_dynamic_mapping_exception",
        ) => failed(format!("{name} refuses documents as they are sent ({what}): {kind}: {reason}")),
        (400, _) if reason.contains("index.append_only.enabled") => failed(format!(
            "{name} accepts no document with an id of its own, because index.append_only.enabled is true ({what}): use \
             an index without that setting"
        )),
        (400, _) => Some(Check::warning(
            "document",
            format!("{name} may refuse documents as they are sent ({what}): {kind}: {reason}"),
        )),
        _ => None,
    }
}

/// Returns the id in the reason of a version conflict; None: the server does not name it.
fn id_of_conflict(reason: &str) -> Option<&str> {
    Some(reason.split_once("]: version conflict")?.0.rsplit_once('[')?.1)
}

/// Returns whether this is the id that was sent. Some servers repeat it as it is in the path.
fn is_id(found: &str) -> bool {
    let id = id(0);
    found == id || found.eq_ignore_ascii_case(&percent_encoded(&id))
}

fn is_noop(reply: &Reply) -> bool {
    reply.json::<Value>().is_some_and(|body| body["result"] == "noop")
}

/// Names the pipelines of an index, and refuses missing ones if the server shows that.
pub(super) fn judge_pipelines(
    client: &Client,
    is_tombstones: bool,
    index: &str,
    pipelines: &Pipelines,
) -> Result<Vec<Check>, NoAnswer> {
    let mut checks = Vec::new();
    for (setting, pipeline) in pipelines {
        let reply = answer(client, client.get(&format!("/_ingest/pipeline/{}", percent_encoded(pipeline))))?;
        // The server does not answer this request for a key without cluster privileges.
        let is_missing = reply.status == 404 && serde_json::from_slice::<IgnoredAny>(&reply.body).is_ok();
        checks.push(if is_missing {
            let text = format!(
                "{index} has the {setting} {pipeline}, but there is no such pipeline, so every document \
                 would be refused: create it, or remove it from the index"
            );
            Check::failed("pipeline", text)
        } else {
            Check::warning("pipeline", describe(is_tombstones, index, setting, pipeline))
        });
    }
    Ok(checks)
}

fn describe(is_tombstones: bool, index: &str, setting: &str, pipeline: &str) -> String {
    let what_follows = if is_tombstones {
        "a tombstone that it drops or gives another _id or version stops the run; it must not set _routing, because \
         look-ups would miss the tombstone"
    } else {
        "a post that it drops or gives another _id or version is rejected, and its changes to other posts stay; it must \
         not set _routing, because deletes would miss the post"
    };
    format!("{index} has the {setting} {pipeline}, which documents go through: {what_follows}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::schema::{kinds, post_fields};
    use crate::observe::finding::Status::{self, Failed, Ok as Fine, Warning};

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status, retry_after: None, body: body.as_bytes().to_vec() }
    }

    fn status(is_tombstones: bool, http: u16, body: &str) -> Option<Status> {
        judge("x", is_tombstones, &reply(http, body)).map(|check| check.status)
    }

    // Recorded from Elasticsearch 9.5.3, shortened.
    const TAKEN: &str = r#"{"error":{"type":"version_conflict_engine_exception","reason":"[at://did:plc:megastream_ingest-check-0/app.bsky.feed.post/check]: version conflict, required seqNo [4611686018427387904], primary term [1]. but no document was found"},"status":409}"#;
    const RENAMED: &str = r#"{"error":{"type":"version_conflict_engine_exception","reason":"[other-megastream_ingest]: version conflict, required seqNo [4611686018427387904], primary term [1]. but no document was found"},"status":409}"#;
    const REFUSED: &str = r#"{"error":{"type":"document_parsing_exception","reason":"[1:6] failed to parse field [d] of type [date] in document with id 'probe'."},"status":400}"#;
    const NO_PIPELINE: &str = r#"{"error":{"type":"illegal_argument_exception","reason":"pipeline with id [missing] does not exist"},"status":400}"#;
    // Recorded from OpenSearch 2.19.4, shortened.
    const NO_MEMORY: &str = r#"{"error":{"type":"mapper_parsing_exception","reason":"failed to parse field [v] of type [knn_vector]","caused_by":{"type":"knn_circuit_breaker_exception","reason":"Parsing the created knn vector fields prior to indexing has failed as the circuit breaker triggered."}},"status":400}"#;
    // Recorded from OpenSearch 3.5.0, shortened.
    const APPEND_ONLY: &str = r#"{"error":{"type":"validation_exception","reason":"Validation Failed: 1: Operation [INDEX] is not allowed with a custom document id x as setting `index.append_only.enabled` is enabled for this index: posts;"},"status":400}"#;
    const DROPPED: &str = r#"{"_index":"a1","_id":"probe","_version":-3,"result":"noop","_shards":{"total":0,"successful":0,"failed":0},"_seq_no":-2,"_primary_term":0}"#;

    #[test]
    fn the_answer_to_a_probe_shows_whether_documents_are_accepted() {
        for (http, body, of_posts, of_tombstones) in [
            (409, TAKEN, Some(Fine), Some(Fine)),
            (409, RENAMED, Some(Failed), Some(Failed)),
            (409, r#"{"error":{"type":"version_conflict_engine_exception"}}"#, Some(Fine), Some(Fine)),
            // With a type, as Elasticsearch 7 and earlier write it.
            (409, &TAKEN.replace("[at:", "[_doc][at:"), Some(Fine), Some(Fine)),
            (409, &TAKEN.replace(&id(0), &percent_encoded(&id(0))), Some(Fine), Some(Fine)),
            (400, REFUSED, Some(Failed), Some(Failed)),
            (400, NO_PIPELINE, Some(Failed), Some(Failed)),
            (400, APPEND_ONLY, Some(Failed), Some(Failed)),
            (200, DROPPED, Some(Warning), Some(Failed)),
            (400, r#"{"error":{"type":"script_exception","reason":"x"}}"#, Some(Warning), Some(Warning)),
            (400, NO_MEMORY, Some(Warning), Some(Warning)),
            (403, r#"{"error":{"type":"cluster_block_exception","reason":"x"}}"#, None, None),
            (
                400,
                r#"{"error":"no handler found for uri [/posts/_doc/at:/x] and method [PUT]","status":400}"#,
                None,
                None,
            ),
            (404, "<html>", None, None),
            (503, "", None, None),
            (201, "{}", None, None),
        ] {
            assert_eq!(status(false, http, body), of_posts, "{http} {body}");
            assert_eq!(status(true, http, body), of_tombstones, "{http} {body}");
        }
    }

    #[test]
    fn only_fields_that_the_mapping_names_are_offered() {
        let mappings = json!({"properties": {"at_uri": {"type": "keyword"}, "created_at": {"type": "date"},
            "embeddings": {"properties": {"all_MiniLM_L12_v2": {"type": "dense_vector"}}}}});
        let document = document(
            0,
            &mappings,
            &kinds(post_fields(FieldChoice::default())),
            FieldChoice::default(),
            VectorEncoding::Array,
        );
        let names: Vec<&String> = document.as_object().unwrap().keys().collect();
        assert_eq!(names, ["at_uri", "created_at", "embeddings"]);
        let vectors = document["embeddings"].as_object().unwrap();
        assert_eq!(vectors.keys().collect::<Vec<_>>(), ["all_MiniLM_L12_v2"]);
        let vector: Vec<f64> = serde_json::from_value(vectors["all_MiniLM_L12_v2"].clone()).unwrap();
        assert_eq!((vector.len(), vector.iter().map(|value| value * value).sum::<f64>()), (384, 1.0));
        assert_eq!(
            super::document(
                0,
                &json!({}),
                &kinds(post_fields(FieldChoice::default())),
                FieldChoice::default(),
                VectorEncoding::Array
            ),
            json!({})
        );
    }
}
