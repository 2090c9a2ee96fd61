//! `--mode spool` on folders: files that are still being written, and folders that disappear.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::harness::archives::{Archive, write_aged};
use crate::harness::http::Request;
use crate::harness::model::assert_holds;
use crate::harness::script::Fault;
use crate::harness::{Invocation, Running, STATE_FILE, TestEnv, in_parallel, posts, wait_until};

fn archives() -> [Archive; 3] {
    ["20251218_000000", "20251218_000100", "20251218_000200"]
        .map(|time| Archive::new(time).with_all(posts(time, 3)))
}

/// The program, with a look every second.
fn spool(env: &TestEnv) -> Invocation<'_> {
    env.ingest().args(&["--mode", "spool"]).var("SPOOL_INTERVAL_SEC", "1")
}

/// The path of an archive in the folder.
fn place(env: &TestEnv, archive: &Archive) -> PathBuf {
    env.path("archives").join(archive.name())
}

/// A copy of an archive that stops halfway.
struct Copy {
    place: PathBuf,
    /// Stored, since rows contain the time at which they were built.
    zip: Vec<u8>,
}

impl Copy {
    /// Writes the first half, with a modification time `age` ago.
    fn begin(env: &TestEnv, archive: &Archive, age: Duration) -> Self {
        let copy = Self { place: place(env, archive), zip: archive.zip() };
        write_aged(&copy.place, &copy.zip[..copy.zip.len() / 2], age);
        copy
    }

    /// Appends the rest.
    fn go_on(&self) {
        let mut file = File::options().append(true).open(&self.place).unwrap();
        file.write_all(&self.zip[self.zip.len() / 2..]).unwrap();
    }
}

fn wait_for_log(running: &Running, words: &str) {
    wait_until(words, || running.has_logged(words));
}

#[test]
fn a_file_being_written_waits_until_it_stops_changing() {
    let [growing, others @ ..] = archives();
    let env = TestEnv::new();
    let copy = Copy::begin(&env, &growing, Duration::ZERO);
    let done = AtomicBool::new(false);
    let running = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let file = File::options().append(true).open(&copy.place).unwrap();
            let (mut longest, mut changes) = (Duration::ZERO, 0_u32);
            while !done.load(Ordering::Relaxed) {
                let before = Instant::now();
                // Every change sets another recent time.
                changes += 1;
                file.set_modified(SystemTime::now() + Duration::from_millis(changes.into())).unwrap();
                thread::sleep(Duration::from_millis(5));
                longest = longest.max(before.elapsed());
            }
            longest
        });
        let running = spool(&env).start();
        // Each of these archives takes a look of its own.
        for n in 0..others.len() {
            env.add(&others[n..=n]);
            env.wait_for_processed(&others[n..=n]);
        }
        let left_alone = !running.has_logged("stays pending") && env.status_of(&growing) == "pending";
        done.store(true, Ordering::Relaxed);
        let longest = writer.join().unwrap();
        // If the machine stood still for a whole interval, the file looked unchanged.
        assert!(left_alone || longest > Duration::from_millis(500), "it was loaded while it changed");
        running
    });
    copy.go_on();
    env.wait_for_processed(std::slice::from_ref(&growing));
    running.signal("TERM");
    running.wait().exits(0).counts(&[("archives.processed", 3), ("archives.failed", 0)]);
    assert_holds(&env.fake, &archives());
}

#[test]
fn a_broken_file_fails_only_after_a_minute_without_a_change() {
    let all = archives();
    let env = TestEnv::with_archives(&all[1..]);
    let copy = Copy::begin(&env, &all[0], Duration::from_secs(20));
    let running = spool(&env).start();
    wait_for_log(&running, "stays pending");
    assert_eq!(env.status_of(&all[0]), "pending");
    copy.go_on();
    env.wait_for_processed(&all);
    running.signal("TERM");
    running.wait().exits(0).counts(&[("archives.processed", 3), ("archives.failed", 0)]);
    assert_holds(&env.fake, &all);
}

#[test]
fn a_copy_that_paused_is_loaded_once_complete() {
    let all = archives();
    let env = TestEnv::with_archives(&all[1..]);
    let copy = Copy::begin(&env, &all[0], Duration::from_secs(61));
    let running = spool(&env).start();
    wait_until("it is called failed", || env.status_of(&all[0]) == "failed");
    copy.go_on();
    env.wait_for_processed(&all);
    running.signal("TERM");
    running.wait().exits(0).counts(&[("archives.processed", 3)]);
    assert_holds(&env.fake, &all);
}

