//! `--check`: checks whether a run could work, and prints one line per check on standard output.
//!
//! Archives are listed and opened but not read. Nothing is left behind: files are tried by writing temporary ones beside
//! them, in the same way as a run does.

mod archives;
pub(super) mod disk;

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use self::archives::check_archives;
use self::disk::check_disk;
use crate::common::exit::{ExitCode, Failure};
use crate::config::{Archives, Load};
use crate::model::schema;
use crate::observe::finding::{Check, Status};
use crate::pipeline::ledger::state_file::StateFile;
use crate::process::shutdown::Stop;
use crate::retry::patience::Retries;
use crate::run::{ask_holdings, needs, read_state};
use crate::sink::elasticsearch::answer::{NoAnswer, Outage};
use crate::sink::elasticsearch::client::{Client, RequestLimits};
use crate::sink::elasticsearch::preflight::{self, Needs};
use crate::sink::elasticsearch::retrying::{AT_ONCE, policy, retry_until_stopped};
use crate::sink::elasticsearch::{identity, load_settings};

/// Time limit of a single request.
const CALL_LIMIT: Duration = Duration::from_secs(20);

/// Time for which an unavailable server is retried: one that is busy or has just started answers a moment later.
const RETRY_FOR: Duration = Duration::from_secs(10);

/// Runs all checks, even after one has failed.
///
/// # Errors
///
/// The failed checks, with the exit code of the first: 2 for settings, source and disk, 1 for a disk or file server that
/// does not answer, 4 for an unavailable Elasticsearch or S3, 5 for one that refuses.
pub fn run(load: &Load, stop: &Stop) -> Result<(), Failure> {
    let mut findings = Findings { failed: Vec::new(), stop };
    findings.add(ExitCode::Usage, check_settings(load))?;
    let state = read_state(&load.archives.state_file, stop);
    let (code, checks) = check_state(&load.archives, state.as_ref());
    findings.add(code, checks)?;
    let (code, checks) = check_archives(&load.archives, &load.intake, state.as_ref().ok(), stop);
    findings.add(code, checks)?;
    findings.add(ExitCode::Usage, check_disk(load))?;
    let (code, checks) = check_elasticsearch(load, state.as_ref().ok(), stop);
    findings.add(code, checks)?;
    findings.end()
}

/// Results of the checks so far.
struct Findings<'r> {
    failed: Vec<(ExitCode, Check)>,
    stop: &'r Stop,
}

impl Findings<'_> {
    /// Prints checks as soon as they are done, since the next ones may take time. Leaves out checks that a signal may
    /// have interrupted: their result means nothing.
    fn add(&mut self, code_of_failed: ExitCode, checks: Vec<Check>) -> Result<(), Failure> {
        if self.stop.is_requested() {
            return Err(self.stop.as_failure());
        }
        let text: String = checks.iter().map(|check| format!("{}\n", one_line(&check.to_string()))).collect();
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            // The reader has closed the pipe, as `head` does. The exit code still covers all checks.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            written => written
                .map_err(|error| Failure::run(format!("standard output cannot be written: {error}")))?,
        }
        let failed = checks.into_iter().filter(|check| check.status == Status::Failed);
        self.failed.extend(failed.map(|check| (code_of_failed, check)));
        Ok(())
    }

    fn end(self) -> Result<(), Failure> {
        let Some((code, _)) = self.failed.first() else { return Ok(()) };
        let texts: Vec<_> =
            self.failed.iter().map(|(_, check)| format!("{}: {}", check.name, check.text)).collect();
        Err(Failure::new(*code, format!("check failed: {}", one_line(&texts.join("; ")))))
    }
}

/// Replaces control characters by spaces: paths and texts of servers may hold any.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Describes the settings. Invalid ones have already been refused.
fn check_settings(load: &Load) -> Vec<Check> {
    let Load { archives, intake, server, .. } = load;
    let text = format!(
        "{} workers, {}, {} actions and {} bytes a bulk request at most, shard {}, state file {:?}",
        intake.workers,
        intake.senders,
        intake.batch.docs,
        intake.batch.bytes,
        archives.criteria.shard,
        archives.state_file
    );
    let fields = format!("posts are written with {}", schema::describe(server.names.fields));
    let insecurities =
        server.elasticsearch.insecurities().into_iter().map(|text| Check::warning("settings", text));
    let tuned = load.bulk_load_settings.then(|| {
        let text = format!(
            "a load sets {}, and restores the current settings at its end",
            load_settings::describe()
        );
        Check::ok("load settings", text)
    });
    let checks = [Check::ok("settings", text), Check::ok("fields", fields)];
    checks.into_iter().chain(tuned).chain(insecurities).collect()
}

