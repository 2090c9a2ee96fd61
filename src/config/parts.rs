//! Parts of configurations that several tasks share.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

use super::{Elasticsearch, ListenAddress, LogFormat, Memory, Mode, Output, Place, Source, fields, rules};
use crate::cli::entries;
use crate::cli::settings::Settings;
use crate::exit::Failure;
use crate::model::{Criteria, Names, Senders, Shard, Span};
use crate::timestamp::parse_time_or_date_millis;

/// Settings of the log.
#[derive(Clone, Copy, Debug)]
pub struct Logging {
    /// Whether anything is logged.
    pub enabled: bool,
    /// Whether lines about archives without failures are left out.
    pub quiet: bool,
    /// Format of the log.
    pub format: LogFormat,
}

/// The server that documents are sent to.
#[derive(Clone, Debug)]
pub struct Server {
    /// Connection settings.
    pub elasticsearch: Elasticsearch,
    /// Names of the indices or aliases.
    pub names: Names,
    /// Ingest pipeline of bulk requests; None: the index's default pipeline.
    pub pipeline: Option<&'static str>,
    /// Whether missing indices are created.
    pub create_indices: bool,
    /// How long to wait for an unavailable server; None: for ever.
    pub retry_budget: Option<Duration>,
    /// How long the start waits while something other than Elasticsearch answers; None: fails at once.
    pub page_budget: Option<Duration>,
}

/// The source of the archives, and their selection.
#[derive(Clone, Debug)]
pub struct Archives {
    /// Where they come from.
    pub source: Source,
    /// Whether to keep looking for new archives.
    pub mode: Mode,
    /// The state file.
    pub state_file: PathBuf,
    /// Shard, time range and limit.
    pub criteria: Criteria,
    /// How long to wait for an unavailable source; None: for ever.
    pub retry_budget: Option<Duration>,
}

/// Settings of reading, decoding and sending.
#[derive(Clone, Copy, Debug)]
pub struct Intake {
    /// Number of worker threads.
    pub workers: usize,
    /// Maximum number of concurrent bulk requests.
    pub senders: Senders,
    /// Limits of one bulk request.
    pub batch: BatchLimits,
    /// Memory that the archives being read may take together.
    pub memory: Memory,
    /// Whether the deletion of an account deletes all its posts.
    pub account_deletions: bool,
    /// Time between two looks for new archives.
    pub spool_interval: Duration,
}

/// Limits of one bulk request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Maximum number of actions.
    pub docs: usize,
    /// Maximum number of bytes, uncompressed. A larger document is sent alone.
    pub bytes: usize,
}

/// The limit of rejected rows (`--max-rejected`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RejectedLimit {
    /// A number of rows.
    Rows(u64),
    /// A percentage of the rows.
    Percent(f64),
}

/// The number of rows that a percentage refers to at least: a share of fewer rows says little.
const MIN_BASE: u64 = 1000;

impl RejectedLimit {
    /// Parses a number or a percentage.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent: f64 = percent.trim_end().parse().ok()?;
                (0.0..=100.0).contains(&percent).then_some(Self::Percent(percent))
            }
            None => text.parse().ok().map(Self::Rows),
        }
    }

    /// Returns the limit for a number of rows.
    pub fn of(self, rows: u64) -> u64 {
        match self {
            Self::Rows(most) => most,
            Self::Percent(percent) => (rows.max(MIN_BASE) as f64 * percent / 100.0).floor() as u64,
        }
    }

    fn read(settings: Settings<'_>) -> Result<Option<Self>, Failure> {
        let parse = |text: String| {
            Self::parse(&text).ok_or_else(|| {
                Failure::usage(format!(
                    "--max-rejected (MAX_REJECTED) is {text:?}: give a number of rows, or a percentage from 0% to 100%"
                ))
            })
        };
        settings.value(entries::max_rejected()).map(parse).transpose()
    }
}

impl fmt::Display for RejectedLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => write!(f, "{rows}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// The tasks that end with a summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// A load.
    Load,
    /// A dry run.
    DryRun,
    /// A replay.
    Replay,
    /// A verification, which writes nothing.
    Verify,
    /// A verification that sends rows that differ again.
    Repair,
}

impl Job {
    /// Whether the job compares the index with the archives.
    pub fn verifies(self) -> bool {
        matches!(self, Job::Verify | Job::Repair)
    }
}

