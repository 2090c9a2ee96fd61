//! Tests of the preflight with replies recorded from Elasticsearch 9.5.3.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread;

use super::Status::{Failed, Ok as Fine, Warning};
use super::*;
use crate::auth::Auth;
use crate::common::exit::{ExitCode, Failure};
use crate::config;
use crate::http::TransportError;
use crate::sink::elasticsearch::answer::{answer, has_stray_path};
use crate::sink::elasticsearch::client::Reply;
use crate::sink::elasticsearch::lookup;
use crate::sink::elasticsearch::product::Product;

const RIGHT: &str = include_str!("../../../../test_data/replies/preflight_right.json");
const ASYNC: &str = include_str!("../../../../test_data/replies/preflight_async.json");
const TWO: &str = include_str!("../../../../test_data/replies/preflight_two_with_write_index.json");
const TWO_NO_WRITE: &str =
    include_str!("../../../../test_data/replies/preflight_two_without_write_index.json");
const TWO_ROUTING: &str = include_str!("../../../../test_data/replies/preflight_two_with_routing.json");
const FLOAT: &str = include_str!("../../../../test_data/replies/preflight_float_vectors.json");
const CLOSED: &str = include_str!("../../../../test_data/replies/preflight_closed.json");
const MISSING: &str = include_str!("../../../../test_data/replies/preflight_missing.json");
const TOMBSTONES_RIGHT: &str = include_str!("../../../../test_data/replies/preflight_tombstones.json");

const GRANTED: &str = r#"{"index":{
    "posts":{"read":true,"index":true,"delete":true,"view_index_metadata":true,"maintenance":false},
    "post_tombstones":{"read":true,"index":true,"delete":true,"view_index_metadata":true,"maintenance":false}}}"#;

fn reply(status: u16, body: &str) -> Reply {
    Reply { status, retry_after: None, body: body.as_bytes().to_vec() }
}

fn judge_posts(body: &str) -> Result<(Target, Vec<Check>), NoAnswer> {
    let indices = lookup::parse("posts", "GET /posts", &reply(200, body))?;
    target::judge("posts", &indices.unwrap(), Needs::default(), Product::default())
}

fn names(target: &Target) -> Vec<&str> {
    target.members.iter().map(|member| &*member.name).collect()
}

fn statuses(checks: &[Check]) -> Vec<Status> {
    checks.iter().map(|check| check.status).collect()
}

/// Returns a client of a server that answers each request with the next of the given replies.
pub(in crate::sink::elasticsearch) fn client(replies: Vec<(u16, &'static str)>) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for (status, body) in replies {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let (mut line, mut length) = (String::new(), 0);
            while line != "\r\n" {
                line.clear();
                stream.read_line(&mut line).unwrap();
                length = line.strip_prefix("content-length: ").map_or(length, |n| n.trim().parse().unwrap());
            }
            stream.read_exact(&mut vec![0; length]).unwrap();
            let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}", body.len());
            write!(stream.get_mut(), "{head}\r\n\r\n{body}").unwrap();
        }
    });
    Client::new(&config::Elasticsearch::at(url, Auth::of_api_key("a2V5"))).unwrap()
}

#[test]
fn the_indices_that_are_created_pass() {
    let report = run(&client(vec![(200, GRANTED), (200, RIGHT), (200, TOMBSTONES_RIGHT)]), Needs::default());
    let report = report.unwrap();
    assert_eq!(statuses(&report.checks), [Fine; 6], "{:?}", report.checks);
    assert_eq!(
        (report.targets.posts.name.as_str(), report.targets.posts.write_index.as_str()),
        ("posts", "posts_v1")
    );
    assert_eq!(
        (report.targets.posts.gc_deletes.as_secs(), report.targets.posts.durability_async),
        (60, false)
    );
    assert!(report.targets.posts.dense_vectors && !report.targets.tombstones.dense_vectors);
    assert_eq!(names(&report.targets.tombstones), ["post_tombstones_v1"]);
}

#[test]
fn searching_by_author_needs_the_privilege_to_refresh_and_every_index_to_allow_it() {
    let needs = Needs { search_by_author: true, ..Needs::default() };
    let replies = |granted| vec![(200, granted), (200, RIGHT), (200, TOMBSTONES_RIGHT)];
    let error = run(&client(replies(GRANTED)), needs).unwrap_err().to_string();
    assert!(error.contains("account deletions") && error.contains("maintenance"), "{error}");

    let granted = r#"{"index":{
        "posts":{"read":true,"index":true,"delete":true,"view_index_metadata":true,"maintenance":true},
        "post_tombstones":{"read":true,"index":true,"delete":true,"view_index_metadata":true}}}"#;
    let report = run(&client(replies(granted)), needs).unwrap();
    assert_eq!(statuses(&report.checks), [Fine; 7], "{:?}", report.checks);

    // Only the write index maps the author here.
    let (target, _) = judge_posts(TWO).unwrap();
    assert_eq!(target.unsearchable.len(), 1, "{:?}", target.unsearchable);
    assert!(target.unsearchable[0].starts_with("posts_b does not map author_did"));
}

