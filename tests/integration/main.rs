//! Tests that drive the built binary against a scripted Elasticsearch.

// A failure in the harness fails the test, so there is no error to return.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod accounts;
mod alias_moves;
mod authentication;
mod bare_environments;
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
mod index_names;
mod ingest;
mod kill;
mod limits;
mod listen;
mod load_settings;
mod logs;
mod memory;
mod metrics;
mod mixtures;
mod nodes;
mod odd_archives;
mod panics;
mod preflight;
mod pressure;
mod proxy;
mod replay;
mod replies;
mod s3;
mod secrets;
mod selection;
mod shell;
mod shutdown;
mod spool;
mod spool_ahead;
mod spool_resources;
mod state;
mod terminal;
mod tls;
mod trial_documents;
mod vectors;
mod verify;
mod wording;
