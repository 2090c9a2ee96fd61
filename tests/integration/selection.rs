//! Selection of archives by time, number and name, and reports about the rest.

use std::time::Duration;

use serde_json::Value;

use crate::harness::archives::{Archive, write_aged};
use crate::harness::model::assert_holds;
use crate::harness::{Run, STATE_FILE, TestEnv, lines, posts};

const TIMES: [&str; 4] = ["20251217_235959", "20251218_000000", "20251218_120000", "20251219_000000"];

fn archives() -> Vec<Archive> {
    TIMES.iter().map(|time| Archive::new(time).with_all(posts(time, 3))).collect()
}

fn processed(env: &TestEnv) -> Vec<String> {
    env.state().into_keys().map(|name| name.replace("mega_jetstream_", "").replace(".db.zip", "")).collect()
}

fn assert_logged_once(run: &Run, text: &str) {
    run.check(run.stderr.matches(text).count() == 1, &format!("{text} is told once"));
}

#[test]
fn only_archives_within_the_time_span_are_loaded() {
    for (from, to, expected) in [
        ("2025-12-18", "2025-12-19", &TIMES[1..3]),
        ("2025-12-18T01:00:00+01:00", "2025-12-18T12:00:00Z", &TIMES[1..2]),
        ("2025-12-18T00:00:00.001Z", "", &TIMES[2..]),
        ("", "2025-12-18", &TIMES[..1]),
    ] {
        for by_flag in [true, false] {
            let env = TestEnv::with_archives(&archives());
            let mut ingest = env.ingest();
            for (flag, variable, time) in [("--from", "FROM_TIME", from), ("--to", "TO_TIME", to)] {
                if !time.is_empty() {
                    ingest = if by_flag { ingest.args(&[flag, time]) } else { ingest.var(variable, time) };
                }
            }
            let run = ingest.run().exits(0);
            let count = expected.len() as u64;
            run.counts(&[
                ("archives.discovered", count),
                ("archives.processed", count),
                ("rows.read", 3 * count),
            ]);
            assert_eq!(processed(&env), expected);
        }
    }
}

#[test]
fn later_runs_load_the_rest_and_nothing_twice() {
    let archives = archives();
    let env = TestEnv::with_archives(&archives);
    for expected in 1..=4 {
        env.run(&["--limit", "1"]).exits(0).counts(&[("archives.processed", 1)]);
        assert_eq!(processed(&env), TIMES[..expected], "the oldest first");
    }
    env.run(&["--limit", "1"]).exits(0).counts(&[("archives.discovered", 4), ("archives.already_done", 4)]);
    assert_holds(&env.fake, &archives);
}

#[test]
fn every_task_that_reads_archives_selects_the_same() {
    let env = TestEnv::with_archives(&archives());
    let chosen = ["--from", "2025-12-18", "--limit", "2"];
    let dry = env.run(&[&["--dry-run"][..], &chosen].concat()).exits(0);
    dry.counts(&[("archives.discovered", 2), ("rows.read", 6)]);
    let list = env.run(&[&["--list"][..], &chosen].concat()).exits(0);
    let told: Vec<&str> = list.stdout.lines().map(|line| line.rsplit('\t').next().unwrap()).collect();
    assert_eq!(
        told,
        ["leave (before --from)", "take", "take", "leave (newer than the archives that --limit allows)"]
    );
    let check = env.run(&[&["--check"][..], &chosen].concat()).exits(0);
    check.check(
        check.stdout.contains("2 archives to load")
            && check.stdout.contains("1 outside --from and --to, 1 beyond --limit"),
        "check counts them",
    );
    env.run(&chosen).exits(0).counts(&[("archives.processed", 2)]);
}

#[test]
fn an_archive_without_a_time_is_outside_every_time_span() {
    let env = TestEnv::with_archives(&archives());
    write_aged(&env.path("archives/timeless.db.zip"), &archives()[0].zip(), Duration::from_secs(3_600));
    let list = env.run(&["--list", "--from", "1970-01-01"]).exits(0);
    list.check(list.stdout.contains("timeless.db.zip\t-\t"), "the archive is listed");
    list.check(list.stdout.contains("it has no time in its name"), "with the reason");
    env.run(&["--from", "1970-01-01"]).exits(0).counts(&[("archives.processed", 4)]);
}

