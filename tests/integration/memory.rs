//! `--memory`: archives are admitted by their declared size, and together stay within the limit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use libdeflater::{CompressionLvl, Compressor};

use crate::harness::archives::{Archive, write_aged};
use crate::harness::s3::FakeS3;
use crate::harness::script::Fault;
use crate::harness::{Run, TestEnv, posts, string};
use crate::s3::ingest;

const MIB: u64 = 1 << 20;

/// The name and content of an archive whose database has about `mib` MiB, and whose zip is small.
fn padded(n: usize, mib: u64) -> (String, Vec<u8>) {
    static MADE: Mutex<BTreeMap<u64, Vec<u8>>> = Mutex::new(BTreeMap::new());
    let name = Archive::new(&format!("20251218_{n:06}")).name();
    (name, MADE.lock().unwrap().entry(mib).or_insert_with(|| make_padded(mib)).clone())
}

fn make_padded(mib: u64) -> Vec<u8> {
    pad(&Archive::new("20251218_000000").with_all(posts("a", 3)), mib)
}

/// The zip of an archive whose database has about `mib` MiB more than its rows need.
fn pad(archive: &Archive, mib: u64) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    std::fs::write(&path, archive.database()).unwrap();
    let database = rusqlite::Connection::open(&path).unwrap();
    // Some of it is noise: a zip that shrinks too well counts as a bomb.
    let fill = format!(
        "CREATE TABLE fill (x);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {mib})
         INSERT INTO fill SELECT CAST(hex(randomblob(6000)) || hex(zeroblob(512000)) AS BLOB) FROM n"
    );
    database.execute_batch(&fill).unwrap();
    database.close().unwrap();
    zip_of(&std::fs::read(&path).unwrap())
}

/// A zip with this one entry. The zip crate deflates slowly in a debug build, libdeflate does not.
///
/// Source: APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16.
fn zip_of(database: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(CompressionLvl::new(1).unwrap());
    let mut deflated = vec![0; compressor.deflate_compress_bound(database.len())];
    let length = compressor.deflate_compress(database, &mut deflated).unwrap();
    deflated.truncate(length);
    let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
    let common = [
        &[20, 0, 0, 0, 8, 0, 0, 0, 0x21, 0][..],
        &libdeflater::crc32(database).to_le_bytes(),
        &size(&deflated),
        &size(database),
        &[4, 0, 0, 0],
    ]
    .concat();
    let mut zip = [b"PK\x03\x04", &common[..], b"a.db", &deflated].concat();
    let start = size(&zip);
    let central = [b"PK\x01\x02\x14\0", &common[..], &[0; 14], b"a.db"].concat();
    zip.extend_from_slice(&central);
    zip.extend_from_slice(
        &[b"PK\x05\x06\0\0\0\0\x01\0\x01\0", &size(&central)[..], &start, b"\0\0"].concat(),
    );
    zip
}

fn put(env: &TestEnv, (name, content): &(String, Vec<u8>)) {
    write_aged(&env.path("archives").join(name), content, std::time::Duration::from_secs(3_600));
}

/// A run, and its peak memory in MiB.
fn memory(env: &TestEnv, arguments: &[&str]) -> (Run, u64) {
    let run = env.ingest().args(arguments).start().may_take(std::time::Duration::from_secs(120)).wait();
    let mib = run.peak_memory_kib() >> 10;
    (run, mib)
}

#[test]
fn archives_together_stay_within_the_memory_limit() {
    let env = TestEnv::new();
    let archives: Vec<_> = (0..8).map(|n| padded(n, 60)).collect();
    archives.iter().for_each(|archive| put(&env, archive));
    let (run, peak) = memory(&env, &["--dry-run", "--workers", "8", "--memory", "150MiB"]);
    let run = run.exits(0);
    run.counts(&[("archives.processed", 8), ("rows.indexed", 24)]);
    // The program and its batches take about 30 MiB in a debug build.
    run.check(peak < 150 + 60, &format!("{peak} MiB"));
    let (run, all) = memory(&env, &["--dry-run", "--workers", "8", "--memory", "2GiB"]);
    run.exits(0).counts(&[("archives.processed", 8)]);
    println!("8 archives of 60 MiB by 8 workers: {peak} MiB within 150MiB, {all} MiB within 2GiB");
}

