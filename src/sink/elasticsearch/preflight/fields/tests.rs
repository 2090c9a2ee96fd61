//! Tests of mappings that accept the documents and of mappings that do not.

use serde_json::json;

use super::*;
use crate::model::schema::{TOMBSTONE_FIELDS, kinds, post_fields};
use crate::observe::finding::Status::{self, *};
use crate::sink::elasticsearch::product::Product;

/// Judges the vectors with the default fields.
fn judge_vectors(index: &str, mappings: &Value, product: Product) -> (Vec<Check>, bool) {
    super::judge_vectors(index, mappings, FieldChoice::default(), product)
}

fn judge_foreign(index: &str, mappings: &Value, fields: &[Sent]) -> Option<Check> {
    super::judge_foreign(index, mappings, fields, FieldChoice::default())
}

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
        let judged =
            judge_vectors("posts", &with_vectors(json!("strict"), vector.clone()), Product::default());
        assert_eq!(judged, (vec![], true), "{vector}");
    }
}

#[test]
fn an_opensearch_vector_passes_and_is_not_dense() {
    let vector = json!({"type": "knn_vector", "dimension": 384});
    let judged = judge_vectors("posts", &with_vectors(json!(true), vector), Product::default());
    assert_eq!(judged, (vec![], false));
}

#[test]
fn any_other_mapping_of_a_vector_is_refused_with_its_field() {
    for (vector, why) in [
        (json!({"type": "float"}), "as float"),
        (json!({"type": "text"}), "as text"),
        (json!({"type": "dense_vector", "dims": 768}), "768 dims"),
        (json!({"type": "dense_vector", "dims": 384, "element_type": "byte"}), "as byte"),
        (json!({"type": "knn_vector", "dimension": 384, "data_type": "BYTE"}), "as byte"),
        (json!({"type": "knn_vector", "dimension": 384, "data_type": "binary"}), "as binary"),
        (json!({"type": "rank_vectors", "dims": 384}), "as rank_vectors"),
        (json!({"type": "integer"}), "as integer"),
        (json!({"properties": {}}), "as object"),
    ] {
        let (checks, dense) =
            judge_vectors("posts_v1", &with_vectors(json!(false), vector), Product::default());
        assert_eq!((statuses(&checks), dense), (vec![Failed, Failed], false), "{why}");
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
        (json!({"dynamic": "runtime"}), Warning),
        (json!({"dynamic": "strict_allow_templates"}), Failed),
        (json!({"dynamic": "strict", "properties": {"embeddings": {"enabled": false}}}), Warning),
    ] {
        let (checks, dense) = judge_vectors("posts", &mappings, Product::default());
        assert_eq!((statuses(&checks), dense), (vec![expected; 2], false), "{mappings}");
    }
}

#[test]
fn vectors_mapped_by_dotted_names_are_found() {
    let vector = json!({"type": "dense_vector", "dims": 384});
    let mappings = json!({"subobjects": false, "properties": {
        "embeddings.all_MiniLM_L12_v2": vector, "embeddings.all_MiniLM_L6_v2": vector}});
    assert!(judge_vectors("posts", &mappings, Product::default()).1);
}

