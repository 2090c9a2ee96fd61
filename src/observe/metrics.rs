//! The metrics file, for node exporter's textfile collector or anything that reads the same.
//!
//! Source: node exporter, "Textfile collector".

use std::fs;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{Job, Mode, Reports};
use crate::exit::ExitCode;
use crate::files;
use crate::observe::exposition::{Exposition, LAST_SUCCESS, PREFIX};
use crate::observe::progress::Figures;

#[cfg(test)]
mod tests;

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
    exposition: Exposition,
    /// When a failure to write was last warned of. Held while writing: one writer at a time.
    warned: Mutex<Option<Instant>>,
}

impl MetricsFile {
    /// The file that is asked for, if one is.
    pub fn of(reports: &Reports) -> Option<Self> {
        Some(Self::new(reports.metrics_file.clone()?, reports.mode, reports.job == Job::DryRun))
    }

    /// A file for a run of this kind. Takes over the time of the last success from a file that is there.
    pub fn new(path: PathBuf, mode: Mode, dry_run: bool) -> Self {
        let exposition = Exposition { mode, dry_run, earlier_success: earlier_success(&path) };
        reap_temporaries(&path);
        Self { path, exposition, warned: Mutex::new(None) }
    }

    /// Replaces the file by one with the figures of this moment, and with the exit code at the end of the run.
    pub fn write(&self, figures: impl FnOnce() -> Figures, code: Option<ExitCode>) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let text = self.exposition.text(&figures(), code);
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

/// What is written for a run, also where it is not written to a file.
pub fn exposition(reports: &Reports) -> Exposition {
    let earlier_success = reports.metrics_file.as_deref().and_then(earlier_success);
    Exposition { mode: reports.mode, dry_run: reports.job == Job::DryRun, earlier_success }
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
