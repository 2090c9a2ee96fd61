//! The index is correct after any history: random events, loaded by the real pipeline in random runs that fail, stop
//! and repeat, into a server that forgets the versions of deletes at once.
//!
//! `CONVERGENCE_CASES` sets the number of cases. The default is 150, or 1,000 with `LONG_TESTS`; CI runs 10,000.

// A failure here fails the test, so there is no error to return.
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

/// The number of concurrent cases. A case mostly waits for back-offs and for the disk.
const THREADS: u32 = 16;

/// The maximum number of runs to simplify a failed case.
const SIMPLIFICATIONS: u32 = 2_000;

/// The variable with the number of cases.
const CASES: &str = "CONVERGENCE_CASES";

/// `long` with the variable `LONG_TESTS`, as in CI, else `short`.
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

/// Runs this number of cases. The error is the simplest failing case.
fn run(cases: u32) -> Result<(), TestError<Case>> {
    // The failing case is printed, so no seed is saved.
    let config =
        Config { cases, max_shrink_iters: SIMPLIFICATIONS, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&case(), |case| World::try_out(&case))
}