/// Returns the checks, and the exit code of the first that failed.
fn check_state(archives: &Archives, state: Result<&StateFile, &Failure>) -> (ExitCode, Vec<Check>) {
    let mut code = state.err().map(|failure| failure.code);
    let mut checks = vec![match state {
        Ok(_) => Check::ok(
            "state file",
            if archives.state_file.exists() { "it can be read" } else { "there is none yet" },
        ),
        Err(failure) => Check::failed("state file", failure.message.as_str()),
    }];
    match StateFile::is_locked(&archives.state_file) {
        Ok(false) => {}
        Ok(true) => checks.push(Check::warning(
            "state file",
            "another process has locked it: wait until that ends, or name another one in SPOOL_STATE_FILE",
        )),
        Err(error) => checks.push(Check::failed("state file", format!("its lock cannot be opened: {error}"))),
    }
    match load_settings::left_changed(&archives.state_file) {
        Ok(false) => {}
        Ok(true) => checks.push(Check::warning(
            "load settings",
            "a run with --bulk-load-settings is running, or was killed; if it was killed, the next run \
             restores the index settings",
        )),
        Err(failure) => {
            code.get_or_insert(failure.code);
            checks.push(Check::failed("load settings", failure.message));
        }
    }
    (code.unwrap_or(ExitCode::Usage), checks)
}

fn check_elasticsearch(load: &Load, state: Option<&StateFile>, stop: &Stop) -> (ExitCode, Vec<Check>) {
    let client = match Client::with_limits(
        &load.server.elasticsearch,
        RequestLimits { call: CALL_LIMIT, ..RequestLimits::default() },
    ) {
        Ok(client) => client,
        Err(failure) => return (failure.code, vec![Check::failed("settings", failure.message)]),
    };
    let limit = load.server.retry_budget.map_or(RETRY_FOR, |budget| budget.min(RETRY_FOR));
    let needs = Needs { create: load.server.create_indices, ..needs(load) };
    match ask(&client, needs, limit, stop) {
        Ok(mut checks) => {
            let (_, brought) = state.map(StateFile::done).unwrap_or_default();
            checks.extend(ask_holdings(&client, needs.names, brought, stop));
            let identity = stop.unless_requested(move || identity::ask(&client));
            checks.extend(identity.ok().flatten().unwrap_or_default());
            (ExitCode::Refused, checks)
        }
        Err(Outage { why, retry_after }) => {
            let what_to_do = match retry_after {
                Some(time) => format!("it requests a pause: check again in {} s", time.as_secs()),
                None => "check whether it runs, and the host and port in ELASTICSEARCH_URL".to_owned(),
            };
            let text = format!("unavailable: {why}: {what_to_do}");
            (ExitCode::Unavailable, vec![Check::failed("elasticsearch", text)])
        }
    }
}

/// Runs the preflight, and retries an unavailable server until the limit. A server whose `Retry-After` is longer than
/// that is not retried.
fn ask(client: &Client, needs: Needs, limit: Duration, stop: &Stop) -> Result<Vec<Check>, Outage> {
    let retries = Retries::new(stop, policy(Some(limit)));
    let client = client.clone();
    let asked = retry_until_stopped(&retries, AT_ONCE, move |_| match preflight::run(&client, needs) {
        Err(NoAnswer::Unavailable(outage)) if outage.retry_after.is_some_and(|time| time > limit) => {
            Ok(Err(outage))
        }
        Err(NoAnswer::Refused(checks)) => Ok(Ok(checks)),
        answer => answer.map(|report| Ok(report.checks)),
    });
    asked.unwrap_or_else(|unanswered| match unanswered.last {
        NoAnswer::Unavailable(outage) => Err(outage),
        NoAnswer::Refused(checks) => Ok(checks),
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::{Mode, Source};
    use crate::model::Criteria;

    #[test]
    fn a_state_file_whose_disk_does_not_answer_for_now_is_no_wrong_setting() {
        let folder = tempfile::tempdir().unwrap();
        let archives = Archives {
            source: Source::Local(vec![PathBuf::from("archives")]),
            mode: Mode::Once,
            state_file: folder.path().join("state.json"),
            criteria: Criteria::ALL,
            retry_budget: None,
        };
        for failure in [Failure::run("it cannot be read for now"), Failure::usage("it is no state file")] {
            let (code, checks) = check_state(&archives, Err(&failure));
            assert_eq!((code, &*checks[0].text), (failure.code, &*failure.message));
        }
    }

    #[test]
    fn the_first_failure_decides_the_exit_code() {
        let stop = Stop::new();
        let mut findings = Findings { failed: Vec::new(), stop: &stop };
        findings.failed.push((ExitCode::Usage, Check::failed("disk", "full\nof it")));
        findings.failed.push((ExitCode::Refused, Check::failed("posts", "missing")));
        let failure = findings.end().unwrap_err();
        assert_eq!(failure.code, ExitCode::Usage);
        assert_eq!(failure.message, "check failed: disk: full of it; posts: missing");
    }
}
