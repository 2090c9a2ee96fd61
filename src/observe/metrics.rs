//! The metrics file: the figures of a run in Prometheus' text exposition format, for node exporter's textfile
//! collector or anything that reads the same.
//!
//! Sources: Prometheus, "Exposition formats" (text format 0.0.4) and "Metric and label naming"; node exporter,
//! "Textfile collector". What each figure means is in `docs/metrics.md`.

use std::fmt::{Display, Write as _};
use std::fs;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{Job, Mode, Reports};
use crate::exit::ExitCode;
use crate::files;
use crate::model::{Health, ServerFigures};
use crate::observe::progress::Figures;
use crate::observe::report::{Archives, Requests};

#[cfg(test)]
mod tests;

/// What every name starts with.
const PREFIX: &str = "megastream_ingest_";

/// Carried over from an earlier run's file.
const LAST_SUCCESS: &str = "last_success_timestamp_seconds";

/// A file that cannot be written is warned of this often.
const WARN_EVERY: Duration = Duration::from_secs(300);

/// A temporary file that has not changed for so long is nobody's any more: a run rewrites it at once.
const LEFT_BEHIND_AFTER: Duration = Duration::from_secs(60);

/// No more than this is read of an earlier run's file (bytes).
const MOST_READ: u64 = 1 << 20;

/// Where the figures are written. A failure to write never ends the run.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    run: RunLabels,
    /// The last success of earlier runs, milliseconds since 1970: a run that fails does not make it forgotten.
    earlier_success: Option<i64>,
    /// When a failure to write was last warned of. Held while writing: one writer at a time.
    warned: Mutex<Option<Instant>>,
}

/// What tells a run from others.
#[derive(Clone, Copy, Debug)]
struct RunLabels {
    mode: Mode,
    dry_run: bool,
}

impl MetricsFile {
    /// The file that is asked for, if one is.
    pub fn of(reports: &Reports) -> Option<Self> {
        Some(Self::new(reports.metrics_file.clone()?, reports.mode, reports.job == Job::DryRun))
    }

    /// A file for a run of this kind. Takes over the time of the last success from a file that is there.
    pub fn new(path: PathBuf, mode: Mode, dry_run: bool) -> Self {
        let earlier_success = earlier_success(&path);
        reap_temporaries(&path);
        Self { path, run: RunLabels { mode, dry_run }, earlier_success, warned: Mutex::new(None) }
    }

    /// Replaces the file by one with the figures of this moment, and with the exit code at the end of the run.
    pub fn write(&self, figures: impl FnOnce() -> Figures, code: Option<ExitCode>) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let text = render(self.run, &figures(), self.earlier_success, code);
        let Err(error) = replace(&self.path, &text) else { return };
        if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            *warned = Some(Instant::now());
            log::warn!(
                "--metrics-file (METRICS_FILE) {} cannot be written: {error}; the run goes on without",
                self.path.display()
            );
        }
    }
}

/// Replaces a file: readers find the old or the new one, whole.
///
/// The temporary name does not end in `.prom`, so that the collector passes it over. Nothing is synced to disk: the
/// figures are of this moment, and after a power failure nobody is interested in the last ones.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let temporary = files::beside(path, &format!(".{}.tmp", process::id()));
    files::replace_by(&temporary, path, |file| file.write_all(text.as_bytes()))
}