#[test]
fn at_uri_is_a_keyword() {
    for (mapping, expected) in [
        (json!({"at_uri": {"type": "keyword"}}), vec![]),
        (json!({"at_uri": {"type": "text"}}), vec![Warning]),
        (json!({"at_uri": {"type": "long"}}), vec![Failed]),
        (json!({}), vec![Warning]),
    ] {
        let checks = judge(
            "posts",
            &json!({"dynamic": false, "properties": mapping}),
            &kinds(post_fields(FieldChoice::default())),
        );
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
        (json!({"author_did": {"type": "keyword", "ignore_above": 256}}), None),
        (json!({"author_did": {"type": "keyword", "ignore_above": 31}}), Some("ignore_above 31")),
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
    let properties = json!({"at_uri": {"type": "keyword"}, "author_did": {"type": "keyword"}, "deleted_at": {"type": "date"}});
    let checks =
        judge("t", &json!({"dynamic": "strict", "properties": properties}), &kinds(TOMBSTONE_FIELDS));
    assert_eq!(statuses(&checks), [Failed]);
    assert!(checks[0].text.ends_with("does not map indexed_at: add them to its mapping"), "{}", checks[0]);
    let fields = kinds(post_fields(FieldChoice::default()));
    let checks = judge("p", &json!({"dynamic": "strict", "properties": properties}), &fields);
    assert!(checks[0].text.ends_with("or leave them out (--exclude-field)"), "{}", checks[0]);
}

#[test]
fn unmapped_fields_that_are_guessed_or_not_searchable_are_a_warning() {
    let fields = kinds(post_fields(FieldChoice { added: &["langs"], ..FieldChoice::default() }));
    let judged = |dynamic: Value, date_detection: bool| {
        let properties = json!({"at_uri": {"type": "keyword"}});
        let mappings =
            json!({"dynamic": dynamic, "date_detection": date_detection, "properties": properties});
        let checks = judge("posts_v1", &mappings, &fields);
        assert!(checks.len() < 2 && checks.iter().all(|check| check.status == Warning), "{checks:?}");
        checks.into_iter().next().map(|check| check.text)
    };
    assert!(judged(json!(true), true).is_some_and(|text| text.contains("does not map content and guesses")));
    assert_eq!(judged(json!(true), false), None);
    assert!(judged(json!(false), true).is_some_and(|text| text.contains("keeps langs but")));
    assert!(judged(json!("runtime"), true).is_some_and(|text| text.contains("keeps langs but")));
}

#[test]
fn required_routing_is_not_refused() {
    let mappings = json!({"_routing": {"required": true}, "dynamic": false,
        "properties": {"at_uri": {"type": "keyword"}}});
    assert!(requires_routing(&mappings) && !requires_routing(&json!({"_routing": {"required": false}})));
    assert_eq!(judge("posts", &mappings, &kinds(post_fields(FieldChoice::default()))), []);
}

#[test]
fn dot_product_similarity_is_a_warning() {
    let vector = json!({"type": "dense_vector", "dims": 384, "similarity": "dot_product"});
    let (checks, dense) = judge_vectors("posts", &with_vectors(json!(false), vector), Product::default());
    assert_eq!((statuses(&checks), dense), (vec![Warning, Warning], true));
    assert!(checks[0].text.contains("dot_product"), "{}", checks[0]);
}

#[test]
fn a_field_that_accepts_no_text_is_refused_and_one_that_does_not_index_it_is_a_warning() {
    for (mapping, expected) in [
        (json!({"type": "text", "analyzer": "content_analyzer"}), None),
        (json!({"type": "match_only_text"}), None),
        (json!({"type": "made_by_a_plugin"}), None),
        (json!({"type": "long"}), Some(Failed)),
        (json!({"type": "long", "ignore_malformed": true}), Some(Warning)),
        (json!({"type": "alias", "path": "at_uri"}), Some(Failed)),
        (json!({"type": "date"}), Some(Failed)),
        (json!({"type": "date", "ignore_malformed": true}), Some(Warning)),
        (json!({"properties": {"text": {"type": "text"}}}), Some(Failed)),
        (json!({"type": "object", "enabled": false}), Some(Warning)),
        (json!({"type": "nested"}), Some(Failed)),
        (json!({"type": "flattened"}), Some(Failed)),
    ] {
        let check = judge_value("posts_v1", "content", Kind::Text, &mapping);
        assert_eq!(check.as_ref().map(|check| check.status), expected, "{mapping}");
        assert!(check.is_none_or(|check| check.text.contains("content")), "{mapping}");
    }
}

#[test]
fn an_index_that_ignores_malformed_values_keeps_them_unless_the_field_says_otherwise() {
    let date = |more: Value| {
        let mut mapping = json!({"type": "date", "format": "epoch_millis"});
        mapping.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"dynamic": false, "properties": {"at_uri": {"type": "keyword"}, "created_at": mapping}})
    };
    let judged = |mappings: &Value| statuses(&judge("posts", mappings, &[("created_at", Kind::Date)]));
    let (silent, says_otherwise) = (date(json!({})), date(json!({"ignore_malformed": false})));
    assert_eq!((judged(&silent), judged(&ignoring_malformed(&silent))), (vec![Failed], vec![Warning]));
    assert_eq!(judged(&ignoring_malformed(&says_otherwise)), [Failed]);
}

#[test]
fn a_date_format_accepts_written_times_or_is_refused() {
    for (mapping, expected) in [
        (json!({"type": "date"}), None),
        (json!({"type": "date_nanos"}), Some(Warning)),
        (json!({"type": "date_nanos", "ignore_malformed": true}), None),
        (json!({"type": "keyword"}), None),
        (json!({"type": "date", "format": "iso8601"}), None),
        (json!({"type": "date", "format": "strict_date_optional_time||epoch_millis"}), None),
        (json!({"type": "date", "format": "epoch_millis || date_time"}), None),
        (json!({"type": "date", "format": "yyyy-MM-dd'T'HH:mm:ss.SSSX"}), None),
        (json!({"type": "date", "format": "epoch_millis"}), Some(Failed)),
        (json!({"type": "date", "format": "epoch_second||strict_date"}), Some(Failed)),
        (json!({"type": "date", "format": "date_time_no_millis"}), Some(Failed)),
        (json!({"type": "date", "format": "epoch_millis", "ignore_malformed": true}), Some(Warning)),
        (json!({"type": "long"}), Some(Failed)),
    ] {
        let check = judge_value("posts_v1", "created_at", Kind::Date, &mapping);
        assert_eq!(check.map(|check| check.status), expected, "{mapping}");
    }
}

