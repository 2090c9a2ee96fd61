//! Signals: after the first, requests in flight are finished; the second ends the run at once.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::disks::{shim, syncs, with_shim};
use crate::harness::archives::{Archive, unreadable};
use crate::harness::http::Request;
use crate::harness::model::{assert_holds, assert_processed_are_held};
use crate::harness::script::Fault;
use crate::harness::{Run, Running, STATE_FILE, TestEnv, posts, wait_until};

const SOON: Duration = Duration::from_secs(8);

fn archives() -> Vec<Archive> {
    (0..3)
        .map(|n| Archive::new(&format!("20251218_00000{n}")).with_all(posts(&format!("a{n}-"), 40)))
        .collect()
}

#[test]
fn a_signal_ends_the_wait_for_an_unavailable_server() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let env = TestEnv::with_archives(&archives());
        env.fake.fail_bulks(usize::MAX, Fault::status(503));
        let running = env.ingest().start();
        env.fake.wait_for_bulks(3);
        running.signal(signal);
        let run = running.wait().exits(code);
        run.check(run.took < SOON, "the run ends soon");
        run.check(run.summary()["interrupted"] == true, "the summary says that it was interrupted");
        run.counts(&[("archives.pending", 3), ("archives.failed", 0), ("rows.indexed", 0)]);
        assert!(env.state().is_empty());
    }
}

#[test]
fn a_signal_lets_requests_finish_and_the_next_run_does_the_rest() {
    let env = TestEnv::with_archives(&archives());
    env.fake.fail(Request::is_bulk, 5, 1, Fault::Hang);
    let running = env.ingest().args(&["--batch-docs", "1", "--senders", "1", "--workers", "1"]).start();
    env.fake.wait_for_bulks(6);
    let being_sent = env.fake.bulks().pop().unwrap().items.pop().unwrap();
    running.signal("TERM");
    env.fake.release();
    let run = running.wait().exits(143);
    run.check(run.took < SOON, "the run ends soon");
    run.check(env.fake.documents("posts").contains_key(&being_sent.id), "the open request was finished");
    let held = env.fake.documents("posts").len() as u64;
    run.counts(&[("rows.indexed", held), ("archives.discovered", 3)]);
    run.check(run.count("archives.pending") > 0, "no new archive was begun");
    assert_processed_are_held(&env, &archives());
    env.run(&[]).exits(0);
    assert_holds(&env.fake, &archives());
}

#[test]
fn a_second_signal_ends_the_run_at_once() {
    for (mode, signal, code) in
        [("once", "TERM", 143), ("once", "INT", 130), ("spool", "TERM", 0), ("spool", "INT", 0)]
    {
        let env = TestEnv::with_archives(&archives());
        env.fake.fail_bulks(usize::MAX, Fault::Hang);
        let mut running = env.ingest().args(&["--mode", mode]).without("SUMMARY_JSON").start();
        env.fake.wait_for_bulks(1);
        running.signal_until_it_ends(signal);
        let run = running.wait().exits(code);
        run.check(run.took < SOON, "the run ends at once");
        assert!(env.state().is_empty());
    }
}

#[test]
fn a_second_signal_ends_a_run_with_a_full_log_pipe() {
    let env = TestEnv::with_archives(&archives());
    env.fake.fail_bulks(usize::MAX, Fault::Hang);
    let (reader, mut writer) = std::io::pipe().unwrap();
    // At level `warn`, the line about the signal is the first one.
    let mut command = env.ingest().var("RUST_LOG", "warn").command();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    drop(command);
    // Fills the pipe, and blocks.
    let filled = std::thread::spawn(move || while writer.write_all(&[b'x'; 4096]).is_ok() {});
    env.fake.wait_for_bulks(1);
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if started.elapsed() > SOON {
            child.kill().unwrap();
            break None;
        }
        kill(&child.id().to_string(), &["TERM"]);
        std::thread::sleep(Duration::from_millis(20));
    };
    drop(reader);
    filled.join().unwrap();
    child.wait().unwrap();
    assert_eq!(status.and_then(|status| status.code()), Some(143));
}

/// Sends SIGTERM to a run that waits for a reply, and asserts that it ends soon.
fn assert_ends_at_once(running: Running, code: i32) -> Run {
    let signalled = Instant::now();
    running.signal("TERM");
    let run = running.wait().exits(code);
    run.check(signalled.elapsed() < SOON, "the run does not wait for the reply");
    run
}

#[test]
fn a_signal_ends_a_preflight_that_is_never_answered() {
    let with_all = |flags: &[&str], code: i32| {
        let env = TestEnv::with_archives(&archives());
        env.write("dead.ndjson", "");
        env.fake.fail(|_| true, 0, usize::MAX, Fault::Hang);
        let running = env.ingest().args(flags).start();
        env.fake.wait_for(|_| true, 1);
        assert_ends_at_once(running, code);
        assert_eq!(env.fake.requests().len(), 1, "{flags:?}");
        assert!(env.state().is_empty());
    };
    with_all(&[], 143);
    with_all(&["--mode", "spool"], 0);
    with_all(&["--create-indices"], 143);
    with_all(&["--check"], 143);
    with_all(&["--replay", "dead.ndjson"], 143);
}