#[test]
fn an_archive_over_the_memory_limit_stays_pending_and_is_reported_once() {
    let env = TestEnv::new();
    let large = padded(0, 60);
    put(&env, &large);
    let small = Archive::new("20251218_000100").with_all(posts("small", 3));
    env.add(std::slice::from_ref(&small));
    let check = env.run(&["--check", "--memory", "32MiB"]).exits(0);
    check.check(check.stdout.contains("warning: memory: 1 archives stay pending"), "the check reports it");
    let run = env.run(&["--memory", "32MiB"]).exits(1).says("set --memory (MEMORY_LIMIT)");
    run.counts(&[
        ("archives.processed", 1),
        ("archives.pending", 1),
        ("archives.failed", 0),
        ("rows.indexed", 3),
    ]);
    assert_eq!(env.status_of(&small), "processed");

    // Later looks log nothing more, and a new archive is loaded.
    let running =
        env.ingest().args(&["--mode", "spool", "--memory", "32MiB"]).var("SPOOL_INTERVAL_SEC", "1").start();
    for n in 2..4 {
        let other = Archive::new(&format!("20251218_00010{n}")).with_all(posts(&format!("other{n}"), 3));
        env.add(std::slice::from_ref(&other));
        env.wait_for_processed(&[other]);
    }
    running.signal("TERM");
    let run = running.wait().exits(0);
    let told = run.stderr.matches("stays pending").count();
    run.check(told == 1, &format!("it is told once, not {told} times"));
    run.counts(&[("archives.pending", 1)]);

    env.ingest().var("MEMORY_LIMIT", "100 MiB").run().exits(0).counts(&[("archives.processed", 1)]);
}

#[test]
fn the_memory_setting_is_validated() {
    let env = TestEnv::new();
    for text in ["2GB", "-1", "", "1MiB", "lots"] {
        if !text.is_empty() {
            env.ingest()
                .var("MEMORY_LIMIT", text)
                .without("SUMMARY_JSON")
                .run()
                .exits(2)
                .says("MEMORY_LIMIT is");
        }
        env.ingest().args(&["--memory", text]).without("SUMMARY_JSON").run().exits(2).says("--memory is");
    }
    let check = env.run(&["--check"]).exits(0);
    check.check(check.stdout.contains("for archives (auto)"), "the check reports the limit");
}

#[test]
fn millions_of_tiny_rows_stay_within_the_memory_limit() {
    let env = TestEnv::new();
    let database = rusqlite::Connection::open(env.path("tiny.db")).unwrap();
    // About 12 bytes per row, but several times as much in memory while they are scanned.
    let fill = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; CREATE TABLE posts (at_uri, did, raw_post, inferences);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
        INSERT INTO posts (at_uri) SELECT 'x' FROM n";
    database.execute_batch(fill).unwrap();
    database.close().unwrap();
    let bytes = std::fs::read(env.path("tiny.db")).unwrap();
    put(&env, &("mega_jetstream_20251218_000000.db.zip".to_owned(), bytes));
    let run = env.run(&["--dry-run", "--memory", "64MiB"]).exits(1).says("stays pending");
    run.counts(&[("archives.pending", 1), ("rows.read", 0)]);
    run.uses_less_than_mib(64 + 60);
}

#[test]
fn downloads_stay_within_the_memory_limit() {
    let s3 = FakeS3::start();
    let env = TestEnv::new();
    for n in 0..6 {
        let (name, content) = padded(n, 40);
        s3.put(&format!("in/{name}"), content);
    }
    // A stored file that exceeds the room for downloads is let in alone.
    let archive = Archive::new("20251218_000100").with_all(posts("stored", 3));
    let mut stored = archive.database();
    let page = stored.len();
    stored.resize(page.max(60 * MIB as usize) / 4096 * 4096, 0);
    let run =
        |memory: &str| ingest(&env, &s3).args(&["--workers", "6", "--dry-run", "--memory", memory]).run();
    let first = run("160MiB").exits(0);
    first.counts(&[("archives.processed", 6)]);
    first.uses_less_than_mib(160 + 60);
    s3.put(&format!("in/{}", archive.name()), stored);
    run("160MiB").exits(0).counts(&[("archives.processed", 7)]);
    let run = run("90MiB").exits(1);
    run.counts(&[("archives.processed", 6), ("archives.pending", 1)]);
}

