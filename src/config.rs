//! What a run is to do: the command line over the environment over the defaults, checked as a whole.
//!
//! Everything that can be wrong with the configuration is found here, before the first archive is opened.

mod files;
mod rules;
pub mod s3;
mod settings;
mod source;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

use self::settings::Settings;
pub use self::source::Source;
use crate::cli::Cli;
use crate::exit::Failure;
use crate::pipeline::source::Shard;
use crate::secret::Secret;

/// How Elasticsearch is reached.
#[derive(Clone, Debug)]
pub struct Elasticsearch {
    /// Base URL, `http` or `https`, with host, optional port and path prefix; no user info, no trailing `/`.
    pub url: String,
    /// Sent as `Authorization: ApiKey …`.
    pub api_key: Secret,
    /// Certificates are not checked.
    pub skip_tls_verify: bool,
    /// PEM file with roots trusted besides the system's.
    pub ca_cert: Option<PathBuf>,
}

/// Whether the run ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Takes up what is there, then ends.
    Once,
    /// Goes on looking for new archives until a signal.
    Spool,
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

impl Output {
    fn parse(text: String) -> Self {
        if text == "-" { Output::Stdout } else { Output::File(text.into()) }
    }
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
    /// How long an unavailable Elasticsearch is waited for; None: for ever.
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
    /// Resolves and checks everything. `environment` looks up a variable; an empty one is as good as none.
    pub fn resolve(cli: Cli, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let settings = Settings { environment };
        rules::check_paths(&cli)?;
        rules::check_replay(&cli)?;
        let mode = settings.choice("--mode", cli.mode, &[("once", Mode::Once), ("spool", Mode::Spool)])?;
        let logging = settings.switch(None, "LOGGING_ENABLED", true)?;
        let log_format = settings.choice(
            "LOG_FORMAT",
            settings.get("LOG_FORMAT"),
            &[("text", LogFormat::Text), ("json", LogFormat::Json)],
        )?;
        let shard = settings.shard(cli.shard)?;
        let batch = BatchLimits {
            docs: settings.number(("--batch-docs", "BATCH_DOCS"), cli.batch_docs, 100, 1, 100_000)?,
            bytes: settings.number(
                ("--batch-bytes", "BATCH_BYTES"),
                cli.batch_bytes,
                8 << 20,
                1 << 10,
                1 << 30,
            )?,
        };
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        let workers = settings.number(("--workers", "WORKERS"), cli.workers, cores, 1, 1024)?;
        let senders = settings.number(("--senders", "SENDERS"), cli.senders, 4, 1, 256)?;
        let budget = ("--retry-budget", "RETRY_BUDGET_SEC");
        let budget = Duration::from_secs(settings.number(budget, cli.retry_budget, 600, 0, u64::MAX)?);
        let interval =
            settings.number(("SPOOL_INTERVAL_SEC", "SPOOL_INTERVAL_SEC"), None, 60, 1, u64::MAX)?;
        let encoding = settings.text(cli.vector_encoding, "VECTOR_ENCODING");
        let vectors = settings.choice(
            "--vector-encoding (VECTOR_ENCODING)",
            encoding,
            &[("auto", VectorChoice::Auto), ("base64", VectorChoice::Base64), ("array", VectorChoice::Array)],
        )?;
        let summary = settings.text(cli.summary_json, "SUMMARY_JSON").map(Output::parse);
        let output = cli.output.map(Output::parse);
        let ca_cert = cli.ca_cert;
        let dead_letters = settings.text(cli.dead_letter, "DEAD_LETTER_FILE").map(PathBuf::from);

        rules::check_combination(cli.dry_run, cli.check, cli.list, cli.create_indices, &output, &summary)?;
        let task = if cli.list {
            Task::List
        } else if cli.dry_run {
            Task::DryRun { output }
        } else {
            let elasticsearch = settings.elasticsearch(cli.skip_tls_verify, ca_cert.clone())?;
            match cli.replay.map(PathBuf::from) {
                _ if cli.check => Task::Check(elasticsearch),
                Some(path) => Task::Replay { elasticsearch, path },
                None => Task::Ingest(elasticsearch),
            }
        };
        let dead_letters = match &task {
            Task::Replay { path, .. } => dead_letters.or_else(|| Some(rules::failed_anew(path))),
            // A dry run leaves nothing behind that was not asked for by name.
            Task::DryRun { .. } => dead_letters,
            _ => dead_letters.or_else(|| Some(".dead_letters.ndjson".into())),
        };
        let source = match &task {
            // The only file that it reads is the task's.
            Task::Replay { .. } => Source::Local(Vec::new()),
            _ => settings.source(cli.source, cli.paths, ca_cert)?,
        };

        let account_deletions = settings.switch(cli.account_deletions, "ACCOUNT_DELETIONS", false)?;
        // A replay is no load.
        let bulk_load_settings = settings.switch(cli.bulk_load_settings, "BULK_LOAD_SETTINGS", false)?
            && !matches!(task, Task::Replay { .. });
        rules::check_load(bulk_load_settings, mode)?;

        let config = Self {
            mode,
            task,
            source,
            workers,
            senders,
            batch,
            vectors,
            state_file: settings.get("SPOOL_STATE_FILE").unwrap_or(".processed_files.json".into()).into(),
            dead_letters,
            summary,
            retry_failed: cli.retry_failed,
            retry_budget: (mode == Mode::Once).then_some(budget),
            shard,
            create_indices: cli.create_indices,
            account_deletions,
            bulk_load_settings,
            metrics_file: settings.text(cli.metrics_file, "METRICS_FILE").map(PathBuf::from),
            spool_interval: Duration::from_secs(interval),
            logging,
            log_format,
        };
        config.check_files()?;
        Ok(config)
    }

    /// Whether the run writes nothing to Elasticsearch and no state.
    pub fn is_dry_run(&self) -> bool {
        matches!(self.task, Task::DryRun { .. })
    }
}

#[cfg(test)]
mod tests;
