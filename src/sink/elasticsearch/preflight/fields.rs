//! Checks whether the mapping of an index accepts the documents as they are sent.

use serde_json::Value;

use crate::model::FieldChoice;
use crate::model::schema::{Kind, POST_FIELDS, vector_names};
use crate::observe::finding::Check;
use crate::sink::elasticsearch::lookup::{properties, property};

mod templates;
mod values;
mod vectors;

pub(super) use vectors::judge_vectors;

use values::judge_value;

const NAME: &str = "mapping";

/// How an index treats a field that its mapping does not have.
///
/// Source: Elasticsearch's mapping parameter `dynamic`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dynamic {
    /// It guesses the type from the first value.
    Guess,
    /// It keeps the field in `_source` and does not index it.
    Keep,
    /// It rejects the document.
    Reject,
}

impl Dynamic {
    /// Parses the value of an object, or inherits it.
    fn of(object: &Value, inherited: Self) -> Self {
        match object.get("dynamic") {
            Some(Value::Bool(true)) => Dynamic::Guess,
            Some(Value::Bool(false)) => Dynamic::Keep,
            Some(Value::String(text)) => match text.to_ascii_lowercase().as_str() {
                "true" => Dynamic::Guess,
                // OpenSearch's `strict_allow_templates` rejects fields that match no template.
                "strict" | "strict_allow_templates" => Dynamic::Reject,
                // `runtime` creates fields that are computed from `_source` during a search.
                _ => Dynamic::Keep,
            },
            _ => inherited,
        }
    }
}

/// A field that is sent, and its kind.
pub(super) type Sent = (&'static str, Kind);

/// Judges the mapping of all fields except the vectors.
pub(super) fn judge(index: &str, mappings: &Value, fields: &[Sent]) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.extend(judge_unmapped(index, mappings, fields));
    checks.extend(judge_at_uri(index, mappings));
    for &(name, kind) in fields {
        if let Some(mapping) = property(mappings, name) {
            checks.extend(judge_field(index, name, kind, mapping));
        } else if let Some(mapping) = template(mappings, name, kind) {
            checks.extend(of_template(index, |by| judge_field(by, name, kind, mapping)));
        }
    }
    checks
}

/// Returns the mapping that a dynamic template gives to a field that the mapping lacks.
fn template<'m>(mappings: &'m Value, name: &str, kind: Kind) -> Option<&'m Value> {
    let is_off = |parameter| mappings.get(parameter) == Some(&Value::Bool(false));
    let guesses_this_date = !is_off("date_detection") && mappings.get("dynamic_date_formats").is_none();
    let guessed = match kind {
        // Judged with the vectors.
        Kind::Vectors => return None,
        Kind::Date if guesses_this_date => "date",
        Kind::Keyword | Kind::Link | Kind::Text | Kind::Words | Kind::Date => "string",
        Kind::Boolean => "boolean",
        Kind::Integer => "long",
        Kind::Nested(_) | Kind::Object(_) => "object",
    };
    let guesses = Dynamic::of(mappings, Dynamic::Guess) == Dynamic::Guess;
    templates::mapping_of(mappings, name, guessed).filter(|_| guesses)
}

/// Judges a mapping that a dynamic template gives to a field. `judge` gets what to name as the one that maps it.
fn of_template<C: IntoIterator<Item = Check>>(index: &str, judge: impl FnOnce(&str) -> C) -> Vec<Check> {
    let judged = judge(&format!("a dynamic template of {index}")).into_iter();
    let with_advice = |check: Check| Check {
        text: format!("{}, or add the field to the mapping of {index}", check.text),
        ..check
    };
    judged.map(with_advice).collect()
}