#[test]
fn an_empty_time_span_is_reported_with_the_times_that_exist() {
    let env = TestEnv::with_archives(&archives());
    for arguments in [&["--from", "2026-01-01"][..], &["--list", "--from", "2026-01-01"]] {
        let run = env.run(arguments).exits(0).says("none of the 4 archives found is between --from and --to");
        run.check(run.stderr.contains("2025-12-17T23:59:59.000Z to 2025-12-19T00:00:00.000Z"), "the times");
    }
    let check = env.run(&["--check", "--from", "2026-01-01"]).exits(0);
    check.check(check.stdout.contains("warning: source: none of the 4 archives"), "a check reports it, too");
}

#[test]
fn invalid_times_and_limits_are_refused_by_name() {
    let env = TestEnv::with_archives(&archives());
    for (arguments, words) in [
        (&["--from", "yesterday"][..], &["--from", "yesterday", "2025-12-18"][..]),
        (&["--to", "2025-02-30"], &["--to", "2025-02-30"]),
        (&["--from", "2025-12-18T00:00"], &["RFC 3339"]),
        (&["--from", "2025-12-19", "--to", "2025-12-19"], &["is not later than"]),
        (&["--limit", "0"], &["--limit"]),
        (&["--limit", "3", "--mode", "spool"], &["--limit", "--mode spool"]),
        (&["--json"], &["--json", "--list"]),
    ] {
        let run = env.run(arguments).exits(2);
        words.iter().for_each(|word| run.check(run.stderr.contains(word), word));
    }
    env.ingest().var("FROM_TIME", "soon").run().exits(2).says("FROM_TIME");
    assert!(env.state().is_empty());
}

#[test]
fn the_json_list_describes_every_archive() {
    let all = archives();
    let env = TestEnv::with_archives(&all[..2]);
    env.write(&format!("archives/{}", all[3].name()), "no zip");
    env.run(&[]).exits(3);
    env.add(&all[2..3]);
    // A processed archive that has changed since.
    write_aged(&env.path("archives").join(all[0].name()), &all[0].zip(), Duration::from_secs(60));
    std::fs::create_dir(env.path("archives/folder.db.zip")).unwrap();
    let list = env.run(&["--list", "--json"]).exits(0);
    let told = lines(&list.stdout);
    let fields =
        |line: &Value| ["state", "changed", "take", "left"].map(|name| line[name].to_string()).join(" ");
    let expected = [
        r#""processed" true false "processed""#,
        r#""processed" false false "processed""#,
        "null false true null",
        r#""failed" false false "failed""#,
        r#"null false false "passed_over""#,
    ];
    assert_eq!(told.iter().map(fields).collect::<Vec<_>>(), expected);
    let first = &told[0];
    assert_eq!(first["name"], all[0].name());
    assert_eq!(first["path"], format!("archives/{}", all[0].name()));
    assert_eq!(
        (&first["time"], &first["bytes"]),
        (&"2025-12-17T23:59:59.000Z".into(), &all[0].zip().len().into())
    );
    assert!(first["modified"].as_str().is_some_and(|time| time.ends_with('Z')));
    assert!(first["why"].as_str().is_some_and(|why| why.contains("state file")));
    assert!(told[3]["why"].as_str().is_some_and(|why| why.contains("--retry-failed")));
    assert_eq!(told[4]["path"], "archives/folder.db.zip");
    let for_the_eye = env.run(&["--list"]).exits(0);
    assert_eq!(for_the_eye.stdout.lines().count(), told.len());
    assert!(for_the_eye.stdout.contains("has changed since"), "{}", for_the_eye.stdout);
}

#[test]
fn a_list_ends_quietly_when_its_output_is_closed() {
    let env = TestEnv::new();
    // More lines than a pipe holds.
    for n in 0..3_000 {
        env.write(&format!("archives/{n:0100}.db.zip"), "");
    }
    let script = "{ megastream_ingest --list; echo \"code $?\" >&2; } | head -n 1";
    let run = env.ingest().in_shell(script).run().exits(0).says("code 0");
    assert_eq!((run.stdout.lines().count(), run.stderr.lines().count()), (1, 1), "{}", run.stderr);
}

