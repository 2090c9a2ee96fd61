//! A run from its start to its summary.

use std::io::{self, Write};

use crate::config::{Config, LogFormat, Task};
use crate::exit::{ExitCode, Failure};
use crate::observe::logging;
use crate::observe::monitor::Monitor;
use crate::observe::progress::{Figures, Progress};
use crate::observe::report::{Summary, exit_code};
use crate::pipeline::ledger::dead_letters::DeadLetterFile;
use crate::shutdown::{Stop, StopReason};
use crate::sink::elasticsearch::Elasticsearch;
use crate::sink::elasticsearch::server::Server;

pub mod check;
mod ingest;
mod list;
mod looks;
mod replay;
pub mod selection;

/// Runs what the configuration asks for, and says how it ended.
pub fn run(config: &Config, stop: &Stop) -> ExitCode {
    let done = match &config.task {
        Task::List => list::list(config, stop),
        Task::Check(settings) => check::run(config, settings, stop),
        Task::Ingest(settings) => return report(config, stop, Progress::new(), |run| run.load(settings)),
        Task::DryRun { output } => {
            return report(config, stop, Progress::new(), |run| run.dry_run(output.as_ref()));
        }
        Task::Replay { elasticsearch, path } => {
            return report(config, stop, Progress::of_replay(), |run| run.replay(elasticsearch, path));
        }
    };
    match done {
        Ok(()) => ExitCode::Done,
        Err(failure) => {
            tell(config, &failure);
            failure.code
        }
    }
}

/// Says why a run could not go on, also where nothing is logged.
fn tell(config: &Config, failure: &Failure) {
    if config.logging {
        log::error!(exit_code = failure.code.number(); "{failure}");
    } else {
        logging::tell(failure, config.log_format);
    }
}

/// Carries a run out, and reports whatever came of it.
fn report(
    config: &Config,
    stop: &Stop,
    progress: Progress,
    carry_out: impl FnOnce(&Run<'_>) -> Result<(), Failure>,
) -> ExitCode {
    let monitor = Monitor::new(config, &progress);
    let run = Run { config, stop, progress: &progress, monitor: &monitor };
    let carried_out = monitor.during(|| carry_out(&run));
    let cut_short = carried_out.is_err();
    if let Err(failure) = carried_out {
        stop.fail(failure);
    }
    let stopped = stop.reason();
    let Figures { archives, totals, requests, elapsed, .. } = progress.figures();
    let mut code = exit_code(config.mode, stopped.as_ref(), cut_short, archives, &totals.rows);
    let mut summary = Summary::new(config, stopped.as_ref(), code, archives, totals, requests, elapsed);
    log::info!(summary = summary.json(); "{}", summary.line());
    if let Some(StopReason::Fatal(failure)) = &stopped {
        tell(config, failure);
    }
    if let Some(output) = &config.summary
        && let Err(error) = summary.write(output)
    {
        code = if code == ExitCode::Done { ExitCode::Failed } else { code };
        summary.exit_code = code.number();
        let message = format!("--summary-json (SUMMARY_JSON) cannot be written: {error}");
        tell(config, &Failure::new(code, message));
    }
    monitor.finish(code);
    if config.log_format == LogFormat::Text && log::log_enabled!(log::Level::Info) {
        // Last of all, so that it is what stands on the screen. Where it cannot be written there is nobody to read it.
        let _ = io::stderr().write_all(summary.table(config).as_bytes());
    }
    code
}

/// What all parts of a run share.
struct Run<'r> {
    config: &'r Config,
    stop: &'r Stop,
    progress: &'r Progress,
    monitor: &'r Monitor<'r>,
}

impl Run<'_> {
    /// A server that has passed preflight, as the place where documents go.
    fn sink<'s>(&'s self, server: &'s Server) -> Elasticsearch<'s> {
        let throttle = server.throttle.clone();
        self.progress.connected(move || throttle.figures());
        Elasticsearch::new(server, self.config, self.stop, &self.progress.requests)
    }

    fn dead_letters(&self) -> Option<DeadLetterFile> {
        self.config.dead_letters.clone().map(DeadLetterFile::new)
    }
}
