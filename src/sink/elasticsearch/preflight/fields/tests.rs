//! Mappings that hold the documents, and such that do not.

use serde_json::json;

use super::*;
use crate::observe::finding::Status::{self, *};
use crate::sink::elasticsearch::schema::{POST_FIELDS, TOMBSTONE_FIELDS, names};

fn with_vectors(dynamic: Value, vector: Value) -> Value {
    json!({"dynamic": dynamic, "properties": {"at_uri": {"type": "keyword"}, "embeddings": {
        "properties": {"all_MiniLM_L12_v2": vector, "all_MiniLM_L6_v2": vector}}}})
}

fn statuses(checks: &[Check]) -> Vec<Status> {
    checks.iter().map(|check| check.status).collect()
}

#[test]
fn a_dense_vector_with_384_dims_or_none_yet_passes() {
    for vector in [
        json!({"type": "dense_vector", "dims": 384, "index": true, "similarity": "cosine"}),
        json!({"type": "dense_vector"}),
        json!({"type": "dense_vector", "dims": 384, "element_type": "bfloat16", "index": false}),
    ] {
        let judged = judge_vectors("posts", &with_vectors(json!("strict"), vector.clone()));
        assert_eq!(judged, (vec![], VectorMapping { dense: true }), "{vector}");
    }
}

#[test]
fn an_opensearch_vector_passes_and_is_not_dense() {
    let vector = json!({"type": "knn_vector", "dimension": 384});
    let judged = judge_vectors("posts", &with_vectors(json!(true), vector));
    assert_eq!(judged, (vec![], VectorMapping { dense: false }));
}

#[test]
fn any_other_mapping_of_a_vector_is_refused_with_its_field() {
    for (vector, why) in [
        (json!({"type": "float"}), "as float"),
        (json!({"type": "text"}), "as text"),
        (json!({"type": "dense_vector", "dims": 768}), "768 dims"),
        (json!({"type": "dense_vector", "dims": 384, "element_type": "byte"}), "as byte"),
        (json!({"properties": {}}), "as object"),
    ] {
        let (checks, vectors) = judge_vectors("posts_v1", &with_vectors(json!(false), vector));
        assert_eq!((statuses(&checks), vectors.dense), (vec![Failed, Failed], false), "{why}");
        let text = &checks[0].text;
        assert!(text.contains("posts_v1 maps embeddings.all_MiniLM_L12_v2") && text.contains(why), "{text}");
    }
}

#[test]
fn an_unmapped_vector_is_refused_unless_it_is_left_alone() {
    for (mappings, expected) in [
        (json!({}), Failed),
        (json!({"dynamic": "true"}), Failed),
        (json!({"dynamic": "strict"}), Failed),
        (json!({"dynamic": "false"}), Warning),
        (json!({"dynamic": false, "properties": {"embeddings": {"dynamic": true}}}), Failed),
        (json!({"dynamic": true, "properties": {"embeddings": {"dynamic": "false"}}}), Warning),
        (json!({"dynamic": false, "properties": {"embeddings": {"type": "flattened"}}}), Failed),
    ] {
        let (checks, vectors) = judge_vectors("posts", &mappings);
        assert_eq!((statuses(&checks), vectors.dense), (vec![expected; 2], false), "{mappings}");
    }
}

#[test]
fn vectors_mapped_by_dotted_names_are_found() {
    let vector = json!({"type": "dense_vector", "dims": 384});
    let mappings = json!({"subobjects": false, "properties": {
        "embeddings.all_MiniLM_L12_v2": vector, "embeddings.all_MiniLM_L6_v2": vector}});
    assert!(judge_vectors("posts", &mappings).1.dense);
}

#[test]
fn at_uri_is_a_keyword() {
    for (mapping, expected) in [
        (json!({"at_uri": {"type": "keyword"}}), vec![]),
        (json!({"at_uri": {"type": "text"}}), vec![Warning]),
        (json!({"at_uri": {"type": "long"}}), vec![Failed]),
        (json!({}), vec![Warning]),
    ] {
        let checks = judge("posts", &json!({"properties": mapping}), &names(POST_FIELDS));
        assert_eq!(statuses(&checks), expected, "{mapping}");
    }
}

#[test]
fn posts_can_be_searched_by_an_author_that_is_an_indexed_keyword() {
    for (mapping, expected) in [
        (json!({"author_did": {"type": "keyword"}}), None),
        (json!({"author_did": {"type": "wildcard"}}), None),
        (json!({"author_did": {"type": "keyword", "index": false}}), None),
        (json!({"author_did": {"type": "keyword", "doc_values": false}}), None),
        (json!({"author_did": {"type": "keyword", "index": false, "doc_values": false}}), Some("neither")),
        (json!({"author_did": {"type": "text", "fields": {"keyword": {"type": "keyword"}}}}), Some("text")),
        (json!({"author_did": {"properties": {}}}), Some("object")),
        (json!({}), Some("does not map")),
    ] {
        let judged = judge_author("posts_v1", &json!({"properties": mapping}));
        match expected {
            None => assert_eq!(judged, None, "{mapping}"),
            Some(why) => assert!(judged.is_some_and(|text| text.contains(why)), "{mapping}"),
        }
    }
}

#[test]
fn a_strict_mapping_without_a_field_that_is_sent_is_refused() {
    let properties = json!({"at_uri": {"type": "keyword"}, "author_did": {}, "deleted_at": {}});
    let checks =
        judge("t", &json!({"dynamic": "strict", "properties": properties}), &names(TOMBSTONE_FIELDS));
    assert_eq!(statuses(&checks), [Failed]);
    assert!(checks[0].text.contains("does not map indexed_at:"), "{}", checks[0]);
}

#[test]
fn required_routing_is_no_reason_to_refuse() {
    let mappings = json!({"_routing": {"required": true}, "properties": {"at_uri": {"type": "keyword"}}});
    assert!(requires_routing(&mappings) && !requires_routing(&json!({"_routing": {"required": false}})));
    assert_eq!(judge("posts", &mappings, &names(POST_FIELDS)), []);
}
