//! `--source s3` against a real S3-compatible server, which checks the signature of every request.
//!
//! The server runs in this process: nothing has to be installed or started. What no server does on demand (bodies
//! that break off, expired tokens, pages that fail) is tested against a scripted one, in `tests/integration/s3.rs`.

// What fails here fails the test; there is nobody to hand an error to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// The harness has more than is needed here.
#![allow(dead_code)]

#[path = "../integration/harness/mod.rs"]
mod harness;
mod server;

use serde_json::Value;

use harness::archives::{Archive, delete, post, update};
use harness::model::assert_holds;
use harness::{Invocation, Run, TestEnv, posts};
use server::{ACCESS_KEY, BUCKET, SECRET_KEY, Server};

/// Archives in which posts come again and are deleted.
fn archives() -> [Archive; 3] {
    let archive = |time| Archive::new(time).with_all(posts(time, 40));
    [
        archive("20251218_000000").with(post("again", "first")).with(post("gone", "deleted later")),
        archive("20251218_000100").with(update("again", "second")).with(delete("gone")),
        archive("20251219_000000").with(post("gone", "too late")),
    ]
}

/// Where each of them is: characters that a signature is easily wrong about.
fn key(archive: &Archive) -> String {
    format!("in/day 1+2 %41=&é~(x)/{}", archive.name())
}

fn put(server: &Server, archives: &[Archive]) {
    archives.iter().for_each(|archive| server.put(&key(archive), &archive.zip()));
}

/// The program, set up to read from the bucket.
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

/// The live documents of both indices with their versions, but for the time of encoding.
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
    run.check(!run.stderr.contains(SECRET_KEY), "no secret is told");
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

    assert!(server.snapshot() == before, "nothing in the bucket has changed");
}

#[test]
fn spool_loads_later_objects_whatever_their_name() {
    let archives = archives();
    let (env, server) = (TestEnv::new(), Server::start());
    put(&server, &archives[1..]);
    let running = ingest(&env, &server).args(&["--mode", "spool"]).var("SPOOL_INTERVAL_SEC", "1").start();
    env.wait_for_processed(&archives[1..]);
    // Its key comes before all that are done.
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
    for n in 0..2_500 {
        server.put(&format!("in/{n:04} +%.db.zip"), b"x");
    }
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
    checked.check(checked.stdout.contains("ok: source: 3 archives to load"), "they are counted");
}
