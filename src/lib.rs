//! Bulk loader of Megastream archives into Elasticsearch.
//!
//! The library holds the stages, so that benches and tests reach them; the program is in `main.rs`.
//!
//! ```text
//! cli → config → run ─┬─ pipeline: source → archive → decode → worker ══ Batch ══▶ sender ══ Event ══▶ ledger
//!                     │                                          │ encode            │ deliver           │ make durable
//!                     ├─ sink ◀──────────────────────────────────┴───────────────────┴───────────────────┘
//!                     └─ observe: progress, summary, metrics, log
//! ```
//!
//! Imports go one way: `model` (plain data) knows nobody; `retry`, `http` and `observe` know `model`; `sink` knows those;
//! `pipeline` knows a sink by its trait; `run` puts a task together.
//!
//! - Rayon gives the threads of the workers; archives, and ranges of their rows, are handed out to them. Senders are plain
//!   threads, so waiting for the network never keeps a worker from decoding; but for the first posts with vectors (one,
//!   as a rule), if it has to be found out how the server reads them ([`sink::elasticsearch::vectors`]).
//! - The workers own the sending end of the channel of batches, which holds two batches for each sender. When the last
//!   archive is read it closes, and the senders end. Workers and senders own the sending ends of the channel of events;
//!   when they end, the ledger does. Nobody polls, and nobody sends "done".
//! - A worker blocks on a full channel: that bounds memory.
//! - Archives of a bucket are downloaded ahead of the workers, by threads of their own; a worker waits for the next one as
//!   it waits for room in the channel.
//! - The receipt (archive, row id, version) travels with each action of a batch; only judged answers reach the ledger, and
//!   only the ledger marks archives.

pub mod auth;
pub mod cli;
pub mod config;
pub mod exit;
pub mod files;
pub mod http;
pub mod model;
pub mod observe;
pub mod pipeline;
pub mod pulse;
pub mod retry;
pub mod run;
pub mod secret;
pub mod shutdown;
pub mod sink;
pub mod text;
pub mod timestamp;
