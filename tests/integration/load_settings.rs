//! `--bulk-load-settings`: the old settings are restored, however the load ends.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::harness::archives::Archive;
use crate::harness::http::{Reply, Request};
use crate::harness::model::assert_holds;
use crate::harness::script::Fault;
use crate::harness::{Running, STATE_FILE, TestEnv, posts};

const RECORD: &str = ".processed_files.json.load_settings.json";

/// The settings of a load for posts; all but the first are set for tombstones, too.
const TUNED: [(&str, &str); 2] = [("index.number_of_replicas", "0"), ("index.refresh_interval", "29999ms")];

fn archives() -> [Archive; 1] {
    [Archive::new("20251218_000000").with_all(posts("p", 3))]
}

/// A folder with an archive, and a server whose index `posts` has these settings.
fn env_with(set: &[(&str, &str)]) -> TestEnv {
    let env = TestEnv::with_archives(&archives());
    set_by_hand(&env, set);
    env
}

fn set_by_hand(env: &TestEnv, set: &[(&str, &str)]) {
    env.fake.store(|store| store.index("posts").unwrap().settings.extend(map(set)));
}

fn map(set: &[(&str, &str)]) -> BTreeMap<String, String> {
    set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The explicit settings of an index.
fn settings(env: &TestEnv, index: &str) -> BTreeMap<String, String> {
    env.fake.store(|store| store.index(index).unwrap().settings.clone())
}

fn is_update(request: &Request) -> bool {
    request.method == "PUT" && request.path.ends_with("/_settings")
}

fn is_flush(request: &Request) -> bool {
    request.path.ends_with("/_flush")
}

fn is_look_up(request: &Request) -> bool {
    request.method == "GET" && request.switch("flat_settings")
}

/// A load that waits for the reply to its first bulk request.
fn load_in_progress(env: &TestEnv) -> Running {
    env.fake.fail_bulks(1, Fault::Hang);
    let running = env.ingest().args(&["--bulk-load-settings"]).start();
    env.fake.wait_for_bulks(1);
    running
}

#[test]
fn settings_are_tuned_for_the_load_and_restored_at_its_end() {
    let before = [("index.refresh_interval", "7s"), ("index.number_of_replicas", "2")];
    let env = env_with(&before);
    let running = load_in_progress(&env);
    assert_eq!(settings(&env, "posts"), map(&TUNED), "while the load runs");
    assert_eq!(settings(&env, "post_tombstones"), map(&TUNED[1..]), "tombstones keep their replicas");
    assert!(env.read(RECORD).unwrap().contains("7s"));
    env.fake.release();
    running.wait().exits(0);
    assert_eq!(settings(&env, "posts"), map(&before));
    assert!(settings(&env, "post_tombstones").is_empty());
    assert_eq!(env.read(RECORD), None);
    assert_holds(&env.fake, &archives());
}

#[test]
fn replicas_that_the_server_chooses_are_left_alone() {
    let before = [("index.auto_expand_replicas", "0-1"), ("index.number_of_replicas", "1")];
    let env = env_with(&before);
    env.run(&["--bulk-load-settings"]).exits(0);
    let updates = env.fake.requests();
    let updates: Vec<_> = updates.iter().filter(|record| is_update(&record.request)).collect();
    assert!(updates.iter().all(|record| record.request.json().get("index.number_of_replicas").is_none()));
    assert_eq!((updates.len(), settings(&env, "posts")), (4, map(&before)));
}

#[test]
fn old_settings_are_recorded_before_any_change() {
    let env = env_with(&[]);
    env.fake.fail(is_update, 0, 1, Fault::Hang);
    let running = env.ingest().args(&["--bulk-load-settings"]).start();
    env.fake.wait_for(|record| is_update(&record.request), 1);
    assert!(env.read(RECORD).is_some());
    env.fake.release();
    running.wait().exits(0);
}

#[test]
fn settings_are_restored_after_a_signal_and_a_failure() {
    let before = [("index.number_of_replicas", "1")];
    let env = env_with(&before);
    env.fake.fail_bulks(usize::MAX, Fault::status(503));
    let running = env.ingest().args(&["--bulk-load-settings"]).start();
    env.fake.wait_for_bulks(1);
    assert_eq!(settings(&env, "posts"), map(&TUNED));
    running.signal("TERM");
    running.wait().exits(143);
    assert_eq!(settings(&env, "posts"), map(&before));
    env.run(&["--bulk-load-settings", "--retry-budget", "1"]).exits(4);
    assert_eq!(settings(&env, "posts"), map(&before));
    assert_eq!(env.read(RECORD), None);
}

#[test]
fn the_run_after_a_kill_restores_settings_first_even_without_the_flag() {
    for flags in [&[][..], &["--bulk-load-settings"]] {
        let before = [("index.number_of_replicas", "2")];
        let env = env_with(&before);
        let running = load_in_progress(&env);
        running.signal("KILL");
        running.wait().exits(137);
        assert_eq!(settings(&env, "posts"), map(&TUNED));
        env.fake.release();
        env.fake.forget_requests();
        env.run(flags).exits(0);
        assert_eq!(settings(&env, "posts"), map(&before));
        let requests = env.fake.requests();
        let first = |wanted: fn(&Request) -> bool| requests.iter().position(|r| wanted(&r.request));
        assert!(first(is_update).unwrap() < first(Request::is_bulk).unwrap());
        assert_eq!(env.read(RECORD), None);
        assert_holds(&env.fake, &archives());
    }
}

#[test]
fn a_second_signal_leaves_the_record_for_the_next_run() {
    let before = [("index.number_of_replicas", "2")];
    let env = env_with(&before);
    let mut running = load_in_progress(&env);
    running.signal_until_it_ends("TERM");
    running.wait().exits(143);
    assert_eq!(settings(&env, "posts"), map(&TUNED));
    env.fake.release();
    env.run(&[]).exits(0);
    assert_eq!(settings(&env, "posts"), map(&before));
}

#[test]
fn a_second_process_leaves_the_settings_to_the_first() {
    let before = [("index.number_of_replicas", "2")];
    let env = env_with(&before);
    let running = load_in_progress(&env);
    let second = env.ingest().args(&["--bulk-load-settings"]).var("SPOOL_STATE_FILE", "second.json").run();
    second.exits(0).says("another process has tuned posts");
    assert_eq!(settings(&env, "posts"), map(&TUNED), "the first process still loads");
    assert_eq!(env.read("second.json.load_settings.json"), None);
    env.fake.release();
    running.wait().exits(0);
    assert_eq!(settings(&env, "posts"), map(&before));
}

#[test]
fn changes_by_an_operator_during_the_load_stay() {
    let env = env_with(&[("index.refresh_interval", "7s"), ("index.number_of_replicas", "2")]);
    let running = load_in_progress(&env);
    set_by_hand(&env, &[("index.refresh_interval", "1s")]);
    env.fake.release();
    running.wait().exits(0);
    let after = [("index.refresh_interval", "1s"), ("index.number_of_replicas", "2")];
    assert_eq!(settings(&env, "posts"), map(&after));
}

#[test]
fn settings_are_restored_despite_a_short_outage() {
    let env = env_with(&[("index.number_of_replicas", "2")]);
    env.fake.fail(is_update, 2, 3, Fault::status(503));
    env.run(&["--bulk-load-settings"]).exits(0);
    assert_eq!(settings(&env, "posts"), map(&[("index.number_of_replicas", "2")]));
    assert_eq!(env.read(RECORD), None);
}

#[test]
fn pages_instead_of_answers_about_settings_are_an_outage() {
    let before = [("index.number_of_replicas", "2")];
    for (n, status) in [404, 302, 403, 405, 401].into_iter().enumerate() {
        // Each index is read and changed, and later restored.
        for (is_hit, after) in [(is_look_up as fn(&Request) -> bool, [0, 2, 4, 5]), (is_update, [0, 1, 2, 3])]
        {
            let env = env_with(&before);
            env.fake.fail(is_hit, after[n % 4], 1 + n % 2, Fault::page(status));
            env.run(&["--bulk-load-settings"]).exits(0);
            assert_eq!(settings(&env, "posts"), map(&before));
            assert!(settings(&env, "post_tombstones").is_empty());
            assert_eq!(env.read(RECORD), None);
        }
    }
}

#[test]
fn a_failed_restore_says_what_to_do_by_hand() {
    let env = env_with(&[("index.number_of_replicas", "2")]);
    env.fake.fail(is_update, 2, usize::MAX, Fault::status(403));
    let run = env.run(&["--bulk-load-settings"]).exits(1);
    run.says(r#"PUT /posts_v1/_settings {"index.number_of_replicas":"2","index.refresh_interval":null}"#)
        .counts(&[("archives.processed", 1)]);
    assert!(env.read(RECORD).is_some());
    env.fake.release();
    env.run(&[]).exits(0);
    assert_eq!(settings(&env, "posts"), map(&[("index.number_of_replicas", "2")]));
}

#[test]
fn a_failed_restore_after_a_signal_is_no_success() {
    let env = env_with(&[]);
    env.fake.fail_bulks(1, Fault::Delay(Duration::from_secs(1)));
    env.fake.fail(is_update, 2, usize::MAX, Fault::status(403));
    let running = env.ingest().args(&["--bulk-load-settings"]).start();
    env.fake.wait_for_bulks(1);
    running.signal("TERM");
    let run = running.wait().exits(1).says("could not be restored");
    run.counts(&[("archives.processed", 1)]);
    assert!(env.read(RECORD).is_some());
}

#[test]
fn settings_are_changed_only_with_the_privilege_to_restore_them() {
    let env = env_with(&[]);
    env.fake.deny("manage");
    env.run(&["--bulk-load-settings"]).exits(5).says("manage");
    assert!(!env.fake.requests().iter().any(|record| is_update(&record.request)));
    env.run(&[]).exits(0);
}

#[test]
fn settings_of_one_index_are_restored_if_the_other_refuses() {
    let env = env_with(&[]);
    let of_posts = |request: &Request| is_update(request) && request.path.starts_with("/posts_v1/");
    env.fake.fail(of_posts, 0, usize::MAX, Fault::status(403));
    env.run(&["--bulk-load-settings"]).exits(5).says("manage on posts_v1");
    assert!(settings(&env, "posts").is_empty() && settings(&env, "post_tombstones").is_empty());
    assert!(env.fake.bulks().is_empty());
    assert_eq!(env.read(RECORD), None);
}

#[test]
fn a_failed_restore_does_not_hide_the_cause_of_the_end() {
    let env = env_with(&[]);
    env.fake.fail(is_update, 1, usize::MAX, Fault::status(403));
    let run = env.run(&["--bulk-load-settings"]).exits(5).says("preflight refused: load settings");
    run.says("PUT /post_tombstones_v1/_settings");
    assert!(env.read(RECORD).is_some());
}

#[test]
fn settings_shown_nested_and_as_numbers_are_restored() {
    let before = [("index.refresh_interval", "7s"), ("index.number_of_replicas", "2")];
    let env = env_with(&before);
    env.fake.store(|store| {
        store.show_settings = Some(|flat| {
            let replicas = flat["index.number_of_replicas"].as_str().and_then(|text| text.parse::<u32>().ok());
            json!({"index": {"refresh_interval": flat["index.refresh_interval"], "number_of_replicas": replicas}})
        });
    });
    let running = load_in_progress(&env);
    assert_eq!(settings(&env, "posts"), map(&TUNED), "while the load runs");
    env.fake.release();
    running.wait().exits(0);
    assert_eq!(settings(&env, "posts"), map(&before));
    assert_eq!(env.read(RECORD), None);
}

#[test]
fn settings_that_do_not_read_back_are_restored_before_sending() {
    let before = [("index.refresh_interval", "7s"), ("index.number_of_replicas", "2")];
    let rounded = |flat: &serde_json::Value| {
        let mut shown = flat.clone();
        if shown["index.refresh_interval"] == TUNED[1].1 {
            shown["index.refresh_interval"] = json!("29.9s");
        }
        shown
    };
    let hidden = |_: &serde_json::Value| json!({});
    for (show, set) in [(rounded as fn(&_) -> _, &before[..]), (hidden, &[])] {
        let env = env_with(set);
        env.fake.store(|store| store.show_settings = Some(show));
        env.run(&["--bulk-load-settings"]).exits(5).says("--bulk-load-settings").says("as they were sent");
        assert_eq!(settings(&env, "posts"), map(set));
        assert!(settings(&env, "post_tombstones").is_empty() && env.fake.bulks().is_empty());
        assert_eq!(env.read(RECORD), None);
        env.run(&[]).exits(0);
    }
}

#[test]
fn settings_restored_by_another_process_are_tuned_again() {
    let before = [("index.number_of_replicas", "2")];
    let env = env_with(&before);
    env.fake.fail(is_update, 1, 1, Fault::Reply(Reply::json(200, &json!({"acknowledged": true}))));
    let running = load_in_progress(&env);
    assert_eq!(settings(&env, "posts"), map(&TUNED));
    assert_eq!(settings(&env, "post_tombstones"), map(&TUNED[1..]));
    env.fake.release();
    running.wait().exits(0);
    assert_eq!(settings(&env, "posts"), map(&before));
    assert!(settings(&env, "post_tombstones").is_empty());
}

#[test]
fn a_404_from_a_gateway_does_not_mean_the_index_is_gone() {
    let env = env_with(&[("index.number_of_replicas", "2")]);
    let no_such_page = Reply { status: 404, headers: vec![], body: b"no such page".to_vec() };
    // Both indices are read before and after the change; all later reads fail.
    env.fake.fail(is_look_up, 4, usize::MAX, Fault::Reply(no_such_page));
    env.run(&["--bulk-load-settings"]).exits(1).says("could not be restored");
    assert!(env.read(RECORD).is_some());
    env.fake.release();
    env.run(&[]).exits(0);
    assert_eq!(settings(&env, "posts"), map(&[("index.number_of_replicas", "2")]));
}

#[test]
fn an_unreadable_record_stops_the_run() {
    let env = env_with(&[]);
    env.write(RECORD, "{");
    env.run(&[]).exits(2).says(RECORD);
    env.run(&["--check"]).exits(2).says(RECORD);
    assert!(env.fake.bulks().is_empty());
    assert_eq!(env.read(RECORD).as_deref(), Some("{"));
}

#[test]
fn the_record_of_a_deleted_index_is_removed() {
    let env = env_with(&[]);
    let change = json!({"index.number_of_replicas": {"before": "1", "during": "0"}});
    env.write(RECORD, json!({"posts_v0": change}).to_string());
    env.run(&[]).exits(0).says("posts_v0");
    assert_eq!(env.read(RECORD), None);
}

#[test]
fn a_spool_run_refuses_bulk_load_settings() {
    let env = env_with(&[]);
    env.run(&["--bulk-load-settings", "--mode", "spool"]).exits(2).says("--bulk-load-settings");
    assert!(env.fake.requests().is_empty());
}

#[test]
fn an_index_with_async_durability_is_flushed_before_archives_are_marked() {
    let before = [("index.number_of_replicas", "1"), ("index.translog.durability", "async")];
    let env = env_with(&before);
    env.fake.fail(is_flush, 0, 1, Fault::Hang);
    let running = env.ingest().args(&["--bulk-load-settings"]).start();
    env.fake.wait_for(|record| is_flush(&record.request), 1);
    let last_bulk = env.fake.requests().iter().rposition(|r| r.request.is_bulk()).unwrap();
    let flush = env.fake.requests().iter().position(|r| is_flush(&r.request)).unwrap();
    assert!(last_bulk < flush, "the flush comes after the last bulk request");
    assert!(!env.read(STATE_FILE).unwrap_or_default().contains("processed"));
    // The node dies, and loses what it had confirmed but not synced.
    env.fake.store(|store| {
        store.node_starts += 1;
        store.index("posts").unwrap().documents.clear();
    });
    env.fake.release();
    running.wait().exits(0).says("async").counts(&[("archives.processed", 1), ("archives.pending", 0)]);
    assert_holds(&env.fake, &archives());
    assert_eq!(settings(&env, "posts"), map(&before));
    assert!(settings(&env, "post_tombstones").is_empty());
}

#[test]
fn a_load_without_faults_writes_everything_once_and_logs_no_durability() {
    let env = env_with(&[]);
    let run = env.run(&["--bulk-load-settings"]).exits(0);
    run.check(!run.stderr.contains("loaded again"), "its own change is not reported");
    let sent: usize = env.fake.bulks().iter().map(|bulk| bulk.request.body.len()).sum();
    let once: usize = {
        let other = env_with(&[]);
        other.run(&[]).exits(0);
        other.fake.bulks().iter().map(|bulk| bulk.request.body.len()).sum()
    };
    assert_eq!(sent, once);
}

#[test]
fn an_explicit_durability_setting_is_kept() {
    for durability in ["async", "request"] {
        let own = [("index.translog.durability", durability), ("index.translog.sync_interval", "60s")];
        let replaced = [("index.number_of_replicas", "1"), ("index.refresh_interval", "7s")];
        let before = [own, replaced].concat();
        let env = env_with(&before);
        let running = load_in_progress(&env);
        assert_eq!(settings(&env, "posts"), map(&[own, TUNED].concat()), "while the load runs");
        env.fake.release();
        running.wait().exits(0);
        assert_eq!(settings(&env, "posts"), map(&before));
    }
}

#[test]
fn the_record_of_an_older_version_is_restored() {
    let env = env_with(&[("index.number_of_replicas", "0"), ("index.refresh_interval", "29999ms")]);
    let changes = json!({
        "index.number_of_replicas": {"before": "2", "during": "0"},
        "index.refresh_interval": {"before": null, "during": "29999ms"},
    });
    env.write(RECORD, json!({"posts_v1": changes}).to_string());
    env.run(&[]).exits(0);
    assert_eq!(settings(&env, "posts"), map(&[("index.number_of_replicas", "2")]));
    assert!(!env.fake.requests().iter().any(|record| is_flush(&record.request)), "no flush is needed");
    assert_eq!(env.read(RECORD), None);
}

#[test]
fn a_check_names_the_settings_a_load_changes() {
    let env = env_with(&[]);
    let run = env.run(&["--check", "--bulk-load-settings"]).exits(0);
    let line = run.stdout.lines().find(|line| line.starts_with("ok: load settings: ")).unwrap();
    for (name, value) in TUNED {
        run.check(line.contains(&format!("{name} {value}")), name);
    }
    let run = env.run(&["--check"]).exits(0);
    run.check(!run.stdout.contains("load settings"), "without the option, nothing is named");
    assert!(!env.fake.requests().iter().any(|record| is_update(&record.request)));
}
