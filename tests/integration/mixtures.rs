//! Random archives under random faults: the result is that of a run without faults.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;

use crate::harness::archives::{Archive, Meaning, Row, account_event, delete, post, unreadable, update};
use crate::harness::fake::Fake;
use crate::harness::http::{Reply, Request};
use crate::harness::model::{assert_holds, assert_processed_are_held};
use crate::harness::script::Fault;
use crate::harness::store::Item;
use crate::harness::{Invocation, TestEnv, long_or, wait_until};

/// The number of mixtures, unless `MIXTURES` says otherwise.
const MIXTURES: u64 = 64;
const FEWER_MIXTURES: u64 = 16;

/// Mixtures that run concurrently; most of their time is spent waiting.
const CONCURRENT: u64 = 8;

/// The size of a document that is too large for some of the servers, in bytes.
const LARGE: usize = 3000;

/// A few archives in which a few posts are created, updated, deleted and created again.
fn archives(random: &mut Rng) -> Vec<Archive> {
    let times = ["20251218_000000", "20251218_000500", "20251219_000000", "20260101_000000"];
    let posts = random.usize(5..40);
    let mut archives = Vec::new();
    for (number, time) in times.into_iter().take(random.usize(1..=times.len())).enumerate() {
        let rows: Vec<Row> = (0..random.usize(1..60))
            .map(|row| {
                let name = format!("p{}", random.usize(..posts));
                let text = format!("row {row} of archive {number}");
                match random.u8(..20) {
                    0..4 => delete(&name),
                    4..8 => update(&name, &text).row(),
                    8 => post(&name, &"large ".repeat(LARGE / 6)).row(),
                    9 => unreadable(&name, Some("{\"message\":")),
                    10 => account_event(),
                    _ => post(&name, &text).row(),
                }
            })
            .collect();
        archives.push(Archive::new(time).with_all(rows));
    }
    archives
}

/// Any fault of a whole request, or a pause.
fn fault(random: &mut Rng) -> Fault {
    let statuses = [408, 429, 500, 502, 503, 504];
    let asks_to_wait =
        Reply::error(429, "es_rejected_execution_exception", "busy").with_header("Retry-After", "1");
    match random.u8(..12) {
        0 | 1 => Fault::status(statuses[random.usize(..statuses.len())]),
        2 => Fault::Reply(asks_to_wait),
        3 => Fault::cluster_block(),
        4 => Fault::CloseBefore,
        5 => Fault::CloseAfter,
        6 => Fault::CloseHalfway,
        7 => Fault::CutReply,
        8 => Fault::Garbage,
        9 => Fault::ItemFewer,
        10 => Fault::ItemMore,
        _ => Fault::Delay(Duration::from_millis(random.u64(..100))),
    }
}

/// Scripts the faults that last until the fake is released.
fn script(fake: &Fake, random: &mut Rng) {
    for _ in 0..random.u8(..5) {
        let (share, own) = (random.f64() * 0.15, Mutex::new(random.fork()));
        let (bulks, look_ups) = [(true, true), (true, false), (false, true)][random.usize(..3)];
        let meets = move |request: &Request| {
            let kind = bulks && request.is_bulk() || look_ups && request.is_mget();
            kind && own.lock().unwrap().f64() < share
        };
        fake.fail(meets, 0, usize::MAX, fault(random));
    }
    if random.u8(..4) == 0 {
        fake.fail(Request::is_bulk, random.usize(..6), 1, Fault::Hang);
    }
    let pushed_back = [(429, "es_rejected_execution_exception"), (503, "unavailable_shards_exception")];
    if random.bool() {
        let (share, own) = (random.f64() * 0.4, Mutex::new(random.fork()));
        let (status, error_type) = pushed_back[random.usize(..2)];
        fake.fail_items(move |_| own.lock().unwrap().f64() < share, usize::MAX, status, error_type);
    }
    if random.bool() {
        // The choice depends on the id alone: a server does not refuse a document that it has accepted before.
        let salt = random.u64(..);
        let chosen = move |item: &Item| BuildHasherDefault::<DefaultHasher>::new().hash_one((salt, &item.id));
        let refused = move |item: &Item| item.operation == "index" && chosen(item).is_multiple_of(16);
        fake.fail_items(refused, usize::MAX, 400, "document_parsing_exception");
    }
}

