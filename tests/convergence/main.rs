//! The index is right whatever happened: random streams of events, taken up by the real pipeline in random runs
//! that fail, stop and repeat, against a server that forgets the versions of deletes at once.
//!
//! `CONVERGENCE_CASES` is the number of cases: 150, or 1,000 where `LONG_TESTS` is set, unless it says otherwise; CI runs
//! 10,000.

// What fails here fails the test; there is nobody to hand an error to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod case;
mod harness;
mod known;
mod verify;
mod world;

use std::thread;

use proptest::test_runner::{Config, TestError, TestRunner};

use case::{Case, case};
use world::World;

/// Cases that run at once. Most of a case is waiting: for a back-off, or for the disk.
const THREADS: u32 = 16;

/// Runs that simplifying a failed case may take.
const SIMPLIFICATIONS: u32 = 2_000;

/// Cases to run, if not as many as usual.
const CASES: &str = "CONVERGENCE_CASES";

/// How much is tried: `long` where the variable `LONG_TESTS` is set, as CI sets it, else `short`.
fn long_or<T>(long: T, short: T) -> T {
    if std::env::var_os("LONG_TESTS").is_some_and(|is_set| !is_set.is_empty()) { long } else { short }
}

#[test]
fn the_index_is_correct_after_any_history() {
    let cases: u32 = std::env::var(CASES)
        .map_or_else(|_| long_or(1_000, 150), |text| text.parse().expect("a number of cases"));
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| run(cases.div_ceil(THREADS)))).collect();
        for thread in threads {
            if let Err(failed) = thread.join().expect("a thread that runs cases") {
                panic!("{failed}");
            }
        }
    });
}

/// Runs so many cases. The error is the simplest case that fails.
fn run(cases: u32) -> Result<(), TestError<Case>> {
    // A failed case is printed; what a thread drew by chance is of no use to the others.
    let config =
        Config { cases, max_shrink_iters: SIMPLIFICATIONS, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&case(), |case| World::try_out(&case))
}