#[test]
fn fields_of_another_writer_are_named() {
    let fields = kinds(post_fields(FieldChoice::default()));
    let ours = json!({"properties": {"at_uri": {}, "embeddings": {"properties": {"all_MiniLM_L6_v2": {}}},
        "embeddings.all_MiniLM_L12_v2": {}}});
    assert_eq!(judge_foreign("posts_v1", &ours, &fields), None);
    let theirs = json!({"properties": {"at_uri": {}, "like_count": {}, "media": {},
        "embeddings": {"properties": {"ge_post_embedding": {}}}}});
    let check = judge_foreign("posts_v1", &theirs, &fields).unwrap();
    assert_eq!(check.status, Warning);
    assert!(check.text.contains("like_count, media, embeddings.ge_post_embedding;"), "{check}");
    let many: serde_json::Map<String, Value> = (0..13).map(|n| (format!("f{n}"), json!({}))).collect();
    let check = judge_foreign("posts_v1", &json!({"properties": many}), &fields).unwrap();
    assert!(check.text.contains(" and 3 more"), "{check}");
}

fn with_template(template: Value) -> Value {
    json!({"dynamic_templates": [{"first": {"match": "other", "mapping": {"type": "ip"}}}, {"second": template}],
        "date_detection": false})
}

#[test]
fn a_dynamic_template_counts_as_the_mapping_of_a_field_that_has_none() {
    let fields = kinds(post_fields(FieldChoice::default()));
    for (template, failed) in [
        (json!({"match_mapping_type": "string", "mapping": {"type": "keyword"}}), None),
        (json!({"match_mapping_type": "string", "mapping": {"index": false}}), None),
        (json!({"match_mapping_type": "long", "mapping": {"type": "integer"}}), None),
        (json!({"match": "*_at", "mapping": {"type": "date"}}), None),
        (json!({"match": "*_at", "mapping": {"type": "{dynamic_type}"}}), None),
        (json!({"match": ".*", "match_pattern": "regex", "mapping": {"type": "ip"}}), None),
        (json!({"match": "c*", "unmatch": ["con*", "created_at"], "mapping": {"type": "ip"}}), None),
        (json!({"match": "content", "mapping": {"type": "integer"}}), Some("content as integer")),
        (json!({"match": ["x", "content"], "mapping": {"type": "ip"}}), Some("content as ip")),
        (json!({"match_mapping_type": ["string"], "mapping": {"type": "ip"}}), Some("at_uri as ip")),
        (
            json!({"path_match": "created_*", "mapping": {"type": "date", "format": "epoch_millis"}}),
            Some("created_at as date of the format epoch_millis"),
        ),
    ] {
        let mappings = with_template(template.clone());
        let checks = judge("posts", &mappings, &fields);
        let first = checks.iter().find(|check| check.status == Failed).map(|check| check.text.as_str());
        match failed {
            None => assert_eq!(first, None, "{template}"),
            Some(how) => {
                let text = first.unwrap_or_else(|| panic!("{template}: {checks:?}"));
                assert!(text.contains(&format!("a dynamic template of posts maps {how}")), "{text}");
                assert!(text.contains("add the field to the mapping of posts"), "{text}");
            }
        }
        let mut mapped = mappings.clone();
        mapped["properties"] = json!({"content": {"type": "text"}, "at_uri": {"type": "keyword"}});
        mapped["dynamic"] = json!(false);
        assert!(judge("posts", &mapped, &fields).iter().all(|check| check.status != Failed), "{template}");
    }
}

#[test]
fn a_dynamic_template_may_map_the_vectors() {
    let dense = json!({"type": "dense_vector", "dims": 384});
    for (template, failed) in [
        (json!({"path_match": "embeddings.*", "mapping": dense}), None),
        (json!({"path_match": "embeddings.*", "mapping": {"type": "float"}}), Some("as float")),
        (json!({"match": "all_*", "mapping": {"type": "dense_vector", "dims": 3}}), Some("3 dims")),
        (
            json!({"match": "embeddings", "mapping": {"type": "flattened"}}),
            Some("maps embeddings as flattened"),
        ),
        (json!({"match": "nothing", "mapping": dense}), Some("would guess its type")),
        // An array is an object to a template, whatever its values are.
        (
            json!({"path_match": "embeddings.*", "match_mapping_type": "double", "mapping": dense}),
            Some("would guess its type"),
        ),
    ] {
        let (checks, is_dense) = judge_vectors("posts", &with_template(template.clone()), Product::default());
        assert!(!is_dense, "base64 is not proven for a field that is not there yet");
        match failed {
            None => assert_eq!(checks, vec![], "{template}"),
            Some(how) => assert!(
                checks.iter().all(|check| check.status == Failed && check.text.contains(how)),
                "{template}: {checks:?}"
            ),
        }
        assert_eq!(checks.is_empty(), failed.is_none(), "{template}");
    }
}

#[test]
fn a_text_that_looks_like_a_date_is_no_danger_if_a_template_catches_it_as_well() {
    let warns = |template: Value| {
        let mut mappings = with_template(template);
        mappings["date_detection"] = json!(true);
        let checks = judge("posts", &mappings, &[("content", Kind::Text)]);
        checks.iter().any(|check| check.text.contains("looks like a date"))
    };
    assert!(!warns(json!({"match": "content", "mapping": {"type": "text"}})));
    assert!(warns(json!({"match_mapping_type": "string", "mapping": {"type": "text"}})));
    assert!(warns(json!({"match": "other", "mapping": {"type": "text"}})));
}
