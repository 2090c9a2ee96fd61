//! Tests of the requests of a delivery: how it ends after a signal, and what it looks up for the next batch.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use super::*;
use crate::auth::Auth;
use crate::config;
use crate::model::{ActionKind, Archive, Names, Version};
use crate::process::shutdown::StopReason;
use crate::retry::policy::Policy;
use crate::sink::elasticsearch::client::RequestLimits;
use crate::sink::elasticsearch::encode::action::GUARD;
use crate::sink::elasticsearch::live_targets::LiveTargets;
use crate::sink::elasticsearch::targets::{Target, Targets};

/// Creates a batch with one post.
fn batch_of(id: &str) -> Batch {
    let body = format!("{{\"index\":{{\"_id\":\"{id}\"}}}}\n{{}}\n").into_bytes();
    let action = Action::new(ActionKind::Post, Version::new(1, 1).unwrap(), id);
    let actions = vec![Action { lines: 0..body.len(), ..action }];
    Batch {
        archive: Arc::new(Archive { name: "a".into(), path: "a".into(), ..Archive::default() }),
        body,
        actions,
    }
}

fn within(call: Duration) -> RequestLimits {
    RequestLimits { call, ..RequestLimits::default() }
}

/// Reads a request up to its last bytes, and returns it.
fn read_request(stream: &mut TcpStream, end: &[u8]) -> String {
    let mut request = Vec::new();
    while !request.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        request.extend_from_slice(&byte);
    }
    String::from_utf8(request).unwrap()
}

fn answer(stream: &mut TcpStream, body: &str) {
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
}

const LOOK_UP_END: &[u8] = b"]}";
const NOT_FOUND: &str = r#"{"docs":[{"_id":"x","found":false}]}"#;

/// Runs `work` with a sink for `listener`, while `serve` handles the connection. Returns what `work` returns, and the
/// connection, so that the test can read what arrived later.
fn with_bulk<T>(
    listener: &TcpListener,
    limits: RequestLimits,
    gc_deletes: Duration,
    stop: &Stop,
    serve: impl FnOnce(&mut TcpStream) + Send,
    work: impl FnOnce(&Bulk<'_>) -> T,
) -> (T, TcpStream) {
    let url = format!("http://{}", listener.local_addr().unwrap());
    let settings = config::Elasticsearch::at(url, Auth::of_api_key("a2V5"));
    let client = Client::with_limits(&settings, limits).unwrap();
    let target = |name| Target { gc_deletes, ..Target::of_one_index(name) };
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
        let done = work(&bulk);
        (done, serving.join().unwrap())
    })
}

/// Time after which an index forgets deletes, by default.
const GC_DELETES: Duration = Duration::from_secs(60);

