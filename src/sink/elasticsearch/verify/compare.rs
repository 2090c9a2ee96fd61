//! Compares a document with the stored one. Pure.
//!
//! The fields are those of [`schema`](crate::model::schema). Each is compared by its kind, since a server may return
//! another text for the same value.

use std::collections::HashMap;

use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::common::timestamp::parse_rfc3339_millis;
use crate::model::FieldChoice;
use crate::model::schema::{Kind, WRITTEN_AT, post_fields, vector_names};
use crate::sink::elasticsearch::encode::text::read_vector;
use crate::sink::elasticsearch::returned::{Returned, Rounding};

/// An object whose fields are read, but not their values.
type Object<'o> = HashMap<String, &'o RawValue>;

/// Returns the first field in which a stored post differs from the expected document. Skips fields that the index does
/// not store, fields of other writers, and fields that posts should not have.
pub(super) fn first_difference(
    choice: FieldChoice,
    document: &[u8],
    stored: &str,
    returned: &Returned,
) -> Option<&'static str> {
    let Ok(document) = serde_json::from_slice::<Object<'_>>(document) else { return Some("_source") };
    let Ok(stored) = serde_json::from_str::<Object<'_>>(stored) else { return Some("_source") };
    let compared = post_fields(choice).filter(|field| field.name != WRITTEN_AT);
    compared.map(|field| (field.name, field.kind)).find_map(|(name, kind)| match kind {
        Kind::Vectors => differing_vector(choice, name, &document, &stored, returned),
        kind => {
            let (wanted, got) = (document.get(name), stored.get(name));
            let is_same =
                got.is_none() && returned.leaves_out(name) || is_same(kind, text(wanted), text(got));
            (!is_same).then_some(name)
        }
    })
}

/// Returns the text of a value; None: it is missing or null, which mean the same.
fn text<'v>(value: Option<&&'v RawValue>) -> Option<&'v str> {
    value.map(|value| value.get()).filter(|value| *value != "null")
}

fn is_same(kind: Kind, wanted: Option<&str>, got: Option<&str>) -> bool {
    let (Some(wanted), Some(got)) = (wanted, got) else { return wanted.is_none() && got.is_none() };
    if wanted == got {
        return true;
    }
    let strings = serde_json::from_str::<String>(wanted).ok().zip(serde_json::from_str::<String>(got).ok());
    match strings {
        Some((wanted, got)) if kind == Kind::Date => is_same_time(&wanted, &got),
        Some((wanted, got)) => wanted == got,
        None if wanted.starts_with('"') => false,
        None => same_json(wanted, got),
    }
}

/// Returns whether a stored time is the expected one. An index with synthetic `_source` returns it in the first format of
/// its mapping, which may be a number of milliseconds or seconds.
fn is_same_time(wanted: &str, got: &str) -> bool {
    let Some(wanted) = parse_rfc3339_millis(wanted) else { return false };
    let is_number = |got: f64| [got, got * 1000.0].into_iter().any(|millis| millis.round() == wanted as f64);
    parse_rfc3339_millis(got) == Some(wanted) || got.parse().is_ok_and(is_number)
}

/// Returns whether two lists, objects, numbers or booleans are the same, whatever their white space.
fn same_json(wanted: &str, got: &str) -> bool {
    let read = |text| serde_json::from_str(text).ok().map(normalized);
    read(wanted).is_some_and(|wanted| Some(wanted) == read(got))
}

/// Returns a value as an index with synthetic `_source` returns it: texts of a list sorted and without duplicates, and
/// a list of one value as that value. Searches do not tell these apart.
///
/// Source: Elasticsearch, "Synthetic `_source`".
fn normalized(value: Json) -> Json {
    match value {
        Json::Array(values) => {
            let mut values: Vec<Json> = values.into_iter().map(normalized).collect();
            if values.iter().all(Json::is_string) {
                values.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
                values.dedup();
            }
            if values.len() == 1 { values.remove(0) } else { values.into() }
        }
        Json::Object(fields) => fields.into_iter().map(|(name, value)| (name, normalized(value))).collect(),
        other => other,
    }
}

/// Returns the first vector that differs.
fn differing_vector(
    choice: FieldChoice,
    name: &str,
    document: &Object<'_>,
    stored: &Object<'_>,
    returned: &Returned,
) -> Option<&'static str> {
    let object = |fields: &Object<'_>| {
        let value = fields.get(name).map(|value| (*value).to_owned());
        value.and_then(|value| serde_json::from_str::<HashMap<String, Box<RawValue>>>(value.get()).ok())
    };
    let (wanted, got) = (object(document).unwrap_or_default(), object(stored).unwrap_or_default());
    vector_names(choice).iter().find_map(|field| {
        let wanted = wanted.get(field.name).map(|value| value.get());
        let got = got.get(field.name).map(|value| value.get());
        // A vector excluded from `_source` is returned under its full name.
        let got = got.or_else(|| stored.get(field.path).map(|value| value.get()));
        let got = got.filter(|got| *got != "null");
        let is_same = match (wanted, got) {
            (None, None) => true,
            (_, None) => returned.leaves_out(field.path),
            (None, Some(_)) => false,
            (Some(wanted), Some(got)) => read_vector(wanted)
                .zip(read_vector(got))
                .is_some_and(|(wanted, got)| is_same_vector(&wanted, &got, returned.rounding)),
        };
        (!is_same).then_some(field.path)
    })
}

