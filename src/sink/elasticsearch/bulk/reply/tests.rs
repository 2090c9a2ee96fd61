//! Tests of how answers are judged; these were recorded from a real Elasticsearch 9.5.3 in `test_data/replies`.

use serde_json::{Value, json};

use super::item_error::LONGEST_REASON;
use super::*;

mod look_ups;

fn reply(status: u16, body: &str) -> Reply {
    Reply { status, retry_after: None, body: body.into() }
}

/// Judges an answer to this number of actions, with the answer's own ids and every index known to be behind the names.
fn judged(body: &[u8], operation: Operation, actions: usize) -> Result<Vec<Item>, Answer> {
    let reported: Value = serde_json::from_slice(body).unwrap_or_default();
    let id = |n: usize| reported["items"][n].as_object()?.values().next()?["_id"].as_str();
    let ids: Vec<&str> = (0..actions).map(|n| id(n).unwrap_or("x")).collect();
    judge_items(body, operation, &ids, &[], &|_, _| true)
}

fn items(body: &str, operation: Operation, actions: usize) -> Vec<Item> {
    judged(body.as_bytes(), operation, actions).unwrap()
}

fn item(status: u16, rest: &str) -> String {
    format!(r#"{{"index":{{"status":{status}{rest}}}}}"#)
}

fn error(kind: &str) -> String {
    format!(r#","error":{{"type":"{kind}","reason":"since"}}"#)
}

#[test]
fn a_refusal_names_its_cause() {
    let refused = |error: &str| {
        let body = format!(r#"{{"items":[{}]}}"#, item(400, &format!(r#","error":{error}"#)));
        let items = items(&body, Operation::Index, 1);
        match items.into_iter().next() {
            Some(Item::Refused(refusal)) => refusal.reason,
            other => panic!("{other:?}"),
        }
    };
    let error = r#"{"type":"mapper_parsing_exception","reason":"failed to parse field [v]","caused_by":{"type":"x","reason":"Vector dimension mismatch"}}"#;
    assert_eq!(refused(error), "failed to parse field [v]: Vector dimension mismatch");
    assert_eq!(
        refused(&error.replace("[v]", "[v]: Vector dimension mismatch")),
        "failed to parse field [v]: Vector dimension mismatch"
    );
}

#[test]
fn items_are_judged_one_by_one() {
    let body = format!(
        r#"{{"errors":true,"items":[{},{},{},{},{},{}]}}"#,
        item(201, ""),
        item(200, ""),
        item(409, &error("version_conflict_engine_exception")),
        item(429, &error("es_rejected_execution_exception")),
        item(503, &error("unavailable_shards_exception")),
        item(400, &error("document_parsing_exception")),
    );
    let judged = items(&body, Operation::Index, 6);
    assert_eq!(&judged[..3], [Item::Done, Item::Done, Item::Superseded]);
    assert!(matches!(&judged[3..5], [Item::Retry(_), Item::Retry(_)]));
    let Item::Refused(refusal) = &judged[5] else { panic!("{judged:?}") };
    assert_eq!(
        (refusal.error_type.as_str(), refusal.reason.as_str()),
        ("document_parsing_exception", "since")
    );
}

#[test]
fn an_item_is_read_even_if_its_error_is_incomplete() {
    for error in [
        r#"{"type":"document_parsing_exception","reason":null}"#,
        r#"{"type":null,"reason":7}"#,
        r#"{}"#,
        r#""a text""#,
        "null",
    ] {
        let body = format!(
            r#"{{"items":[{},{}]}}"#,
            item(201, r#","result":null"#),
            item(400, &format!(r#","error":{error}"#))
        );
        let judged = items(&body, Operation::Index, 2);
        assert!(matches!(&judged[..], [Item::Done, Item::Refused(_)]), "{error}: {judged:?}");
    }
    let text = r#"{"items":[{"index":{"status":400,"error":"a text"}}]}"#;
    let refusal = Refusal { error_type: "refused".into(), reason: "a text".into() };
    assert_eq!(items(text, Operation::Index, 1), [Item::Refused(refusal)]);
}

#[test]
fn deleting_a_missing_document_succeeds_but_a_missing_index_stops() {
    for rest in [r#","result":"not_found""#, r#","result":null"#, r#","error":null"#, ""] {
        let body = format!(r#"{{"items":[{{"delete":{{"status":404{rest}}}}}]}}"#);
        assert_eq!(items(&body, Operation::Delete, 1), [Item::Done], "{rest}");
    }
    let some = error("some_exception");
    let refused = format!(r#"{{"items":[{{"delete":{{"status":404{some}}}}}]}}"#);
    assert!(matches!(items(&refused, Operation::Delete, 1)[..], [Item::Refused(_)]));
    let gone = format!(r#"{{"items":[{}]}}"#, item(404, &error("index_not_found_exception")));
    let outcome = judged(gone.as_bytes(), Operation::Index, 1);
    assert!(matches!(outcome, Err(Answer::Moved(failure)) if failure.code == ExitCode::Refused));
}

#[test]
fn a_block_and_a_closed_index_are_waited_out_and_a_missing_privilege_is_not() {
    for (status, kind) in [(403, "cluster_block_exception"), (400, "index_closed_exception")] {
        let block = format!(r#"{{"items":[{}]}}"#, item(status, &error(kind)));
        assert!(matches!(items(&block, Operation::Index, 1)[..], [Item::Retry(_)]), "{kind}");
        let whole = reply(status, &format!(r#"{{"error":{{"type":"{kind}","reason":"closed"}}}}"#));
        assert!(matches!(judge_answer(&whole), Some(Answer::Retry(_))), "{kind}");
    }
    let denied = format!(r#"{{"items":[{}]}}"#, item(403, &error("security_exception")));
    assert!(matches!(judged(denied.as_bytes(), Operation::Index, 1), Err(Answer::Forbidden(_))));
}

#[test]
fn a_license_that_does_not_cover_the_index_is_not_told_as_a_missing_privilege() {
    let error =
        r#","error":{"type":"security_exception","reason":"current license is non-compliant for [x]"}"#;
    let body = format!(r#"{{"items":[{}]}}"#, item(403, error));
    let Err(Answer::Forbidden(failure)) = judged(body.as_bytes(), Operation::Index, 1) else {
        panic!("{body}")
    };
    assert!(failure.message.contains("renew the license") && !failure.message.contains("privilege"));
}

#[test]
fn every_item_reports_the_type_and_reason_of_its_error() {
    for (status, kind) in [
        (429, "es_rejected_execution_exception"),
        (503, "unavailable_shards_exception"),
        (400, "cluster_block_exception"),
        (403, "security_exception"),
        (404, "index_not_found_exception"),
        (400, "document_parsing_exception"),
    ] {
        let body = format!(r#"{{"items":[{}]}}"#, item(status, &error(kind)));
        let reported = match judged(body.as_bytes(), Operation::Index, 1).as_deref() {
            Ok([Item::Retry(why)]) => why.clone(),
            Ok([Item::Refused(refusal)]) => format!("{}: {}", refusal.error_type, refusal.reason),
            Err(Answer::Forbidden(failure) | Answer::Moved(failure)) => failure.message.clone(),
            other => panic!("{other:?}"),
        };
        assert!(reported.contains(&format!("{kind}: since")), "{reported}");
        assert!(status < 429 || reported.contains(&status.to_string()), "{reported}");
    }
    // Only the beginning of a very long reason goes into the log.
    let long = format!(r#","error":{{"type":"x","reason":"{}"}}"#, "ü".repeat(LONGEST_REASON + 1));
    let body = format!(r#"{{"items":[{}]}}"#, item(429, &long));
    let reported = format!("status 429: x: {}", "ü".repeat(LONGEST_REASON));
    assert_eq!(items(&body, Operation::Index, 1), [Item::Retry(reported)]);
}

#[test]
fn a_refused_item_without_an_error_reports_its_status() {
    let body = format!(r#"{{"items":[{}]}}"#, item(410, ""));
    let refusal = Refusal { error_type: "refused".into(), reason: "status 410, without a reason".into() };
    assert_eq!(items(&body, Operation::Index, 1), [Item::Refused(refusal)]);
}

#[test]
fn an_item_that_is_neither_confirmed_nor_refused_is_sent_again() {
    let confirmed_with_an_error = item(201, &error("some_exception"));
    for item in [item(0, ""), item(102, ""), item(304, ""), item(999, ""), confirmed_with_an_error] {
        for (operation, kind) in [(Operation::Index, "index"), (Operation::Delete, "delete")] {
            let body = format!(r#"{{"items":[{}]}}"#, item.replace("index", kind));
            assert!(matches!(items(&body, operation, 1)[..], [Item::Retry(_)]), "{body}");
        }
    }
}

#[test]
fn items_in_another_order_are_put_in_order_unless_an_id_occurs_twice() {
    let item = |id: &str, status: u16| format!(r#"{{"delete":{{"_id":"{id}","status":{status}}}}}"#);
    let body = format!(r#"{{"items":[{},{}]}}"#, item("b", 429), item("a", 200));
    let judged = judge_items(body.as_bytes(), Operation::Delete, &["a", "b"], &[], &|_, _| true);
    assert!(matches!(judged.unwrap()[..], [Item::Done, Item::Retry(_)]));
    let body = format!(r#"{{"items":[{},{},{}]}}"#, item("b", 429), item("a", 200), item("a", 409));
    let judged = judge_items(body.as_bytes(), Operation::Delete, &["a", "b", "a"], &[], &|_, _| true);
    assert!(matches!(judged, Err(Answer::Retry(why)) if why.contains("another order")));
}

#[test]
fn an_error_in_place_of_the_items_is_named() {
    let body = br#"{"error":{"type":"circuit_breaking_exception","reason":"Data too large"},"status":429}"#;
    let of_items = judge_items(body, Operation::Index, &["a"], &[], &|_, _| true).map(drop);
    for judged in [of_items, judge_look_up(body, &["a"]).map(drop)] {
        assert!(matches!(&judged, Err(Answer::Retry(why)) if why.contains("Data too large")), "{judged:?}");
    }
}

#[test]
fn an_answer_that_does_not_fit_is_never_guessed_at() {
    for body in [
        "",
        "not json",
        r#"{"took":3}"#,
        r#"{"items":[]}"#,
        r#"{"items":[{"index":{"status":201}},{"index":{"status":201}}]}"#,
        r#"{"items":[{"delete":{"status":200}}]}"#,
        r#"{"items":[{"index":{}}]}"#,
        r#"{"items":[{"index":{"status":201}}"#,
    ] {
        let outcome = judged(body.as_bytes(), Operation::Index, 1);
        assert!(matches!(outcome, Err(Answer::Retry(_))), "{body}: {outcome:?}");
    }
}

#[test]
fn statuses_that_may_pass_are_retried() {
    for status in [408, 429, 500, 502] {
        assert!(matches!(judge_answer(&reply(status, "<html>")), Some(Answer::Retry(_))), "{status}");
    }
    assert!(matches!(judge_answer(&reply(503, "<html>")), Some(Answer::Away(_))));
    assert!(matches!(judge_answer(&reply(504, "<html>")), Some(Answer::TooSlow(_))));
    assert_eq!(judge_answer(&reply(200, "")), None);
}

#[test]
fn refused_credentials_stop_at_once_but_not_a_cluster_block() {
    for status in [401, 403] {
        let denied = reply(status, r#"{"error":{"type":"security_exception","reason":"no"},"status":403}"#);
        let Some(Answer::Forbidden(failure) | Answer::Unauthenticated(failure)) = judge_answer(&denied)
        else {
            panic!("{status}");
        };
        assert_eq!(failure.code, ExitCode::Refused);
        let what_to_do = if status == 401 {
            "does not accept the credentials of this run"
        } else {
            "grant it read, index, delete"
        };
        for part in ["no)", what_to_do] {
            assert!(failure.message.contains(part), "{part}: {failure}");
        }
    }
    let block = reply(403, r#"{"error":{"type":"cluster_block_exception","reason":"read-only"}}"#);
    assert!(matches!(judge_answer(&block), Some(Answer::Retry(_))));
    // Amazon words the refusal of a key differently.
    let amazons = r#"{"Message":"User: anonymous is not authorized to perform: es:ESHttpPost"}"#;
    let Some(Answer::Forbidden(failure)) = judge_answer(&reply(403, amazons)) else { panic!() };
    assert_eq!(failure.code, ExitCode::Refused);
}

#[test]
fn a_page_of_a_proxy_is_an_outage() {
    for status in [302, 307, 400, 403, 404, 405, 410, 417] {
        for body in ["", "<html>Please sign in</html>", "404 page not found"] {
            let Some(Answer::Away(why)) = judge_answer(&reply(status, body)) else {
                panic!("{status} {body}")
            };
            assert!(why.contains("not Elasticsearch's") && why.contains(&status.to_string()), "{why}");
        }
    }
    assert!(matches!(judge_answer(&reply(401, "<html>")), Some(Answer::Away(_))));
    assert!(matches!(judge_answer(&reply(200, "<html>502 Bad Gateway</html>")), Some(Answer::Away(_))));
    assert!(matches!(judge_answer(&reply(401, "Unauthorized")), Some(Answer::Unauthenticated(_))));
}

#[test]
fn a_refused_request_is_divided_to_find_the_cause() {
    let error = r#"{"error":{"type":"x","reason":"y"}}"#;
    assert!(matches!(judge_answer(&reply(400, error)), Some(Answer::Divide(_))));
    assert!(matches!(judge_answer(&reply(413, "")), Some(Answer::TooLarge(_))));
    for status in [404, 405] {
        assert!(matches!(judge_answer(&reply(status, error)), Some(Answer::Stop(_))), "{status}");
    }
}

/// Reads a recorded answer; its name starts with its HTTP status.
fn recorded(name: &str) -> Reply {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/test_data/replies/");
    let body = std::fs::read_to_string(format!("{folder}{name}.json")).unwrap();
    reply(name[..3].parse().unwrap(), &body)
}

/// Returns one letter per item: done, superseded, again, refused.
fn letters(name: &str, operation: Operation, actions: usize) -> String {
    let letter = |item| match item {
        Item::Done => 'd',
        Item::Superseded => 's',
        Item::Retry(_) => 'a',
        Item::Refused(_) => 'r',
        Item::Elsewhere(_) | Item::ElsewhereWithRouting(_) | Item::Dropped(_) => '?',
    };
    judged(&recorded(name).body, operation, actions).unwrap().into_iter().map(letter).collect()
}

/// Recorded from Elasticsearch 9.5.3, with a pipeline that sets `_version_type` to `internal`.
#[test]
fn a_conflict_of_a_version_type_that_was_not_sent_is_not_superseded() {
    for (reason, is_superseded) in [
        ("[a]: version conflict, current version [8] is different than the one provided [7]", false),
        ("[a]: version conflict, document does not exist (expected version [7])", false),
        ("[a]: version conflict, current version [8] is higher than the one provided [7]", true),
    ] {
        let error = json!({"type": "version_conflict_engine_exception", "reason": reason});
        let body = json!({"items": [{"index": {"_id": "a", "status": 409, "error": error}}]}).to_string();
        let items = judge_items(body.as_bytes(), Operation::Index, &["a"], &[], &|_, _| true).unwrap();
        assert_eq!(items == [Item::Superseded], is_superseded, "{items:?}");
        assert_eq!(matches!(items[..], [Item::Dropped(_)]), !is_superseded, "{items:?}");
    }
}

#[test]
fn recorded_items_are_judged_correctly() {
    for (name, operation, expected) in [
        ("200_bulk_created_updated_superseded", Operation::Index, "dds"),
        ("200_bulk_index_after_delete", Operation::Index, "s"),
        ("200_bulk_deleted_and_absent", Operation::Delete, "dd"),
        ("200_bulk_block_flood_stage", Operation::Index, "ad"),
        ("200_bulk_block_write", Operation::Index, "ad"),
        ("200_bulk_document_cut_off", Operation::Index, "rd"),
        ("200_bulk_id_empty", Operation::Index, "rd"),
        ("200_bulk_vector_dims", Operation::Index, "rd"),
        ("200_bulk_vector_text", Operation::Index, "r"),
    ] {
        let judged = letters(name, operation, expected.len());
        assert_eq!(judged, expected, "{name}");
    }
}

#[test]
fn recorded_failures_of_index_or_key_stop_the_run() {
    let missing = judged(&recorded("200_bulk_index_missing").body, Operation::Index, 2);
    assert!(matches!(missing, Err(Answer::Moved(f)) if f.code == ExitCode::Refused));
    let denied = judged(&recorded("200_bulk_index_missing_no_auto_create").body, Operation::Index, 2);
    assert!(matches!(denied, Err(Answer::Moved(f)) if f.code == ExitCode::Refused));
    for name in ["401_bulk_key_unknown", "401_bulk_key_malformed"] {
        let judged = judge_answer(&recorded(name));
        assert!(matches!(judged, Some(Answer::Unauthenticated(f)) if f.code == ExitCode::Refused), "{name}");
    }
    for name in ["403_bulk_no_write_privilege", "403_mget_no_read_privilege"] {
        let judged = judge_answer(&recorded(name));
        assert!(matches!(judged, Some(Answer::Forbidden(f)) if f.code == ExitCode::Refused), "{name}");
    }
}

#[test]
fn a_recorded_cluster_block_is_waited_out_and_a_refused_request_divided() {
    assert!(matches!(judge_answer(&recorded("403_bulk_block_cluster")), Some(Answer::Retry(_))));
    let judged = judge_answer(&recorded("400_bulk_id_too_long"));
    assert!(
        matches!(judged, Some(Answer::Divide(r)) if r.error_type == "action_request_validation_exception")
    );
}

// Elasticsearch 9.5.3 filters the answers to a refresh and a search to this form.

#[test]
fn a_refresh_counts_only_if_no_shard_failed() {
    assert_eq!(judge_shards(br#"{"_shards":{"failed":0}}"#), Ok(()));
    for body in [&br#"{"_shards":{"failed":1}}"#[..], b"{}", b"", br#"{"_shards":{"failed":0}"#] {
        assert!(matches!(judge_shards(body), Err(Answer::Retry(_))));
    }
}

#[test]
fn a_search_that_not_all_shards_have_answered_has_found_nothing_yet() {
    let found = br#"{"timed_out":false,"_shards":{"failed":0},"hits":{"total":{"value":3},"hits":[{"_id":"a"},{"_id":"b"}]}}"#;
    assert_eq!(judge_search(found), Ok(vec!["a".to_owned(), "b".to_owned()]));
    let nothing = r#"{"timed_out":false,"_shards":{"failed":0},"hits":{"total":{"value":0}}}"#;
    assert_eq!(judge_search(nothing.as_bytes()), Ok(vec![]));
    for (part, other) in [
        ("\"timed_out\":false", "\"timed_out\":true"),
        ("\"timed_out\":false,", ""),
        ("\"failed\":0", "\"failed\":1"),
        ("\"value\":0", "\"value\":1"),
        ("\"total\":{\"value\":0}", ""),
    ] {
        let judged = judge_search(nothing.replace(part, other).as_bytes());
        assert!(matches!(judged, Err(Answer::Retry(_))), "{part}: {judged:?}");
    }
}

#[test]
fn a_document_that_is_not_written_as_it_was_sent_is_not_a_success() {
    let judge = |rest: &str| {
        let body = format!(r#"{{"items":[{}]}}"#, item(200, rest));
        judge_items(body.as_bytes(), Operation::Index, &["x"], &[7], &|_, index| index == "posts_v1")
            .unwrap()
            .remove(0)
    };
    assert_eq!(judge(r#","result":"updated","_id":"x","_index":"posts_v1""#), Item::Done);
    assert!(matches!(judge(r#","result":"noop","_id":"x","_index":"posts_v1""#), Item::Dropped(_)));
    assert!(matches!(judge(r#","result":"created","_id":"y","_index":"posts_v1""#), Item::Dropped(_)));
    assert_eq!(judge(r#","result":"created","_id":"x","_index":"posts_v1","_version":7"#), Item::Done);
    for other in ["8", "-7", "7.5"] {
        let item = judge(&format!(r#","result":"created","_id":"x","_index":"posts_v1","_version":{other}"#));
        assert!(matches!(&item, Item::Dropped(what) if what.ends_with(other)), "{item:?}");
    }
    let elsewhere = judge(r#","result":"created","_id":"x","_index":"posts_v2""#);
    assert_eq!(elsewhere, Item::Elsewhere("posts_v2".into()));
}

#[test]
fn errors_about_moved_indices_lead_to_a_look_up() {
    let reason =
        |reason: &str| format!(r#","error":{{"type":"illegal_argument_exception","reason":"{reason}"}}"#);
    for error in [
        error("routing_missing_exception"),
        reason("no write index is defined for alias [posts]"),
        reason(
            "alias [posts] has more than one index associated with it [a, b], can't execute a single index op",
        ),
    ] {
        let body = format!(r#"{{"items":[{}]}}"#, item(400, &error));
        assert!(matches!(judged(body.as_bytes(), Operation::Index, 1), Err(Answer::Moved(_))), "{body}");
        let body = format!(r#"{{"docs":[{{"_id":"a"{error}}}]}}"#);
        assert!(matches!(judge_look_up(body.as_bytes(), &["a"]), Err(Answer::Moved(_))), "{body}");
    }
    for reason in [
        "action [indices:admin/auto_create] is unauthorized for API key id [x] of user [y] on indices [posts]",
        "no permissions for [indices:admin/create] and User [name=x, backend_roles=[], requestedTenant=null]",
    ] {
        let error = format!(r#","error":{{"type":"security_exception","reason":"{reason}"}}"#);
        let body = format!(r#"{{"items":[{{"delete":{{"status":403{error}}}}}]}}"#);
        let moved = judged(body.as_bytes(), Operation::Delete, 1);
        assert!(
            matches!(&moved, Err(Answer::Moved(f)) if f.message.contains("an index is missing")),
            "{moved:?}"
        );
    }
    let no_alias = "no such index [elsewhere] and [require_alias] request flag is [true] and [elsewhere] is not an alias";
    let error = format!(r#","error":{{"type":"index_not_found_exception","reason":"{no_alias}"}}"#);
    let moved = judged(format!(r#"{{"items":[{}]}}"#, item(404, &error)).as_bytes(), Operation::Index, 1);
    assert!(
        matches!(moved, Err(Answer::Moved(failure)) if failure.message.contains("pipeline sends documents"))
    );
}

#[test]
fn a_post_in_a_blocked_older_index_is_refused_and_one_on_a_full_disk_is_retried() {
    for (block, refused) in [
        ("FORBIDDEN/8/index write (api)", true),
        ("FORBIDDEN/5/index read-only (api)", true),
        ("FORBIDDEN/13/remote index is read-only", true),
        ("TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark", false),
    ] {
        let error =
            format!(r#"{{"type":"cluster_block_exception","reason":"index [a] blocked by: [{block}];"}}"#);
        let body = format!(r#"{{"items":[{{"delete":{{"status":403,"error":{error}}}}}]}}"#);
        let is_refused = |operation| matches!(items(&body, operation, 1)[..], [Item::Refused(_)]);
        assert_eq!(is_refused(Operation::DeleteFound), refused, "{block}");
        assert!(!is_refused(Operation::Delete));
    }
}