#[test]
fn a_signal_ends_a_preflight_midway() {
    let env = TestEnv::with_archives(&archives());
    env.fake.fail(|request| request.path.starts_with("/post_tombstones"), 0, usize::MAX, Fault::Hang);
    let running = env.ingest().start();
    env.fake.wait_for(|record| record.request.path.starts_with("/post_tombstones"), 1);
    assert_ends_at_once(running, 143).counts(&[("archives.pending", 3)]);
}

#[test]
fn a_signal_ends_a_tls_handshake_that_is_never_answered() {
    let env = TestEnv::with_archives(&archives());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let running = env.ingest().var("ELASTICSEARCH_URL", &url).args(&["--skip-tls-verify"]).start();
    let connection = listener.accept().unwrap();
    assert_ends_at_once(running, 143);
    drop(connection);
}

/// Sends signals in quick succession.
fn kill(id: &str, signals: &[&str]) {
    let commands: String = signals.iter().map(|signal| format!("kill -{signal} {id}; ")).collect();
    assert!(Command::new("sh").args(["-c", &commands]).status().unwrap().success(), "{commands}");
}

/// Whether this process, and so every process it starts, ignores SIGHUP.
fn ignores_sighup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    mask.trim().ends_with(['1', '3', '5', '7', '9', 'b', 'd', 'f'])
}

#[test]
fn sighup_stops_the_run() {
    if ignores_sighup() {
        return;
    }
    let env = TestEnv::with_archives(&archives());
    env.fake.fail_bulks(usize::MAX, Fault::status(503));
    let running = env.ingest().start();
    env.fake.wait_for_bulks(1);
    running.signal("HUP");
    let run = running.wait().exits(143);
    run.check(run.summary()["interrupted"] == true, "the summary says that it was interrupted");
}

#[test]
fn an_ignored_sighup_stays_ignored() {
    let env = TestEnv::with_archives(&archives());
    env.fake.fail_bulks(usize::MAX, Fault::Hang);
    let running = env.ingest().in_shell("trap '' HUP; exec megastream_ingest").start();
    env.fake.wait_for_bulks(1);
    running.signal("HUP");
    env.fake.release();
    let run = running.wait().exits(0);
    run.check(run.summary()["interrupted"] == false, "the run completes");
    assert_holds(&env.fake, &archives());
}

#[test]
fn simultaneous_signals_count_as_one() {
    let env = TestEnv::with_archives(&archives());
    env.fake.fail_bulks(usize::MAX, Fault::Hang);
    // The only worker blocks within the first archive, so the others are never begun.
    let running = env.ingest().args(&["--batch-docs", "1", "--senders", "1", "--workers", "1"]).start();
    env.fake.wait_for_bulks(1);
    // A stopped process receives both signals at once, however busy the machine is.
    kill(&running.id().to_string(), &["STOP", "TERM", "HUP", "CONT"]);
    while !running.has_logged("stopping") {
        std::thread::sleep(Duration::from_millis(5));
    }
    env.fake.release();
    let run = running.wait().exits(143);
    run.check(run.summary()["interrupted"] == true, "the run ends in order");
    assert_processed_are_held(&env, &archives());
}

#[test]
fn a_spool_run_loads_new_archives_and_ends_cleanly_at_a_signal() {
    let all = archives();
    let env = TestEnv::with_archives(&all[..1]);
    let running = env.ingest().args(&["--mode", "spool"]).var("SPOOL_INTERVAL_SEC", "1").start();
    env.fake.wait_for_bulks(1);
    env.add(&all[1..2]);
    env.wait_for_processed(&all[..2]);
    running.signal("TERM");
    let run = running.wait().exits(0);
    run.counts(&[("archives.processed", 2), ("rows.indexed", 80)]);
    assert_holds(&env.fake, &all[..2]);
}

#[test]
fn a_signal_ends_the_pause_of_a_spool_run() {
    let env = TestEnv::with_archives(&archives());
    let running = env.ingest().args(&["--mode", "spool"]).var("SPOOL_INTERVAL_SEC", "3600").start();
    env.wait_for_processed(&archives());
    running.signal("INT");
    let run = running.wait().exits(0);
    run.check(run.took < SOON, "the run ends soon");
    assert_holds(&env.fake, &archives());
}

#[test]
fn a_signal_names_the_file_whose_reading_hangs_and_a_second_one_ends_the_run() {
    let env = TestEnv::with_archives(&archives()[..1]);
    let Some(shim) = shim(&env) else { return };
    let mut running = with_shim(&env, &shim).var("SLOW_READS", "1").start();
    while syncs(&env).iter().all(|line| !line.starts_with("read ")) {
        assert!(running.is_running(), "the reading still hangs");
        std::thread::sleep(Duration::from_millis(5));
    }
    running.signal("INT");
    let waiting =
        format!("still waiting for the disk or file server of \"archives/{}\"", archives()[0].name());
    while !running.has_logged(&waiting) {
        assert!(running.is_running(), "the run waits for the read");
        std::thread::sleep(Duration::from_millis(5));
    }
    running.signal("INT");
    running.wait().exits(130);
}

