//! Files that are not regular never hang or crash a run, whatever their names. Names are escaped in all output. The
//! next run removes temporary files.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::harness::archives::{Archive, post, unreadable, uri};
use crate::harness::{DEAD_LETTERS, STATE_FILE, TestEnv, wait_until};

fn good() -> Archive {
    Archive::new("20251218_000000").with(post("good", "Nothing is wrong with me."))
}

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// A folder with one intact archive among everything else that a folder can hold.
fn env_with_everything() -> TestEnv {
    let env = TestEnv::with_archives(&[good()]);
    let at = |name: &str| env.path("archives").join(name);
    std::fs::create_dir(at("folder.db.zip")).unwrap();
    make_fifo(&at("fifo.db.zip"));
    symlink("/dev/zero", at("device.db.zip")).unwrap();
    symlink("/dev/tty", at("terminal.db.zip")).unwrap();
    symlink("nowhere", at("dangling.db.zip")).unwrap();
    symlink("loop_b.db.zip", at("loop_a.db.zip")).unwrap();
    symlink("loop_a.db.zip", at("loop_b.db.zip")).unwrap();
    symlink("/proc/self/mem", at("memory.db.zip")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(at("socket.db.zip")).unwrap());
    env
}

const PASSED_OVER: [&str; 8] =
    ["folder", "fifo", "device", "terminal", "dangling", "loop_a", "loop_b", "socket"];

#[test]
fn only_regular_files_are_read() {
    let env = env_with_everything();
    for arguments in [&["--dry-run"][..], &["--list"], &["--check"], &[]] {
        let run = env.run(arguments);
        // `/proc/self/mem` looks like a regular file, but cannot be read, so it stays pending.
        let code = if matches!(arguments, ["--list" | "--check"]) { 0 } else { 1 };
        run.check(run.code == Some(code), &format!("{arguments:?} ends with {code}"));
        if *arguments != ["--check"] {
            for name in PASSED_OVER {
                let said = format!("{}{}", run.stdout, run.stderr);
                run.check(said.contains(&format!("{name}.db.zip")), &format!("{arguments:?} names {name}"));
            }
        }
    }
    assert_eq!(env.status_of(&good()), "processed");
    assert_eq!(env.state().len(), 1, "nothing else got a status");
    assert_eq!(env.fake.documents("posts").into_keys().collect::<Vec<_>>(), [uri("good")]);
}

#[test]
fn a_spool_run_reads_only_regular_files_and_stops_on_request() {
    let env = env_with_everything();
    let running = env.ingest().args(&["--mode", "spool"]).var("SPOOL_INTERVAL_SEC", "1").start();
    env.wait_for_processed(&[good()]);
    running.signal("TERM");
    running.wait().exits(0);
}

#[test]
fn an_unreadable_file_stays_pending() {
    let env = TestEnv::with_archives(&[good(), Archive::new("20251218_000100").with(post("secret", "x"))]);
    let secret = env.path("archives/mega_jetstream_20251218_000100.db.zip");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::File::open(&secret).is_ok() {
        println!("skipped: this user may read everything");
        return;
    }
    let run = env.run(&[]).exits(1).says("cannot be read");
    run.counts(&[("archives.processed", 1), ("archives.pending", 1), ("archives.failed", 0)]);
}

#[test]
fn an_archive_that_cannot_be_looked_at_stays_pending_unless_it_is_done() {
    let env = TestEnv::with_archives(&[good()]);
    let behind = Archive::new("20251218_000100").with(post("behind", "x"));
    let link = env.path("archives").join(behind.name());
    // Unlike a missing file, this gives an error even to root, as a folder that may not be entered or a dead mount does.
    symlink(format!("{}/x", "x".repeat(300)), &link).unwrap();
    for arguments in [&["--dry-run"][..], &[], &[], &["--verify"]] {
        let run = env.run(arguments).exits(1).says(&behind.name()).says("cannot be read for now");
        run.counts(&[("archives.pending", 1), ("archives.failed", 0)]);
    }
    env.run(&["--to", "2025-12-18"]).exits(0).counts(&[("archives.pending", 0)]);
    let list = env.run(&["--list"]).exits(0);
    list.check(list.stdout.contains("cannot be read for now"), "the list has the reason");
    std::fs::remove_file(&link).unwrap();
    env.add(std::slice::from_ref(&behind));
    env.run(&[]).exits(0).counts(&[("archives.processed", 1), ("archives.pending", 0)]);
    std::fs::remove_file(&link).unwrap();
    symlink("x".repeat(300), &link).unwrap();
    env.run(&[]).exits(0).counts(&[("archives.already_done", 2), ("archives.pending", 0)]);
}