/// Reports of a run, and where they go.
#[derive(Clone, Debug)]
pub struct Reports {
    /// The kind of run.
    pub job: Job,
    /// Whether the run is a spool run.
    pub mode: Mode,
    /// Where the archives are stored.
    pub source: Place,
    /// Whether `--output` goes to standard output.
    pub shows_documents: bool,
    /// The dead-letter file. None: rejected rows are only counted.
    pub dead_letters: Option<PathBuf>,
    /// Destination of the summary besides the log.
    pub summary: Option<Output>,
    /// Limit of rejected rows, above which the run stops; None: no limit.
    pub max_rejected: Option<RejectedLimit>,
    /// File for metrics in Prometheus text format.
    pub metrics_file: Option<PathBuf>,
    /// Address to serve metrics at, over HTTP.
    pub listen: Option<ListenAddress>,
}

impl Logging {
    pub(super) fn read(settings: Settings<'_>) -> Result<Self, Failure> {
        Ok(Self {
            enabled: settings.is_on(entries::logging_enabled())?,
            quiet: settings.is_on(entries::quiet())?,
            format: settings.choice(entries::log_format())?,
        })
    }
}

impl Server {
    pub(super) fn read(settings: Settings<'_>) -> Result<Self, Failure> {
        Ok(Self {
            elasticsearch: Elasticsearch::read(settings)?,
            names: read_names(settings)?,
            pipeline: settings.value(entries::pipeline()).map(|name| &*name.leak()),
            create_indices: settings.is_on(entries::create_indices())?,
            retry_budget: budget(settings)?,
            page_budget: page_budget(settings)?,
        })
    }
}

/// Reads the names of the indices or aliases.
pub(super) fn read_names(settings: Settings<'_>) -> Result<Names, Failure> {
    let read = |flag, entry| {
        let name = settings.text(entry);
        rules::check_index_name(flag, &name)?;
        // Leaked, since the names are needed until the process ends.
        Ok::<&'static str, Failure>(name.leak())
    };
    let names = Names {
        posts: read("--posts-index (POSTS_INDEX)", entries::posts_index())?,
        tombstones: read("--tombstones-index (TOMBSTONES_INDEX)", entries::tombstones_index())?,
        fields: fields::choose(
            &settings.several(entries::exclude_field()),
            &settings.several(entries::add_field()),
        )?,
    };
    if names.posts == names.tombstones {
        return Err(Failure::usage("--posts-index and --tombstones-index are the same: name two"));
    }
    Ok(names)
}

impl Archives {
    pub(super) fn read(settings: Settings<'_>) -> Result<Self, Failure> {
        Ok(Self {
            source: Source::read(settings)?,
            mode: settings.choice(entries::mode())?,
            state_file: settings.text(entries::spool_state_file()).into(),
            criteria: Criteria {
                shard: read_shard(settings)?,
                span: read_span(settings)?,
                limit: settings
                    .set(entries::limit())
                    .map(|_| settings.number(entries::limit()))
                    .transpose()?,
                retry_failed: settings.cli.retry_failed,
            },
            retry_budget: budget(settings)?,
        })
    }
}

impl Intake {
    pub(super) fn read(settings: Settings<'_>) -> Result<Self, Failure> {
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        Ok(Self {
            workers: settings.number_or(entries::workers(), cores)?,
            senders: read_senders(settings)?,
            batch: BatchLimits::read(settings)?,
            memory: read_memory(settings)?,
            account_deletions: settings.is_on(entries::account_deletions())?,
            spool_interval: Duration::from_secs(settings.number(entries::spool_interval())?),
        })
    }
}

/// The senders that `auto` starts with, which is the default number, and the most that it tries. Each holds up to three
/// batches in memory.
const AUTO_SENDERS: Senders = Senders { start: 4, max: 16 };

pub(super) fn read_senders(settings: Settings<'_>) -> Result<Senders, Failure> {
    Ok(settings.number_or_auto(entries::senders())?.map_or(AUTO_SENDERS, Senders::fixed))
}

fn read_memory(settings: Settings<'_>) -> Result<Memory, Failure> {
    let (name, text) = settings.set_or_default(entries::memory());
    Memory::parse(&name, &text)
}

/// Default of `--batch-docs` with `--bulk-load-settings`. Larger requests cost the server less.
const BULK_LOAD_DOCS: usize = 500;

