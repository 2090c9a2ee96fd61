//! `--bulk-load-settings`: what is set for a load is put back, whatever ends it.

use std::collections::BTreeMap;

use serde_json::json;

use crate::harness::archives::Archive;
use crate::harness::http::{Reply, Request};
use crate::harness::model::assert_holds;
use crate::harness::script::Fault;
use crate::harness::{Running, STATE_FILE, TestEnv, posts};

const RECORD: &str = ".processed_files.json.load_settings.json";

/// What a load sets for posts; but for the first, for tombstones as well.
const TUNED: [(&str, &str); 2] = [("index.number_of_replicas", "0"), ("index.refresh_interval", "29999ms")];

fn archives() -> [Archive; 1] {
    [Archive::new("20251218_000000").with_all(posts("p", 3))]
}

/// A folder with an archive, and a server on which these settings of `posts` are set.
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

/// The settings of an index that have been set.
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

/// A load that waits for the answer to its first bulk request.
fn load_in_progress(env: &TestEnv) -> Running {
    env.fake.fail_bulks(1, Fault::Hang);
    let running = env.ingest().args(&["--bulk-load-settings"]).start();
    env.fake.wait_for_bulks(1);
    running
}

#[test]
fn settings_are_tuned_for_the_load_and_put_back_at_its_end() {
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
fn what_was_set_is_on_record_before_anything_is_changed() {
    let env = env_with(&[]);
    env.fake.fail(is_update, 0, 1, Fault::Hang);
    let running = env.ingest().args(&["--bulk-load-settings"]).start();
    env.fake.wait_for(|record| is_update(&record.request), 1);
    assert!(env.read(RECORD).is_some());
    env.fake.release();
    running.wait().exits(0);
}

#[test]
fn settings_are_put_back_after_a_signal_and_a_failure() {
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
fn a_run_after_a_kill_puts_them_back_first_with_or_without_the_flag() {
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
    assert_eq!(settings(&env, "posts"), map(&TUNED), "the first one still loads");
    assert_eq!(env.read("second.json.load_settings.json"), None);
    env.fake.release();
    running.wait().exits(0);
    assert_eq!(settings(&env, "posts"), map(&before));
}

#[test]
fn what_an_operator_sets_during_the_load_stays() {
    let env = env_with(&[("index.refresh_interval", "7s"), ("index.number_of_replicas", "2")]);
    let running = load_in_progress(&env);
    set_by_hand(&env, &[("index.refresh_interval", "1s")]);
    env.fake.release();
    running.wait().exits(0);
    let after = [("index.refresh_interval", "1s"), ("index.number_of_replicas", "2")];
    assert_eq!(settings(&env, "posts"), map(&after));
}

#[test]
fn a_server_that_is_away_for_a_moment_does_not_keep_them_from_being_put_back() {
    let env = env_with(&[("index.number_of_replicas", "2")]);
    env.fake.fail(is_update, 2, 3, Fault::status(503));
    env.run(&["--bulk-load-settings"]).exits(0);
    assert_eq!(settings(&env, "posts"), map(&[("index.number_of_replicas", "2")]));
    assert_eq!(env.read(RECORD), None);
}

#[test]
fn what_cannot_be_put_back_is_told_with_what_to_do_by_hand() {
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
fn settings_are_changed_only_with_the_privilege_to_put_them_back() {
    let env = env_with(&[]);
    env.fake.deny("manage");
    env.run(&["--bulk-load-settings"]).exits(5).says("manage");
    assert!(!env.fake.requests().iter().any(|record| is_update(&record.request)));
    env.run(&[]).exits(0);
}

#[test]
fn what_one_index_has_taken_is_put_back_where_the_other_refuses() {
    let env = env_with(&[]);
    let of_posts = |request: &Request| is_update(request) && request.path.starts_with("/posts_v1/");
    env.fake.fail(of_posts, 0, usize::MAX, Fault::status(403));
    env.run(&["--bulk-load-settings"]).exits(5).says("manage on posts_v1");
    assert!(settings(&env, "posts").is_empty() && settings(&env, "post_tombstones").is_empty());
    assert!(env.fake.bulks().is_empty());
    assert_eq!(env.read(RECORD), None);
}

#[test]
fn a_failure_to_put_back_does_not_hide_what_has_ended_the_run() {
    let env = env_with(&[]);
    env.fake.fail(is_update, 1, usize::MAX, Fault::status(403));
    let run = env.run(&["--bulk-load-settings"]).exits(5).says("preflight refused: load settings");
    run.says("PUT /post_tombstones_v1/_settings");
    assert!(env.read(RECORD).is_some());
}

#[test]
fn settings_are_put_back_on_a_server_that_shows_them_nested_and_as_numbers() {
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
fn settings_that_do_not_read_back_are_put_back_before_anything_is_sent() {
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
fn what_another_process_has_put_back_meanwhile_is_tuned_again() {
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
fn a_reply_that_is_none_does_not_mean_that_the_index_is_gone() {
    let env = env_with(&[("index.number_of_replicas", "2")]);
    let no_such_page = Reply { status: 404, headers: vec![], body: b"no such page".to_vec() };
    // The settings of both indices are read before and after they are set, and then no more.
    env.fake.fail(is_look_up, 4, usize::MAX, Fault::Reply(no_such_page));
    env.run(&["--bulk-load-settings"]).exits(1).says("could not be put back");
    assert!(env.read(RECORD).is_some());
    env.fake.release();
    env.run(&[]).exits(0);
    assert_eq!(settings(&env, "posts"), map(&[("index.number_of_replicas", "2")]));
}

#[test]
fn a_record_that_cannot_be_read_stops_the_run() {
    let env = env_with(&[]);
    env.write(RECORD, "{");
    env.run(&[]).exits(2).says(RECORD);
    env.run(&["--check"]).exits(2).says(RECORD);
    assert!(env.fake.bulks().is_empty());
    assert_eq!(env.read(RECORD).as_deref(), Some("{"));
}

#[test]
fn the_record_of_an_index_that_is_gone_is_done_with() {
    let env = env_with(&[]);
    let change = json!({"index.number_of_replicas": {"before": "1", "during": "0"}});
    env.write(RECORD, json!({"posts_v0": change}).to_string());
    env.run(&[]).exits(0).says("posts_v0");
    assert_eq!(env.read(RECORD), None);
}

#[test]
fn a_spool_run_has_no_first_load() {
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
    assert!(last_bulk < flush, "the flush follows what it is to make durable");
    assert!(!env.read(STATE_FILE).unwrap_or_default().contains("processed"));
    // The node dies with all that it had confirmed and not yet synced.
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
fn a_load_on_a_quiet_server_writes_everything_once_and_says_nothing_of_durability() {
    let env = env_with(&[]);
    let run = env.run(&["--bulk-load-settings"]).exits(0);
    run.check(!run.stderr.contains("loaded again"), "its own change is no news");
    let sent: usize = env.fake.bulks().iter().map(|bulk| bulk.request.body.len()).sum();
    let once: usize = {
        let other = env_with(&[]);
        other.run(&[]).exits(0);
        other.fake.bulks().iter().map(|bulk| bulk.request.body.len()).sum()
    };
    assert_eq!(sent, once);
}

#[test]
fn an_index_with_a_durability_of_its_own_keeps_it() {
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
fn the_record_of_an_older_version_is_put_back_as_it_is() {
    let env = env_with(&[("index.number_of_replicas", "0"), ("index.refresh_interval", "29999ms")]);
    let changes = json!({
        "index.number_of_replicas": {"before": "2", "during": "0"},
        "index.refresh_interval": {"before": null, "during": "29999ms"},
    });
    env.write(RECORD, json!({"posts_v1": changes}).to_string());
    env.run(&[]).exits(0);
    assert_eq!(settings(&env, "posts"), map(&[("index.number_of_replicas", "2")]));
    assert!(!env.fake.requests().iter().any(|record| is_flush(&record.request)), "nothing was async");
    assert_eq!(env.read(RECORD), None);
}

#[test]
fn a_check_names_what_a_load_sets() {
    let env = env_with(&[]);
    let run = env.run(&["--check", "--bulk-load-settings"]).exits(0);
    let line = run.stdout.lines().find(|line| line.starts_with("ok: load settings: ")).unwrap();
    for (name, value) in TUNED {
        run.check(line.contains(&format!("{name} {value}")), name);
    }
    let run = env.run(&["--check"]).exits(0);
    run.check(!run.stdout.contains("load settings"), "without the option there is nothing to name");
    assert!(!env.fake.requests().iter().any(|record| is_update(&record.request)));
}
