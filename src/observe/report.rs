//! The summary of a run, and its exit code.

mod table;

use std::fs;
use std::io::{self, ErrorKind, Write};

use rustix::fs::OFlags;
use serde::Serialize;

use crate::common::exit::ExitCode;
use crate::config::{Job, Mode, Output, Reports};
use crate::files;
use crate::model::{Findings, Reasons, Tally};
use crate::observe::progress::{Archives, Figures};
use crate::observe::traffic::Requests;
use crate::process::shutdown::StopReason;

/// Version of the summary's schema. Increased when a field is removed or changes its meaning, but not for a new field.
const SCHEMA_VERSION: u32 = 1;

/// The summary of a run (contract section 6). `docs/summary.md` explains every field.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Version of the schema.
    pub schema_version: u32,
    /// Version of the program.
    pub version: &'static str,
    /// `once` or `spool`.
    pub mode: &'static str,
    /// `local` or `s3`.
    pub source: &'static str,
    /// Whether this was a dry run: the counters say what a load would have written.
    pub dry_run: bool,
    /// Whether a signal, or the reader of its output closing the pipe, stopped the run.
    pub interrupted: bool,
    /// The exit code.
    pub exit_code: ExitCode,
    /// Wall-clock seconds.
    pub elapsed_seconds: f64,
    /// Archives by outcome.
    pub archives: Archives,
    /// Rows by outcome.
    pub rows: Tally,
    /// Rows by final finding, of a verification only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub findings: Option<Findings>,
    /// Repaired rows by their finding before the repair, of `--repair` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repaired: Option<Findings>,
    /// Reasons for outcomes of rows.
    pub reasons: Reasons,
    /// Counts of requests.
    pub requests: Requests,
}