#[test]
fn a_file_that_changed_since_it_was_found_waits_for_a_later_look() {
    let first = Archive::new("20251218_000000").with_all(posts("first", 40));
    let mut second = Archive::new("20251218_000100").with_all(posts("second", 1));
    let env = TestEnv::with_archives(&[first.clone(), second.clone()]);
    env.fake.fail_bulks(1, Fault::Hang);
    // The only worker blocks within the first archive.
    let running = spool(&env).args(&["--workers", "1", "--senders", "1", "--batch-docs", "1"]).start();
    env.fake.wait_for_bulks(1);
    second = second.with_all(posts("more", 2));
    env.add(std::slice::from_ref(&second));
    env.fake.release();
    wait_for_log(&running, "still being written");
    let all = [first, second];
    env.wait_for_processed(&all);
    running.signal("TERM");
    running.wait().exits(0).counts(&[("archives.processed", 2), ("rows.read", 43)]);
    assert_holds(&env.fake, &all);
}

#[test]
fn a_copy_that_keeps_its_old_time_is_loaded_at_once() {
    let all = archives();
    let env = TestEnv::with_archives(&all);
    // A second look would come after an hour.
    let running = env.ingest().args(&["--mode", "spool"]).var("SPOOL_INTERVAL_SEC", "3600").start();
    env.wait_for_processed(&all);
    running.signal("TERM");
    running.wait().exits(0).counts(&[("archives.processed", 3), ("archives.pending", 0)]);
}

#[test]
fn a_once_run_does_not_wait_for_changing_files() {
    let all = archives();
    let env = TestEnv::new();
    write_aged(&place(&env, &all[0]), &all[0].zip(), Duration::ZERO);
    Copy::begin(&env, &all[1], Duration::ZERO);
    let run = env.run(&[]).exits(3);
    run.counts(&[("archives.processed", 1), ("archives.failed", 1)]);
}

#[test]
fn a_once_run_marks_a_file_as_it_was_when_it_was_read() {
    let first = Archive::new("20251218_000000").with_all(posts("first", 40));
    let mut second = Archive::new("20251218_000100").with_all(posts("second", 1));
    let env = TestEnv::with_archives(&[first.clone(), second.clone()]);
    env.fake.fail_bulks(1, Fault::Hang);
    // The only worker blocks within the first archive.
    let running = env.ingest().args(&["--workers", "1", "--senders", "1", "--batch-docs", "1"]).start();
    env.fake.wait_for_bulks(1);
    second = second.with_all(posts("more", 2));
    env.add(std::slice::from_ref(&second));
    env.fake.release();
    running.wait().exits(0).counts(&[("archives.processed", 2), ("rows.read", 43)]);
    let again = env.run(&[]).exits(0);
    again.check(!again.stderr.contains("has changed since"), "what was read is what is there");
}

#[test]
fn a_list_marks_files_that_must_wait() {
    let all = archives();
    let env = TestEnv::with_archives(&all[..1]);
    write_aged(&place(&env, &all[1]), &all[1].zip(), Duration::ZERO);
    let list = env.run(&["--list", "--mode", "spool"]).exits(0);
    let lines: Vec<_> = list.stdout.lines().map(|line| line.rsplit('\t').next().unwrap()).collect();
    assert_eq!(lines, ["take", "take (once it has stopped changing)"]);
    let list = env.run(&["--list"]).exits(0);
    list.check(list.stdout.lines().all(|line| line.ends_with("\ttake")), "a once run loads all");
}

#[test]
fn a_folder_missing_for_a_while_does_not_end_the_run() {
    let all = archives();
    let env = TestEnv::with_archives(&all[..1]);
    let running = spool(&env).start();
    env.wait_for_processed(&all[..1]);
    fs::rename(env.path("archives"), env.path("away")).unwrap();
    wait_for_log(&running, "the next look tries again");
    fs::rename(env.path("away"), env.path("archives")).unwrap();
    env.add(&all[1..]);
    env.wait_for_processed(&all);
    running.signal("TERM");
    let run = running.wait().exits(0);
    let told = run.stderr.lines().filter(|line| line.contains("the next look tries again")).count();
    run.check(told == 1, "an outage logs one line a minute");
    assert_holds(&env.fake, &all);
}

#[test]
fn a_folder_that_is_away_does_not_hold_up_the_others() {
    let all = archives();
    let env = TestEnv::with_archives(&all[..1]);
    fs::create_dir(env.path("second")).unwrap();
    let running = spool(&env).args(&["archives", "second"]).start();
    env.wait_for_processed(&all[..1]);
    fs::rename(env.path("second"), env.path("away")).unwrap();
    env.add(&all[1..2]);
    env.wait_for_processed(&all[..2]);
    wait_for_log(&running, "cannot be read for now");
    all[2].write(&env.path("away"));
    fs::rename(env.path("away"), env.path("second")).unwrap();
    env.wait_for_processed(&all);
    running.signal("TERM");
    let run = running.wait().exits(0);
    let told = run.stderr.matches("cannot be read for now").count();
    run.check(told == 1, "it is reported once");
    assert_holds(&env.fake, &all);
}