#[test]
fn a_signal_names_the_file_whose_writing_hangs_and_a_second_one_ends_the_run() {
    let hanging = [
        (".try", STATE_FILE),
        (".dead_letters", ".dead_letters.ndjson"),
        (".json.tmp", STATE_FILE),
        (".prom", "figures.prom"),
    ];
    for (hang, named) in hanging {
        let odd = Archive::new("20251218_000000").with(unreadable("odd", Some("{")));
        let env = TestEnv::with_archives(&[odd]);
        let Some(shim) = shim(&env) else { return };
        let mut running =
            with_shim(&env, &shim).var("HANG", hang).args(&["--metrics-file", "figures.prom"]).start();
        wait_until("a write hangs", || syncs(&env).iter().any(|line| line.starts_with("hang ")));
        running.signal("INT");
        let waiting = format!("{named}\" (1 file in use)");
        wait_until(&waiting, || {
            running.has_logged("still waiting for the disk") && running.has_logged(&waiting)
        });
        assert!(running.is_running());
        running.signal("INT");
        running.wait().exits(130);
    }
}

#[test]
fn a_signal_names_the_file_that_hangs_at_the_start_and_a_second_one_ends_the_run() {
    let replay = ["--replay", "dead.ndjson"];
    for (hang, named, arguments) in [
        (STATE_FILE, STATE_FILE, &[][..]),
        (".json.lock", STATE_FILE, &[]),
        (STATE_FILE, STATE_FILE, &["--dry-run"]),
        (STATE_FILE, STATE_FILE, &["--list"]),
        (STATE_FILE, STATE_FILE, &["--check"]),
        ("dead.ndjson", "dead.ndjson", &replay),
    ] {
        let env = TestEnv::with_archives(&archives()[..1]);
        let Some(shim) = shim(&env) else { return };
        env.write(STATE_FILE, "[]");
        env.write("dead.ndjson", "{}");
        let mut running = with_shim(&env, &shim).var("HANG", hang).args(arguments).start();
        wait_until("a file hangs", || syncs(&env).iter().any(|line| line.starts_with("hang ")));
        running.signal("INT");
        let waiting = format!("{named}\" (1 file in use)");
        wait_until(&format!("{arguments:?}, {hang}: {waiting}"), || {
            running.has_logged("still waiting for the disk") && running.has_logged(&waiting)
        });
        assert!(running.is_running());
        running.signal("INT");
        running.wait().exits(130);
    }
}

#[test]
fn a_signal_ends_a_hanging_folder_listing() {
    for arguments in [&[][..], &["--list"], &["--check"], &["--mode", "spool"]] {
        let env = TestEnv::with_archives(&archives());
        let Some(shim) = shim(&env) else { return };
        let mut running = with_shim(&env, &shim).var("SLOW_FOLDERS", "1").args(arguments).start();
        while syncs(&env).iter().all(|line| !line.starts_with("readdir")) {
            assert!(running.is_running(), "the listing still hangs");
            std::thread::sleep(Duration::from_millis(5));
        }
        let signalled = Instant::now();
        running.signal("INT");
        let run = running.wait();
        run.check(signalled.elapsed() < SOON, "the run ends soon");
        let code = if arguments.contains(&"spool") { 0 } else { 130 };
        run.check(run.code == Some(code), &format!("{arguments:?} ends with {code}"));
    }
}

#[test]
fn a_signal_ends_a_look_at_the_indices_that_is_never_answered() {
    let env = TestEnv::with_archives(&archives());
    let running = env.ingest().args(&["--mode", "spool"]).var("SPOOL_INTERVAL_SEC", "1").start();
    env.wait_for_processed(&archives());
    env.fake.forget_requests();
    env.fake.fail(|request| request.method == "GET", 0, usize::MAX, Fault::Hang);
    env.fake.wait_for(|record| record.request.method == "GET", 1);
    assert_ends_at_once(running, 0).counts(&[("archives.processed", 3)]);
}

#[test]
fn a_signal_ends_a_count_of_documents_that_is_never_answered() {
    let env = TestEnv::with_archives(&archives());
    let entry =
        r#"{"filename":"old.db.zip","status":"processed","timestamp":"2025-01-01T00:00:00Z","rows":9}"#;
    env.write(STATE_FILE, format!("[{entry}]"));
    env.fake.fail(|request| request.path.contains("_count"), 0, usize::MAX, Fault::Hang);
    let running = env.ingest().start();
    env.fake.wait_for(|record| record.request.path.contains("_count"), 1);
    assert_ends_at_once(running, 143).counts(&[("archives.pending", 3)]);
}
