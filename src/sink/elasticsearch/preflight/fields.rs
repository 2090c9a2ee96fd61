//! Checks whether the mapping of an index accepts the documents as they are sent.

use serde_json::Value;

use super::VectorMapping;
use crate::model::FieldChoice;
use crate::model::schema::{Kind, POST_FIELDS, VectorName, vector_names};
use crate::observe::finding::Check;
use crate::sink::elasticsearch::product::Product;

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
        checks.extend(
            property(mappings, name).into_iter().flat_map(|mapping| judge_field(index, name, kind, mapping)),
        );
    }
    checks
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
    let names = |object: Option<&Value>| -> Vec<String> {
        let fields = object.and_then(|object| object.get("properties")).and_then(Value::as_object);
        fields.into_iter().flatten().map(|(name, _)| name.clone()).collect()
    };
    let dotted = |name: &str| name.strip_prefix("embeddings.").is_some_and(is_vector);
    let mut foreign: Vec<String> =
        names(Some(mappings)).into_iter().filter(|name| !is_written(name) && !dotted(name)).collect();
    let vectors = names(property(mappings, "embeddings")).into_iter().filter(|name| !is_vector(name));
    foreign.extend(vectors.map(|name| format!("embeddings.{name}")));
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
        Dynamic::Guess => guesses_dates && matches!(kind, Kind::Text | Kind::Words),
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
        Dynamic::Reject => Check::failed(
            NAME,
            format!("{index} is strict and does not map {unmapped}: add them to its mapping"),
        ),
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
    let wrong = match property(mappings, "at_uri").map(type_of) {
        Some("keyword" | "wildcard" | "constant_keyword") => return None,
        Some("text") => "maps at_uri as text: exact searches for it need keyword".to_owned(),
        // `judge_value` judges whether the field accepts texts, as for every field.
        Some(_) => return None,
        None => "does not map at_uri as keyword".to_owned(),
    };
    Some(Check::warning(NAME, format!("{index} {wrong}")))
}

/// Types that accept every text.
const TEXTS: [&str; 11] = [
    "keyword",
    "text",
    "wildcard",
    "match_only_text",
    "search_as_you_type",
    "annotated_text",
    "counted_keyword",
    "pattern_text",
    "icu_collation_keyword",
    "token_count",
    "version",
];

/// Types that accept every number in the media of posts.
const NUMBERS: [&str; 6] = ["long", "integer", "unsigned_long", "double", "float", "scaled_float"];

/// Types that accept no texts, or only texts that stand for a number, a place and the like.
const NON_TEXTS: [&str; 26] = [
    "long",
    "integer",
    "short",
    "byte",
    "double",
    "float",
    "half_float",
    "scaled_float",
    "unsigned_long",
    "boolean",
    "binary",
    "ip",
    "geo_point",
    "geo_shape",
    "point",
    "shape",
    "flattened",
    "flat_object",
    "dense_vector",
    "sparse_vector",
    "knn_vector",
    "rank_feature",
    "rank_features",
    "constant_keyword",
    "histogram",
    "join",
];

