//! Archives as people's machines make them: zipped while SQLite had changes beside the database, on a Mac, on Windows.

use std::io::{Cursor, Write};
use std::path::PathBuf;

use zip::write::SimpleFileOptions;

use crate::harness::archives::{Archive, uri};
use crate::harness::{TestEnv, posts, string};

/// The files of a database in WAL mode, of whose ten posts five are in the log alone, by their suffixes.
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
    // While it is open: the last to close it would put the log into it.
    ["", "-wal", "-shm"]
        .map(|suffix| (suffix, std::fs::read(env.path(&format!("live.db{suffix}"))).unwrap()))
        .to_vec()
}

/// The same after what the advice says.
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

/// How the one archive of a run has failed.
fn failure(env: &TestEnv) -> String {
    let run = env.run(&[]).exits(3);
    run.counts(&[("archives.failed", 1), ("rows.read", 0)]);
    string(&env.state().into_values().next().unwrap()["error"])
}

#[test]
fn a_zip_with_a_log_of_sqlite_is_failed_and_whole_once_that_is_in_the_database() {
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
fn a_bare_database_with_a_log_beside_it_is_failed_and_whole_once_that_is_in_the_database() {
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
fn what_macos_puts_beside_archives_is_no_archive() {
    let archive = Archive::new("20251218_000000").with_all(posts("a", 3));
    let env = TestEnv::with_archives(std::slice::from_ref(&archive));
    let beside = format!("archives/._{}", archive.name());
    env.write(&beside, b"\0\x05\x16\x07\0\x02\0\0Mac OS X        ");
    let list = env.run(&["--list"]).exits(0);
    list.check(!list.stdout.contains("._"), "it is not listed");
    let run = env.run(&[]).exits(0);
    run.counts(&[("archives.discovered", 1), ("archives.processed", 1)]);
    run.check(!run.stderr.contains("._"), "there is no word of it");
    // Named by whoever started the run it is told of, and the others are taken up all the same.
    let named = env.run(&[&beside, &format!("archives/{}", archive.name())]).exits(0).says("macOS");
    named.counts(&[("archives.already_done", 1)]);
}

#[test]
fn archives_of_the_same_second_are_warned_of_by_name_and_once() {
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
    run.check(warned(&run) == 1, "it is told once");
    let done = env.run(&[]).exits(0);
    done.check(warned(&done) == 0, "there is nothing to warn of any more");
    assert!(!env.run(&["--list"]).stderr.contains("20251218_000001.db.zip\" and"), "others are not");
}
