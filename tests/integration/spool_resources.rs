//! Long spool runs: memory, descriptors and threads do not grow, and a look is cheap however many archives are
//! processed.

// The figures are printed: `cargo test --test integration spool_resources -- --nocapture`.
#![allow(clippy::print_stdout)]

use std::fs::{self, File};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::archives::{Archive, write_aged};
use crate::harness::http::Request;
use crate::harness::s3::{ACCESS_KEY, BUCKET, FakeS3, SECRETS, error, is_listing, is_object};
use crate::harness::script::Fault;
use crate::harness::{Invocation, Running, STATE_FILE, TestEnv, long_or, posts};

/// The resources of a process.
#[derive(Clone, Copy, Debug)]
struct Usage {
    descriptors: usize,
    threads: usize,
    resident_kib: u64,
}

impl Usage {
    /// The minimum over some moments, so that a look in progress does not count. More moments are taken until `enough`
    /// holds, since a look takes longer on a busy machine.
    fn at_rest(running: &Running, enough: impl Fn(Self) -> bool) -> Self {
        let started = Instant::now();
        let mut least = Self::now(running.id());
        let goes_on = |least| {
            let time = started.elapsed();
            time < Duration::from_millis(400) || time < Duration::from_secs(10) && !enough(least)
        };
        while goes_on(least) {
            thread::sleep(Duration::from_millis(10));
            let Self { descriptors, threads, resident_kib } = Self::now(running.id());
            least.descriptors = least.descriptors.min(descriptors);
            least.threads = least.threads.min(threads);
            least.resident_kib = least.resident_kib.min(resident_kib);
        }
        least
    }

    fn now(id: u32) -> Self {
        let entries = |folder: &str| fs::read_dir(format!("/proc/{id}/{folder}")).unwrap().count();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        let resident_kib = resident.trim().trim_end_matches(" kB").parse().unwrap();
        Self { descriptors: entries("fd"), threads: entries("task"), resident_kib }
    }
}

/// The CPU time of a process so far.
fn cpu_time(running: &Running) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", running.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // User and system time in ticks of 10 ms: fields 14 and 15 of proc(5); the split drops the first two.
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The program, with a look every second.
fn spool(env: &TestEnv) -> Invocation<'_> {
    env.ingest()
        .args(&["--mode", "spool", "--metrics-file", METRICS])
        .var("SPOOL_INTERVAL_SEC", "1")
        // With one arena per thread, glibc holds back twice as much memory as the test allows.
        .var("MALLOC_ARENA_MAX", "1")
}

fn spool_bucket<'e>(env: &'e TestEnv, s3: &FakeS3) -> Invocation<'e> {
    spool(env)
        .args(&["--source", "s3"])
        .without("LOCAL_SQLITE_DB_PATH")
        .var("S3_SQLITE_DB_BUCKET", BUCKET)
        .var("S3_SQLITE_DB_PREFIX", "in/")
        .var("AWS_ENDPOINT_URL_S3", &s3.url())
        .var("AWS_S3_ACCESS_KEY", ACCESS_KEY)
        .var("AWS_S3_SECRET_KEY", SECRETS[0])
}

/// The time limit of every wait, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

const METRICS: &str = "spool.prom";

/// The number of looks with new archives.
const ROUNDS: usize = 20;
const FEWER_ROUNDS: usize = 9;
/// The number of looks after which all lasting allocations exist.
const WARM_UP: usize = 6;
/// The number of new archives per look; the first one is broken.
const ARCHIVES: usize = 40;
const BROKEN: &[u8] = b"no archive";
/// How much the resident memory may grow per archive after the warm-up. Up to 1.6 KiB were measured, for its entry in
/// the state file and for the allocator. A leaked database would add at least two pages of 4 KiB.
const MORE_KIB: u64 = 4;
/// How much it may differ between two moments without a leak: pages of stacks and of connections' buffers come and go.
const NOISE_KIB: u64 = 256;

/// Adds archives, with failures in between, and asserts that the resources do not grow after the warm-up.
fn assert_no_growth(env: &TestEnv, running: Running, mut put: impl FnMut(&Archive, &[u8])) {
    let mut early = None;
    let rounds = long_or(ROUNDS, FEWER_ROUNDS);
    for round in 0..rounds {
        env.fake.fail_bulks(1, Fault::status(429));
        env.fake.fail_bulks(1, Fault::CloseBefore);
        for n in 0..ARCHIVES {
            let time = format!("20251218_{round:02}{n:02}00");
            let archive = Archive::new(&time).with_all(posts(&time, 4));
            let content = if n == 0 { BROKEN.to_vec() } else { archive.zip() };
            put(&archive, &content);
        }
        // Counted in the text: to parse it every few milliseconds would take more time than the program needs.
        let done = || env.read(STATE_FILE).unwrap_or_default().matches("\"filename\"").count();
        wait_until("all are done", || done() == (round + 1) * ARCHIVES);
        // Keeps the fake fast.
        env.fake.forget_requests();
        if round + 1 == WARM_UP {
            early = Some(Usage::at_rest(&running, |_| true));
        }
    }
    let early = early.expect("a warm-up");
    // The number of open connections may vary.
    let are_as_many =
        |late: Usage| late.descriptors <= early.descriptors + 3 && late.threads <= early.threads;
    let late = Usage::at_rest(&running, are_as_many);
    println!("after {WARM_UP} looks: {early:?}; after {rounds}: {late:?}");
    running.signal("TERM");
    let run = running.wait().exits(0);
    let (processed, failed) = ((rounds * (ARCHIVES - 1)) as u64, rounds as u64);
    run.counts(&[("archives.processed", processed), ("archives.failed", failed)]);
    run.check(are_as_many(late), &format!("descriptors and threads: {early:?}, {late:?}"));
    let more_kib = ((rounds - WARM_UP) * ARCHIVES) as u64 * MORE_KIB + NOISE_KIB;
    run.check(late.resident_kib <= early.resident_kib + more_kib, &format!("memory: {early:?}, {late:?}"));
}

