//! Whether the mapping of an index takes the documents as they are sent.

use serde_json::Value;

use super::VectorMapping;
use crate::observe::finding::Check;
use crate::sink::elasticsearch::schema::{VECTOR_DIMS, VECTORS};

const NAME: &str = "mapping";

/// What an index does with a field that its mapping doesn't name.
///
/// Source: Elasticsearch's mapping parameter `dynamic`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dynamic {
    /// Its type is guessed from the first value.
    Guess,
    /// It is kept in the source and not indexed.
    Keep,
    /// The document is rejected.
    Reject,
}

impl Dynamic {
    /// The value of an object, or what it inherits.
    fn of(object: &Value, inherited: Self) -> Self {
        match object.get("dynamic") {
            Some(Value::Bool(true)) => Dynamic::Guess,
            Some(Value::Bool(false)) => Dynamic::Keep,
            Some(Value::String(text)) => match text.as_str() {
                "true" => Dynamic::Guess,
                "strict" => Dynamic::Reject,
                _ => Dynamic::Keep,
            },
            _ => inherited,
        }
    }
}

/// Judges the mapping of everything but the vectors.
pub(super) fn judge(index: &str, mappings: &Value, fields: &[&str]) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.extend(judge_unmapped(index, mappings, fields));
    checks.extend(judge_at_uri(index, mappings));
    checks
}

/// Whether every action and look-up of a document has to carry a routing.
pub(super) fn requires_routing(mappings: &Value) -> bool {
    mappings.pointer("/_routing/required") == Some(&Value::Bool(true))
}

/// A strict mapping rejects every document with a field that it doesn't name.
fn judge_unmapped(index: &str, mappings: &Value, fields: &[&str]) -> Option<Check> {
    let unmapped: Vec<_> =
        fields.iter().copied().filter(|field| property(mappings, field).is_none()).collect();
    let rejected = Dynamic::of(mappings, Dynamic::Guess) == Dynamic::Reject && !unmapped.is_empty();
    rejected.then(|| {
        let unmapped = unmapped.join(", ");
        Check::failed(NAME, format!("{index} is strict and does not map {unmapped}: add them to its mapping"))
    })
}

/// `at_uri` is what readers look posts up by, apart from `_id`.
fn judge_at_uri(index: &str, mappings: &Value) -> Option<Check> {
    let wrong = match property(mappings, "at_uri").map(type_of) {
        Some("keyword" | "wildcard" | "constant_keyword") => return None,
        Some("text") => "maps at_uri as text: exact searches for it need keyword".to_owned(),
        Some(other) => {
            let text = format!("{index} maps at_uri as {other}: make the index anew with keyword");
            return Some(Check::failed(NAME, text));
        }
        None => "does not map at_uri as keyword".to_owned(),
    };
    Some(Check::warning(NAME, format!("{index} {wrong}")))
}

/// Why posts cannot be searched by their exact author, and what to do.
///
/// A text is searched by its words, and a field that is not mapped finds nothing without saying so; a keyword can be
/// searched by its index or, slower, its doc values.
pub(super) fn judge_author(index: &str, mappings: &Value) -> Option<String> {
    let author = property(mappings, "author_did");
    let is_off = |parameter| author.and_then(|author| author.get(parameter)) == Some(&Value::Bool(false));
    let why = match author.map(type_of) {
        Some("keyword") if is_off("index") && is_off("doc_values") => {
            "maps author_did with neither index nor doc values".to_owned()
        }
        Some("keyword" | "wildcard") => return None,
        Some(other) => format!("maps author_did as {other}"),
        None => "does not map author_did".to_owned(),
    };
    Some(format!(
        "{index} {why}, so that an author's posts cannot be found: make the index anew with keyword, or leave \
         --account-deletions away"
    ))
}

/// Judges the mapping of the vectors.
pub(super) fn judge_vectors(index: &str, mappings: &Value) -> (Vec<Check>, VectorMapping) {
    let embeddings = property(mappings, "embeddings");
    let dynamic = Dynamic::of(embeddings.unwrap_or(&Value::Null), Dynamic::of(mappings, Dynamic::Guess));
    let mut checks = Vec::new();
    let mut dense = true;
    for field in VECTORS.iter().map(|field| field.name) {
        let name = format!("embeddings.{field}");
        let mapped =
            embeddings.and_then(|object| property(object, field)).or_else(|| property(mappings, &name));
        let (is_dense, check) = match (mapped, embeddings.map(type_of)) {
            (Some(mapping), _) => judge_vector(index, &name, mapping),
            (None, None | Some("object" | "nested")) => (false, Some(judge_no_vector(index, &name, dynamic))),
            (None, Some(other)) => {
                let text = format!("{index} maps embeddings as {other}: make the index anew with {WANTED}");
                (false, Some(Check::failed(NAME, text)))
            }
        };
        dense &= is_dense;
        checks.extend(check);
    }
    (checks, VectorMapping { dense })
}

const WANTED: &str = "dense_vector of 384 dims (a mapping cannot be changed; \
                      --create-indices makes a right one where the index is missing)";

/// Judges the mapping that a vector field has: whether it is a `dense_vector`, and what is wrong with it.
fn judge_vector(index: &str, name: &str, mapping: &Value) -> (bool, Option<Check>) {
    let dims = mapping.get("dims").or(mapping.get("dimension")).map(|dims| dims.as_u64());
    let element = mapping.get("element_type").and_then(Value::as_str).unwrap_or("float");
    let is_vector = match type_of(mapping) {
        "dense_vector" => matches!(element, "float" | "bfloat16"),
        // OpenSearch's: takes the same arrays, but reads base64 in the other byte order.
        "knn_vector" => true,
        _ => false,
    };
    let problem = if !is_vector {
        let kind = if element == "float" { type_of(mapping) } else { element };
        format!("{index} maps {name} as {kind}: make the index anew with {WANTED}")
    } else if dims.is_some_and(|dims| dims != Some(VECTOR_DIMS)) {
        let dims = dims.flatten().unwrap_or_default();
        format!("{index} maps {name} with {dims} dims: make the index anew with {WANTED}")
    } else {
        return (type_of(mapping) == "dense_vector", None);
    };
    (false, Some(Check::failed(NAME, problem)))
}

/// What becomes of a vector field without a mapping.
///
/// Guessing is refused: Elasticsearch guesses `dense_vector` since 8.11, but older ones and OpenSearch guess
/// `float`, and anything guesses `text` from base64; none of that can be changed afterwards.
fn judge_no_vector(index: &str, name: &str, dynamic: Dynamic) -> Check {
    match dynamic {
        Dynamic::Keep => Check::warning(NAME, format!("{index} does not index {name}: it is not searchable")),
        Dynamic::Guess => Check::failed(
            NAME,
            format!(
                "{index} does not map {name} and would guess its type from the first post: \
                 add it to the mapping as dense_vector of 384 dims"
            ),
        ),
        Dynamic::Reject => Check::failed(
            NAME,
            format!(
                "{index} does not map {name} and is strict: add it to the mapping as dense_vector of 384 dims"
            ),
        ),
    }
}

fn property<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object.get("properties")?.get(name)
}

/// The type of a field; what has none is an object.
fn type_of(field: &Value) -> &str {
    field.get("type").and_then(Value::as_str).unwrap_or("object")
}

#[cfg(test)]
mod tests;
