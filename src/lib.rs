//! Bulk loader of Megastream archives into Elasticsearch.
//!
//! The library holds the stages, so that benches and tests reach them; the program is in `main.rs`.
//!
//! ```text
//! cli → config → run ─┬─ selection (which archives)      ┌─ report (summary, exit code)
//!                     ├─ server (preflight)              │
//!                     └─ pipeline ───────────────────────┘
//!
//! source → archive → decode → encode ══ Batch, bounded(2 × senders) ══▶ sender ══ Event ══▶ ledger
//! └──── Rayon pool, one archive a task ────┘                     plain threads      the run's own thread
//! ```
//!
//! - The workers own the sending end of the channel of batches; when the last archive is read it closes, and the
//!   senders end. Workers and senders own the sending ends of the channel of events; when they end, the ledger does.
//!   Nobody polls, and nobody sends "done".
//! - A worker blocks on a full channel: that bounds memory. Senders are no pool tasks, so waiting for the network
//!   never keeps a worker from decoding; but for the first posts with vectors (one, as a rule), if it has to be found
//!   out how the server reads them ([`sink::elasticsearch::vectors`]).
//! - Archives of a bucket are downloaded ahead of the workers, by threads that are no pool tasks either; a worker waits
//!   for the next one as it waits for room in the channel.
//! - The receipt (archive, row id, version) travels with each action of a batch; only judged answers reach the
//!   ledger, and only the ledger marks archives.

pub mod auth;
mod aws;
pub mod cli;
pub mod config;
pub mod exit;
pub mod files;
pub mod finding;
pub mod http;
pub mod model;
pub mod observe;
pub mod options;
pub mod pipeline;
pub mod retry;
pub mod run;
pub mod secret;
pub mod shard;
pub mod shutdown;
pub mod sink;
pub mod timestamp;