/// Delivers a post to `listener`.
fn deliver(
    listener: &TcpListener,
    limits: RequestLimits,
    stop: &Stop,
    serve: impl FnOnce(&mut TcpStream) + Send,
) -> (Outcomes, TcpStream) {
    let work = |bulk: &Bulk<'_>| bulk.deliver(&batch_of("x"), &mut Upcoming::nothing());
    with_bulk(listener, limits, GC_DELETES, stop, serve, work)
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

const INDEXED: &str = r#"{"items":[{"index":{"_id":"x","status":201}}]}"#;
const OTHER_INDEXED: &str = r#"{"items":[{"index":{"_id":"y","status":201}}]}"#;

/// Delivers `x`, then `y`, which waits already when `x` is delivered.
fn deliver_two(
    gc_deletes: Duration,
    stop: &Stop,
    serve: impl FnOnce(&mut TcpStream) + Send,
) -> (Vec<Outcomes>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    with_bulk(&listener, within(Duration::from_secs(5)), gc_deletes, stop, serve, |bulk| {
        let (sender, batches) = bounded(2);
        ["x", "y"].into_iter().for_each(|id| sender.send(batch_of(id)).unwrap());
        drop(sender);
        let mut upcoming = Upcoming::new(batches);
        let mut outcomes = Vec::new();
        while let Some(batch) = upcoming.advance() {
            outcomes.push(bulk.deliver(&batch, &mut upcoming));
        }
        outcomes
    })
}

/// Returns the reply to a look-up of `x` and `y`.
fn found(second: &str) -> String {
    format!(r#"{{"docs":[{{"_id":"x","found":false}},{{"_id":"y",{second}}}]}}"#)
}

/// Answers the look-up and the bulk request of `x`, and the look-up of both.
fn serve_first(stream: &mut TcpStream, second: &str) {
    assert!(!read_request(stream, LOOK_UP_END).contains(r#""_id":"y""#));
    answer(stream, NOT_FOUND);
    read_request(stream, b"{}\n");
    answer(stream, INDEXED);
    let again = read_request(stream, LOOK_UP_END);
    assert!(again.contains(r#""_id":"x""#) && again.contains(r#""_id":"y""#), "{again}");
    answer(stream, &found(second));
}

#[test]
fn the_second_look_up_of_a_batch_is_the_first_one_of_the_next() {
    let (outcomes, _) = deliver_two(GC_DELETES, &Stop::new(), |stream| {
        serve_first(stream, r#""found":false"#);
        assert!(read_request(stream, b"{}\n").starts_with("POST /_bulk"));
        answer(stream, OTHER_INDEXED);
        assert!(!read_request(stream, LOOK_UP_END).contains(r#""_id":"x""#));
        answer(stream, &NOT_FOUND.replace('x', "y"));
    });
    let indexed: Vec<u64> = outcomes.iter().map(|outcomes| outcomes.tally.indexed).collect();
    assert_eq!(indexed, [1, 1]);
}

#[test]
fn a_post_whose_tombstone_was_found_with_the_batch_before_is_not_sent() {
    let (outcomes, _) = deliver_two(GC_DELETES, &Stop::new(), |stream| {
        serve_first(stream, r#""found":true,"_version":7,"_seq_no":1,"_primary_term":1"#);
        assert!(read_request(stream, b"}}\n{}\n").contains(r#"{"delete":{"_index":"posts","_id":"y""#));
        let guard = format!(r#"{{"index":{{"_id":"{GUARD}","status":409}}}}"#);
        answer(stream, &format!(r#"{{"items":[{{"delete":{{"_id":"y","status":404}}}},{guard}]}}"#));
    });
    assert_eq!((outcomes[0].tally.indexed, outcomes[1].tally.suppressed), (1, 1));
}

#[test]
fn a_look_up_with_the_batch_before_is_repeated_once_it_is_too_old() {
    let (outcomes, _) = deliver_two(Duration::from_nanos(1), &Stop::new(), |stream| {
        serve_first(stream, r#""found":false"#);
        assert!(read_request(stream, LOOK_UP_END).contains(r#""_id":"y""#));
        answer(stream, &NOT_FOUND.replace('x', "y"));
        read_request(stream, b"{}\n");
        answer(stream, OTHER_INDEXED);
        read_request(stream, LOOK_UP_END);
        answer(stream, &NOT_FOUND.replace('x', "y"));
    });
    assert_eq!(outcomes[1].tally.indexed, 1);
}

#[test]
fn after_a_signal_the_next_batch_is_not_looked_up() {
    let stop = Stop::new();
    let (outcomes, mut stream) = deliver_two(GC_DELETES, &stop, |stream| {
        read_request(stream, LOOK_UP_END);
        answer(stream, NOT_FOUND);
        read_request(stream, b"{}\n");
        stop.request(StopReason::Terminate);
        answer(stream, INDEXED);
        assert!(!read_request(stream, LOOK_UP_END).contains(r#""_id":"y""#));
        answer(stream, NOT_FOUND);
    });
    assert_eq!((outcomes[0].tally.indexed, outcomes[1].tally.unconfirmed), (1, 1));
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}
