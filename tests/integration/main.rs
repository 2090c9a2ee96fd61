//! Tests that drive the built binary against a scripted Elasticsearch.

// A failure in the harness fails the test, so there is no error to return.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod accounts;
mod check;
mod cli;
mod compose;
mod deploy;
mod disks;
mod docs;
mod dry_run;
mod durable;
mod endurance;
mod established;
mod fields;
mod harness;
mod hostile;
mod hostile_files;
mod ingest;
mod kill;
mod limits;
mod listen;
mod load_settings;
mod logs;
mod memory;
mod metrics;
mod mixtures;
mod moves;
mod names;
mod nodes;
mod odd_archives;
mod offer;
mod panics;
mod preflight;
mod pressure;
mod proxy;
mod replay;
mod replies;
mod s3;
mod sealed;
mod secrets;
mod selection;
mod shell;
mod shutdown;
mod spool;
mod spool_ahead;
mod state;
mod steady;
mod terminal;
mod tls;
mod vectors;
mod verify;
mod ways_in;
mod words;
