//! Tests of how the answers to look-ups (`_mget`) are judged.

use super::*;

/// Returns a document found with a version, without a place.
fn found(version: u64) -> Option<FoundDocument> {
    Some(FoundDocument { version, place: None, has_routing: false })
}

#[test]
fn a_look_up_pairs_by_id() {
    let body = r#"{"docs":[{"_id":"a","_version":7,"found":true},{"_id":"b","found":false}]}"#;
    assert_eq!(judge_look_up(body.as_bytes(), &["a", "b"]), Ok(vec![found(7), None]));
    for ids in [&["b", "a"][..], &["x", "b"], &["a", "x"], &["a"], &["a", "b", "c"]] {
        assert!(matches!(judge_look_up(body.as_bytes(), ids), Err(Answer::Retry(_))));
    }
    let failed = br#"{"docs":[{"_id":"a","error":{"type":"no_shard_available_action_exception"}}]}"#;
    assert!(matches!(judge_look_up(failed, &["a"]), Err(Answer::Retry(_))));
}

#[test]
fn a_failed_look_up_reports_type_and_reason() {
    for kind in ["no_shard_available_action_exception", "index_not_found_exception"] {
        let body = format!(r#"{{"docs":[{{"_id":"a"{}}}]}}"#, error(kind));
        let reported = match judge_look_up(body.as_bytes(), &["a"]) {
            Err(Answer::Retry(why)) => why,
            Err(Answer::Stop(failure) | Answer::Moved(failure)) => failure.message,
            other => panic!("{other:?}"),
        };
        assert!(reported.contains(&format!("{kind}: since")), "{reported}");
    }
}

#[test]
fn a_tombstone_is_found_whatever_its_version() {
    for version in ["", r#","_version":null"#, r#","_version":-1"#] {
        let body = format!(r#"{{"docs":[{{"_id":"a","found":true{version}}},{{"_id":"b","found":false}}]}}"#);
        let reported = judge_look_up(body.as_bytes(), &["a", "b"]);
        assert_eq!(reported, Ok(vec![found(UNKNOWN_VERSION), None]), "{version}");
    }
}

#[test]
fn a_look_up_that_fails_for_one_id_is_retried_even_if_its_error_is_incomplete() {
    for error in [r#"{"type":null,"reason":null}"#, r#""a text""#, "{}"] {
        let body = format!(r#"{{"docs":[{{"_id":"a","error":{error}}}]}}"#);
        let judged = judge_look_up(body.as_bytes(), &["a"]);
        assert!(matches!(&judged, Err(Answer::Retry(why)) if !why.contains("fit")), "{error}: {judged:?}");
    }
}

#[test]
fn recorded_look_ups_are_judged_correctly() {
    let ids = ["t", "absent"];
    assert_eq!(judge_look_up(&recorded("200_mget").body, &ids), Ok(vec![found(100), None]));
    let missing = judge_look_up(&recorded("200_mget_index_missing").body, &ids);
    assert!(matches!(missing, Err(Answer::Moved(f)) if f.code == ExitCode::Refused));
}

#[test]
fn a_document_that_must_not_be_looked_up_stops_the_run() {
    let denied = format!(r#"{{"docs":[{{"_id":"a"{}}}]}}"#, error("security_exception"));
    assert!(matches!(judge_look_up(denied.as_bytes(), &["a"]), Err(Answer::Forbidden(_))));
}

#[test]
fn sources_are_returned_unchanged() {
    let body =
        br#"{"docs":[{"_id":"a","found":true,"_version":7,"_source":{"x": 1}},{"_id":"b","found":false}]}"#;
    let found = judge_contents(body, &["a", "b"]).unwrap();
    let first = found[0].unwrap();
    assert_eq!((first.version, first.source.unwrap().get()), (7, r#"{"x": 1}"#));
    assert!(found[1].is_none());
}

#[test]
fn contents_of_another_request_are_retried() {
    let body = br#"{"docs":[{"_id":"a","found":true,"_version":7}]}"#;
    for ids in [&["b"][..], &["a", "b"], &[]] {
        assert!(matches!(judge_contents(body, ids), Err(Answer::Retry(_))), "{ids:?}");
    }
    assert!(matches!(judge_contents(b"<html>", &["a"]), Err(Answer::Retry(_))));
    let refused = br#"{"docs":[{"_id":"a","error":{"type":"security_exception","reason":"no"}}]}"#;
    assert!(matches!(judge_contents(refused, &["a"]), Err(Answer::Forbidden(_))));
}