#[test]
fn spooling_a_folder_does_not_leak() {
    let env = TestEnv::new();
    let running = spool(&env).start().may_take(PATIENCE);
    let folder = env.path("archives");
    let age = Duration::from_secs(3_600);
    assert_no_growth(&env, running, |archive, content| {
        write_aged(&folder.join(archive.name()), content, age)
    });
}

#[test]
fn spooling_a_bucket_does_not_leak() {
    let (env, s3) = (TestEnv::new(), FakeS3::start());
    let running = spool_bucket(&env, &s3).start().may_take(PATIENCE);
    assert_no_growth(&env, running, |archive, content| {
        if content == BROKEN {
            s3.fail(is_object, 0, 1, Fault::CutReply);
            s3.fail(is_object, 0, 1, Fault::Reply(error(503, "SlowDown")));
            s3.fail(is_listing, 1, 1, Fault::Reply(error(503, "SlowDown")));
        }
        s3.put(&format!("in/{}", archive.name()), content);
    });
}

/// The number of processed archives; a tenth unless `LONG_TESTS` is set.
fn known() -> usize {
    long_or(100_000, 10_000)
}

/// The CPU time that a look at 100,000 archives may take; a debug build is slower.
const LOOK: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });

/// The number of looks that are measured.
const LOOKS: u32 = 2;

fn known_names() -> impl Iterator<Item = String> {
    (0..known()).map(|n| {
        let (day, minute) = (n / 1_440, n % 1_440);
        format!(
            "mega_jetstream_{}{:02}{:02}_{:02}{:02}00.db.zip",
            2020 + day / 336,
            day / 28 % 12 + 1,
            day % 28 + 1,
            minute / 60,
            minute % 60
        )
    })
}

/// Writes a state file in which all of them are processed.
fn mark_all_processed(env: &TestEnv) {
    let entry = |name: String| {
        format!("{{\"filename\":\"{name}\",\"status\":\"processed\",\"timestamp\":\"2025-12-18T00:00:00Z\"}}")
    };
    let entries: Vec<String> = known_names().map(entry).collect();
    env.write(STATE_FILE, format!("[{}]", entries.join(",\n")));
}

/// Asserts that looks take little CPU time and load nothing.
fn assert_looks_are_cheap(env: &TestEnv, running: Running) {
    let last_look = || {
        let text = env.read(METRICS).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("megastream_ingest_last_success"));
        line.map(str::to_owned)
    };
    let next_look = |last: Option<String>| {
        wait_until("a look", || last_look().is_some_and(|found| Some(found) != last));
        last_look()
    };
    let mut look = next_look(None);
    let before = cpu_time(&running);
    for _ in 0..LOOKS {
        look = next_look(look);
    }
    let each = (cpu_time(&running) - before) / LOOKS;
    println!("a look at {} archives that are done: {each:?} of CPU time", known());
    running.signal("TERM");
    let run = running.wait().exits(0);
    run.counts(&[("archives.already_done", known() as u64), ("archives.processed", 0)]);
    run.check(each < LOOK * known() as u32 / 100_000, &format!("a look costs {each:?}"));
    assert!(env.fake.bulks().is_empty());
}

#[test]
fn a_look_at_a_folder_of_many_processed_archives_is_cheap() {
    let env = TestEnv::new();
    mark_all_processed(&env);
    // A link is much cheaper than a file of its own. ext4 allows 65,000 links to a file.
    for (n, name) in known_names().enumerate() {
        let file = env.path(&format!("empty{}", n / 50_000));
        if n % 50_000 == 0 {
            File::create(&file).unwrap();
        }
        fs::hard_link(&file, env.path("archives").join(name)).unwrap();
    }
    let running = spool(&env).start().may_take(PATIENCE);
    assert_looks_are_cheap(&env, running);
}

#[test]
fn a_look_at_a_bucket_of_many_processed_archives_is_cheap() {
    let (env, s3) = (TestEnv::new(), FakeS3::start());
    mark_all_processed(&env);
    for name in known_names() {
        s3.put(&format!("in/{name}"), "x");
    }
    let running = spool_bucket(&env, &s3).start().may_take(PATIENCE);
    assert_looks_are_cheap(&env, running);
    let objects = |request: &Request| is_object(request);
    assert!(!s3.requests().iter().any(objects), "nothing is downloaded");
}
