//! State file and dead letters on unusual disks: mount points, folders that cannot be synced, failing syncs, and state
//! files of 100,000 entries.

#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::harness::archives::{Archive, unreadable};
use crate::harness::model::assert_holds;
use crate::harness::script::Fault;
use crate::harness::{Invocation, Run, STATE_FILE, TestEnv, posts};

/// An archive with one row that becomes a dead letter.
fn archive(n: usize) -> Archive {
    Archive::new(&format!("20251218_00000{n}"))
        .with_all(posts(&format!("a{n}-"), 5))
        .with(unreadable(&format!("odd{n}"), Some("{")))
}

/// The library of `syncs.c`. None, with a message, without a C compiler.
#[expect(clippy::print_stdout, reason = "it says why a test is skipped")]
pub(crate) fn shim(env: &TestEnv) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/harness/syncs.c");
    let library = env.path("syncs.so");
    match Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(source)
        .arg("-ldl")
        .status()
    {
        Ok(status) if status.success() => Some(library),
        other => {
            println!("skipped, since cc cannot be run: {other:?}");
            None
        }
    }
}

/// The log of the shim.
pub(crate) fn syncs(env: &TestEnv) -> Vec<String> {
    env.read("syncs.log").unwrap_or_default().lines().map(str::to_owned).collect()
}

pub(crate) fn with_shim<'e>(env: &'e TestEnv, shim: &Path) -> Invocation<'e> {
    let log = env.path("syncs.log");
    let _ = std::fs::remove_file(&log);
    env.ingest().var("LD_PRELOAD", shim.to_str().unwrap()).var("SYNC_LOG", log.to_str().unwrap())
}

fn assert_nothing_was_marked_unsynced(env: &TestEnv, run: &Run) {
    let unsynced: Vec<String> = syncs(env).into_iter().filter(|line| line.starts_with("UNSYNCED")).collect();
    run.check(unsynced.is_empty(), &format!("all is on disk before anything is marked: {unsynced:?}"));
}

#[test]
fn a_failed_sync_marks_no_archive_that_is_not_on_disk() {
    let env = TestEnv::with_archives(&[archive(0)]);
    let Some(shim) = shim(&env) else { return };
    let run = with_shim(&env, &shim).run().exits(3);
    assert_nothing_was_marked_unsynced(&env, &run);
    let all = syncs(&env);
    let of = |words: &str| all.iter().filter(|line| line.contains(words)).count();
    assert!(
        of("dead_letters") > 0 && of(&format!("{STATE_FILE}.tmp")) > 0,
        "the shim records syncs: {all:?}"
    );
    for n in 1..=all.len() {
        let env = TestEnv::with_archives(&[archive(0)]);
        let run = with_shim(&env, &shim).var("FAIL_SYNC", &n.to_string()).run();
        run.check(run.code == Some(1), &format!("the failure of sync {n} ends the run"));
        assert_nothing_was_marked_unsynced(&env, &run);
        let failed = &all[n - 1];
        if n < all.len() {
            run.check(env.status_of(&archive(0)) == "pending", &format!("nothing is marked after {failed}"));
        }
        let again = with_shim(&env, &shim).run();
        again.check(matches!(again.code, Some(0 | 3)), "the next run completes the work");
        assert_eq!(env.status_of(&archive(0)), "processed");
        assert!(!env.dead_letters().is_empty());
        assert_holds(&env.fake, &[archive(0)]);
    }
}

#[test]
fn a_large_state_file_marks_no_archive_that_is_not_on_disk() {
    let env = TestEnv::with_archives(&[archive(0), archive(1)]);
    let Some(shim) = shim(&env) else { return };
    // So large that it is not rewritten within the first seconds, even if a busy machine takes its time.
    env.write(STATE_FILE, state_with(80_000));
    let run = with_shim(&env, &shim).run().exits(3);
    assert_nothing_was_marked_unsynced(&env, &run);
    assert!(syncs(&env).iter().any(|line| line.contains(".journal")), "{:?}", syncs(&env));
    assert_eq!(env.read(&format!("{STATE_FILE}.journal")), None);
}

