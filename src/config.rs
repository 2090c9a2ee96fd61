//! What a run is to do: the command line over the environment over the defaults, checked as a whole.
//!
//! Everything that can be wrong with the settings themselves is found here; what is in the files that they name is
//! found before the first archive is opened, too.

mod elasticsearch;
mod files;
mod resolve;
mod rules;
pub mod s3;
mod settings;
mod source;

use std::path::PathBuf;
use std::time::Duration;

pub use self::elasticsearch::Elasticsearch;
pub use self::source::Source;
use crate::shard::Shard;

/// Whether the run ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Takes up what is there, then ends.
    Once,
    /// Goes on looking for new archives until a signal.
    Spool,
}

impl Mode {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Once => "once",
            Mode::Spool => "spool",
        }
    }
}

/// What the run does with what it finds.
#[derive(Clone, Debug)]
pub enum Task {
    /// Write to Elasticsearch.
    Ingest(Elasticsearch),
    /// Do everything but write to Elasticsearch; the bulk NDJSON goes to `output`, if anywhere.
    DryRun {
        /// Where the NDJSON goes.
        output: Option<Output>,
    },
    /// Send the documents of a dead-letter file again.
    Replay {
        /// The server.
        elasticsearch: Elasticsearch,
        /// The dead-letter file; never changed.
        path: PathBuf,
    },
    /// Check settings, source and Elasticsearch, then end.
    Check(Elasticsearch),
    /// Print which archives would be taken up.
    List,
}

/// Where something asked for is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output, named `-`.
    Stdout,
    /// A file, replaced.
    File(PathBuf),
}

/// Limits of one bulk request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Actions at most.
    pub docs: usize,
    /// Bytes at most, uncompressed. A single larger document travels alone.
    pub bytes: usize,
}

/// How vectors are to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorChoice {
    /// As base64 once the server is proven to read it, else as arrays.
    Auto,
    /// As base64, unproven.
    Base64,
    /// As arrays.
    Array,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A run's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether the run ends by itself.
    pub mode: Mode,
    /// What it does.
    pub task: Task,
    /// Where archives come from.
    pub source: Source,
    /// Archives decoded in parallel.
    pub workers: usize,
    /// Concurrent bulk requests at most.
    pub senders: usize,
    /// Limits of one bulk request.
    pub batch: BatchLimits,
    /// How vectors are written.
    pub vectors: VectorChoice,
    /// Which archives are done.
    pub state_file: PathBuf,
    /// Where rejected rows go. None: nowhere but into the counters (dry runs that name no file).
    pub dead_letters: Option<PathBuf>,
    /// Where the summary goes, besides the log.
    pub summary: Option<Output>,
    /// Failed archives are taken up, too.
    pub retry_failed: bool,
    /// How long an unavailable Elasticsearch or S3 is waited for; None: for ever.
    pub retry_budget: Option<Duration>,
    /// Which archives are this process's.
    pub shard: Shard,
    /// Missing indices are created.
    pub create_indices: bool,
    /// The deletion of an account means that of all its posts.
    pub account_deletions: bool,
    /// Refresh and replicas are tuned for a first load, and put back at the end.
    pub bulk_load_settings: bool,
    /// Where figures are written in Prometheus text format.
    pub metrics_file: Option<PathBuf>,
    /// Time between two looks for new archives.
    pub spool_interval: Duration,
    /// Whether anything is logged.
    pub logging: bool,
    /// How it is logged.
    pub log_format: LogFormat,
}

impl Config {
    /// Whether the run writes nothing to Elasticsearch and no state.
    pub fn is_dry_run(&self) -> bool {
        matches!(self.task, Task::DryRun { .. })
    }
}

#[cfg(test)]
mod tests;
