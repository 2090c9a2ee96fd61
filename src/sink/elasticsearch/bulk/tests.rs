//! Tests of how delivery ends after a signal.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::auth::Auth;
use crate::config;
use crate::model::{ActionKind, Archive, Names, Version};
use crate::retry::policy::Policy;
use crate::shutdown::StopReason;
use crate::sink::elasticsearch::client::RequestLimits;
use crate::sink::elasticsearch::live_targets::LiveTargets;
use crate::sink::elasticsearch::targets::{Target, Targets};

/// Creates a batch with one post.
fn batch() -> Batch {
    let archive =
        Archive { name: "a".into(), path: "a".into(), seconds: None, bytes: 0, modified_ns: 0, etag: None };
    let body = b"{\"index\":{\"_id\":\"x\"}}\n{}\n".to_vec();
    let version = Version::new(1, 1).unwrap();
    let action = Action {
        kind: ActionKind::Post,
        row_id: 1,
        origin: None,
        version,
        id: "x".into(),
        author: None,
        lines: 0..body.len(),
    };
    Batch { archive: Arc::new(archive), body, actions: vec![action] }
}

fn within(call: Duration) -> RequestLimits {
    RequestLimits { call, ..RequestLimits::default() }
}

fn read_request(stream: &mut TcpStream, end: &[u8]) {
    let mut request = Vec::new();
    while !request.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        request.extend_from_slice(&byte);
    }
}

fn answer(stream: &mut TcpStream, body: &str) {
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
}

const LOOK_UP_END: &[u8] = b"]}";
const NOT_FOUND: &str = r#"{"docs":[{"_id":"x","found":false}]}"#;

/// Delivers a post to `listener` with these limits while `serve` handles the connection. Returns the
/// outcomes, and the connection, so that the test can read what arrived later.
fn deliver(
    listener: &TcpListener,
    limits: RequestLimits,
    stop: &Stop,
    serve: impl FnOnce(&mut TcpStream) + Send,
) -> (Outcomes, TcpStream) {
    let url = format!("http://{}", listener.local_addr().unwrap());
    let settings = config::Elasticsearch::at(url, Auth::of_api_key("a2V5"));
    let client = Client::with_limits(&settings, limits).unwrap();
    let target = |name| Target { gc_deletes: Duration::from_secs(60), ..Target::of_one_index(name) };
    let (posts, tombstones) = (target("posts"), target("post_tombstones"));
    let targets = LiveTargets::new(Targets {
        reads_only: false,
        generation: 0,
        names: Names::default(),
        posts,
        tombstones,
        unsynced: None,
    });
    let bulk = Bulk {
        client: &client,
        throttle: &Throttle::new(crate::model::Senders::fixed(1), stop.clone(), None),
        stop,
        targets: &targets,
        pipeline: None,
        limits: BatchLimits { docs: 100, bytes: 1 << 20 },
        retries: Retries::new(stop, Policy::new("Elasticsearch", None)).ending_the_run(),
        counters: &RequestCounters::default(),
        notices: Notices::default(),
        sizes: Sizes::default(),
        expect: ExpectContinue::default(),
    };
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            serve(&mut stream);
            stream
        });
        let outcomes = bulk.deliver(&batch());
        (outcomes, serving.join().unwrap())
    })
}

#[test]
fn after_a_signal_a_server_that_hangs_is_waited_for_until_the_request_in_flight_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (stop, call) = (Stop::new(), Duration::from_secs(1));
    let began = Instant::now();
    let (outcomes, _still_open) = deliver(&listener, within(call), &stop, |_| {
        stop.request(StopReason::Terminate);
    });
    assert_eq!(outcomes.tally.unconfirmed, 1);
    assert!(began.elapsed() >= call, "the request was not finished");
}

#[test]
fn after_a_signal_no_request_follows_an_answered_look_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stop = Stop::new();
    let (outcomes, mut stream) = deliver(&listener, within(Duration::from_secs(5)), &stop, |stream| {
        read_request(stream, LOOK_UP_END);
        stop.request(StopReason::Terminate);
        answer(stream, NOT_FOUND);
    });
    assert_eq!(outcomes.tally.unconfirmed, 1);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

#[test]
fn after_a_signal_sent_posts_are_looked_up_again_with_a_short_time_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (stop, last_call) = (Stop::new(), Duration::from_millis(300));
    let limits = RequestLimits { last_call, ..RequestLimits::default() };
    let began = Instant::now();
    let (outcomes, mut stream) = deliver(&listener, limits, &stop, |stream| {
        read_request(stream, LOOK_UP_END);
        answer(stream, NOT_FOUND);
        read_request(stream, b"{}\n");
        stop.request(StopReason::Terminate);
        answer(stream, r#"{"items":[{"index":{"status":201}}]}"#);
    });
    assert_eq!(outcomes.tally.unconfirmed, 1);
    assert!(began.elapsed() >= last_call && began.elapsed() < limits.call / 2, "{:?}", began.elapsed());
    let mut look_up = String::new();
    stream.read_to_string(&mut look_up).unwrap();
    assert!(look_up.starts_with("POST /_mget"), "{look_up}");
}