#[test]
fn a_folder_that_cannot_be_synced_is_reported_once() {
    const EINVAL: &str = "22";
    const EOPNOTSUPP: &str = "95";
    const EIO: &str = "5";
    for errno in [EINVAL, EOPNOTSUPP] {
        let env = TestEnv::with_archives(&[archive(0), archive(1)]);
        let Some(shim) = shim(&env) else { return };
        let run = with_shim(&env, &shim).var("FOLDER_ERRNO", errno).run().exits(3);
        let told = run.stderr.matches("cannot be synced").count();
        run.check(told == 1, &format!("it is told once, not {told} times"));
        assert_eq!(env.status_of(&archive(1)), "processed");
        let check = with_shim(&env, &shim).var("FOLDER_ERRNO", errno).args(&["--check"]).run().exits(0);
        check.check(check.stdout.contains("warning: disk: SPOOL_STATE_FILE"), "the check reports it");
    }
    let env = TestEnv::with_archives(&[archive(0)]);
    let Some(shim) = shim(&env) else { return };
    with_shim(&env, &shim).var("FOLDER_ERRNO", EIO).run().exits(1).says("the state file");
    assert_eq!(env.status_of(&archive(0)), "pending");
    assert!(env.fake.bulks().is_empty(), "it is found before the load");
    let check = with_shim(&env, &shim).var("FOLDER_ERRNO", EIO).args(&["--check"]).run().exits(2);
    check.check(check.stdout.contains("failed: disk"), "the check finds it, too");
}

#[test]
fn a_folder_that_cannot_be_listed_for_now_does_not_count_as_a_wrong_setting() {
    const EIO: &str = "5";
    const ENOTCONN: &str = "107";
    const ESTALE: &str = "116";
    const EACCES: &str = "13";
    let env = TestEnv::with_archives(&[archive(0)]);
    let Some(shim) = shim(&env) else { return };
    for arguments in [&[][..], &["--list"], &["--check"], &["--mode", "spool"]] {
        for (errno, code) in [(EIO, 1), (ENOTCONN, 1), (ESTALE, 1), (EACCES, 2)] {
            let run = with_shim(&env, &shim).var("LIST_ERRNO", errno).args(arguments).run();
            let run = run.exits(code).says("archives cannot be read");
            run.check(run.stderr.contains("run again once") == (code == 1), "it says what to do");
        }
    }
    assert_eq!(env.status_of(&archive(0)), "pending");
}

#[test]
fn the_other_folders_are_loaded_if_one_does_not_answer_for_now() {
    let env = TestEnv::with_archives(&[archive(0)]);
    let Some(shim) = shim(&env) else { return };
    std::fs::create_dir(env.path("away")).unwrap();
    let run = |arguments: &[&str]| {
        let run = with_shim(&env, &shim).var("LIST_ERRNO", "116").var("LIST_FOLDER", "/away");
        run.args(&["archives", "away"]).args(arguments).run()
    };
    for arguments in [&["--dry-run"][..], &[], &["--from", "2025-12-18"], &["--shard", "0/1"]] {
        let run = run(arguments).exits(1).says("\"away\" is left out: it cannot be read for now");
        run.counts(&[("archives.discovered", 2), ("archives.pending", 1)]);
    }
    assert_eq!(env.status_of(&archive(0)), "processed");
    let list = run(&["--list"]).exits(1).says("away cannot be read: Stale file handle");
    list.check(list.stdout.contains(&archive(0).name()), "the other folder is listed");
    run(&["--check"]).exits(1).says("away cannot be read: Stale file handle");
    env.run(&["archives", "away"]).exits(0);
    // On a stale mount even the folder itself cannot be looked at.
    let stale = || with_shim(&env, &shim).var("STAT_ERRNO", "116").var("LIST_FOLDER", "away");
    stale()
        .args(&["archives", "away"])
        .run()
        .exits(1)
        .counts(&[("archives.already_done", 1), ("archives.pending", 1)]);
    stale().args(&["away"]).run().exits(1).says("run again once its disk or file server answers");
    // Nothing can be loaded if none answers, or if a path is wrong.
    let alone = with_shim(&env, &shim).var("LIST_ERRNO", "116").args(&["archives", "away"]);
    alone.run().exits(1).says("run again once its disk or file server answers");
    run(&["none"]).exits(2).says("does not exist");
}

/// Runs a script in a mount namespace. None, with a message, where namespaces are not allowed.
#[expect(clippy::print_stdout, reason = "it says why a test is skipped")]
pub(crate) fn with_mounts<'e>(env: &'e TestEnv, script: &str) -> Option<Invocation<'e>> {
    let may = Command::new("unshare").args(["-Urm", "sh", "-c", "mount -t tmpfs none /tmp"]).output();
    if !may.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped, since nothing can be mounted here: {may:?}");
        return None;
    }
    Some(env.ingest().in_shell(&format!("exec unshare -Urm sh -euc '{script}'")))
}

