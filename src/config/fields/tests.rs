//! Tests of `--exclude-field` and `--add-field`.

use super::*;
use crate::model::schema::{post_fields, vector_names};

fn chosen(excluded: &[&str], added: &[&str]) -> Result<FieldChoice, String> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    choose(&owned(excluded), &owned(added)).map_err(|failure| failure.message)
}

fn names(choice: FieldChoice) -> Vec<&'static str> {
    post_fields(choice).map(|field| field.name).collect()
}

#[test]
fn excluded_fields_are_in_no_list() {
    let choice = chosen(&["thread_root_post", "embeddings.all_MiniLM_L6_v2"], &[]).unwrap();
    assert!(!names(choice).contains(&"thread_root_post") && names(choice).contains(&"thread_parent_post"));
    let vectors = |choice| vector_names(choice).iter().map(|vector| vector.name).collect::<Vec<_>>();
    assert_eq!(vectors(choice), ["all_MiniLM_L12_v2"]);
    assert!(vectors(chosen(&["embeddings"], &[]).unwrap()).is_empty());
}

#[test]
fn vector_names_of_documents_and_archives_are_accepted() {
    for name in ["embeddings.all_MiniLM_L6_v2", "all_MiniLM_L6_v2", "all-MiniLM-L6-v2"] {
        assert_eq!(chosen(&[name], &[]).unwrap().excluded, ["embeddings.all_MiniLM_L6_v2"]);
    }
}

#[test]
fn other_names_are_a_usage_error_that_lists_the_accepted_names() {
    for (excluded, added, text) in [
        (&["at_uri"][..], &[][..], "which every post needs"),
        (&["text"], &[], "author_did, content, created_at"),
        (&["langs"], &[], "takes"),
        (
            &[],
            &["lang"],
            "langs, hashtags, links, mentions, media, external_embed, video_transcript, vector:MODEL",
        ),
        (&[], &["vector:"], "give the name of a model"),
        (&[], &["vector:all-MiniLM-L6-v2"], "written anyway"),
        (&[], &["vector:a-b", "vector:a_b"], "twice"),
        (&["embeddings"], &["vector:a"], "exclude each other"),
    ] {
        let message = chosen(excluded, added).unwrap_err();
        assert!(message.contains(text), "{message}");
    }
}
