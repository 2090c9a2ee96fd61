//! Runs a task from start to summary.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use crate::common::exit::{ExitCode, Failure};
use crate::config::{BatchLimits, Config, Job, Load, LogFormat, Logging, Reports, Task, VectorChoice};
use crate::model::{Done, Names};
use crate::observe::finding::Check;
use crate::observe::logging;
use crate::observe::monitor::Monitor;
use crate::observe::pages;
use crate::observe::progress::Progress;
use crate::observe::report::{Summary, exit_code};
use crate::pipeline::ledger::Ledger;
use crate::pipeline::ledger::books::Books;
use crate::pipeline::ledger::dead_letters::DeadLetterFile;
use crate::pipeline::ledger::dead_letters_not_written;
use crate::pipeline::ledger::refusals::Refusals;
use crate::pipeline::ledger::state_file::StateFile;
use crate::process::shutdown::{Stop, StopReason};
use crate::run::check::disk::{Written, try_to_write};
use crate::sink::Sink;
use crate::sink::elasticsearch::client::Client;
use crate::sink::elasticsearch::holdings;
use crate::sink::elasticsearch::preflight::Needs;
use crate::sink::elasticsearch::server::Server;
use crate::sink::elasticsearch::{Elasticsearch, load_settings};

pub mod check;
mod ingest;
mod list;
mod looker;
mod looks;
mod replay;
pub mod selection;
mod start;
mod verify;

/// Maximum number of rounds in a row in which the index behind a name changes before archives can be marked. After that
/// the run gives up.
const MAX_ROUNDS: u32 = 20;

/// Runs the configured task and returns the exit code.
pub fn run(config: &Config, stop: &Stop) -> ExitCode {
    stop.guard("the program", || carry_out(config, stop)).unwrap_or_else(|| {
        let failure = stop.as_failure();
        report_failure(config.logging, &failure);
        failure.code
    })
}

fn carry_out(config: &Config, stop: &Stop) -> ExitCode {
    let logging = config.logging;
    let code_of = |done: Result<(), Failure>| {
        let failed = |failure: Failure| {
            report_failure(logging, &failure);
            failure.code
        };
        done.map_or_else(failed, |()| ExitCode::Done)
    };
    match &config.task {
        Task::List(task) => code_of(list::list(task, stop)),
        Task::Check(load) => code_of(check::run(load, stop)),
        Task::Load(task) => report(logging, &task.reports, stop, |run| run.load(task)),
        Task::DryRun(task) => report(logging, &task.reports, stop, |run| run.dry_run(task)),
        Task::Verify(task) => report(logging, &task.reports, stop, |run| run.verify(task)),
        Task::Replay(task) => report(logging, &task.reports, stop, |run| run.replay(task)),
    }
}

/// Reports why a run cannot continue, even if logging is off.
fn report_failure(logging: Logging, failure: &Failure) {
    if logging.enabled {
        log::error!(exit_code = failure.code.number(); "{failure}");
    } else {
        logging::report_failure(failure, logging.format);
    }
}