#[test]
fn a_mounted_state_file_is_written_in_place() {
    let env = TestEnv::with_archives(&[archive(0), archive(1)]);
    env.write("real.json", "[]");
    env.write(STATE_FILE, "[]");
    let mount = format!("mount --bind real.json {STATE_FILE};");
    let script = format!("{mount} megastream_ingest");
    let Some(invocation) = with_mounts(&env, &script) else { return };
    let run = invocation.run().exits(3);
    let told = run.stderr.matches("is itself a mount point").count();
    run.check(told == 1, &format!("it is told once, not {told} times"));
    run.counts(&[("archives.processed", 2)]);
    let written = env.read("real.json").unwrap();
    assert!(written.contains(&archive(1).name()), "{written}");
    assert_eq!(env.read(&format!("{STATE_FILE}.copy")), Some(written.clone()), "a copy stays beside it");
    assert_eq!(env.read(STATE_FILE).unwrap(), "[]", "the mount exists only in its namespace");

    // A torn write is restored from the copy.
    env.write("real.json", &written[..written.len() / 2]);
    let run = with_mounts(&env, &script).unwrap().run().says("its copy");
    run.counts(&[("archives.already_done", 2), ("archives.pending", 0)]);
    let check = format!("{mount} megastream_ingest --check");
    env.write("real.json", &written);
    let check = with_mounts(&env, &check).unwrap().run().exits(0);
    check.check(check.stdout.contains("is itself a mount point"), "the check reports it");
}

#[test]
fn a_mounted_state_file_in_a_read_only_folder_is_locked_itself() {
    let env = TestEnv::with_archives(&[archive(0)]);
    env.write("real.json", "[]");
    for name in ["sealed", "out"] {
        std::fs::create_dir(env.path(name)).unwrap();
    }
    env.write("sealed/state.json", "[]");
    let mounts = "mount --bind sealed sealed; mount -o remount,bind,ro sealed; mount --bind real.json sealed/state.json;";
    let script = format!("{mounts} megastream_ingest --dead-letter out/dead");
    let Some(invocation) = with_mounts(&env, &script) else { return };
    let run =
        invocation.var("SPOOL_STATE_FILE", "sealed/state.json").run().exits(3).says("no copy beside it");
    run.counts(&[("archives.processed", 1)]);
    assert!(env.read("real.json").unwrap().contains(&archive(0).name()));
}

/// A state file of `count` entries, about 200 bytes each.
fn state_with(count: usize) -> String {
    // One text for all: so many values are slow to print without optimization.
    let rest = json!({"status": "processed", "rows": 1500, "timestamp": "2025-12-18T01:02:03.456Z",
        "host": "loader-7.example", "note": "x".repeat(30)})
    .to_string();
    let rest = rest.trim_start_matches('{');
    let entry = |n: usize| format!("{{\"filename\":\"mega_jetstream_2024{n:08}.db.zip\",{rest}");
    format!("[\n  {}\n]\n", (0..count).map(entry).collect::<Vec<_>>().join(",\n  "))
}

/// The peak memory of a run until its first bulk request, in KiB.
fn peak_memory_of_run(env: &TestEnv) -> u64 {
    env.fake.fail_bulks(1, Fault::Hang);
    let running = env.ingest().start();
    env.fake.wait_for_bulks(1);
    // The peak is read while the run still waits.
    env.fake.release();
    running.wait().exits(3).peak_memory_kib()
}

#[test]
fn a_state_file_of_100_000_entries_takes_at_most_15_mib() {
    let without = peak_memory_of_run(&TestEnv::with_archives(&[archive(0)]));
    let env = TestEnv::with_archives(&[archive(0)]);
    env.write(STATE_FILE, state_with(100_000));
    let more = peak_memory_of_run(&env).saturating_sub(without);
    println!("a state file of 100,000 entries takes {more} KiB");
    assert!(more <= 15 << 10, "{more} KiB");
    let state = env.state();
    assert_eq!((state.len(), env.status_of(&archive(0)).as_str()), (100_001, "processed"));
}

#[test]
fn archives_in_the_journal_of_a_killed_run_are_not_loaded_again() {
    let env = TestEnv::with_archives(&[archive(0), archive(1)]);
    env.write(STATE_FILE, state_with(10_000));
    let entry = json!({"filename": archive(0).name(), "status": "processed", "timestamp": "2025-12-18T01:02:03.456Z"});
    env.write(&format!("{STATE_FILE}.journal"), format!("{entry}\n{{\"filename\":\"half"));
    let list = env.run(&["--list"]).exits(0);
    list.check(list.stdout.contains(&format!("{}\t", archive(0).name())), "the archive is listed");
    list.check(list.stdout.matches("leave (processed)").count() == 1, "the list counts it as processed");
    env.run(&[]).exits(3).counts(&[("archives.already_done", 1), ("archives.processed", 1)]);
    assert_eq!((env.state().len(), env.read(&format!("{STATE_FILE}.journal"))), (10_002, None));
}