#[test]
fn a_changed_archive_is_reported_once_and_loaded_once_unmarked() {
    let archives = archives();
    let env = TestEnv::with_archives(&archives);
    env.run(&[]).exits(0);
    let name = archives[1].name();
    let other = Archive::new(TIMES[1]).with_all(posts("other", 5));
    other.write(&env.path("archives"));
    let told = format!("{name:?} has changed since it was processed");
    let run = env.run(&["--retry-failed"]).exits(0);
    run.counts(&[("archives.already_done", 4), ("rows.read", 0)]);
    assert_logged_once(&run, &told);
    let check = env.run(&["--check"]).exits(0);
    check.check(check.stdout.contains(&told), "a check reports it, too");
    // Several looks report it once.
    let running = env.ingest().args(&["--mode", "spool"]).var("SPOOL_INTERVAL_SEC", "1").start();
    let late = Archive::new("20251220_000000").with_all(posts("late", 1));
    env.add(std::slice::from_ref(&late));
    env.wait_for_processed(std::slice::from_ref(&late));
    running.signal("TERM");
    assert_logged_once(&running.wait().exits(0), &told);

    let kept: Vec<Value> = env.state().into_values().filter(|entry| entry["filename"] != name).collect();
    env.write(STATE_FILE, serde_json::to_string(&kept).unwrap());
    let run = env.run(&[]).exits(0);
    run.counts(&[("archives.processed", 1), ("rows.indexed", 5)]);
    run.check(!run.stderr.contains("has changed since"), "no warning remains");
}

#[test]
fn files_with_the_same_name_are_left_out_and_the_rest_is_loaded() {
    let all = archives();
    for spool in [false, true] {
        let env = TestEnv::with_archives(&all[..2]);
        std::fs::create_dir(env.path("second")).unwrap();
        for archive in &all[1..3] {
            archive.write(&env.path("second"));
        }
        let others = [all[0].clone(), all[2].clone()];
        let paths = ["archives", "second"];
        let run = if spool {
            let running = env.ingest().args(&paths).args(&["--mode", "spool"]).start();
            env.wait_for_processed(&others);
            running.signal("TERM");
            running.wait().exits(0)
        } else {
            env.run(&paths).exits(0)
        };
        run.counts(&[("archives.processed", 2), ("archives.discovered", 2)]);
        for folder in paths {
            assert_logged_once(&run, &format!("\"{folder}/{}\" is left out", all[1].name()));
        }
        assert_eq!(env.status_of(&all[1]), "pending");
        assert_holds(&env.fake, &others);
    }
}

#[test]
fn a_folder_without_archives_reports_what_else_is_there() {
    let env = TestEnv::new();
    for (name, words) in [
        ("", &["no archive was found in \"archives\"", "*.db.zip", "nothing is there"][..]),
        ("notes.txt", &["one other entry"]),
        ("a.zip", &["2 other entries", "1 of them are named *.zip without .db", "archives/a.zip"]),
        ("deeper/a.db.zip", &["1 archives are a level deeper", "archives/deeper"]),
    ] {
        if !name.is_empty() {
            std::fs::create_dir_all(env.path("archives").join(name).parent().unwrap()).unwrap();
            env.write(&format!("archives/{name}"), "x");
        }
        for arguments in [&[][..], &["--list"], &["--dry-run"]] {
            let run = env.run(arguments).exits(0);
            words.iter().for_each(|word| run.check(run.stderr.contains(word), word));
            assert_logged_once(&run, "no archive was found");
        }
        let check = env.run(&["--check"]).exits(0);
        words.iter().for_each(|word| check.check(check.stdout.contains(word), word));
    }
}

#[test]
fn a_state_file_rewritten_by_jq_marks_no_archive_as_changed() {
    let env = TestEnv::with_archives(&archives());
    env.run(&[]).exits(0);
    let script =
        "command -v jq >/dev/null || exit 0; jq . .processed_files.json >it && mv it .processed_files.json";
    env.ingest().in_shell(script).run().exits(0);
    let run = env.run(&[]).exits(0);
    run.counts(&[("archives.already_done", 4)]);
    run.check(!run.stderr.contains("has changed"), "nothing has changed");
}
