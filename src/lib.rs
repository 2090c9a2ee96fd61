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
//! Imports go one way: `model` (plain data) imports no other module; `retry`, `http` and `observe` import `model`; `sink`
//! imports those; `pipeline` sees a sink only through its trait; `run` puts a task together.
//!
//! - Rayon provides the worker threads; they take archives, and ranges of rows. Senders are plain threads, so waiting for
//!   the network never keeps a worker from decoding. One exception: the first posts with vectors (as a rule one) wait
//!   where it has to be found out how the server reads them ([`sink::elasticsearch::vectors`]).
//! - The workers own the sending end of the channel of batches, which holds two batches per sender. It closes when the
//!   last archive is read, and the senders end. Workers and senders own the sending ends of the channel of events; when
//!   they end, so does the ledger. Nothing polls, and nobody sends "done".
//! - A worker blocks on a full channel: that bounds memory.
//! - Archives of a bucket are downloaded ahead of the workers, by threads of their own; a worker waits for the next one as
//!   it waits for room in the channel.
//! - Each action of a batch carries its receipt (archive, row id, version). Only judged answers reach the ledger, and only
//!   the ledger marks archives.

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