#[test]
fn a_pipe_in_place_of_a_file_is_refused_without_waiting() {
    let env = TestEnv::with_archives(&[good()]);
    let fifo = env.path("fifo");
    make_fifo(&fifo);
    env.ingest().var("SPOOL_STATE_FILE", "fifo").run().exits(2).says("not a regular file");
    env.ingest().var("ELASTICSEARCH_CA_CERT", "fifo").run().exits(2).says("not a regular file");
    env.run(&["--replay", "fifo"]).exits(2).says("not a regular file");
    symlink("/dev/zero", env.path("device")).unwrap();
    env.ingest().var("SPOOL_STATE_FILE", "device").run().exits(2).says("not a regular file");
    env.ingest().var("ELASTICSEARCH_CA_CERT", "device").run().exits(2).says("not a regular file");
    env.run(&["--replay", "device"]).exits(2).says("not a regular file");
    // A pipe in place of the record of index settings, or of the lock.
    std::fs::rename(&fifo, env.path("state.lock")).unwrap();
    env.ingest().var("SPOOL_STATE_FILE", "state").run().exits(1).says("not a regular file");
    std::fs::rename(env.path("state.lock"), env.path("state.load_settings.json")).unwrap();
    env.ingest().var("SPOOL_STATE_FILE", "state").run().exits(2).says("not a regular file");
    assert!(env.fake.bulks().is_empty());
}

