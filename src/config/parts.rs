//! Parts of configurations that several tasks share.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

use super::{Elasticsearch, LogFormat, Memory, Mode, Source, fields, rules};
use crate::cli::entries;
use crate::cli::settings::Settings;
use crate::common::exit::Failure;
use crate::common::timestamp::parse_time_or_date_millis;
use crate::model::{Criteria, Names, Senders, Shard, Span};

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
        let pipeline = settings.value(entries::pipeline());
        if pipeline.as_ref().is_some_and(String::is_empty) {
            return Err(Failure::usage("--pipeline is empty: name a pipeline, or remove it"));
        }
        Ok(Self {
            elasticsearch: Elasticsearch::read(settings)?,
            names: read_names(settings)?,
            pipeline: pipeline.map(|name| &*name.leak()),
            create_indices: settings.is_on(entries::create_indices())?,
            retry_budget: budget_of(Mode::Once, settings)?,
            // A `once` run reports a wrong address at once to the user who has just started it. A spool run may be
            // restarted while the server is down.
            page_budget: budget_of(Mode::Spool, settings)?,
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
                limit: settings.number_if_set(entries::limit())?,
                retry_failed: settings.cli.retry_failed,
            },
            retry_budget: budget_of(Mode::Once, settings)?,
        })
    }
}

impl Intake {
    pub(super) fn read(settings: Settings<'_>) -> Result<Self, Failure> {
        let (name, memory) = settings.set_or_default(entries::memory());
        let cores = || available_parallelism().map_or(1, NonZeroUsize::get);
        Ok(Self {
            workers: settings.number_if_set(entries::workers())?.unwrap_or_else(cores),
            senders: read_senders(settings)?,
            batch: BatchLimits::read(settings)?,
            memory: Memory::parse(&name, &memory)?,
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

/// Default of `--batch-docs` with `--bulk-load-settings`. Larger requests cost the server less.
const BULK_LOAD_DOCS: usize = 500;

impl BatchLimits {
    pub(super) fn read(settings: Settings<'_>) -> Result<Self, Failure> {
        let docs = match settings.set(entries::batch_docs()) {
            None if settings.is_on(entries::bulk_load_settings())? => BULK_LOAD_DOCS,
            _ => settings.number(entries::batch_docs())?,
        };
        Ok(Self { docs, bytes: settings.number(entries::batch_bytes())? })
    }
}

/// Returns the retry budget if the run has this mode.
fn budget_of(mode: Mode, settings: Settings<'_>) -> Result<Option<Duration>, Failure> {
    let seconds = Duration::from_secs(settings.number(entries::retry_budget())?);
    Ok((settings.choice::<Mode>(entries::mode())? == mode).then_some(seconds))
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
