//! Tests of creating indices.

use super::super::preflight::tests::client;
use super::*;
use crate::observe::finding::Status;

// Recorded from Elasticsearch 9.5.3, without its root_cause.
const EXISTS: &str = r#"{"error":{"type":"resource_already_exists_exception","reason":"index [posts_v1/fGDshabXTE2kJhVUjSKLag] already exists","index_uuid":"fGDshabXTE2kJhVUjSKLag","index":"posts_v1"},"status":400}"#;
const MISSING: &str = include_str!("../../../../test_data/replies/preflight_missing.json");
const THERE: &str = include_str!("../../../../test_data/replies/preflight_right.json");
const CREATED: &str = r#"{"acknowledged":true,"shards_acknowledged":true,"index":"posts_v1"}"#;

fn reply(status: u16, body: &str) -> Reply {
    Reply { status, retry_after: None, body: body.as_bytes().to_vec() }
}

#[test]
fn only_missing_indices_are_created() {
    assert_eq!(create_missing(&client(vec![(200, THERE), (200, THERE)]), Names::default()), Ok(vec![]));
    let created =
        create_missing(&client(vec![(200, THERE), (404, MISSING), (200, CREATED)]), Names::default());
    assert_eq!(created, Ok(vec!["post_tombstones_v1".to_owned()]));
}

#[test]
fn an_index_that_may_exist_is_left_alone_and_refused() {
    const REFUSED: &str = r#"{"error":{"type":"illegal_argument_exception","reason":"no"}}"#;
    for status in [400, 403, 405, 501] {
        for (body, why) in [(REFUSED, "does not show"), ("", "is not Elasticsearch's")] {
            let error = create_missing(&client(vec![(status, body); 4]), Names::default()).unwrap_err();
            assert!(matches!(error, NoAnswer::Refused(_)), "{error:?}");
            assert!(error.to_string().contains(why), "{status} {error}");
        }
    }
}

#[test]
fn an_index_created_by_another_process_is_not_an_error() {
    let replies = vec![(404, MISSING), (400, EXISTS), (200, THERE), (200, THERE)];
    assert_eq!(create_missing(&client(replies), Names::default()), Ok(vec![]));
}

#[test]
fn an_index_that_exists_without_its_alias_is_left_alone_and_refused() {
    let error =
        create_missing(&client(vec![(404, MISSING), (400, EXISTS), (404, MISSING)]), Names::default())
            .unwrap_err();
    assert!(matches!(error, NoAnswer::Refused(_)), "{error:?}");
    assert!(error.to_string().contains("posts_v1 exists without the alias posts"), "{error}");
}

#[test]
fn a_server_that_cannot_create_for_now_is_unavailable() {
    let error = create_missing(&client(vec![(404, MISSING), (503, "")]), Names::default()).unwrap_err();
    assert!(matches!(error, NoAnswer::Unavailable(_)), "{error:?}");
}

#[test]
fn a_create_that_the_server_does_not_allow_is_refused_with_its_reason() {
    let plan = Plan::of(Names::default(), "posts");
    for (status, kind) in [(403, "security_exception"), (400, "mapper_parsing_exception")] {
        let body = format!(r#"{{"error":{{"type":"{kind}","reason":"the server's reason"}}}}"#);
        let error = judge_created(&client(vec![]), &plan, &reply(status, &body)).unwrap_err();
        assert!(matches!(error, NoAnswer::Refused(_)), "{error:?}");
        assert!(error.to_string().contains("the server's reason"), "{error}");
    }
}

const NO_DENSE: &str = r#"{"error":{"type":"mapper_parsing_exception","reason":"Failed to parse mapping [_doc]: No handler for type [dense_vector] declared on field [v]"},"status":400}"#;
const NO_KNN: &str = r#"{"error":{"type":"mapper_parsing_exception","reason":"Failed to parse mapping [_doc]: No handler for type [knn_vector] declared on field [v]"},"status":400}"#;
const NO_FILTER: &str = r#"{"error":{"type":"illegal_argument_exception","reason":"failed to parse filter for alias [posts]"},"status":400}"#;

#[test]
fn a_server_without_dense_vectors_gets_those_of_opensearch() {
    let client = client(vec![(404, MISSING), (400, NO_DENSE), (200, CREATED), (200, THERE)]);
    assert_eq!(create_missing(&client, Names::default()), Ok(vec!["posts_v1".to_owned()]));
    assert_eq!(client.product(), Product::OpenSearch);
}

#[test]
fn a_server_without_vector_types_is_refused_with_advice() {
    let refused = client(vec![(404, MISSING), (400, NO_DENSE), (400, NO_KNN)]);
    let error = create_missing(&refused, Names::default()).unwrap_err();
    assert!(matches!(error, NoAnswer::Refused(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("k-NN plugin") && text.contains("PUT /posts_v1 {"), "{text}");
    let checked = client(vec![(400, NO_DENSE), (400, NO_KNN)]);
    assert!(try_to_create(&checked, Names::default(), "posts").is_err());
}

#[test]
fn a_request_that_creates_nothing_shows_what_could_be_created() {
    let status = |replies| {
        let check = try_to_create(&client(replies), Names::default(), "posts").unwrap();
        (check.status, check.text)
    };
    let (found, text) = status(vec![(400, NO_FILTER)]);
    assert!(found == Status::Ok && text.contains("dense_vector"), "{text}");
    let (found, text) = status(vec![(400, NO_DENSE), (400, NO_FILTER)]);
    assert!(found == Status::Ok && text.contains("knn_vector"), "{text}");
    let (found, text) = status(vec![(403, r#"{"error":{"type":"security_exception","reason":"no"}}"#)]);
    assert!(found == Status::Failed && text.contains("manage on posts_v1"), "{text}");
    let limit = r#"{"error":{"type":"validation_exception","reason":"maximum shards open"}}"#;
    assert_eq!(status(vec![(400, limit)]).0, Status::Failed);
    assert_eq!(status(vec![(405, "")]).0, Status::Warning);
}

#[test]
fn a_server_that_requires_the_dimension_of_a_further_model_is_reported() {
    let reply = r#"{"error":{"type":"mapper_parsing_exception","reason":"Failed to parse mapping [_doc]: Dimension value missing for vector: m"},"status":400}"#;
    let client = client(vec![(404, MISSING), (400, reply)]);
    let error = create_missing(&client, Names::default()).unwrap_err().to_string();
    assert!(error.contains("vector:MODEL") && error.contains("add the field"), "{error}");
}
