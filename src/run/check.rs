//! `--check`: checks whether a run could work, and prints one line per check on standard output.
//!
//! Archives are listed and opened but not read. Nothing is left behind: files are tried by writing temporary ones beside
//! them, in the same way as a run does.

mod disk;

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::time::Duration;

use self::disk::check_disk;
use crate::config::{Archives, Intake, Load, Memory};
use crate::exit::{ExitCode, Failure};
use crate::model::{Archive, Selection, schema};
use crate::observe::finding::{Check, Status};
use crate::pipeline::admission::too_large;
use crate::pipeline::archive::bytes_declared;
use crate::pipeline::ledger::state_file::StateFile;
use crate::pipeline::source::Source;
use crate::retry::patience::Retries;
use crate::run::needs;
use crate::run::selection::{self, NotTaken};
use crate::shutdown::Stop;
use crate::sink::elasticsearch::client::{Client, RequestLimits};
use crate::sink::elasticsearch::preflight::{self, Needs, Outage, PreflightError};
use crate::sink::elasticsearch::retrying::{policy, retry_until_stopped};
use crate::sink::elasticsearch::{holdings, identity, load_settings};
use crate::text::format_bytes;

/// Time limit of a single request.
const CALL_LIMIT: Duration = Duration::from_secs(20);

/// Time for which an unavailable server is retried: one that is busy or has just started answers a moment later.
const RETRY_FOR: Duration = Duration::from_secs(10);

/// Maximum number of zips whose declared sizes are read.
const MAX_ZIPS: usize = 1_000;

/// Runs all checks, even after one has failed.
///
/// # Errors
///
/// The failed checks, with the exit code of the first: 2 for settings, source and disk, 4 for an unavailable
/// Elasticsearch or S3, 5 for one that refuses.
pub fn run(load: &Load, stop: &Stop) -> Result<(), Failure> {
    let mut findings = Findings { failed: Vec::new(), stop };
    findings.add(ExitCode::Usage, check_settings(load))?;
    let state = StateFile::load(&load.archives.state_file);
    findings.add(ExitCode::Usage, check_state(&load.archives, state.as_ref()))?;
    let (code, checks) = check_source(&load.archives, &load.intake, state.as_ref().ok(), stop);
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
            "a load sets {}, and puts the present settings back at its end",
            load_settings::describe()
        );
        Check::ok("load settings", text)
    });
    let checks = [Check::ok("settings", text), Check::ok("fields", fields)];
    checks.into_iter().chain(tuned).chain(insecurities).collect()
}

fn check_state(archives: &Archives, state: Result<&StateFile, &Failure>) -> Vec<Check> {
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
            "a run with --bulk-load-settings is running, or was killed; if it was killed, the next run puts \
             the index settings back",
        )),
        Err(failure) => checks.push(Check::failed("load settings", failure.message)),
    }
    checks
}

fn check_source(
    archives: &Archives,
    intake: &Intake,
    state: Option<&StateFile>,
    stop: &Stop,
) -> (ExitCode, Vec<Check>) {
    let found = Source::open(&archives.source, Some(Duration::ZERO), stop)
        .and_then(|source| source.discover(stop).map(|discovery| (source, discovery)));
    let (source, discovery) = match found {
        Ok(found) => found,
        Err(failure) => return (failure.code, vec![Check::failed("source", failure.message)]),
    };
    let mut checks = Vec::new();
    if let Some(first) = discovery.left_out.first() {
        let count = discovery.left_out.len();
        let text = format!("{count} left out, such as {:?}: {} (--list names all)", first.path, first.reason);
        checks.push(Check::warning("source", text));
    }
    checks.extend(discovery.nothing.map(|nothing| Check::warning("source", nothing)));
    let Some(state) = state else {
        checks.push(Check::ok("source", format!("{} archives", discovery.archives.len())));
        return (ExitCode::Usage, checks);
    };
    let judged = selection::judge(&discovery.archives, state, &archives.criteria);
    let nothing = selection::nothing_in_span(&discovery.archives, &judged);
    checks.extend(nothing.map(|nothing| Check::warning("source", nothing)));
    checks.extend(check_changed(&discovery.archives, &judged));
    let selection = selection::partition(discovery.archives, judged);
    checks.extend(check_selection(&selection));
    let code = match source {
        Source::Local(_) => {
            checks.extend(check_memory(&selection.take, intake.memory, intake.workers));
            checks.extend(check_readable(selection.take.iter().map(AsRef::as_ref)));
            ExitCode::Usage
        }
        Source::S3(bucket) => {
            // The declared sizes of zips in a bucket are unknown until they are downloaded.
            checks.extend(check_memory(&[], intake.memory, intake.workers));
            match selection.take.first().map(|archive| bucket.try_to_read(archive)) {
                Some(Err(failure)) => {
                    checks.push(Check::failed("source", failure.message));
                    failure.code
                }
                _ => ExitCode::Done,
            }
        }
    };
    (code, checks)
}

