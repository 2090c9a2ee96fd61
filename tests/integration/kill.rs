//! The program is killed without warning at any instant, and restarted until it is done.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::archives::{Archive, delete, post, unreadable, update};
use crate::harness::http::Request;
use crate::harness::model::{assert_holds, assert_processed_are_held};
use crate::harness::script::Fault;
use crate::harness::{DEAD_LETTERS, Invocation, STATE_FILE, TestEnv, long_or};

/// How often the program is killed, unless `KILLS` says otherwise.
const KILLS: usize = 200;
const FEWER_KILLS: usize = 20;

/// Loads that are killed concurrently; most of their time is spent waiting for the server.
const CONCURRENT: usize = 5;

/// How many archives a load has.
const ARCHIVES: usize = 20;
const FEWER_ARCHIVES: usize = 10;

/// Archives with posts, updates, deletions and rejected rows.
fn archives() -> Vec<Archive> {
    let rows = |archive: usize| {
        let own = (0..10).map(move |n| post(&format!("a{archive}-{n}"), "first").row());
        // Posts of earlier archives are created again, updated or deleted.
        let earlier = archive.saturating_sub(1);
        let later = [
            update(&format!("a{earlier}-1"), "second").row(),
            delete(&format!("a{earlier}-2")),
            post(&format!("a{}-2", earlier.saturating_sub(1)), "emitted anew").row(),
            unreadable(&format!("odd{archive}"), Some("{")),
        ];
        own.chain(later)
    };
    (0..long_or(ARCHIVES, FEWER_ARCHIVES))
        .map(|n| Archive::new(&format!("20251218_0000{n:02}")).with_all(rows(n)))
        .collect()
}

/// A slow server, so that a run saves the state file several times.
fn slow_env(archives: &[Archive]) -> TestEnv {
    let env = TestEnv::with_archives(archives);
    let writes_or_looks_up = |request: &Request| request.is_bulk() || request.is_mget();
    env.fake.fail(writes_or_looks_up, 0, usize::MAX, Fault::Delay(Duration::from_millis(25)));
    env
}

fn load(env: &TestEnv) -> Invocation<'_> {
    env.ingest().args(&["--batch-docs", "4", "--senders", "2", "--workers", "2"])
}

/// Asserts what holds at every instant: the state file is valid, and every processed archive is in the index.
fn assert_nothing_is_lost(env: &TestEnv, archives: &[Archive]) {
    // The rejected row of each archive is a dead letter, not a document.
    let letters = env.read(DEAD_LETTERS).unwrap_or_default();
    let with_documents: Vec<Archive> = archives
        .iter()
        .map(|archive| {
            let mut archive = archive.clone();
            let rejected = archive.rows.pop().and_then(|row| row.at_uri).unwrap_or_default();
            let has_letter = letters.contains(&rejected);
            assert!(has_letter || env.status_of(&archive) == "pending", "{rejected} is nowhere");
            archive
        })
        .collect();
    assert_processed_are_held(env, &with_documents);
}

/// Kills a load at random instants until one run completes, and checks the result. Returns the number of kills.
fn kill_until_done(archives: &[Archive], typical: Duration, seed: u64) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let env = slow_env(archives);
    let mut done = BTreeSet::new();
    for kills in 0.. {
        let running = load(&env).start();
        std::thread::sleep(typical.mul_f64(random.f64()));
        running.signal("KILL");
        let run = running.wait();
        assert_nothing_is_lost(&env, archives);
        let now: BTreeSet<String> = env.state().into_keys().collect();
        assert!(done.is_subset(&now), "an archive was forgotten: {done:?}, then {now:?}");
        done = now;
        if run.code != Some(128 + 9) {
            // The last kill may have come after the end of the work, so the rejected rows may belong to an earlier run.
            run.check(matches!(run.code, Some(0 | 3)), "the load is complete");
            assert_eq!(done.len(), archives.len());
            assert!(!env.path(&format!("{STATE_FILE}.tmp")).exists());
            assert_holds(&env.fake, archives);
            return kills;
        }
    }
    0
}

#[test]
fn a_run_killed_at_any_instant_loses_nothing() {
    let archives = &archives();
    let undisturbed = slow_env(archives);
    let typical = load(&undisturbed).run().exits(3).took;
    let wanted = std::env::var("KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or_else(|| long_or(KILLS, FEWER_KILLS));
    let seed = AtomicU64::new(fastrand::u64(..u64::MAX / 2));
    let kills = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CONCURRENT {
            scope.spawn(|| {
                while kills.load(Ordering::Relaxed) < wanted {
                    let seed = seed.fetch_add(1, Ordering::Relaxed);
                    println!("a load of {typical:?}, seed {seed}");
                    let killed = kill_until_done(archives, typical, seed);
                    println!("seed {seed}: done after {killed} kills");
                    kills.fetch_add(killed, Ordering::Relaxed);
                }
            });
        }
    });
    assert!(kills.into_inner() >= wanted);
}