#[test]
fn a_folder_that_never_existed_ends_the_run() {
    let env = TestEnv::new();
    spool(&env).var("LOCAL_SQLITE_DB_PATH", "elsewhere").run().exits(2).says("elsewhere");
}

#[test]
fn skipped_files_are_reported_once() {
    let all = archives();
    let env = TestEnv::with_archives(&all[..1]);
    fs::create_dir(env.path("archives/folder.db.zip")).unwrap();
    let running = spool(&env).start();
    env.wait_for_processed(&all[..1]);
    for n in 1..3 {
        env.add(&all[n..=n]);
        env.wait_for_processed(&all[n..=n]);
    }
    running.signal("TERM");
    let run = running.wait().exits(0);
    let told = run.stderr.lines().filter(|line| line.contains("is left out")).count();
    run.check(told == 1, "the folder is reported once");
}

#[test]
fn the_start_line_names_the_folder_and_counts_files_that_are_still_changing() {
    let all = archives();
    let env = TestEnv::with_archives(&all[..1]);
    write_aged(&place(&env, &all[1]), &all[1].zip(), Duration::ZERO);
    let running = env.ingest().args(&["--mode", "spool"]).var("SPOOL_INTERVAL_SEC", "3600").start();
    env.wait_for_processed(&all[..1]);
    running.signal("TERM");
    let run = running.wait().exits(0);
    let first = run.stderr.lines().next().unwrap_or_default();
    let start = format!(
        "watching {} every 3600 s, loading 1 archive (0.0 MB) into {}; 1 file is loaded once it has \
         stopped changing; state file: {}",
        env.path("archives").display(),
        env.fake.url(),
        env.path(STATE_FILE).display()
    );
    run.check(first.ends_with(&start), &start);
}

#[test]
fn a_broken_file_is_reported_once_over_several_looks() {
    let all = archives();
    let env = TestEnv::new();
    let copy = Copy::begin(&env, &all[0], Duration::from_secs(20));
    let running = spool(&env).start();
    let looks = |n: usize| {
        let more = Archive::new(&format!("20251219_00000{n}")).with_all(posts(&format!("look{n}-"), 1));
        env.add(std::slice::from_ref(&more));
        env.wait_for_processed(&[more]);
    };
    // Each of these archives takes a look of its own.
    (0..3).for_each(looks);
    // The file changes, and is still broken.
    write_aged(&copy.place, &copy.zip[..copy.zip.len() / 3], Duration::from_secs(20));
    (3..6).for_each(looks);
    assert_eq!(env.status_of(&all[0]), "pending");
    running.signal("TERM");
    let run = running.wait().exits(0);
    let told = run.stderr.lines().filter(|line| line.contains("stays pending")).count();
    run.check(told == 2, "it is reported when found, and again when changed");
}

#[test]
fn archives_that_come_while_the_server_learns_its_keys_stop_no_spooler() {
    // Longer than a run waits for a missing alias.
    const STARTING: Duration = Duration::from_secs(20);
    // The outage meets a sender, or a look that finds nothing to send.
    in_parallel([true, false], |meets_sender| {
        let [before, during, meanwhile] = archives();
        let env = TestEnv::with_archives(std::slice::from_ref(&before));
        let mut running = spool(&env).start().may_take(Duration::from_secs(120));
        env.wait_for_processed(std::slice::from_ref(&before));
        let begins =
            move |request: &Request| if meets_sender { request.is_bulk() } else { request.method == "GET" };
        let since: OnceLock<Instant> = OnceLock::new();
        let is_starting = move |request: &Request| {
            let is_later = since.get().is_some();
            if begins(request) {
                since.get_or_init(Instant::now);
            }
            is_later && since.get().is_some_and(|since| since.elapsed() < STARTING)
        };
        env.fake.forget_requests();
        env.fake.fail(is_starting, 0, usize::MAX, Fault::status(401));
        env.fake.fail(begins, 0, 1, Fault::status(503));
        if meets_sender {
            env.add(std::slice::from_ref(&during));
            env.fake.wait_for_bulks(1);
        } else {
            env.fake.wait_for(|record| record.request.method == "GET", 1);
            env.add(std::slice::from_ref(&during));
        }
        env.add(std::slice::from_ref(&meanwhile));
        let all = [before, during, meanwhile];
        while running.is_running() && env.state().len() < all.len() {
            thread::sleep(Duration::from_millis(50));
        }
        env.wait_for_processed(&all);
        running.signal("TERM");
        running.wait().exits(0);
        assert_holds(&env.fake, &all);
    });
}
