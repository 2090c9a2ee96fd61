//! Checks whether the mapping of a field accepts its texts, times or numbers.

use serde_json::Value;

use super::{NAME, type_of};
use crate::model::schema::Kind;
use crate::observe::finding::Check;

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
pub(super) fn judge_value(index: &str, name: &str, kind: Kind, mapping: &Value) -> Option<Check> {
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
