//! `--source s3` against a real S3-compatible server, which checks the signature of every request.
//!
//! The server runs in this process, so nothing has to be installed. Failures that a real server does not produce on
//! demand (interrupted bodies, expired tokens, failing pages) are tested in `tests/integration/s3.rs`.

// A failure in the harness fails the test, so there is no error to return.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// Only a part of the harness is used here.
#![allow(dead_code)]

#[path = "../integration/harness/mod.rs"]
mod harness;
mod server;

use serde_json::Value;

use harness::archives::{Archive, delete, post, update};
use harness::model::assert_holds;
use harness::{Invocation, Run, TestEnv, posts};
use server::{ACCESS_KEY, BUCKET, SECRET_KEY, Server};

/// Archives in which posts are created again and deleted.
fn archives() -> [Archive; 3] {
    let archive = |time| Archive::new(time).with_all(posts(time, 40));
    [
        archive("20251218_000000").with(post("again", "first")).with(post("gone", "deleted later")),
        archive("20251218_000100").with(update("again", "second")).with(delete("gone")),
        archive("20251219_000000").with(post("gone", "too late")),
    ]
}

/// The key of an archive, with characters that are often signed incorrectly.
fn key(archive: &Archive) -> String {
    format!("in/day 1+2 %41=&é~(x)/{}", archive.name())
}

fn put(server: &Server, archives: &[Archive]) {
    archives.iter().for_each(|archive| server.put(&key(archive), &archive.zip()));
}

/// The program, reading from the bucket.
fn ingest<'e>(env: &'e TestEnv, server: &Server) -> Invocation<'e> {
    env.ingest()
        .args(&["--source", "s3"])
        .without("LOCAL_SQLITE_DB_PATH")
        .var("S3_SQLITE_DB_BUCKET", BUCKET)
        .var("S3_SQLITE_DB_PREFIX", "in/")
        .var("AWS_ENDPOINT_URL_S3", &server.url())
        .var("AWS_S3_ACCESS_KEY", ACCESS_KEY)
        .var("AWS_S3_SECRET_KEY", SECRET_KEY)
        .var("AWS_EC2_METADATA_DISABLED", "true")
}

/// The documents of both indices with their versions, without `indexed_at`.
fn indices(env: &TestEnv) -> Vec<(String, u64, Value)> {
    let documents = ["posts", "post_tombstones"].map(|index| env.fake.documents(index));
    let bare = |mut source: Value| {
        source.as_object_mut().map(|fields| fields.remove("indexed_at"));
        source
    };
    documents.into_iter().flatten().map(|(id, found)| (id, found.version, bare(found.source))).collect()
}

#[track_caller]
fn refused(run: Run, code: i32, why: &str) -> Run {
    let run = run.exits(code).says(why);
    run.check(!run.stderr.contains(SECRET_KEY), "no secret is shown");
    run
}

#[test]
fn folder_bucket_and_spool_give_the_same_index() {
    let archives = archives();
    let folder = TestEnv::with_archives(&archives);
    folder.run(&[]).exits(0);
    assert_holds(&folder.fake, &archives);

    let server = Server::start();
    put(&server, &archives);
    server.put("in/README.txt", b"no archive");
    server.put("elsewhere/mega_jetstream_20251220_000000.db.zip", b"not below the prefix");
    let before = server.snapshot();

    let once = TestEnv::new();
    let run = ingest(&once, &server).run().exits(0);
    run.counts(&[("archives.discovered", 3), ("archives.processed", 3)]);
    assert_eq!(indices(&once), indices(&folder));

    let spool = TestEnv::new();
    let running = ingest(&spool, &server).args(&["--mode", "spool"]).var("SPOOL_INTERVAL_SEC", "1").start();
    spool.wait_for_processed(&archives);
    running.signal("TERM");
    running.wait().exits(0).counts(&[("archives.processed", 3), ("archives.failed", 0)]);
    assert_eq!(indices(&spool), indices(&folder));

    assert!(server.snapshot() == before, "the bucket is unchanged");
}

#[test]
fn spool_loads_later_objects_whatever_their_name() {
    let archives = archives();
    let (env, server) = (TestEnv::new(), Server::start());
    put(&server, &archives[1..]);
    let running = ingest(&env, &server).args(&["--mode", "spool"]).var("SPOOL_INTERVAL_SEC", "1").start();
    env.wait_for_processed(&archives[1..]);
    // This key sorts before all processed ones.
    put(&server, &archives[..1]);
    env.wait_for_processed(&archives);
    running.signal("TERM");
    running.wait().exits(0).counts(&[("archives.processed", 3)]);
    assert_holds(&env.fake, &archives);
}

#[test]
fn a_wrong_secret_is_refused_by_the_server() {
    let (env, server) = (TestEnv::new(), Server::start());
    put(&server, &archives());
    for mode in ["once", "spool"] {
        let run = ingest(&env, &server).args(&["--mode", mode]).var("AWS_S3_SECRET_KEY", "another").run();
        refused(run, 5, "SignatureDoesNotMatch");
    }
    refused(ingest(&env, &server).var("AWS_S3_ACCESS_KEY", "AKIDOTHER").run(), 5, "403");
    assert!(env.fake.bulks().is_empty() && env.state().is_empty());
}

#[test]
fn a_missing_bucket_is_refused() {
    let (env, server) = (TestEnv::new(), Server::start());
    refused(ingest(&env, &server).var("S3_SQLITE_DB_BUCKET", "another").run(), 2, "NoSuchBucket");
}

#[test]
fn a_broken_object_is_marked_and_the_others_are_loaded() {
    let archives = archives();
    let (env, server) = (TestEnv::new(), Server::start());
    put(&server, &archives[1..]);
    server.put(&key(&archives[0]), &archives[0].zip()[..200]);
    let run = ingest(&env, &server).run().exits(3);
    run.counts(&[("archives.processed", 2), ("archives.failed", 1)]);
    put(&server, &archives[..1]);
    ingest(&env, &server).run().exits(0).counts(&[("archives.processed", 1), ("archives.already_done", 2)]);
    assert_holds(&env.fake, &archives);
}

#[test]
fn all_pages_of_a_listing_are_read() {
    let (env, server) = (TestEnv::new(), Server::start());
    server.put("in/README.txt", b"no archive");
    server.put_all((0..2_500).map(|n| format!("in/{n:04} +%.db.zip")), b"x");
    let list = ingest(&env, &server).args(&["--list"]).run().exits(0);
    let names: Vec<_> = list.stdout.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(names.len(), 2_500);
    assert!((0..2_500).all(|n| names.contains(&format!("{n:04} +%.db.zip").as_str())));
}

#[test]
fn a_check_reads_part_of_one_object() {
    let (env, server) = (TestEnv::new(), Server::start());
    put(&server, &archives());
    let checked = ingest(&env, &server).args(&["--check"]).run().exits(0);
    checked.check(checked.stdout.contains("ok: source: 3 archives to load"), "the archives are counted");
}