/// Judges the mapping of a field that holds a text or a time. The server judges types that are not in these lists.
fn judge_value(index: &str, name: &str, kind: Kind, mapping: &Value) -> Option<Check> {
    let wanted = match kind {
        Kind::Vectors => return None,
        Kind::Keyword | Kind::Link => "keyword",
        Kind::Text | Kind::Words => "text",
        Kind::Date => "date",
        Kind::Boolean => "boolean",
        Kind::Integer => "long",
        Kind::Nested(_) => "nested",
        Kind::Object(_) => "an object",
    };
    let is = |parameter: &str, value: bool| mapping.get(parameter) == Some(&Value::Bool(value));
    let failed = |how: String| {
        let text = format!("{index} maps {name} {how}: create the index again with {wanted}");
        Some(Check::failed(NAME, text))
    };
    let not_indexed = |why: String| {
        Some(Check::warning(NAME, format!("{index} keeps {name} but does not index it: {why}")))
    };
    let is_object = matches!(kind, Kind::Nested(_) | Kind::Object(_));
    match type_of(mapping) {
        "object" if is("enabled", false) => not_indexed("it is an object with enabled: false".to_owned()),
        "date" | "date_nanos" => {
            let format = mapping.get("format").and_then(Value::as_str);
            if kind == Kind::Date && !format.is_some_and(refuses_written_times) {
                return judge_nanoseconds(index, name, mapping);
            }
            if is("ignore_malformed", true) {
                return not_indexed(format!("its format is {}", format.unwrap_or("a time")));
            }
            let how = format.map_or("as date".to_owned(), |format| format!("as date of the format {format}"));
            failed(how)
        }
        "object" | "nested" | "flattened" | "flat_object" if is_object => None,
        "boolean" if kind == Kind::Boolean => None,
        number if kind == Kind::Integer && NUMBERS.contains(&number) => None,
        texts if TEXTS.contains(&texts) && !is_object => None,
        "alias" => failed("as an alias of another field, which accepts no values".to_owned()),
        "object" | "nested" => failed(format!("as {}", type_of(mapping))),
        other if !NON_TEXTS.contains(&other) && !TEXTS.contains(&other) => None,
        other if is("ignore_malformed", true) => not_indexed(format!("it is a {other}")),
        other => failed(format!("as {other}")),
    }
}

/// Warns if a field of `date_nanos` would refuse posts: the authors' clients write any time. Times that this program or
/// the stream writes are in its range.
///
/// Source: Elasticsearch, "Date nanoseconds field type".
fn judge_nanoseconds(index: &str, name: &str, mapping: &Value) -> Option<Check> {
    let is_malformed_ignored = mapping.get("ignore_malformed") == Some(&Value::Bool(true));
    let is_refused = type_of(mapping) == "date_nanos" && name == "created_at" && !is_malformed_ignored;
    is_refused.then(|| {
        let text = format!(
            "{index} maps {name} as date_nanos, which accepts only times from 1970 to 2262 and refuses posts \
             with others: use date, or expect rejected rows"
        );
        Check::warning(NAME, text)
    })
}

/// Returns whether a date format accepts no time of this program, such as `2025-10-30T12:34:56.789Z`. The server judges
/// formats that are not in this list.
///
/// Source: Elasticsearch's mapping parameter `format`.
fn refuses_written_times(format: &str) -> bool {
    format.split("||").map(str::trim).all(|format| {
        let name = format.strip_prefix("strict_").unwrap_or(format);
        name.starts_with("epoch_")
            || name.starts_with("basic_")
            || name.ends_with("_no_millis")
            || ["date", "time", "t_time", "year", "year_month", "year_month_day", "yyyy-MM-dd"]
                .contains(&name)
            || ["weekyear", "week_date", "ordinal_date", "hour", "hour_minute"].contains(&name)
            || ["yyyy-MM-dd HH:mm:ss", "yyyy/MM/dd", "date_hour", "date_hour_minute_second"].contains(&name)
    })
}

/// Returns why posts cannot be searched by their exact author, and what to do; None: they can.
///
/// A `text` field is searched by its words, and a search in an unmapped field finds nothing. A keyword can be searched
/// by its index or, more slowly, by its doc values.
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
        "{index} {why}, so an author's posts cannot be found: create the index again with keyword, or \
         remove --account-deletions"
    ))
}

pub(super) fn judge_vectors(
    index: &str,
    mappings: &Value,
    choice: FieldChoice,
    product: Product,
) -> (Vec<Check>, VectorMapping) {
    let embeddings = property(mappings, "embeddings");
    let dynamic = Dynamic::of(embeddings.unwrap_or(&Value::Null), Dynamic::of(mappings, Dynamic::Guess));
    let mut checks = Vec::new();
    let mut dense = true;
    for vector in vector_names(choice) {
        let (field, wanted) = (vector.name, product.wanted_vector(vector.dims));
        let name = format!("embeddings.{field}");
        let mapped =
            embeddings.and_then(|object| property(object, field)).or_else(|| property(mappings, &name));
        let (is_dense, check) = match (mapped, embeddings.map(type_of)) {
            _ if embeddings.is_some_and(|object| object.get("enabled") == Some(&Value::Bool(false))) => {
                (false, Some(judge_no_vector(index, &name, Dynamic::Keep, &wanted)))
            }
            (Some(mapping), _) => judge_vector(index, &name, vector, mapping, product),
            (None, None | Some("object" | "nested")) => {
                (false, Some(judge_no_vector(index, &name, dynamic, &wanted)))
            }
            (None, Some(other)) => {
                let text = format!(
                    "{index} maps embeddings as {other}: create the index again with {wanted} {RECREATE_HINT}"
                );
                (false, Some(Check::failed(NAME, text)))
            }
        };
        dense &= is_dense;
        checks.extend(check);
    }
    (checks, VectorMapping { dense })
}

