//! Signals: the first lets what is being sent finish, the second doesn't.

use std::time::Duration;

use crate::harness::archives::Archive;
use crate::harness::http::Request;
use crate::harness::model::{assert_holds, assert_processed_are_held};
use crate::harness::script::Fault;
use crate::harness::{TestEnv, posts};

const SOON: Duration = Duration::from_secs(8);

fn archives() -> Vec<Archive> {
    (0..3)
        .map(|n| Archive::new(&format!("20251218_00000{n}")).with_all(posts(&format!("a{n}-"), 40)))
        .collect()
}

#[test]
fn a_signal_ends_the_waiting_for_an_unavailable_server() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let env = TestEnv::with_archives(&archives());
        env.fake.fail_bulks(usize::MAX, Fault::status(503));
        let running = env.ingest().start();
        env.fake.wait_for_bulks(3);
        running.signal(signal);
        let run = running.wait().exits(code);
        run.check(run.took < SOON, "it ends soon");
        run.check(run.summary()["interrupted"] == true, "the summary says that it was interrupted");
        run.counts(&[("archives.pending", 3), ("archives.failed", 0), ("rows.indexed", 0)]);
        assert!(env.state().is_empty());
    }
}

#[test]
fn what_is_being_sent_is_finished_and_the_next_run_does_the_rest() {
    let env = TestEnv::with_archives(&archives());
    env.fake.fail(Request::is_bulk, 5, 1, Fault::Hang);
    let running = env.ingest().args(&["--batch-docs", "1", "--senders", "1", "--workers", "1"]).start();
    env.fake.wait_for_bulks(6);
    let being_sent = env.fake.bulks().pop().unwrap().items.pop().unwrap();
    running.signal("TERM");
    env.fake.release();
    let run = running.wait().exits(143);
    run.check(run.took < SOON, "it ends soon");
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
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let env = TestEnv::with_archives(&archives());
        env.fake.fail_bulks(usize::MAX, Fault::Hang);
        let mut running = env.ingest().start();
        env.fake.wait_for_bulks(1);
        running.signal_until_it_ends(signal);
        let run = running.wait().exits(code);
        run.check(run.took < SOON, "it ends at once");
        assert!(env.state().is_empty());
    }
}

#[test]
fn signals_that_come_together_are_one_as_those_of_the_timeout_command() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let env = TestEnv::with_archives(&archives());
        env.fake.fail_bulks(usize::MAX, Fault::Hang);
        // The only worker cannot hand on all of the first archive: the others are never begun.
        let running = env.ingest().args(&["--batch-docs", "1", "--senders", "1", "--workers", "1"]).start();
        env.fake.wait_for_bulks(1);
        running.signal_often(signal, 3);
        while !running.has_said("stopping") {
            std::thread::sleep(Duration::from_millis(5));
        }
        env.fake.release();
        let run = running.wait().exits(code);
        run.check(run.summary()["interrupted"] == true, "it ends in order");
        assert_processed_are_held(&env, &archives());
    }
}

#[test]
fn a_spool_run_takes_up_what_comes_and_ends_well_by_a_signal() {
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
fn a_signal_ends_the_waiting_of_a_spool_run() {
    let env = TestEnv::with_archives(&archives());
    let running = env.ingest().args(&["--mode", "spool"]).var("SPOOL_INTERVAL_SEC", "3600").start();
    env.wait_for_processed(&archives());
    running.signal("INT");
    let run = running.wait().exits(0);
    run.check(run.took < SOON, "it ends soon");
    assert_holds(&env.fake, &archives());
}
