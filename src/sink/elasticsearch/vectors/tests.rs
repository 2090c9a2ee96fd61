//! Tests of how a document that was read back is judged.

use std::borrow::Cow;

use serde_json::json;

use super::*;
use crate::model::{Added, DIMENSIONS, Dropped, Vector};

const ID: &str = "at://did:plc:a/app.bsky.feed.post/b";

fn with_sample<T>(l12: Option<&Vector>, l6: Option<&Vector>, f: impl FnOnce(&Sample<'_>) -> T) -> T {
    let post = Post {
        at_uri: ID,
        author_did: Cow::Borrowed("did:plc:a"),
        content: Cow::Borrowed(""),
        created_at: None,
        thread_root_post: None,
        thread_parent_post: None,
        quote_post: None,
        dropped: Dropped::default(),
        record: "",
        scores: "",
        added: Added::default(),
    };
    let embeddings = Embeddings {
        all_minilm_l12_v2: l12,
        all_minilm_l6_v2: l6,
        dropped: Dropped::default(),
        others: &[],
        dropped_others: &[],
        video: "",
    };
    f(&Sample {
        version: Version::new(1, 7).unwrap(),
        post: &post,
        embeddings: &embeddings,
        fields: FieldChoice::default(),
    })
}

/// Returns a vector like real embeddings: values around 0, with zeros.
fn vector() -> Vector {
    std::array::from_fn(|n| (n as f32 - 100.0) / 1024.0)
}

fn reply(status: u16, body: &Value) -> Result<Reply, TransportError> {
    Ok(Reply { status, retry_after: None, body: body.to_string().into_bytes() })
}

fn judged(version: u64, embeddings: Value) -> Finding {
    let document = json!({"found": true, "_version": version, "_source": {"embeddings": embeddings}});
    let body = json!({"docs": [document]});
    with_sample(Some(&vector()), Some(&vector()), |sample| judge(reply(200, &body), sample))
}

fn judged_values(values: impl Fn(f32) -> f32) -> Finding {
    let values = vector().map(values).to_vec();
    judged((1 << 28) + 7, json!({"all_MiniLM_L12_v2": vector().to_vec(), "all_MiniLM_L6_v2": values}))
}

#[test]
fn the_same_vectors_are_a_proof() {
    assert_eq!(judged_values(|value| value), Finding::Proven);
}

#[test]
fn the_rounding_of_unit_vectors_is_not_a_difference() {
    // Recorded from Elasticsearch 9.5.3 with cosine similarity: a relative error of at most 1.06e-7.
    assert_eq!(judged_values(|value| value * (1.0 + 1.06e-7)), Finding::Proven);
    // bfloat16 returns a different vector.
    let cut = |value: f32| f32::from_bits((value * 1.001).to_bits() & 0xffff_0000);
    assert!(matches!(judged_values(cut), Finding::Refuted(_)));
}

#[test]
fn the_other_byte_order_is_a_difference() {
    let swapped = |value: f32| f32::from_bits(value.to_bits().swap_bytes());
    assert!(matches!(judged_values(swapped), Finding::Refuted(_)));
}

#[test]
fn anything_but_all_vectors_as_arrays_is_refuted() {
    let same = json!(vector().to_vec());
    for other in [json!("PoAAAA=="), json!(null), json!([]), json!(vec![0.0; DIMENSIONS - 1])] {
        let embeddings = json!({"all_MiniLM_L12_v2": same, "all_MiniLM_L6_v2": other});
        assert!(matches!(judged((1 << 28) + 7, embeddings), Finding::Refuted(_)), "{other}");
    }
    assert!(matches!(judged((1 << 28) + 7, json!(null)), Finding::Refuted(_)));
}

#[test]
fn a_document_of_another_version_or_none_shows_nothing() {
    assert!(matches!(judged((1 << 28) + 8, json!({})), Finding::Inconclusive(_)));
    let error = json!({"error": {"type": "security_exception"}});
    for (status, document) in
        [(200, json!({"found": false})), (200, error), (503, json!({"found": true})), (200, json!(null))]
    {
        let reply = reply(status, &json!({"docs": [document]}));
        let finding = with_sample(Some(&vector()), None, |sample| judge(reply, sample));
        assert!(matches!(finding, Finding::Inconclusive(_)), "{document}: {finding:?}");
    }
    let broken = Err(TransportError::TimedOut);
    let finding = with_sample(Some(&vector()), None, |sample| judge(broken, sample));
    assert!(matches!(finding, Finding::Inconclusive(_)), "{finding:?}");
}

#[test]
fn vectors_that_are_the_same_in_both_byte_orders_are_not_tried() {
    let zeros = [0.0; DIMENSIONS];
    assert!(!with_sample(None, None, |sample| sample.shows_byte_order()));
    assert!(!with_sample(Some(&zeros), Some(&[-0.0; DIMENSIONS]), |sample| sample.shows_byte_order()));
    assert!(with_sample(Some(&zeros), Some(&vector()), |sample| sample.shows_byte_order()));
}

#[test]
fn the_post_travels_alone_under_its_id_and_version() {
    let batch =
        with_sample(Some(&vector()), None, |sample| sample.batch(Names::default(), VectorEncoding::Base64));
    let [action] = &batch.actions[..] else { panic!("{:?}", batch.actions) };
    assert_eq!((&*action.id, action.row_id, action.lines.clone()), (ID, 7, 0..batch.body.len()));
    let lines: Vec<Value> =
        batch.body.split_inclusive(|&b| b == b'\n').map(|l| serde_json::from_slice(l).unwrap()).collect();
    assert_eq!(lines[0]["index"]["version"], (1 << 28) + 7);
    assert!(lines[1]["embeddings"]["all_MiniLM_L12_v2"].is_string());
}
