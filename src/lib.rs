//! Bulk loader of Megastream archives into Elasticsearch.
//!
//! The stages are a library so that benches and tests can use them; the program is in `main.rs`.
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
//! - The workers are Rayon threads; they take archives and ranges of rows. Senders are plain threads, so waiting for the
//!   network never keeps a worker from decoding. There is one exception: if the run has to find out which vector encoding
//!   the server reads, the first posts with vectors wait for that ([`sink::elasticsearch::vectors`]).
//! - The workers own the sending end of the batch channel, which holds one batch per sender. The channel closes when
//!   the last archive has been read, and then the senders end. Workers and senders own the sending ends of the event
//!   channel; when they end, so does the ledger. Nothing polls, and no "done" message is needed.
//! - A worker blocks on a full channel, which bounds memory.
//! - Separate threads download the archives of a bucket ahead of the workers.
//! - Each action of a batch carries its receipt (archive, row id, version). The ledger receives final outcomes only, and
//!   nothing else marks archives.

pub mod auth;
pub mod cli;
pub mod common;
pub mod config;
pub mod files;
pub mod http;
pub mod model;
pub mod observe;
pub mod pipeline;
pub mod process;
pub mod retry;
pub mod run;
pub mod sink;

#[cfg(test)]
mod tests;