/// Reports how many archives may be read at once, by the declared sizes of the first zips, and whether some are too
/// large to be read at all.
fn check_memory(archives: &[Arc<Archive>], memory: Memory, workers: usize) -> Vec<Check> {
    let needs: Vec<(u64, &Archive)> = archives
        .iter()
        .take(MAX_ZIPS)
        .filter_map(|archive| Some((bytes_declared(&archive.path).ok()?, &**archive)))
        .collect();
    let how = if memory.is_auto { "auto" } else { "--memory" };
    let Some((largest, archive)) = needs.iter().max_by_key(|(bytes, _)| bytes) else {
        let text = format!("{} for archives ({how})", format_bytes(memory.bytes));
        return vec![Check::ok("memory", text)];
    };
    let at_once = usize::try_from(memory.bytes / largest).unwrap_or(usize::MAX).min(workers);
    let text = format!(
        "{} for archives ({how}): {at_once} at once of the largest, {:?}, which takes {} ({workers} workers)",
        format_bytes(memory.bytes),
        archive.name,
        format_bytes(*largest)
    );
    let larger: Vec<_> = needs.iter().filter(|(bytes, _)| *bytes > memory.bytes).collect();
    match larger.first() {
        None => vec![Check::ok("memory", text)],
        Some((bytes, archive)) => {
            let text = format!(
                "{} archives stay pending, such as {:?}: {}",
                larger.len(),
                archive.name,
                too_large(*bytes, memory.bytes)
            );
            vec![Check::warning("memory", text)]
        }
    }
}

fn check_selection(selection: &Selection) -> Vec<Check> {
    let Selection { take, already_done, failed: broken, other_shard, other_times, beyond_limit, .. } =
        selection;
    let bytes: u64 = take.iter().map(|archive| archive.bytes).sum();
    let mut checks = vec![Check::ok(
        "source",
        format!(
            "{} archives to load ({:.1} MB), {already_done} already done, {broken} failed, {other_shard} of \
             other shards{}",
            take.len(),
            bytes as f64 / 1e6,
            not_selected(*other_times, *beyond_limit)
        ),
    )];
    if *broken > 0 {
        let text = format!(
            "{broken} archives are left out because the state file marks them as failed (--list says why): \
             load them with --retry-failed"
        );
        checks.push(Check::warning("source", text));
    }
    checks
}

/// Describes the archives that --from, --to and --limit leave out.
fn not_selected(other_times: u64, beyond_limit: u64) -> String {
    let of = |count: u64, what: &str| if count > 0 { format!(", {count} {what}") } else { String::new() };
    of(other_times, "of other times") + &of(beyond_limit, "beyond --limit")
}

/// Reports archives that have changed since they were done.
fn check_changed(archives: &[Archive], judged: &[Option<NotTaken>]) -> Option<Check> {
    let all = archives.iter().zip(judged);
    let mut changed =
        all.filter(|(_, why)| **why == Some(NotTaken::Processed { has_changed: true })).peekable();
    let (first, _) = *changed.peek()?;
    let text = format!(
        "{:?} and {} others have changed since they were processed (--list names all): remove their entries \
         from the state file to load them again",
        first.name,
        changed.count() - 1
    );
    Some(Check::warning("source", text))
}

/// Reports the first archive that cannot be opened, and their number.
fn check_readable<'a>(archives: impl Iterator<Item = &'a Archive>) -> Option<Check> {
    let mut unreadable =
        archives.filter_map(|archive| Some((archive, File::open(&archive.path).err()?))).peekable();
    let text =
        unreadable.peek().map(|(archive, error)| format!("{:?} cannot be opened: {error}", archive.path))?;
    let others = unreadable.skip(1).count();
    Some(Check::failed(
        "source",
        format!("{text} (and {others} others): make them readable, or move them away"),
    ))
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
            let holdings = {
                let client = client.clone();
                let names = needs.names;
                let (_, brought) = state.map(StateFile::done).unwrap_or_default();
                stop.unless_requested(move || holdings::ask(&client, names, brought))
            };
            checks.extend(holdings.ok().flatten().flatten());
            let identity = stop.unless_requested(move || identity::ask(&client));
            checks.extend(identity.ok().flatten().unwrap_or_default());
            (ExitCode::Refused, checks)
        }
        Err(Outage { why, retry_after }) => {
            let what_to_do = match retry_after {
                Some(time) => format!("it requests a pause: check again in {} s", time.as_secs()),
                None => "check whether it runs and ELASTICSEARCH_URL is right".to_owned(),
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
    let asked = retry_until_stopped(&retries, move |_| match preflight::check(&client, needs) {
        Err(outage) if outage.retry_after.is_some_and(|time| time > limit) => Ok(Err(outage)),
        Err(outage) => Err(PreflightError::Unavailable(outage)),
        Ok(checks) => Ok(Ok(checks)),
    });
    asked.unwrap_or_else(|unanswered| match unanswered.last {
        PreflightError::Unavailable(outage) => Err(outage),
        PreflightError::Refused(checks) => Ok(checks),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;

    fn archive(path: &Path) -> Archive {
        Archive {
            name: "a".into(),
            path: path.into(),
            seconds: None,
            bytes: 2_500_000,
            modified_ns: 1,
            etag: None,
        }
    }

    #[test]
    fn archives_are_counted_by_their_selection() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("a.db.zip");
        fs::write(&there, "").unwrap();
        let take = vec![Arc::new(archive(&there))];
        let texts = |selection: &Selection| -> Vec<String> {
            check_selection(selection).iter().map(Check::to_string).collect()
        };
        let selection = Selection { take, already_done: 3, other_shard: 4, ..Selection::default() };
        assert_eq!(
            texts(&selection),
            ["ok: source: 1 archives to load (2.5 MB), 3 already done, 0 failed, 4 of other shards"]
        );
        let selection = Selection { failed: 2, ..selection };
        assert!(texts(&selection)[1].starts_with("warning: source: 2 archives"));
    }

    #[test]
    fn an_archive_that_cannot_be_opened_fails_the_check() {
        let folder = tempfile::tempdir().unwrap();
        let gone = [archive(&folder.path().join("x")), archive(&folder.path().join("y"))];
        let check = check_readable(gone.iter()).unwrap();
        assert_eq!(check.status, Status::Failed);
        assert!(check.text.contains("/x\"") && check.text.contains("1 others"), "{check}");
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