impl Summary {
    /// Builds the summary from a run's figures.
    pub fn new(reports: &Reports, interrupted: bool, code: ExitCode, figures: Figures) -> Self {
        let Figures { archives, totals, requests, elapsed, .. } = figures;
        Self {
            schema_version: SCHEMA_VERSION,
            version: env!("CARGO_PKG_VERSION"),
            mode: reports.mode.name(),
            source: reports.source.name(),
            dry_run: reports.job == Job::DryRun,
            interrupted,
            exit_code: code,
            elapsed_seconds: (elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
            archives,
            findings: reports.job.verifies().then(|| totals.rows.findings.clone()),
            repaired: (reports.job == Job::Repair).then(|| totals.rows.repaired.clone()),
            rows: totals.rows,
            reasons: totals.reasons,
            requests,
        }
    }

    /// Writes the summary as one JSON object.
    pub fn write(&self, output: &Output) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        let written = match output {
            Output::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&text).and_then(|()| stdout.flush())
            }
            Output::File(path) if files::is_device(path) => {
                let mut device = files::open_device(path)?;
                // A slow reader may take its time.
                rustix::fs::fcntl_setfl(&device, OFlags::empty())?;
                device.write_all(&text)
            }
            Output::File(path) => fs::write(path, text),
        };
        match written {
            // The reader has closed the pipe, as `head` does, which is not an error.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }

    /// Returns the summary as one line of JSON.
    pub fn json(&self) -> String {
        // Cannot fail: a summary holds only numbers and texts.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether the run failed before it did anything, so that a table would hold only zeros.
    pub fn is_empty(&self) -> bool {
        let is_refusal = [ExitCode::Usage, ExitCode::Refused, ExitCode::Locked].contains(&self.exit_code);
        is_refusal && self.rows == Tally::default() && self.requests == Requests::default()
    }

    fn rows_per_second(&self) -> f64 {
        if self.elapsed_seconds > 0.0 { self.rows.read as f64 / self.elapsed_seconds } else { 0.0 }
    }

    /// Returns the summary as one line for the log.
    pub fn line(&self) -> String {
        let Self { archives: a, rows: r, requests: q, .. } = self;
        let mut line = format!(
            "archives: {} discovered, {} already done, {} processed, {} failed, {} pending; rows: {} read, {}; \
             requests: {} bulk, {} retried, {:.1} MB; {:.1} s, {:.0} rows/s",
            a.discovered,
            a.already_done,
            a.processed,
            a.failed,
            a.pending,
            r.read,
            r.words(),
            q.bulk,
            q.retried,
            q.bytes_sent as f64 / 1e6,
            self.elapsed_seconds,
            self.rows_per_second(),
        );
        for (what, counts) in [
            ("skipped", &self.reasons.skipped),
            ("rejected", &self.reasons.rejected),
            ("fields left out", &self.reasons.dropped_fields),
        ] {
            if !counts.is_empty() {
                let counts: Vec<String> = counts.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
                line.push_str(&format!("; {what}: {}", counts.join(", ")));
            }
        }
        line
    }
}

/// Returns the exit code of a run. A run that was `cut_short` ended before its work was done, even if nothing is
/// pending. A summary that cannot be written is not considered here.
pub fn exit_code(
    mode: Mode,
    stopped: Option<&StopReason>,
    cut_short: bool,
    archives: Archives,
    rows: &Tally,
) -> ExitCode {
    let unfinished = cut_short || archives.pending > 0 || rows.unconfirmed > 0;
    // Once the reader of the output has closed the pipe, the rest is not wanted.
    let unfinished = unfinished && stopped != Some(&StopReason::Unread);
    match stopped {
        Some(StopReason::Fatal(failure)) => failure.code,
        Some(signal) if unfinished || mode == Mode::Spool => signal.exit_code(mode),
        // Signals that left nothing unfinished do not count from here on.
        _ if unfinished => ExitCode::Failed,
        _ if archives.failed > 0 || rows.rejected > 0 || rows.findings.total_differences() > 0 => {
            ExitCode::DoneWithRejects
        }
        _ => ExitCode::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::exit::Failure;

    fn archives(failed: u64, pending: u64) -> Archives {
        Archives { discovered: 9, failed, pending, ..Archives::default() }
    }

    fn code(mode: Mode, stopped: Option<StopReason>, failed: u64, pending: u64, rejected: u64) -> ExitCode {
        let rows = Tally { rejected, ..Tally::default() };
        exit_code(mode, stopped.as_ref(), false, archives(failed, pending), &rows)
    }

    #[test]
    fn the_exit_code_of_an_undisturbed_run_shows_failures_and_pending_archives() {
        assert_eq!(code(Mode::Once, None, 0, 0, 0), ExitCode::Done);
        assert_eq!(code(Mode::Once, None, 0, 0, 1), ExitCode::DoneWithRejects);
        assert_eq!(code(Mode::Once, None, 1, 0, 0), ExitCode::DoneWithRejects);
        assert_eq!(code(Mode::Once, None, 1, 1, 1), ExitCode::Failed);
    }

    #[test]
    fn a_signal_counts_only_if_it_left_work_undone() {
        assert_eq!(code(Mode::Once, Some(StopReason::Interrupt), 0, 1, 0), ExitCode::Interrupted);
        assert_eq!(code(Mode::Once, Some(StopReason::Terminate), 0, 1, 0), ExitCode::Terminated);
        assert_eq!(code(Mode::Once, Some(StopReason::Terminate), 0, 0, 0), ExitCode::Done);
        assert_eq!(code(Mode::Spool, Some(StopReason::Terminate), 1, 1, 1), ExitCode::Done);
    }

    #[test]
    fn an_interrupted_replay_is_not_done_although_no_archive_is_pending() {
        let rows = Tally { unconfirmed: 1, ..Tally::default() };
        let stopped = StopReason::Terminate;
        assert_eq!(
            exit_code(Mode::Once, Some(&stopped), false, Archives::default(), &rows),
            ExitCode::Terminated
        );
    }

    #[test]
    fn a_signal_before_the_first_look_leaves_everything_undone() {
        let code = |mode| {
            let (archives, rows) = (Archives::default(), Tally::default());
            exit_code(mode, Some(&StopReason::Interrupt), true, archives, &rows)
        };
        assert_eq!(code(Mode::Once), ExitCode::Interrupted);
        assert_eq!(code(Mode::Spool), ExitCode::Done);
    }

    #[test]
    fn a_failure_wins() {
        let unavailable = StopReason::Fatal(Failure::new(ExitCode::Unavailable, "gone"));
        assert_eq!(code(Mode::Spool, Some(unavailable), 1, 1, 1), ExitCode::Unavailable);
    }
}