/// Hint for a mapping that already exists.
const RECREATE_HINT: &str =
    "(a mapping cannot be changed; --create-indices creates the right one if the index is missing)";

/// Judges the mapping of a vector field. Returns whether it is a `dense_vector`, and what is wrong with it.
///
/// For an additional model, the mapping's dimension becomes that of this run's vectors.
fn judge_vector(
    index: &str,
    name: &str,
    vector: VectorName,
    mapping: &Value,
    product: Product,
) -> (bool, Option<Check>) {
    let dims = mapping.get("dims").or(mapping.get("dimension")).map(|dims| dims.as_u64());
    let text = |parameter: &str| mapping.get(parameter).and_then(Value::as_str);
    let element = text("element_type").or(text("data_type")).unwrap_or("float");
    let is_vector = match type_of(mapping) {
        "dense_vector" => matches!(element, "float" | "bfloat16"),
        // OpenSearch's type accepts the same arrays, but reads base64 in the other byte order.
        "knn_vector" => !matches!(element, "byte" | "binary"),
        _ => false,
    };
    if let (Some(model), Some(Some(dims))) = (vector.model, dims)
        && is_vector
    {
        model.has_dims(usize::try_from(dims).unwrap_or_default());
    }
    let vector = VectorName {
        dims: vector.model.map_or(vector.dims, |model| model.dims().map(|dims| dims as u64)),
        ..vector
    };
    let wanted = product.wanted_vector(vector.dims);
    let problem = if !is_vector {
        let kind = if element == "float" { type_of(mapping) } else { element };
        format!("{index} maps {name} as {kind}: create the index again with {wanted} {RECREATE_HINT}")
    } else if dims.is_some_and(|dims| vector.dims.is_some() && dims != vector.dims) {
        let dims = dims.flatten().unwrap_or_default();
        format!("{index} maps {name} with {dims} dims: create the index again with {wanted} {RECREATE_HINT}")
    } else {
        let wants_length = text("similarity") == Some("dot_product");
        let warning = wants_length.then(|| {
            let text = format!(
                "{index} maps {name} with the similarity dot_product, which accepts only vectors of length \
                 1 and refuses other posts: use cosine, or expect rejected rows"
            );
            Check::warning(NAME, text)
        });
        return (type_of(mapping) == "dense_vector", warning);
    };
    (false, Some(Check::failed(NAME, problem)))
}

/// Judges a vector field without a mapping.
///
/// A guessed type is refused. Elasticsearch guesses `dense_vector` since 8.11, but older versions and OpenSearch guess
/// `float`, and every version guesses `text` from base64. A mapping cannot be changed afterwards.
fn judge_no_vector(index: &str, name: &str, dynamic: Dynamic, wanted: &str) -> Check {
    match dynamic {
        Dynamic::Keep => Check::warning(NAME, format!("{index} does not index {name}: it is not searchable")),
        Dynamic::Guess => Check::failed(
            NAME,
            format!(
                "{index} does not map {name} and would guess its type from the first post: \
                 add it to the mapping as {wanted}"
            ),
        ),
        Dynamic::Reject => Check::failed(
            NAME,
            format!("{index} is strict and does not map {name}: add it to the mapping as {wanted}"),
        ),
    }
}

pub(super) fn property<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object.get("properties")?.get(name)
}

/// Returns the type of a field. A field without a type is an object.
fn type_of(field: &Value) -> &str {
    field.get("type").and_then(Value::as_str).unwrap_or("object")
}

#[cfg(test)]
mod tests;