#[test]
fn a_missing_index_is_refused_with_what_to_do() {
    let error =
        run(&client(vec![(200, GRANTED), (200, RIGHT), (404, MISSING)]), Needs::default()).unwrap_err();
    let NoAnswer::Refused(checks) = &error else { panic!("{error:?}") };
    assert_eq!(statuses(checks), [Fine, Fine, Fine, Fine, Failed]);
    let failure = Failure::from(error);
    assert_eq!(failure.code, ExitCode::Refused);
    assert!(failure.message.contains("no index or alias post_tombstones"), "{failure}");
    assert!(failure.message.contains("--create-indices"), "{failure}");
}

#[test]
fn both_indices_are_checked_even_if_the_first_is_refused() {
    let replies = vec![(200, GRANTED), (404, MISSING), (404, MISSING)];
    let error = run(&client(replies), Needs::default()).unwrap_err().to_string();
    for name in ["no index or alias posts:", "no index or alias post_tombstones:"] {
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn an_alias_of_several_indices_needs_a_write_index() {
    let error = judge_posts(TWO_NO_WRITE).unwrap_err();
    assert!(error.to_string().contains("is_write_index"), "{error}");
    let (target, checks) = judge_posts(TWO).unwrap();
    assert_eq!((names(&target), target.write_index.as_str()), (vec!["posts_b", "posts_v1"], "posts_v1"));
    // The second warning is about a short gc_deletes in one of the two.
    assert_eq!(statuses(&checks), [Warning, Warning, Fine]);
    assert_eq!(target.gc_deletes.as_secs(), 5);
}

#[test]
fn routing_on_an_alias_of_several_indices_is_refused() {
    assert!(judge_posts(TWO_ROUTING).unwrap_err().to_string().contains("routing"));
}

#[test]
fn an_alias_of_several_indices_needs_the_delete_privilege_on_each() {
    let only_one = r#"{"index":{"posts_b":{"delete":false},"posts_v1":{"delete":true}}}"#;
    let replies = vec![(200, GRANTED), (200, TWO), (200, TOMBSTONES_RIGHT), (200, only_one)];
    let error = run(&client(replies), Needs::default()).unwrap_err().to_string();
    assert!(error.contains("delete on posts_b:") && !error.contains("posts_v1"), "{error}");
}

#[test]
fn an_index_that_acknowledges_before_it_syncs_needs_the_privilege_to_flush() {
    let replies = || vec![(200, GRANTED), (200, ASYNC), (200, TOMBSTONES_RIGHT)];
    let error = run(&client(replies()), Needs::default()).unwrap_err().to_string();
    assert!(error.contains("durability") && error.contains("maintenance"), "{error}");

    let shards = r#"{"nodes":{"n":{"ephemeral_id":"x"}},
        "shards":[[{"primary":true,"node":"n","allocation_id":{"id":"a"}}]]}"#;
    let mut unknown = replies();
    // The server does not show whether the run may flush, so a flush is tried.
    unknown.push((200, r#"{"_shards":{"total":2,"successful":1,"failed":0}}"#));
    unknown.push((200, shards));
    unknown[0] = (400, r#"{"error":"no handler found for uri [/_security/user/_has_privileges]"}"#);
    let report = run(&client(unknown), Needs::default()).unwrap();
    assert!(report.targets.posts.durability_async && !report.targets.tombstones.durability_async);
    // Unknown privileges, gc_deletes of 5 s, and a write block.
    assert_eq!(
        report.checks.iter().filter(|check| check.status == Warning).count(),
        3,
        "{:?}",
        report.checks
    );
}

#[test]
fn float_vectors_are_refused_field_by_field() {
    let (target, checks) = judge_posts(FLOAT).unwrap();
    // Last, unmapped fields and those of another writer.
    assert_eq!(statuses(&checks), [Fine, Failed, Failed, Warning, Warning]);
    assert!(checks[1].text.contains("embeddings.all_MiniLM_L12_v2 as float"), "{}", checks[1]);
    assert!(checks[2].text.contains("embeddings.all_MiniLM_L6_v2 with 512 dims"), "{}", checks[2]);
    assert!(!target.dense_vectors);
}

#[test]
fn a_closed_index_is_refused() {
    let (_, checks) = judge_posts(CLOSED).unwrap();
    assert!(checks.iter().any(|check| check.status == Failed && check.text.contains("closed")), "{checks:?}");
}

#[test]
fn a_data_stream_is_refused() {
    let backing = r#"{".ds-posts-2026.01.01-000001":{"aliases":{},"mappings":{}}}"#;
    assert!(judge_posts(backing).unwrap_err().to_string().contains("data stream"));
}

/// Looks up the target of `posts`, with these replies to its requests in turn.
fn ask_for_posts(replies: Vec<(u16, &'static str)>) -> Result<(Target, Vec<Check>), NoAnswer> {
    target::ask(&client(replies), "posts", Needs::default())
}

const MAPPING: &str = include_str!("../../../../test_data/replies/200_mapping.json");

#[test]
fn the_parts_are_requested_if_the_whole_is_not_shown() {
    const SET: &str =
        r#"{"posts_v1":{"settings":{"index.translog.durability":"async","index.gc_deletes":"30s"}}}"#;
    const ALIASES: &str = r#"{"posts_v1":{"aliases":{"posts":{}}}}"#;
    const PART: (u16, &str) = (200, r#"{"posts_v1":{"aliases":{"posts":{}}}}"#);
    for whole in
        [(400, ""), (403, "{}"), (404, "nothing"), (405, ""), (501, ""), (200, "{}"), (204, ""), PART]
    {
        let (target, checks) =
            ask_for_posts(vec![whole, (200, MAPPING), (200, SET), (200, ALIASES)]).unwrap();
        assert_eq!(statuses(&checks), [Fine; 2], "{whole:?}: {checks:?}");
        assert_eq!((target.gc_deletes.as_secs(), target.durability_async), (30, true));
        assert!(target.dense_vectors);
    }
}

#[test]
fn a_part_that_no_reply_shows_is_a_warning() {
    let forbidden = || (403, r#"{"error":{"type":"security_exception","reason":"unauthorized"}}"#);
    let none = || (200, r#"{"docs":[{"_id":"-","found":false}]}"#);
    let (target, checks) =
        ask_for_posts(vec![forbidden(), forbidden(), (405, ""), (404, ""), none()]).unwrap();
    assert_eq!((statuses(&checks), names(&target)), (vec![Warning], vec!["posts"]));
    assert!(target.gc_deletes.is_zero() && !target.dense_vectors);
    assert!(checks[0].text.contains("view_index_metadata"), "{}", checks[0]);

    let (_, checks) = ask_for_posts(vec![forbidden(), (200, MAPPING), forbidden(), forbidden()]).unwrap();
    assert_eq!(statuses(&checks), [Fine, Warning, Fine], "{checks:?}");
    let set = r#"{"posts":{"settings":{"index":{}}}}"#;
    let (_, checks) = ask_for_posts(vec![forbidden(), forbidden(), (200, set), forbidden()]).unwrap();
    assert_eq!(statuses(&checks), [Fine, Warning], "{checks:?}");
}

#[test]
fn several_hidden_indices_are_refused() {
    let forbidden = || (403, r#"{"error":{"type":"security_exception","reason":"unauthorized"}}"#);
    let several = r#"{"docs":[{"error":{"type":"illegal_argument_exception",
        "reason":"alias [posts] has more than one index associated with it [a, b]"}}]}"#;
    let replies = vec![forbidden(), forbidden(), forbidden(), forbidden(), (200, several)];
    let error = ask_for_posts(replies).unwrap_err();
    assert!(error.to_string().contains("is an alias of several indices"), "{error}");
}

#[test]
fn a_missing_index_is_refused_whichever_reply_says_so() {
    for replies in [
        vec![(404, MISSING)],
        vec![(405, ""), (404, MISSING)],
        vec![(404, ""), (404, ""), (404, ""), (404, "")],
    ] {
        let error = ask_for_posts(replies).unwrap_err().to_string();
        assert!(error.contains("no index or alias posts"), "{error}");
    }
}

#[test]
fn the_routing_of_an_alias_is_a_warning_and_its_filter_hides_documents() {
    let of = |alias: &str| {
        let body =
            format!(r#"{{"posts_v1":{{"aliases":{{"posts":{alias}}},"mappings":{{}},"settings":{{}}}}}}"#);
        let (target, checks) = judge_posts(&body).unwrap();
        (target.search_in(), checks[0].status)
    };
    for (alias, searched, status) in [
        ("{}", "posts", Fine),
        (r#"{"index_routing":"7","search_routing":"7"}"#, "posts", Warning),
        (r#"{"index_routing":"7","search_routing":"8"}"#, "posts_v1", Warning),
        (r#"{"search_routing":"8"}"#, "posts_v1", Fine),
        (r#"{"filter":{"term":{"a":"b"}}}"#, "posts_v1", Fine),
    ] {
        assert_eq!(of(alias), (searched.to_owned(), status), "{alias}");
    }
}

#[test]
fn an_alias_with_routing_provides_the_routing_that_its_index_requires() {
    for (alias, is_sent) in [("{}", true), (r#"{"index_routing":"7","search_routing":"7"}"#, false)] {
        let body = format!(
            r#"{{"posts_v1":{{"aliases":{{"posts":{alias}}},"mappings":{{"_routing":{{"required":true}}}},
                "settings":{{}}}}}}"#
        );
        assert_eq!(judge_posts(&body).unwrap().0.requires_routing(), is_sent, "{alias}");
    }
}

#[test]
fn a_single_index_whose_aliases_are_not_shown_takes_the_writes() {
    let body = r#"{"posts_v1":{"mappings":{"dynamic":false}}}"#;
    assert_eq!(judge_posts(body).unwrap().0.write_index, "posts_v1");
    let several = r#"{"posts_v1":{"mappings":{}},"posts_v2":{"mappings":{}}}"#;
    assert!(judge_posts(several).unwrap_err().to_string().contains("several indices"));
    let stream = r#"{".ds-posts-2026.01.01-000001":{"mappings":{}}}"#;
    assert!(judge_posts(stream).unwrap_err().to_string().contains("data stream"));
}

#[test]
fn a_refused_key_a_redirect_and_a_foreign_page_are_refused() {
    for (replies, why) in [
        (
            vec![(401, r#"{"error":{"type":"security_exception","reason":"unable to"}}"#)],
            "ELASTICSEARCH_API_KEY",
        ),
        (vec![(302, "")], "redirects"),
        (vec![(200, "<html>"); 3], "is not Elasticsearch's"),
        (
            vec![(200, GRANTED), (200, "<html>"), (200, "<html>")],
            "the answer to GET /posts is not Elasticsearch's (HTTP 200 <html>)",
        ),
        (vec![(404, "nothing"); 9], "the answer to GET /posts is not Elasticsearch's"),
    ] {
        let error = run(&client(replies), Needs::default()).unwrap_err();
        assert!(matches!(error, NoAnswer::Refused(_)), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn an_address_with_a_path_that_elasticsearch_sees_is_refused() {
    let refusal = |uri: &str| {
        reply(400, &format!(r#"{{"error":"no handler found for uri [{uri}?pretty] and method [GET]"}}"#))
    };
    for (url, uri, is_stray) in [
        ("https://node:9200/es", "/es/posts", true),
        ("https://node:9200/es/", "/es/_security/user/_has_privileges", true),
        ("https://node:9200/es/x", "/es/x/posts", true),
        // Behind a proxy, and from a server that does not offer this API.
        ("https://proxy/es", "/posts", false),
        ("https://node:9200", "/_security/user/_has_privileges", false),
        ("https://node:9200/", "/posts", false),
    ] {
        assert_eq!(has_stray_path(url, &refusal(uri)), is_stray, "{url}");
    }
}

#[test]
fn a_server_that_cannot_answer_for_now_is_unavailable_and_not_refused() {
    let blocked =
        r#"{"error":{"type":"cluster_block_exception","reason":"blocked by: state not recovered"}}"#;
    for replies in [
        vec![],
        vec![(503, "")],
        vec![(429, "")],
        vec![(403, blocked)],
        vec![(200, GRANTED), (503, blocked)],
        vec![(200, GRANTED), (200, RIGHT), (502, "<html>")],
    ] {
        let error = run(&client(replies), Needs::default()).unwrap_err();
        assert!(matches!(error, NoAnswer::Unavailable(_)), "{error:?}");
        assert_eq!(Failure::from(error).code, ExitCode::Unavailable);
    }
}

#[test]
fn a_refused_certificate_names_the_setting() {
    let error = answer(&client(vec![]), Err(TransportError::Tls("UnknownIssuer".to_owned()))).unwrap_err();
    assert!(matches!(error, NoAnswer::Refused(_)));
    assert!(
        error.to_string().contains("UnknownIssuer") && error.to_string().contains("--ca-cert"),
        "{error}"
    );
}