/// Carries out a run with its reports, and returns the exit code.
fn report(
    logging: Logging,
    reports: &Reports,
    stop: &Stop,
    carry_out: impl FnOnce(&Run<'_>) -> Result<(), Failure>,
) -> ExitCode {
    let is_replay = reports.job == Job::Replay;
    let progress = Arc::new(if is_replay { Progress::for_replay() } else { Progress::new() });
    let monitor = Monitor::new(reports, logging.format, &progress, stop);
    let refusals = Refusals::new(reports.max_rejected);
    let run = Run { reports, stop, progress: &progress, monitor: &monitor, refusals };
    let carried_out = monitor.during(|| {
        stop.guard("the run", || {
            pages::serve(reports, &progress, stop)?;
            carry_out(&run)
        })
    });
    let cut_short = !matches!(carried_out, Some(Ok(())));
    if let Some(Err(failure)) = carried_out {
        stop.fail(failure);
    }
    let stopped = stop.reason();
    let figures = progress.figures();
    let rows = &figures.totals.rows;
    let mut code = exit_code(reports.mode, stopped.as_ref(), cut_short, figures.archives, rows);
    let mut summary = Summary::new(reports, stop.is_interrupted(), code, figures);
    let shows_table = logging.format == LogFormat::Text && log::log_enabled!(log::Level::Info);
    // If nothing was done, people see only the error. If the output has no reader any more, they see nothing.
    if !(shows_table && (summary.is_empty() || stop.is_unread())) {
        log::info!(summary = summary.json(); "{}", summary.line());
    }
    if let Some(StopReason::Fatal(failure)) = &stopped {
        report_failure(logging, failure);
    }
    if let Some(output) = &reports.summary
        && let Err(error) = summary.write(output)
    {
        code = if code == ExitCode::Done { ExitCode::Failed } else { code };
        summary.exit_code = code;
        let message = format!("--summary-json (SUMMARY_JSON) cannot be written: {error}");
        report_failure(logging, &Failure::new(code, message));
    }
    monitor.finish(code);
    if shows_table && !stop.is_unread() {
        // The table comes last, so that it stays visible on the screen. If it cannot be written, nobody reads it.
        let _ = io::stderr().write_all(summary.table(reports).as_bytes());
    }
    code
}

/// Reads the state file at `path`.
fn read_state(path: &Path, stop: &Stop) -> Result<StateFile, Failure> {
    stop.pulse().while_using(path, || StateFile::load(path))
}

/// Warns if the indices hold far fewer documents than the marked archives should have brought, or were just created.
fn judge_holdings(server: &Server, state: &StateFile, stop: &Stop) -> Option<Check> {
    let (all, earlier) = state.done();
    match server.created.first() {
        Some(index) if all.archives > 0 => Some(holdings::lost(&format!("{index} was just created"), all)),
        _ => ask_holdings(&server.client, server.names, earlier, stop),
    }
}

/// Warns if the indices hold far fewer documents than the marked archives should have brought. Does not wait for the
/// server if the run is to stop.
fn ask_holdings(client: &Client, names: Names, brought: Done, stop: &Stop) -> Option<Check> {
    let client = client.clone();
    stop.unless_requested(move || holdings::ask(&client, names, brought)).ok().flatten().flatten()
}

/// Returns the privileges that a load needs beyond reading and writing documents.
fn needs(load: &Load) -> Needs {
    let left_changed = || load_settings::left_changed(&load.archives.state_file).unwrap_or(true);
    Needs {
        manage: load.bulk_load_settings || left_changed(),
        search_by_author: load.intake.account_deletions,
        // Connecting creates the indices before this is checked.
        create: false,
        base64: load.vectors == VectorChoice::Base64,
        offer: true,
        reads_only: false,
        names: load.server.names,
        pipeline: load.server.pipeline,
    }
}

/// State shared by all parts of a run.
struct Run<'r> {
    reports: &'r Reports,
    stop: &'r Stop,
    progress: &'r Progress,
    monitor: &'r Monitor<'r>,
    refusals: Refusals,
}

impl Run<'_> {
    /// Creates a sink that writes to a server which has passed preflight.
    fn sink<'s>(
        &'s self,
        server: &'s Server,
        batch: BatchLimits,
        vectors: VectorChoice,
    ) -> Elasticsearch<'s> {
        let throttle = server.throttle.clone();
        self.progress.set_server_source(move || throttle.figures());
        Elasticsearch::new(server, batch, vectors, self.stop, &self.progress.requests)
    }

    /// Creates a ledger that marks archives in `books`, if given. Fails if dead letters cannot be written: the first
    /// rejected row may come after months.
    fn ledger<'s>(&'s self, books: Option<&'s Books>, sink: &'s dyn Sink) -> Result<Ledger<'s>, Failure> {
        let dead_letters = self.reports.dead_letters.clone();
        if let Some(path) = &dead_letters {
            let tried = self.stop.pulse().while_using(path, || try_to_write(path, Written::InPlace));
            tried.map_err(|error| dead_letters_not_written(path, &error))?;
        }
        let dead_letters = dead_letters.map(DeadLetterFile::new);
        Ok(Ledger::new(books, dead_letters, sink, self.progress, self.stop).watched_by(&self.refusals))
    }
}