impl BatchLimits {
    pub(super) fn read(settings: Settings<'_>) -> Result<Self, Failure> {
        let is_first_load = settings.is_on(entries::bulk_load_settings())?;
        let given = settings.set(entries::batch_docs()).is_some();
        let docs = settings.number(entries::batch_docs())?;
        Ok(Self {
            docs: if is_first_load && !given { BULK_LOAD_DOCS } else { docs },
            bytes: settings.number(entries::batch_bytes())?,
        })
    }
}

impl Reports {
    /// Reads the settings of reports. `dead_letters` is the default dead-letter file.
    pub(super) fn read(
        job: Job,
        dead_letters: Option<PathBuf>,
        settings: Settings<'_>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            job,
            mode: settings.choice(entries::mode())?,
            source: settings.choice(entries::source())?,
            shows_documents: false,
            dead_letters: settings.file(entries::dead_letter()).or(dead_letters),
            summary: settings.value(entries::summary_json()).map(Output::parse),
            max_rejected: RejectedLimit::read(settings)?,
            metrics_file: settings.file(entries::metrics_file()),
            listen: read_listen(settings)?,
        })
    }
}

/// Reads the address at which metrics are served.
fn read_listen(settings: Settings<'_>) -> Result<Option<ListenAddress>, Failure> {
    let Some((name, text)) = settings.set(entries::listen()) else { return Ok(None) };
    let address = ListenAddress::parse(&text).ok_or_else(|| {
        Failure::usage(format!(
            "{name} is {text:?}: it takes an address of this machine, a port, or both as ADDR:PORT"
        ))
    })?;
    Ok(Some(address))
}

/// Returns the retry budget; None in a spool run, which waits for ever.
fn budget(settings: Settings<'_>) -> Result<Option<Duration>, Failure> {
    let seconds = Duration::from_secs(settings.number(entries::retry_budget())?);
    Ok((settings.choice::<Mode>(entries::mode())? == Mode::Once).then_some(seconds))
}

/// Reads the time range of `--from` and `--to`.
pub(super) fn read_span(settings: Settings<'_>) -> Result<Span, Failure> {
    let read = |entry| {
        let Some((name, text)) = settings.set(entry) else { return Ok(None) };
        let time = parse_time_or_date_millis(text.trim());
        time.map(|time| Some((name.clone(), time))).ok_or_else(|| {
            Failure::usage(format!(
                "{name} is {text:?}: it takes a time such as 2025-12-18T00:00:00Z (RFC 3339), or a date \
                 such as 2025-12-18, which begins at midnight UTC"
            ))
        })
    };
    match (read(entries::from())?, read(entries::to())?) {
        (Some((from, start)), Some((to, end))) if start >= end => {
            Err(Failure::usage(format!("{to} is not later than {from}: name a later time")))
        }
        (from, to) => Ok(Span { from: from.map(|(_, time)| time), to: to.map(|(_, time)| time) }),
    }
}

/// Returns how long the start waits while something other than Elasticsearch answers. A `once` run reports a wrong
/// address at once to the user who has just started it. A spool run may be restarted while the server is down.
fn page_budget(settings: Settings<'_>) -> Result<Option<Duration>, Failure> {
    let seconds = Duration::from_secs(settings.number(entries::retry_budget())?);
    Ok((settings.choice::<Mode>(entries::mode())? == Mode::Spool).then_some(seconds))
}

fn read_shard(settings: Settings<'_>) -> Result<Shard, Failure> {
    let parse = |name: &str, text: &str| {
        Shard::parse(text).map_err(|error| Failure::usage(format!("{name} is {text:?}: {error}")))
    };
    if let Some((name, text)) = settings.set(entries::shard()) {
        return parse(&name, &text);
    }
    let [index, count] = entries::kubernetes_shard().names();
    match (settings.get(index), settings.get(count)) {
        (Some(i), Some(n)) => parse(&format!("{index}/{count}"), &format!("{i}/{n}")),
        (None, Some(_)) => {
            Err(Failure::usage(format!("{count} is set, but {index} is not: set both, or SHARD, or neither")))
        }
        // Kubernetes sets the index in every indexed job, whether or not that shards the archives.
        (_, None) => parse("the default of --shard", entries::shard().default),
    }
}
