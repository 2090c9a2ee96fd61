//! Tests of the list of fields: what a choice leaves out and adds, and the mapping that follows.

use super::*;
use crate::sink::elasticsearch::product::Product;

fn chosen(excluded: &[&str], added: &[&str]) -> Result<FieldChoice, String> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    choose(&owned(excluded), &owned(added)).map_err(|failure| failure.message)
}

fn names(choice: FieldChoice) -> Vec<&'static str> {
    post_fields(choice).map(|field| field.name).collect()
}

#[test]
fn what_is_left_out_is_in_no_list() {
    let choice = chosen(&["thread_root_post", "embeddings.all_MiniLM_L6_v2"], &[]).unwrap();
    assert!(!names(choice).contains(&"thread_root_post") && names(choice).contains(&"thread_parent_post"));
    let vectors = |choice| vector_names(choice).iter().map(|vector| vector.name).collect::<Vec<_>>();
    assert_eq!(vectors(choice), ["all_MiniLM_L12_v2"]);
    let mapping = mappings(
        &kinds(post_fields(choice)),
        &vectors_mapped(choice, |dims| Product::Elasticsearch.vector_mapping(dims)),
    );
    assert_eq!(mapping.pointer("/properties/thread_root_post"), None);
    assert_eq!(mapping.pointer("/properties/embeddings/properties").unwrap().as_object().unwrap().len(), 1);
    assert!(vectors(chosen(&["embeddings"], &[]).unwrap()).is_empty());
}

#[test]
fn vectors_may_be_called_as_in_documents_or_as_in_archives() {
    for name in ["embeddings.all_MiniLM_L6_v2", "all_MiniLM_L6_v2", "all-MiniLM-L6-v2"] {
        assert_eq!(chosen(&[name], &[]).unwrap().excluded, ["embeddings.all_MiniLM_L6_v2"]);
    }
}

#[test]
fn what_cannot_be_left_out_or_added_is_a_usage_error_that_names_what_can() {
    for (excluded, added, text) in [
        (&["at_uri"][..], &[][..], "which every post needs"),
        (&["text"], &[], "author_did, content, created_at"),
        (&["langs"], &[], "takes"),
        (
            &[],
            &["lang"],
            "langs, hashtags, links, mentions, media, external_embed, video_transcript, vector:MODEL",
        ),
        (&[], &["vector:"], "a model has a name"),
        (&[], &["vector:all-MiniLM-L6-v2"], "written anyway"),
        (&[], &["vector:a-b", "vector:a_b"], "twice"),
        (&["embeddings"], &["vector:a"], "exclude each other"),
    ] {
        let message = chosen(excluded, added).unwrap_err();
        assert!(message.contains(text), "{message}");
    }
}

#[test]
fn further_fields_are_mapped_where_they_are_asked_for() {
    assert_eq!(names(FieldChoice::default()).last(), Some(&"indexed_at"));
    let choice = chosen(&[], &["media", "links", "vector:all-mpnet-base-v2"]).unwrap();
    let mapping = mappings(
        &kinds(post_fields(choice)),
        &vectors_mapped(choice, |dims| Product::Elasticsearch.vector_mapping(dims)),
    );
    let kind = |pointer: &str| mapping.pointer(&format!("/properties/{pointer}/type")).cloned();
    for (pointer, expected) in [
        ("media", "nested"),
        ("media/properties/size", "long"),
        ("contains_images", "boolean"),
        ("video_count", "long"),
        ("links", "keyword"),
        ("embeddings/properties/all_mpnet_base_v2", "dense_vector"),
    ] {
        assert_eq!(kind(pointer), Some(expected.into()), "{pointer}");
    }
    assert_eq!(mapping.pointer("/properties/links/ignore_above"), Some(&json!(1_024)));
    assert_eq!(mapping.pointer("/properties/embeddings/properties/all_mpnet_base_v2/dims"), None);
    assert_eq!(kind("langs"), None);
}