/// Removes temporary files that killed runs have left: those of the last minute may be of one that is running.
fn reap_temporaries(path: &Path) {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return };
    let is_temporary = |file: &str| {
        let id = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".tmp"));
        id.is_some_and(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
    };
    for entry in fs::read_dir(files::folder_of(path)).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let is_old =
            modified.and_then(|time| time.elapsed().ok()).is_some_and(|age| age >= LEFT_BEHIND_AFTER);
        if is_old && entry.file_name().to_str().is_some_and(is_temporary) {
            // It harms nobody; the next run tries again.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The time of the last success in an earlier run's file, milliseconds since 1970. A file that cannot be read or
/// is something else has none.
fn earlier_success(path: &Path) -> Option<i64> {
    let mut bytes = Vec::new();
    files::open(path).ok()?.take(MOST_READ).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let value =
        text.lines().find_map(|l| l.strip_prefix(PREFIX)?.strip_prefix(LAST_SUCCESS)?.strip_prefix(' '));
    let seconds: f64 = value?.parse().ok()?;
    (seconds.is_finite() && seconds >= 0.0).then_some((seconds * 1000.0).round() as i64)
}

/// The whole file. The order of lines is always the same.
fn render(run: RunLabels, figures: &Figures, earlier_success: Option<i64>, code: Option<ExitCode>) -> String {
    let mut text = Text(String::with_capacity(8 << 10));
    text.run(run, figures, code);
    text.archives(figures);
    text.rows(figures);
    text.requests(&figures.requests);
    if !run.dry_run {
        text.server(figures.server);
    }
    if let Some(code) = code {
        text.one(Gauge, "exit_code", "Exit code of the run that has ended.", code.number());
    }
    if let Some(success) = figures.last_success.or(earlier_success) {
        let help = "When all archives found had last been dealt with, none left pending, by this run or an \
                    earlier one.";
        text.one(Gauge, LAST_SUCCESS, help, seconds(success));
    }
    text.0
}

/// Milliseconds as seconds.
fn seconds(millis: i64) -> String {
    format!("{}.{:03}", millis.div_euclid(1000), millis.rem_euclid(1000))
}

/// The types of the format that are used.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}
use Kind::{Counter, Gauge};

/// A file in the making. Names are given without [`PREFIX`].
struct Text(String);

impl Text {
    fn run(&mut self, run: RunLabels, figures: &Figures, code: Option<ExitCode>) {
        self.head(Gauge, "info", "Always 1; the labels tell what runs.");
        let dry_run = if run.dry_run { "true" } else { "false" };
        let labels =
            [("version", env!("CARGO_PKG_VERSION")), ("mode", run.mode.name()), ("dry_run", dry_run)];
        self.sample("info", &labels, 1);
        self.one(Gauge, "running", "1 while the run works, 0 once it has ended.", u8::from(code.is_none()));
        self.one(Gauge, "start_timestamp_seconds", "When the run started.", seconds(figures.started));
    }

    fn archives(&mut self, figures: &Figures) {
        let Archives { discovered, already_done, processed, failed, pending } = figures.archives;
        self.one(Gauge, "archives_discovered", "Archives found in the source, and this shard's.", discovered);
        let states = [
            ("already_done", already_done),
            ("processed", processed),
            ("failed", failed),
            ("pending", pending),
        ];
        self.by(Gauge, "archives", "Archives found, by what has become of them.", "state", states);
        if let Some(time) = figures.newest_archive {
            let help =
                "The time in the name of the newest archive that is done, by this run or an earlier one.";
            self.one(Gauge, "newest_archive_timestamp_seconds", help, time);
        }
    }

    fn rows(&mut self, figures: &Figures) {
        let rows = &figures.totals.rows;
        self.one(Counter, "rows_read_total", "Rows of archives read to their end.", rows.read);
        self.by(Counter, "rows_total", "Rows by their outcome.", "outcome", rows.outcomes());
        // Only a verification finds anything.
        if rows.findings.total() > 0 {
            let help = "Rows compared, by what was found of them.";
            self.by(Counter, "rows_verified_total", help, "finding", rows.findings.all());
            let help = "Rows mended, by what was found of them before.";
            self.by(Counter, "rows_repaired_total", help, "finding", rows.repaired.differences());
        }
        let reasons = &figures.totals.reasons;
        for (name, help, label, counts) in [
            ("rows_skipped_total", "Skipped rows by reason.", "reason", &reasons.skipped),
            ("rows_rejected_total", "Rejected rows by reason.", "reason", &reasons.rejected),
            ("fields_dropped_total", "Fields left out of documents.", "field", &reasons.dropped_fields),
        ] {
            self.by(
                Counter,
                name,
                help,
                label,
                counts.iter().map(|(reason, &count)| (reason.as_str(), count)),
            );
        }
    }

    fn requests(&mut self, requests: &Requests) {
        let &Requests { bulk, retried, bytes_sent, bytes_on_wire } = requests;
        self.one(Counter, "bulk_requests_total", "Bulk requests sent.", bulk);
        let help = "Bulk requests that sent something again.";
        self.one(Counter, "bulk_requests_retried_total", help, retried);
        let help = "Bytes of the bodies of bulk requests, uncompressed.";
        self.one(Counter, "bulk_request_bytes_total", help, bytes_sent);
        let help = "The same as they were sent, compressed or not.";
        self.one(Counter, "bulk_request_bytes_on_wire_total", help, bytes_on_wire);
    }

    fn server(&mut self, server: Option<ServerFigures>) {
        let health = server.map(|server| server.health);
        let states = [
            ("connecting", None),
            ("available", Some(Health::Available)),
            ("pushing_back", Some(Health::PushingBack)),
            ("unavailable", Some(Health::Unavailable)),
        ];
        let states = states.map(|(name, state)| (name, u64::from(state == health)));
        self.by(Gauge, "elasticsearch_state", "1 for the state that Elasticsearch is in.", "state", states);
        if let Some(ServerFigures { limit, .. }) = server {
            let help = "Requests that may be in flight at once now.";
            self.one(Gauge, "requests_in_flight_limit", help, limit);
        }
    }

    /// A family of one sample without labels.
    fn one(&mut self, kind: Kind, name: &str, help: &str, value: impl Display) {
        self.head(kind, name, help);
        self.sample(name, &[], value);
    }

    /// A family with a sample for each value of a label. Without any there is no family.
    fn by<'v>(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        label: &str,
        samples: impl IntoIterator<Item = (&'v str, u64)>,
    ) {
        for (i, (value, count)) in samples.into_iter().enumerate() {
            if i == 0 {
                self.head(kind, name, help);
            }
            self.sample(name, &[(label, value)], count);
        }
    }

    fn head(&mut self, kind: Kind, name: &str, help: &str) {
        let kind = match kind {
            Counter => "counter",
            Gauge => "gauge",
        };
        self.push(format_args!("# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.push(format_args!("{PREFIX}{name}"));
        for (i, (label, text)) in labels.iter().enumerate() {
            let before = if i == 0 { '{' } else { ',' };
            self.push(format_args!("{before}{label}=\"{}\"", escape(text)));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        self.push(format_args!("{after} {value}\n"));
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.0.write_fmt(text);
    }
}

/// The text of a label's value, as the format writes it between quotes.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
