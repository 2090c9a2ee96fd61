//! Settings of a run's reports: where they go, and when rejected rows stop the run.

use std::fmt;
use std::path::PathBuf;

use super::{ListenAddress, Mode, Output, Place};
use crate::cli::entries;
use crate::cli::settings::Settings;
use crate::common::exit::Failure;

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
            shows_documents: settings.value(entries::output()).map(Output::parse) == Some(Output::Stdout),
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