#[test]
fn an_object_with_many_rows_waits_for_memory_that_others_use() {
    let s3 = FakeS3::start();
    let env = TestEnv::new();
    let large = Archive::new("20251218_000000").with_all(posts("large", 200));
    s3.put(&format!("in/{}", large.name()), pad(&large, 40));
    let mut many = rusqlite::Connection::open_in_memory().unwrap();
    // Its rows take several times as much memory as its size suggests, which shows only while they are counted.
    let fill = "CREATE TABLE posts (at_uri, did, raw_post, inferences);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 70000)
        INSERT INTO posts (at_uri) SELECT '' FROM n";
    many.execute_batch(fill).unwrap();
    let many = many.serialize("main").unwrap().to_vec();
    s3.put("in/mega_jetstream_20251218_000100.db.zip", many);
    // The first archive keeps its memory for as long as its first request hangs.
    env.fake.fail_bulks(1, Fault::Hang);
    let settings = ["--workers", "2", "--senders", "1", "--batch-docs", "1", "--memory", "64MiB"];
    let running = ingest(&env, &s3).args(&settings).start();
    env.fake.wait_for_bulks(1);
    s3.wait_for(|request| request.path.ends_with("000100.db.zip"), 1);
    // Time for a wrong refusal.
    std::thread::sleep(Duration::from_millis(300));
    env.fake.release();
    let run = running.wait().exits(0);
    run.counts(&[("archives.processed", 2), ("rows.indexed", 200), ("rows.skipped", 70_000)]);
}

/// A control group of its own, by its folder; None where this process may not create one.
struct Group(PathBuf);

impl Group {
    fn new(limit: u64) -> Option<Self> {
        let line = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let memory = line
            .lines()
            .find(|line| line.split(':').nth(1).is_some_and(|c| c.split(',').any(|c| c == "memory")));
        let (root, file, parent) = match memory {
            Some(line) => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", line.splitn(3, ':').nth(2)?),
            None => ("/sys/fs/cgroup", "memory.max", line.lines().find_map(|line| line.strip_prefix("0::"))?),
        };
        let name = format!("megastream-test-{}-{limit}", std::process::id());
        let folder = Path::new(root).join(parent.trim_start_matches('/')).join(name);
        std::fs::create_dir(&folder).ok()?;
        let group = Self(folder);
        std::fs::write(group.0.join(file), limit.to_string()).ok()?;
        Some(group)
    }

    /// The peak memory of the group, as counted by the kernel.
    fn peak(&self) -> Option<u64> {
        ["memory.max_usage_in_bytes", "memory.peak"]
            .iter()
            .find_map(|file| std::fs::read_to_string(self.0.join(file)).ok()?.trim().parse().ok())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn archives_that_would_fill_a_control_group_are_read_in_turn() {
    let Some(group) = Group::new(400 * MIB) else {
        println!("skipped, since no control group can be made here");
        return;
    };
    let env = TestEnv::new();
    let archives: Vec<_> = (0..4).map(|n| padded(n, 150)).collect();
    archives.iter().for_each(|archive| put(&env, archive));
    let script =
        format!("echo $$ > {}/cgroup.procs; exec megastream_ingest --dry-run --workers 4", group.0.display());
    let run = env.ingest().in_shell(&script).start().may_take(std::time::Duration::from_secs(120)).wait();
    let peak = group.peak().unwrap_or_default() >> 20;
    println!(
        "4 archives of 150 MiB by 4 workers in a group of 400 MiB: {peak} MiB at most (page cache included)"
    );
    let run = run.exits(0);
    run.counts(&[("archives.processed", 4)]);
    // Three quarters of the limit, and the program itself.
    run.uses_less_than_mib(300 + 60);
    let check = format!("echo $$ > {}/cgroup.procs; exec megastream_ingest --check", group.0.display());
    let check = env.ingest().in_shell(&check).run().exits(0);
    let text = string(&serde_json::Value::String(check.stdout.clone()));
    check.check(text.contains("memory: 300.0 MiB for archives (auto)"), "its limit counts for `auto`");
}
