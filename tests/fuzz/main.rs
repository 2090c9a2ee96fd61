//! Whatever the bytes, nothing panics, hangs, or takes more memory than it should: random changes of valid inputs,
//! by a million for each reader of foreign bytes where somebody has the time.
//!
//! `FUZZ_CASES` is the number of cases of each target, 2,000 unless it says otherwise; `FUZZ_SEED` draws others. The
//! corpus is tried first. What fails is simplified and left in the corpus, to be kept there once it is mended:
//!
//! ```sh
//! FUZZ_CASES=1000000 cargo test --profile fuzz --test fuzz -- --nocapture
//! ```

// What fails here fails the test; there is nobody to hand an error to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// Figures are printed, and the place of an input that hangs.
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
