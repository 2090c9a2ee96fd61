//! Checks of `--check` on the archives of the source.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use crate::common::exit::ExitCode;
use crate::common::text::format_bytes;
use crate::config::{Archives, Intake, Memory};
use crate::model::{Archive, Selection};
use crate::observe::finding::Check;
use crate::pipeline::admission::too_large;
use crate::pipeline::archive::bytes_declared;
use crate::pipeline::ledger::state_file::StateFile;
use crate::pipeline::source::Source;
use crate::process::shutdown::Stop;
use crate::run::selection::{self, NotTaken};

/// Maximum number of zips whose declared sizes are read.
const MAX_ZIPS: usize = 1_000;

/// Lists the archives, and reports which of them a load would take, and whether they can be read.
pub(super) fn check_archives(
    archives: &Archives,
    intake: &Intake,
    state: Option<&StateFile>,
    stop: &Stop,
) -> (ExitCode, Vec<Check>) {
    let found = Source::open(&archives.source, Some(Duration::ZERO), stop)
        .and_then(|source| source.discover(false, stop).map(|discovery| (source, discovery)));
    let (source, discovery) = match found {
        Ok(found) => found,
        Err(failure) => return (failure.code, vec![Check::failed("source", failure.message)]),
    };
    let mut checks = Vec::new();
    if let Some(failure) = discovery.away {
        return (failure.code, vec![Check::failed("source", failure.message)]);
    }
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
    of(other_times, "outside --from and --to") + &of(beyond_limit, "beyond --limit")
}

/// Reports archives that have changed since they were done.
fn check_changed(archives: &[Archive], judged: &[Option<NotTaken>]) -> Option<Check> {
    let all = archives.iter().zip(judged);
    let mut changed =
        all.filter(|(_, why)| **why == Some(NotTaken::Processed { has_changed: true })).peekable();
    let (first, _) = *changed.peek()?;
    let first = &first.name;
    let text = match changed.count() - 1 {
        0 => format!(
            "{first:?} has changed since it was processed: remove its entry from the state file to load it again"
        ),
        others => format!(
            "{first:?} and {others} others have changed since they were processed (--list names all): remove their \
             entries from the state file to load them again"
        ),
    };
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::observe::finding::Status;

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
}
