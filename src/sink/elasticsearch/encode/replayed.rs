//! Rewrites a refused document for the server as it is now. Its vectors may be base64, which few servers read, or
//! arrays.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::VectorEncoding;
use super::text::{read_vector, write_vector};

#[derive(Deserialize)]
struct Document<'d> {
    #[serde(borrow, default)]
    embeddings: Option<BTreeMap<Cow<'d, str>, &'d RawValue>>,
}

/// Appends a document with each vector in the given encoding. Everything else is copied, including vector fields that
/// do not hold a vector.
pub fn write_replayed(out: &mut Vec<u8>, document: &str, encoding: VectorEncoding) {
    let mut done = 0;
    for (start, text) in vectors(document) {
        let Some(vector) = other_encoding(text, encoding) else { continue };
        out.extend_from_slice(document.get(done..start).unwrap_or_default().as_bytes());
        write_vector(out, &vector, encoding);
        done = start + text.len();
    }
    out.extend_from_slice(document.get(done..).unwrap_or_default().as_bytes());
}

/// Returns the vectors of a document with their byte offsets, in order.
fn vectors(document: &str) -> Vec<(usize, &str)> {
    let embeddings =
        serde_json::from_str::<Document<'_>>(document).ok().and_then(|document| document.embeddings);
    // The values are borrowed from the document.
    let place = |text: &str| text.as_ptr().addr().saturating_sub(document.as_ptr().addr());
    let mut found: Vec<_> =
        embeddings.into_iter().flatten().map(|(_, value)| (place(value.get()), value.get())).collect();
    found.sort_unstable();
    found
}

/// Parses a vector that is not in the wanted encoding. None: it already is, or it is not a vector; then it is copied,
/// and the server refuses it.
fn other_encoding(text: &str, wanted: VectorEncoding) -> Option<Vec<f32>> {
    let found = if text.starts_with('"') { VectorEncoding::Base64 } else { VectorEncoding::Array };
    let is_vector = |values: &Vec<f32>| !values.is_empty() && values.iter().all(|value| value.is_finite());
    if found == wanted { None } else { read_vector(text).filter(is_vector) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Vector;

    fn vector(seed: u64) -> Vector {
        let mut rng = fastrand::Rng::with_seed(seed);
        std::array::from_fn(|_| rng.f32() - 0.5)
    }

    fn document(encoding: VectorEncoding) -> String {
        let mut out = br#"{"at_uri" : "at://x", "embeddings": {"all_MiniLM_L12_v2":"#.to_vec();
        write_vector(&mut out, &vector(1), encoding);
        out.extend_from_slice(br#" , "other":"AAAA","all_MiniLM_L6_v2": "#);
        write_vector(&mut out, &vector(2), encoding);
        out.extend_from_slice(br#"},"content":"\u00e9 [1.0]" }"#);
        String::from_utf8(out).unwrap()
    }

    fn replayed(document: &str, encoding: VectorEncoding) -> String {
        let mut out = Vec::new();
        write_replayed(&mut out, document, encoding);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn vectors_are_encoded_as_configured_and_everything_else_is_unchanged() {
        let (arrays, base64) = (document(VectorEncoding::Array), document(VectorEncoding::Base64));
        for stands in [&arrays, &base64] {
            assert_eq!(replayed(stands, VectorEncoding::Array), arrays);
            assert_eq!(replayed(stands, VectorEncoding::Base64), base64);
        }
    }

    #[test]
    fn a_value_that_is_not_a_vector_is_unchanged() {
        for text in [
            r#"{"at_uri":"a"}"#,
            r#"{"embeddings":null}"#,
            r#"{"embeddings":{"all_MiniLM_L12_v2":"AAAA"}}"#,
            r#"{"embeddings":{"all_MiniLM_L12_v2":"no base64"}}"#,
            r#"{"embeddings":{"all_MiniLM_L12_v2":[1.0,"2.0"]}}"#,
            r#"{"embeddings":{"all_MiniLM_L12_v2":null}}"#,
            r#"{"embeddings":[1]}"#,
            "no JSON",
        ] {
            for encoding in [VectorEncoding::Array, VectorEncoding::Base64] {
                assert_eq!(replayed(text, encoding), text);
            }
        }
    }
}
