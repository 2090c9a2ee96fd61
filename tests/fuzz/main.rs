//! No input makes the program panic, hang, or use too much memory: random changes of valid inputs, for each parser of
//! untrusted bytes.
//!
//! `FUZZ_CASES` sets the number of cases per target, 2,000 by default; `FUZZ_SEED` selects others. The corpus is tried
//! first. A failing input is simplified and saved in the corpus, where it stays as a regression test:
//!
//! ```sh
//! FUZZ_CASES=1000000 cargo test --profile fuzz --test fuzz -- --nocapture
//! ```

// A failure here fails the test, so there is no error to return.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// Figures are printed, and the path of an input that hangs.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod base85;
mod databases;
mod harness;
mod mutation;
mod replies;
mod rows;
mod state;
#[path = "../integration/harness/vectors.rs"]
#[allow(dead_code)]
mod vectors;
mod zips;