/// Returns the mapping with the index-wide `ignore_malformed` in each field that does not set it.
pub(super) fn ignoring_malformed(mappings: &Value) -> Value {
    fn fill(object: &mut Value) {
        let fields = object.get_mut("properties").and_then(Value::as_object_mut);
        for field in fields.into_iter().flat_map(|fields| fields.values_mut()) {
            if let Some(parameters) = field.as_object_mut() {
                parameters.entry("ignore_malformed").or_insert(Value::Bool(true));
            }
            fill(field);
        }
    }
    let mut filled = mappings.clone();
    fill(&mut filled);
    filled
}

/// Judges a field and, if it is an object, its members.
fn judge_field(index: &str, name: &str, kind: Kind, mapping: &Value) -> Vec<Check> {
    let mut checks: Vec<Check> = judge_value(index, name, kind, mapping).into_iter().collect();
    if let Kind::Nested(members) | Kind::Object(members) = kind
        && checks.is_empty()
        && matches!(type_of(mapping), "object" | "nested")
    {
        let unmapped: Vec<_> =
            members.iter().filter(|(member, _)| property(mapping, member).is_none()).collect();
        if Dynamic::of(mapping, Dynamic::Keep) == Dynamic::Reject && !unmapped.is_empty() {
            let names: Vec<String> = unmapped.iter().map(|(member, _)| format!("{name}.{member}")).collect();
            let text =
                format!("{index} is strict and does not map {}: add them to its mapping", names.join(", "));
            checks.push(Check::failed(NAME, text));
        }
        for &(member, kind) in members {
            let judged = property(mapping, member)
                .map(|mapping| judge_field(index, &format!("{name}.{member}"), kind, mapping));
            checks.extend(judged.into_iter().flatten());
        }
    }
    checks
}

/// Warns about fields of another writer. A document that another writer has extended is replaced by one without those
/// fields: this program's versions are above those that Elasticsearch counts itself.
pub(super) fn judge_foreign(
    index: &str,
    mappings: &Value,
    fields: &[Sent],
    choice: FieldChoice,
) -> Option<Check> {
    const NAMED: usize = 10;
    let is_written = |name: &str| fields.iter().any(|&(field, _)| field == name);
    let ours = vector_names(choice);
    let is_vector = |name: &str| ours.iter().any(|field| field.name == name);
    let dotted = |name: &str| name.strip_prefix("embeddings.").is_some_and(is_vector);
    let foreign = properties(mappings).filter(|(name, _)| !is_written(name) && !dotted(name));
    let vectors = property(mappings, "embeddings").into_iter().flat_map(properties);
    let vectors = vectors.filter(|(name, _)| !is_vector(name)).map(|(name, _)| format!("embeddings.{name}"));
    let mut foreign: Vec<String> = foreign.map(|(name, _)| name.clone()).chain(vectors).collect();
    if foreign.is_empty() {
        return None;
    }
    let more = foreign.len().saturating_sub(NAMED);
    foreign.truncate(NAMED);
    let and_more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let text = format!(
        "{index} has fields that this run does not write: {}{and_more}; documents of another writer that \
         have them are replaced by documents without them",
        foreign.join(", ")
    );
    Some(Check::warning(NAME, text))
}

/// Returns whether every action and look-up of a document must have a routing.
pub(super) fn requires_routing(mappings: &Value) -> bool {
    mappings.pointer("/_routing/required") == Some(&Value::Bool(true))
}

