//! Parses replies to bulk requests and look-ups.

#![expect(clippy::expect_used, reason = "a benchmark panics on errors")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use megastream_ingest::sink::elasticsearch::bulk::reply::{Operation, judge_items, judge_look_up};

/// Number of actions per request.
const ACTIONS: usize = 1_000;

/// Formats a reply of equal items, reduced as by `filter_path`.
fn reply(item: &str) -> Vec<u8> {
    format!("{{\"items\":[{}]}}", vec![item; ACTIONS].join(",")).into_bytes()
}

fn benches(criterion: &mut Criterion) {
    let done = reply(r#"{"index":{"result":"created","status":201}}"#);
    let refused = reply(
        r#"{"index":{"status":400,"error":{"type":"document_parsing_exception","reason":"[1:9] failed to parse"}}}"#,
    );
    let ids: Vec<String> =
        (0..ACTIONS).map(|n| format!("at://did:plc:{n:024}/app.bsky.feed.post/{n:013}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let docs: Vec<String> = ids.iter().map(|id| format!(r#"{{"_id":"{id}","found":false}}"#)).collect();
    let look_up = format!("{{\"docs\":[{}]}}", docs.join(",")).into_bytes();

    let mut group = criterion.benchmark_group("reply");
    group.throughput(Throughput::Elements(ACTIONS as u64));
    for (name, body) in [("all_done", &done), ("all_refused", &refused)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                judge_items(black_box(body), Operation::Index, &ids, &[], &|_, _| true).expect("items")
            });
        });
    }
    group.bench_function("look_up_finds_nothing", |bencher| {
        bencher.iter(|| judge_look_up(black_box(&look_up), &ids).expect("documents"));
    });
    group.finish();
}

criterion_group!(reply_benches, benches);
criterion_main!(reply_benches);