#[test]
fn a_pipe_for_credentials_is_refused_without_waiting() {
    let env = TestEnv::new();
    make_fifo(&env.path("fifo"));
    for variable in ["AWS_SHARED_CREDENTIALS_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE"] {
        let run = env
            .ingest()
            .args(&["--source", "s3", "--list"])
            .var("S3_SQLITE_DB_BUCKET", "bucket")
            .var("S3_SQLITE_DB_PREFIX", "")
            .var("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
            .var("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")
            .var("AWS_EC2_METADATA_DISABLED", "true")
            .var(variable, "fifo")
            .run();
        run.check(run.code != Some(0), "the request fails");
        run.says("not a regular file");
    }
}

#[test]
fn a_summary_to_a_pipe_without_a_reader_does_not_hang() {
    let env = TestEnv::with_archives(&[good()]);
    make_fifo(&env.path("fifo"));
    let run = env.ingest().without("SUMMARY_JSON").args(&["--dry-run", "--summary-json", "fifo"]).run();
    run.exits(1).says("--summary-json (SUMMARY_JSON) cannot be written: nobody reads the pipe");
}

#[test]
fn a_signal_ends_the_wait_for_a_reader_of_the_output() {
    let env = TestEnv::with_archives(&[good()]);
    make_fifo(&env.path("fifo"));
    let running = env.ingest().args(&["--dry-run", "--output", "fifo"]).start();
    wait_until("the run has begun", || running.has_logged("dry run"));
    running.signal("TERM");
    running.wait().exits(143).counts(&[("rows.read", 0), ("archives.pending", 1)]);
}

#[test]
fn dead_letters_are_only_written_to_regular_files() {
    let env = TestEnv::with_archives(&[good().with(unreadable("bad", Some("no JSON")))]);
    make_fifo(&env.path("fifo"));
    env.run(&["--dead-letter", "fifo"]).exits(2).says("not a regular file");
    assert_eq!(env.status_of(&good()), "pending");
}

#[test]
fn a_metrics_file_that_is_a_link_stays_one() {
    let env = TestEnv::with_archives(&[good()]);
    std::fs::create_dir(env.path("collected")).unwrap();
    for target in ["collected/old.prom", "collected/new.prom"] {
        symlink(target, env.path("link.prom")).unwrap();
        env.run(&["--metrics-file", "link.prom"]).exits(0);
        assert!(env.path("link.prom").is_symlink(), "the link stays one");
        assert!(env.read(target).is_some_and(|text| text.contains("exit_code 0")), "{target}");
        std::fs::remove_file(env.path("link.prom")).unwrap();
    }
}

#[test]
fn a_path_that_cannot_be_looked_at_is_not_called_missing() {
    let env = TestEnv::new();
    symlink("loop", env.path("loop")).unwrap();
    for arguments in [&["--dry-run", "loop"][..], &["--replay", "loop"], &["--dead-letter", "loop/file"]] {
        let run = env.run(arguments).exits(2).says("cannot be read").says("symbolic link");
        run.check(!run.stderr.contains("does not exist"), "it is not called missing");
    }
    env.run(&["--dry-run", "gone"]).exits(2).says("does not exist");
}

#[test]
fn file_names_are_escaped_in_logs_and_on_terminals() {
    let env = TestEnv::with_archives(&[good()]);
    let hostile = "x\n[2025-12-18T00:00:00Z ERROR] forged \u{1b}[2J\u{202e}\u{7f}_20251218_000100";
    let archive = Archive::new("20251218_000100").with(unreadable("bad", None));
    std::fs::write(env.path("archives").join(format!("{hostile}.db.zip")), archive.zip()).unwrap();
    std::fs::create_dir(env.path("archives").join(format!("folder{hostile}.db.zip"))).unwrap();
    std::fs::write(env.path("archives").join(format!("broken{hostile}.db.zip")), "no zip").unwrap();
    std::fs::create_dir(env.path("twice")).unwrap();
    std::fs::write(env.path("twice").join(format!("{hostile}.db.zip")), archive.zip()).unwrap();
    let mut runs =
        vec![env.run(&["--list"]), env.run(&["--check"]), env.run(&["--dry-run", "archives", "twice"])];
    runs.push(env.ingest().var("RUST_LOG", "trace").run().exits(3));
    for run in runs {
        let said = format!("{}{}", run.stdout, run.stderr);
        let shown = |c: char| c == '\n' || c == '\t' || !(c.is_control() || c == '\u{202e}');
        run.check(said.chars().all(shown), "no control character is shown");
        run.check(said.contains("forged"), "the names are shown");
        run.check(!said.lines().any(|line| line.starts_with("[2025")), "no line is forged");
    }
    assert_eq!(env.dead_letters().len(), 1);
    assert_eq!(env.dead_letters()[0]["archive"], format!("{hostile}.db.zip"));
}

#[test]
fn names_in_a_damaged_database_are_escaped_and_cut() {
    let env = TestEnv::new();
    let hostile = "x\n[2025-12-18T00:00:00Z ERROR] forged \u{1b}[2J\u{202e}";
    for (n, name) in [hostile.to_owned(), "y".repeat(15_000)].iter().enumerate() {
        let path = env.path(&format!("archives/mega_jetstream_20251218_00000{n}.db.zip"));
        std::fs::write(&path, good().database()).unwrap();
        // SQLite quotes the name of an object whose SQL it cannot read.
        let database = rusqlite::Connection::open(&path).unwrap();
        let condition = "z".repeat(20_000);
        let index = format!("CREATE INDEX \"{name}\" ON enriched_posts (did) WHERE did <> '{condition}'");
        database.execute_batch(&index).unwrap();
    }
    for run in [env.run(&[]).exits(3), env.run(&["--list"]).exits(0)] {
        let said = format!("{}{}", run.stdout, run.stderr);
        let shown = |c: char| c == '\n' || c == '\t' || !(c.is_control() || c == '\u{202e}');
        run.check(said.chars().all(shown), "no control character is shown");
        run.check(
            said.contains("malformed database schema") && said.contains("forged"),
            "the defect is shown",
        );
        run.check(!said.lines().any(|line| line.trim_start().starts_with("[2025")), "no line is forged");
        run.check(said.len() < 5_000, "it is not long");
    }
}

#[test]
fn the_next_run_removes_temporary_files_of_a_killed_run() {
    let env = TestEnv::with_archives(&[good()]);
    env.run(&["--metrics-file", "m.prom"]).exits(0);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(100);
    for name in
        [format!("{STATE_FILE}.tmp"), format!("{STATE_FILE}.load_settings.json.tmp"), "m.prom.7.tmp".into()]
    {
        env.write(&name, "half wri");
        std::fs::File::options().write(true).open(env.path(&name)).unwrap().set_modified(old).unwrap();
    }
    // Nothing is loaded, so nothing is saved either.
    env.run(&["--metrics-file", "m.prom"]).exits(0);
    let mut left: Vec<String> = std::fs::read_dir(env.path(""))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, [STATE_FILE, &format!("{STATE_FILE}.lock"), "archives", "m.prom", "summary.json"]);
}

#[test]
fn a_saved_file_keeps_its_permissions() {
    let env = TestEnv::with_archives(&[good()]);
    env.write(STATE_FILE, "[]");
    std::fs::set_permissions(env.path(STATE_FILE), std::fs::Permissions::from_mode(0o600)).unwrap();
    // An attacker's link, in the hope that the temporary file is written through it.
    env.write("victim", "not to be touched");
    symlink("victim", env.path(&format!("{STATE_FILE}.tmp"))).unwrap();
    env.run(&["--dead-letter", DEAD_LETTERS]).exits(0);
    assert_eq!(env.status_of(&good()), "processed");
    assert_eq!(env.path(STATE_FILE).metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(env.read("victim").unwrap(), "not to be touched");
}
