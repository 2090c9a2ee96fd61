//! A spooler that runs for long: its memory, descriptors and threads stay as they are, and a look costs little
//! however many archives are done.

// The figures are for whoever wants to see them: `cargo test --test integration steady -- --nocapture`.
#![allow(clippy::print_stdout)]

use std::fs::{self, File};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::archives::{Archive, write_aged};
use crate::harness::http::Request;
use crate::harness::s3::{ACCESS_KEY, BUCKET, FakeS3, SECRETS, error, is_listing, is_object};
use crate::harness::script::Fault;
use crate::harness::{Invocation, Running, TestEnv, long_or, posts};

/// What a process takes up, at rest.
#[derive(Clone, Copy, Debug)]
struct Usage {
    descriptors: usize,
    threads: usize,
    resident_kib: u64,
}

impl Usage {
    /// The least of some moments, so that a pass that is just being made does not count; of more of them as long as it
    /// is not `enough`, since on a busy machine a pass takes its time.
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

/// CPU time that a process has taken so far.
fn cpu_time(running: &Running) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", running.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // User and system time, in hundredths of a second: fields 14 and 15 of proc(5), 2 of which stand before.
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

/// The program, set up to look once a second.
fn spool(env: &TestEnv) -> Invocation<'_> {
    env.ingest()
        .args(&["--mode", "spool", "--metrics-file", METRICS])
        .var("SPOOL_INTERVAL_SEC", "1")
        // With an arena for each thread, glibc holds back twice as much as is asked about here.
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

/// The longest that anything here may take, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

const METRICS: &str = "spool.prom";

/// Looks at which archives come; and where `LONG_TESTS` is not set.
const ROUNDS: usize = 20;
const FEWER_ROUNDS: usize = 8;
/// Those after which everything that is kept has been made.
const WARM_UP: usize = 6;
/// Archives that come at each; the first one is broken.
const ARCHIVES: usize = 40;
const BROKEN: &[u8] = b"no archive";
/// What may be added to the resident memory for each archive from the warm-up to the end: a page. Up to 1.6 KiB have
/// been seen (its entry in the state file, and what the allocator holds back). Its database alone has two pages.
const MORE_KIB: u64 = 4;

/// Lets archives come, with failures in between, and asserts that the spooler takes up no more at the end than after
/// the warm-up.
fn stays_flat(env: &TestEnv, running: Running, mut put: impl FnMut(&Archive, &[u8])) {
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
        wait_until("all are done", || env.state().len() == (round + 1) * ARCHIVES);
        // The fake is to have little to look through.
        env.fake.forget_requests();
        if round + 1 == WARM_UP {
            early = Some(Usage::at_rest(&running, |_| true));
        }
    }
    let early = early.expect("a warm-up");
    // A connection more or less may be open.
    let are_as_many =
        |late: Usage| late.descriptors <= early.descriptors + 3 && late.threads <= early.threads;
    let late = Usage::at_rest(&running, are_as_many);
    println!("after {WARM_UP} looks: {early:?}; after {rounds}: {late:?}");
    running.signal("TERM");
    let run = running.wait().exits(0);
    let (processed, failed) = ((rounds * (ARCHIVES - 1)) as u64, rounds as u64);
    run.counts(&[("archives.processed", processed), ("archives.failed", failed)]);
    run.check(are_as_many(late), &format!("descriptors and threads: {early:?}, {late:?}"));
    let more_kib = ((rounds - WARM_UP) * ARCHIVES) as u64 * MORE_KIB;
    run.check(late.resident_kib <= early.resident_kib + more_kib, &format!("memory: {early:?}, {late:?}"));
}

#[test]
fn spooling_a_folder_does_not_leak() {
    let env = TestEnv::new();
    let running = spool(&env).start().may_take(PATIENCE);
    let folder = env.path("archives");
    let age = Duration::from_secs(3_600);
    stays_flat(&env, running, |archive, content| write_aged(&folder.join(archive.name()), content, age));
}

#[test]
fn spooling_a_bucket_does_not_leak() {
    let (env, s3) = (TestEnv::new(), FakeS3::start());
    let running = spool_bucket(&env, &s3).start().may_take(PATIENCE);
    stays_flat(&env, running, |archive, content| {
        if content == BROKEN {
            s3.fail(is_object, 0, 1, Fault::CutReply);
            s3.fail(is_object, 0, 1, Fault::Reply(error(503, "SlowDown")));
            s3.fail(is_listing, 1, 1, Fault::Reply(error(503, "SlowDown")));
        }
        s3.put(&format!("in/{}", archive.name()), content);
    });
}

/// Archives that are done; a tenth where `LONG_TESTS` is not set.
fn known() -> usize {
    long_or(100_000, 10_000)
}

/// What a look at 100,000 of them may cost: a second, and more where the program is not optimized.
const LOOK: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });

/// Looks that are measured.
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

/// Writes a state file that calls all of them processed.
fn all_are_known(env: &TestEnv) {
    let entry = |name: String| {
        format!("{{\"filename\":\"{name}\",\"status\":\"processed\",\"timestamp\":\"2025-12-18T00:00:00Z\"}}")
    };
    let entries: Vec<String> = known_names().map(entry).collect();
    env.write(crate::harness::STATE_FILE, format!("[{}]", entries.join(",\n")));
}

/// Asserts what a look costs, and that nothing is taken up.
fn looks_are_cheap(env: &TestEnv, running: Running) {
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
    all_are_known(&env);
    for name in known_names() {
        File::create(env.path("archives").join(name)).unwrap();
    }
    let running = spool(&env).start().may_take(PATIENCE);
    looks_are_cheap(&env, running);
}

#[test]
fn a_look_at_a_bucket_of_many_processed_archives_is_cheap() {
    let (env, s3) = (TestEnv::new(), FakeS3::start());
    all_are_known(&env);
    for name in known_names() {
        s3.put(&format!("in/{name}"), "x");
    }
    let running = spool_bucket(&env, &s3).start().may_take(PATIENCE);
    looks_are_cheap(&env, running);
    let objects = |request: &Request| is_object(request);
    assert!(!s3.requests().iter().any(objects), "nothing is downloaded");
}
