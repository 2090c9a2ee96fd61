//! The metrics file, for node exporter's textfile collector and compatible readers.
//!
//! Source: node exporter, "Textfile collector".

use std::fs;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process;

use std::time::{Duration, Instant};

use crate::common::exit::ExitCode;
use crate::common::mutex::Mutex;
use crate::config::{Job, Mode, Reports};
use crate::files;
use crate::observe::exposition::{Exposition, LAST_SUCCESS, PREFIX};
use crate::observe::progress::Figures;

#[cfg(test)]
mod tests;

/// Interval between warnings about a file that cannot be written.
const WARN_EVERY: Duration = Duration::from_secs(300);

/// Age after which a temporary file counts as abandoned. A running process renames its own at once.
const LEFT_BEHIND_AFTER: Duration = Duration::from_secs(60);

/// Maximum number of bytes read of an earlier run's file.
const MAX_READ: u64 = 1 << 20;

/// The metrics file. A failure to write it never ends the run.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    exposition: Exposition,
    /// When a failure to write was last logged. Locked while writing, so that there is one writer at a time.
    warned: Mutex<Option<Instant>>,
}

impl MetricsFile {
    /// Returns the configured file, if there is one.
    pub fn of(reports: &Reports) -> Option<Self> {
        Some(Self::new(reports.metrics_file.clone()?, reports.mode, reports.job == Job::DryRun))
    }

    /// Creates a writer, which takes the time of the last success over from an existing file.
    pub fn new(path: PathBuf, mode: Mode, dry_run: bool) -> Self {
        let exposition = Exposition { mode, dry_run, earlier_success: earlier_success(&path) };
        reap_temporaries(&path);
        Self { path, exposition, warned: Mutex::new(None) }
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the file by the current figures, with the exit code at the end of the run.
    pub fn write(&self, figures: impl FnOnce() -> Figures, code: Option<ExitCode>) {
        let mut warned = self.warned.lock();
        let text = self.exposition.text(&figures(), code);
        let Err(error) = replace(&self.path, &text) else { return };
        if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            *warned = Some(Instant::now());
            log::warn!(
                "--metrics-file (METRICS_FILE) {} cannot be written: {error}; the run continues without it; \
                 free some disk space, or make its folder writable",
                self.path.display()
            );
        }
    }
}

/// Replaces a file atomically. Follows links, so that a link stays one. A device or pipe, such as `/dev/stdout`, is
/// written to instead: renaming a file over it would remove it from the system.
///
/// The temporary name does not end in `.prom`, so the collector ignores it. Nothing is synced to disk: figures are
/// worthless after a power failure.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    if files::is_device(path) {
        return files::open_device(path)?.write_all(text.as_bytes());
    }
    let path = files::real_path(path);
    let temporary = files::beside(&path, &format!(".{}.tmp", process::id()));
    files::replace_by(&temporary, &path, |file| file.write_all(text.as_bytes()))
}

/// Removes temporary files that killed runs have left. Newer ones may belong to a running process.
fn reap_temporaries(path: &Path) {
    let path = &files::real_path(path);
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
            // A leftover does no harm, and the next run tries again.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Returns the facts about a run for its exposition, whether or not it writes a metrics file.
pub fn exposition(reports: &Reports) -> Exposition {
    let earlier_success = reports.metrics_file.as_deref().and_then(earlier_success);
    Exposition { mode: reports.mode, dry_run: reports.job == Job::DryRun, earlier_success }
}

/// Returns the last success recorded in an earlier run's file, in milliseconds since 1970. None if the file cannot be
/// read or holds something else.
fn earlier_success(path: &Path) -> Option<i64> {
    let mut bytes = Vec::new();
    files::open(path).ok()?.take(MAX_READ).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let value =
        text.lines().find_map(|l| l.strip_prefix(PREFIX)?.strip_prefix(LAST_SUCCESS)?.strip_prefix(' '));
    let seconds: f64 = value?.parse().ok()?;
    (seconds.is_finite() && seconds >= 0.0).then_some((seconds * 1000.0).round() as i64)
}