/// Judges fields that the mapping lacks. A strict one would reject every document. One that guesses takes a text that
/// looks like a date for a date, and refuses other texts from then on. Otherwise fields that somebody asked for cannot
/// be searched.
fn judge_unmapped(index: &str, mappings: &Value, fields: &[Sent]) -> Option<Check> {
    let dynamic = Dynamic::of(mappings, Dynamic::Guess);
    let guesses_dates = mappings.get("date_detection") != Some(&Value::Bool(false));
    let is_judged = |&(name, kind): &Sent| match dynamic {
        Dynamic::Reject => true,
        // A template may catch every text, whether it looks like a date or not.
        Dynamic::Guess if !guesses_dates || !matches!(kind, Kind::Text | Kind::Words) => false,
        Dynamic::Guess => {
            let caught = templates::mapping_of(mappings, name, "string");
            caught.is_none() || caught != templates::mapping_of(mappings, name, "date")
        }
        Dynamic::Keep => POST_FIELDS.iter().any(|field| field.name == name && field.asked.is_some()),
    };
    let unmapped: Vec<_> = fields
        .iter()
        .filter(|sent| property(mappings, sent.0).is_none() && is_judged(sent))
        .map(|sent| sent.0)
        .collect();
    if unmapped.is_empty() {
        return None;
    }
    let unmapped = unmapped.join(", ");
    Some(match dynamic {
        Dynamic::Reject => {
            let is_of_posts = fields.iter().all(|&(name, _)| name != "deleted_at");
            let or = if is_of_posts { ", or leave them out (--exclude-field)" } else { "" };
            let text = format!("{index} is strict and does not map {unmapped}: add them to its mapping{or}");
            Check::failed(NAME, text)
        }
        Dynamic::Guess => Check::warning(
            NAME,
            format!(
                "{index} does not map {unmapped} and guesses the type from the first post: if its text looks like a \
                 date, other posts are refused; add them to its mapping"
            ),
        ),
        Dynamic::Keep => Check::warning(
            NAME,
            format!(
                "{index} keeps {unmapped} but does not index them, so they cannot be searched: add them to its mapping"
            ),
        ),
    })
}

/// Checks the mapping of `at_uri`. Readers look posts up by it, as well as by `_id`.
fn judge_at_uri(index: &str, mappings: &Value) -> Option<Check> {
    let mapped = property(mappings, "at_uri").or_else(|| template(mappings, "at_uri", Kind::Keyword));
    let wrong = match mapped.map(type_of) {
        Some("keyword" | "wildcard" | "constant_keyword") => return None,
        Some("text") => "maps at_uri as text: exact searches for it need keyword".to_owned(),
        // `judge_value` judges whether the field accepts texts, as for every field.
        Some(_) => return None,
        None => "does not map at_uri as keyword".to_owned(),
    };
    Some(Check::warning(NAME, format!("{index} {wrong}")))
}

/// Length in characters up to which authors must be indexed. A `did:plc` has 32, a `did:web` the name of a host. 256 is
/// what Elasticsearch itself writes into mappings that it guesses.
const LONGEST_AUTHOR: u64 = 256;

/// Returns why posts cannot be searched by their exact author, and what to do; None: they can.
///
/// A `text` field is searched by its words, and a search in an unmapped field finds nothing. A keyword can be searched
/// by its index or, more slowly, by its doc values, but not if it is longer than `ignore_above`.
pub(super) fn judge_author(index: &str, mappings: &Value) -> Option<String> {
    let author = property(mappings, "author_did");
    let is_off = |parameter| author.and_then(|author| author.get(parameter)) == Some(&Value::Bool(false));
    let longest = author.and_then(|author| author.get("ignore_above")?.as_u64());
    let why = match author.map(type_of) {
        Some("keyword") if is_off("index") && is_off("doc_values") => {
            "maps author_did with neither index nor doc values".to_owned()
        }
        Some("keyword" | "wildcard") => match longest {
            Some(longest) if longest < LONGEST_AUTHOR => {
                format!("maps author_did with ignore_above {longest}, below {LONGEST_AUTHOR}")
            }
            _ => return None,
        },
        Some(other) => format!("maps author_did as {other}"),
        None => "does not map author_did".to_owned(),
    };
    Some(format!(
        "{index} {why}, so an author's posts cannot be found: create the index again with keyword, or \
         remove --account-deletions"
    ))
}

/// Returns the type of a field. A field without a type is an object.
fn type_of(field: &Value) -> &str {
    field.get("type").and_then(Value::as_str).unwrap_or("object")
}

#[cfg(test)]
mod tests;