/// Returns whether two vectors are the same except for the precision that the index loses.
fn is_same_vector(wanted: &[f32], got: &[f32], rounding: Rounding) -> bool {
    if wanted.len() != got.len() {
        return false;
    }
    let lost = match rounding {
        Rounding::None => return wanted.iter().zip(got).all(|(a, b)| a.to_bits() == b.to_bits()),
        // One rounding for the unit vector, and one for the product.
        Rounding::LastBits => f64::from(f32::EPSILON),
        Rounding::LowerHalf => 1.0 / 128.0,
    };
    let length = wanted.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    // Values that are tiny compared with the others lose their last bits in the unit vector.
    let least = f64::from(f32::MIN_POSITIVE) * length.max(1.0);
    wanted.iter().zip(got).all(|(a, b)| {
        let (a, b) = (f64::from(*a), f64::from(*b));
        a == b || (a - b).abs() <= a.abs() * lost + least
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn document() -> Value {
        json!({"at_uri": "at://a", "author_did": "did:plc:a", "content": "a\u{0}é", "created_at": "2025-10-30T12:34:56.789Z",
            "embeddings": {"all_MiniLM_L6_v2": [0.1, -0.5]}, "indexed_at": "2025-10-30T12:34:56.789Z"})
    }

    fn difference(stored: &Value, returned: &Returned) -> Option<&'static str> {
        first_difference(
            FieldChoice::default(),
            document().to_string().as_bytes(),
            &stored.to_string(),
            returned,
        )
    }

    fn with(field: &str, value: Value) -> Value {
        let mut stored = document();
        stored[field] = value;
        stored
    }

    #[test]
    fn every_field_counts_except_the_time_of_writing_and_foreign_fields() {
        let exact = Returned { rounding: Rounding::None, ..Returned::default() };
        assert_eq!(difference(&document(), &exact), None);
        assert_eq!(difference(&with("indexed_at", json!("1999-01-01T00:00:00Z")), &exact), None);
        assert_eq!(difference(&with("sentiment", json!(7)), &exact), None);
        assert_eq!(difference(&with("quote_post", Value::Null), &exact), None);
        for (field, value) in [
            ("at_uri", json!("at://b")),
            ("author_did", json!("")),
            ("content", json!("a")),
            ("content", Value::Null),
            ("content", json!(["a\u{0}é"])),
            ("created_at", json!("2025-10-30T12:34:56.788Z")),
            ("created_at", json!("1761827696788")),
            ("thread_root_post", json!("at://a")),
            ("quote_post", json!("at://a")),
        ] {
            assert_eq!(difference(&with(field, value.clone()), &exact), Some(field), "{value}");
        }
    }

    #[test]
    fn another_text_of_the_same_value_is_not_a_difference() {
        let exact = Returned { rounding: Rounding::None, ..Returned::default() };
        for (field, value) in [
            ("created_at", json!("2025-10-30T13:34:56.789+01:00")),
            ("created_at", json!("1761827696789")),
            ("created_at", json!("1761827696.789")),
            ("embeddings", json!({"all_MiniLM_L6_v2": "PczMzb8AAAA="})),
            ("embeddings", json!({"all_MiniLM_L6_v2": [0.100_000_001_490_116_12, -5e-1], "another": [1]})),
        ] {
            assert_eq!(difference(&with(field, value.clone()), &exact), None, "{value}");
        }
        let mut dotted = document();
        dotted["embeddings"] = Value::Null;
        dotted["embeddings.all_MiniLM_L6_v2"] = json!([0.1, -0.5]);
        assert_eq!(difference(&dotted, &exact), None);
    }

    #[test]
    fn a_list_is_the_same_as_its_synthetic_source() {
        let same = |wanted: Value, got: Value| {
            is_same(Kind::Keyword, Some(&wanted.to_string()), Some(&got.to_string()))
        };
        assert!(same(json!(["en", "de", "en"]), json!(["de", "en"])));
        assert!(same(json!(["en"]), json!("en")));
        let media = |images: Value| json!([{"alt_text": "a", "size": 5}, images]);
        assert!(same(json!([{"alt_text": "a", "size": 5}]), json!({"size": 5, "alt_text": "a"})));
        assert!(!same(media(json!({"size": 6})), media(json!({"size": 7}))));
        assert!(!same(json!(["en", "de"]), json!("en")) && !same(json!(["en"]), json!([])));
        assert!(!same(json!("en"), json!(["en"])) && !same(json!([2, 1]), json!([1, 2])));
    }

    #[test]
    fn a_vector_is_the_same_to_the_last_bit_or_to_those_that_the_index_loses() {
        let above = |bits: u32| {
            with("embeddings", json!({"all_MiniLM_L6_v2": [f32::from_bits(0.1_f32.to_bits() + bits), -0.5]}))
        };
        let differs = |stored: &Value, rounding| {
            difference(stored, &Returned { rounding, ..Returned::default() }).is_some()
        };
        assert!(differs(&above(1), Rounding::None));
        assert!(!differs(&above(1), Rounding::LastBits) && differs(&above(4), Rounding::LastBits));
        assert!(
            !differs(&above(1 << 14), Rounding::LowerHalf) && differs(&above(1 << 19), Rounding::LowerHalf)
        );
        for embeddings in [json!({}), json!({"all_MiniLM_L6_v2": [0.1]}), json!({"all_MiniLM_L6_v2": "x"})] {
            let stored = with("embeddings", embeddings.clone());
            assert!(differs(&stored, Rounding::LastBits), "{embeddings}");
        }
        let one_more = json!({"all_MiniLM_L6_v2": [0.1, -0.5], "all_MiniLM_L12_v2": [0.1]});
        assert!(differs(&with("embeddings", one_more), Rounding::LastBits));
    }

    #[test]
    fn a_missing_source_differs() {
        assert_eq!(
            first_difference(FieldChoice::default(), b"{}", "[]", &Returned::default()),
            Some("_source")
        );
    }
}