/// The archives without the documents that Elasticsearch refused. Only the last event of a post per archive is sent, so
/// its refusal drops all events of that post in the archive.
fn without_refused(archives: &[Archive], letters: &[Value]) -> Vec<Archive> {
    let by_server = letters.iter().filter(|letter| letter["stage"] == "elasticsearch");
    let refused: BTreeSet<(&str, u64)> = by_server
        .filter_map(|letter| Some((letter["archive"].as_str()?, letter["row_id"].as_u64()?)))
        .collect();
    let mut archives = archives.to_vec();
    for archive in &mut archives {
        let name = archive.name();
        let gone: BTreeSet<Option<String>> = (1_u64..)
            .zip(&archive.rows)
            .filter(|(row_id, _)| refused.contains(&(name.as_str(), *row_id)))
            .map(|(_, row)| row.at_uri.clone())
            .collect();
        for row in archive.rows.iter_mut().filter(|row| gone.contains(&row.at_uri)) {
            row.meaning = Meaning::Rejected;
        }
    }
    archives
}

/// The archives with only those rows that must be in an index.
fn with_documents(archives: &[Archive]) -> Vec<Archive> {
    let mut archives = archives.to_vec();
    for archive in &mut archives {
        archive.rows.retain(|row| matches!(row.meaning, Meaning::Post(_) | Meaning::Delete(_)));
    }
    archives
}

fn load<'e>(env: &'e TestEnv, random: &mut Rng) -> Invocation<'e> {
    let mut number = |most: usize| random.usize(1..=most).to_string();
    let (docs, senders, workers) = (number(20), number(4), number(3));
    env.ingest().args(&["--batch-docs", &docs, "--senders", &senders, "--workers", &workers])
}

/// Runs one mixture: the archives arrive in random order and in several runs, between which deletes are forgotten.
/// Returns the number of retried requests.
fn mix(seed: u64) -> u64 {
    let mut random = Rng::with_seed(seed);
    let archives = archives(&mut random);
    let env = TestEnv::new();
    if random.u8(..3) == 0 {
        env.fake.limit_bulk_bytes(random.usize(1000..2 * LARGE));
    }
    let mut order = archives.clone();
    random.shuffle(&mut order);
    let (mut rejected, mut retried) = (0, 0);
    while !order.is_empty() {
        let now: Vec<Archive> = order.drain(..random.usize(1..=order.len())).collect();
        env.fake.store(|store| store.forget_deletes_so_far());
        env.add(&now);
        script(&env.fake, &mut random);
        env.fake.forget_requests();
        let mut running = load(&env, &mut random).start();
        // A busy machine takes a while before the first batch.
        let is_hit =
            || env.fake.requests().iter().any(|record| record.request.is_bulk() || record.request.is_mget());
        wait_until("the run sends something or ends", || is_hit() || !running.is_running());
        std::thread::sleep(Duration::from_millis(random.u64(200..2000)));
        env.fake.release();
        let run = running.wait();
        run.check(matches!(run.code, Some(0 | 3)), "the run completes");
        run.counts(&[
            ("archives.processed", now.len() as u64),
            ("archives.failed", 0),
            ("rows.unconfirmed", 0),
        ]);
        let rows: usize = now.iter().map(|archive| archive.rows.len()).sum();
        run.counts(&[("rows.read", rows as u64)]);
        rejected += run.count("rows.rejected");
        retried += run.count("requests.retried");
    }
    let letters = env.dead_letters();
    assert_eq!(letters.len() as u64, rejected, "as many dead letters as rejected rows");
    let expected = without_refused(&archives, &letters);
    assert_holds(&env.fake, &expected);
    assert_processed_are_held(&env, &with_documents(&expected));
    let statuses: BTreeMap<String, Value> =
        env.state().into_iter().map(|(name, entry)| (name, entry["status"].clone())).collect();
    assert_eq!(statuses.len(), archives.len());
    assert!(statuses.values().all(|status| status == "processed"), "{statuses:?}");
    retried
}

#[test]
fn random_mixtures_of_faults_do_not_change_the_result() {
    let mixtures = std::env::var("MIXTURES")
        .ok()
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| long_or(MIXTURES, FEWER_MIXTURES));
    let first_seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let first_seed = first_seed.unwrap_or_else(|| fastrand::u64(..u64::MAX / 2));
    println!("{mixtures} mixtures, seeds from {first_seed}");
    let seeds = crossbeam_channel::unbounded();
    (0..mixtures).for_each(|n| seeds.0.send(first_seed + n).unwrap());
    drop(seeds.0);
    let retried = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CONCURRENT.min(mixtures) {
            scope.spawn(|| {
                for seed in &seeds.1 {
                    println!("seed {seed}");
                    retried.fetch_add(mix(seed), Ordering::Relaxed);
                    println!("seed {seed} is done");
                }
            });
        }
    });
    assert!(retried.into_inner() > mixtures / 2, "the faults hit hardly any request");
}
