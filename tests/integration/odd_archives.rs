//! Archives as people make them: zipped with an uncheckpointed WAL, on a Mac, or on Windows.

use std::io::{Cursor, Write};
use std::path::PathBuf;

use zip::write::SimpleFileOptions;

use crate::harness::archives::{Archive, uri};
use crate::harness::{TestEnv, posts, string};

/// The files of a WAL-mode database by suffix. Five of its ten posts are only in the WAL.
fn database_with_log(env: &TestEnv) -> Vec<(&'static str, Vec<u8>)> {
    let path = env.path("live.db");
    std::fs::write(&path, Archive::new("20251218_000000").with_all(posts("a", 5)).database()).unwrap();
    let live = rusqlite::Connection::open(&path).unwrap();
    live.execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; BEGIN").unwrap();
    for n in 5..10 {
        let row = Archive::new("20251218_000000").with_all(posts("a", n + 1)).rows.pop().unwrap();
        let insert = "INSERT INTO enriched_posts (at_uri, did, raw_post, inferences) VALUES (?, ?, ?, ?)";
        live.execute(insert, (row.at_uri, row.did, row.raw_post, row.inferences)).unwrap();
    }
    live.execute_batch("COMMIT").unwrap();
    // The last connection would checkpoint the WAL on closing, so the files are read while it is open.
    ["", "-wal", "-shm"]
        .map(|suffix| (suffix, std::fs::read(env.path(&format!("live.db{suffix}"))).unwrap()))
        .to_vec()
}

/// The database after following the advice of the message.
fn whole_database(env: &TestEnv, files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    for (suffix, content) in files {
        env.write(&format!("mended.db{suffix}"), content);
    }
    let mended = rusqlite::Connection::open(env.path("mended.db")).unwrap();
    mended.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    mended.close().unwrap();
    std::fs::read(env.path("mended.db")).unwrap()
}

fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn archive_at(env: &TestEnv, suffix: &str) -> PathBuf {
    env.path("archives").join(format!("mega_jetstream_20251218_000000{suffix}"))
}

/// The error of the one failed archive of a run.
fn failure(env: &TestEnv) -> String {
    let run = env.run(&[]).exits(3);
    run.counts(&[("archives.failed", 1), ("rows.read", 0)]);
    string(&env.state().into_values().next().unwrap()["error"])
}

#[test]
fn a_zip_with_an_sqlite_wal_fails_until_the_wal_is_checkpointed() {
    let env = TestEnv::new();
    let files = database_with_log(&env);
    let [(_, database), (_, wal), (_, shm)] = &files[..] else { panic!() };
    std::fs::write(
        archive_at(&env, ".db.zip"),
        zip(&[("a.db", database), ("a.db-wal", wal), ("a.db-shm", shm)]),
    )
    .unwrap();
    let error = failure(&env);
    assert!(error.contains("a.db-wal") && error.contains("wal_checkpoint(TRUNCATE)"), "{error}");
    // A journal of mode PERSIST stays after that.
    assert!(error.contains("zip the database alone"), "{error}");

    std::fs::write(
        archive_at(&env, ".db.zip"),
        zip(&[("a.db", &whole_database(&env, &files)), ("a.db-wal", b"")]),
    )
    .unwrap();
    env.run(&[]).exits(0).counts(&[("rows.indexed", 10)]);
    assert!(env.fake.documents("posts").contains_key(&uri("a9")));
}

#[test]
fn a_database_with_an_sqlite_wal_fails_until_the_wal_is_checkpointed() {
    for name in [".db.zip", ".db"] {
        let env = TestEnv::new();
        let files = database_with_log(&env);
        std::fs::write(archive_at(&env, ".db.zip"), &files[0].1).unwrap();
        std::fs::write(archive_at(&env, &format!("{name}-wal")), &files[1].1).unwrap();
        let error = failure(&env);
        assert!(error.contains(&format!("20251218_000000{name}-wal")), "{error}");

        std::fs::write(archive_at(&env, ".db.zip"), whole_database(&env, &files)).unwrap();
        std::fs::write(archive_at(&env, &format!("{name}-wal")), "").unwrap();
        env.run(&[]).exits(0).counts(&[("rows.indexed", 10)]);
    }
}

#[test]
fn macos_metadata_files_are_not_archives() {
    let archive = Archive::new("20251218_000000").with_all(posts("a", 3));
    let env = TestEnv::with_archives(std::slice::from_ref(&archive));
    let beside = format!("archives/._{}", archive.name());
    env.write(&beside, b"\0\x05\x16\x07\0\x02\0\0Mac OS X        ");
    let list = env.run(&["--list"]).exits(0);
    list.check(!list.stdout.contains("._"), "it is not listed");
    let run = env.run(&[]).exits(0);
    run.counts(&[("archives.discovered", 1), ("archives.processed", 1)]);
    run.check(!run.stderr.contains("._"), "the file is not mentioned");
    // A file named on the command line is reported, and the others are still loaded.
    let named = env.run(&[&beside, &format!("archives/{}", archive.name())]).exits(0).says("macOS");
    named.counts(&[("archives.already_done", 1)]);
}

#[test]
fn archives_of_the_same_second_are_named_in_one_warning() {
    let archive = Archive::new("20251218_000000").with_all(posts("a", 3));
    let other = "other_20251218_000000.db.zip";
    let env =
        TestEnv::with_archives(&[archive.clone(), Archive::new("20251218_000001").with_all(posts("b", 3))]);
    std::fs::write(
        env.path("archives").join(other),
        Archive::new("20251218_000000").with_all(posts("c", 3)).zip(),
    )
    .unwrap();
    let warning = format!("{:?} and {other:?} have the same time", archive.name());
    let warned = |run: &crate::harness::Run| run.stderr.matches(&warning).count();
    let running = env
        .ingest()
        .args(&["--mode", "spool", "--metrics-file", "m.prom"])
        .var("SPOOL_INTERVAL_SEC", "1")
        .start();
    env.wait_for_processed(std::slice::from_ref(&archive));
    let late = Archive::new("20251218_000002").with_all(posts("d", 3));
    env.add(std::slice::from_ref(&late));
    env.wait_for_processed(&[late]);
    running.signal("TERM");
    let run = running.wait().exits(0);
    run.check(warned(&run) == 1, "one line is logged");
    let done = env.run(&[]).exits(0);
    done.check(warned(&done) == 0, "no warning remains");
    assert!(
        !env.run(&["--list"]).stderr.contains("20251218_000001.db.zip\" and"),
        "other archives are not named"
    );
}
