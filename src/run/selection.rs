//! Decides which archives a run takes, and why not the others. Pure.

use std::fmt;
use std::sync::Arc;

use crate::common::timestamp::rfc3339_millis;
use crate::model::{ARCHIVE_SUFFIX, Archive, Criteria, Outside, Selection, archive_seconds};
use crate::pipeline::ledger::state_file::{Mark, StateFile};
use crate::pipeline::source::LeftOut;

/// Why an archive is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// The state file marks it `processed`.
    Processed {
        /// Whether the archive has changed since.
        has_changed: bool,
    },
    /// The state file marks it `failed`, for this reason, and the file has not changed since.
    Failed(String),
    /// It belongs to another shard.
    OtherShard,
    /// Its time is outside `--from` and `--to`.
    OtherTime(Outside),
    /// Older archives have reached `--limit`.
    BeyondLimit,
}

impl NotTaken {
    /// Returns the reason as a keyword for programs.
    pub fn code(&self) -> &'static str {
        match self {
            NotTaken::Processed { .. } => "processed",
            NotTaken::Failed(_) => "failed",
            NotTaken::OtherShard => "other_shard",
            NotTaken::OtherTime(Outside::Before) => "before_from",
            NotTaken::OtherTime(Outside::After) => "not_before_to",
            NotTaken::OtherTime(Outside::NoTime) => "no_time",
            NotTaken::BeyondLimit => "beyond_limit",
        }
    }
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotTaken::Processed { has_changed: false } => f.write_str("processed"),
            NotTaken::Processed { has_changed: true } => f.write_str(
                "processed, but it has changed since: remove its entry from the state file to load it again",
            ),
            NotTaken::Failed(error) => write!(f, "failed: {error} (--retry-failed loads it)"),
            NotTaken::OtherShard => f.write_str("of another shard"),
            NotTaken::OtherTime(Outside::Before) => f.write_str("before --from"),
            NotTaken::OtherTime(Outside::After) => f.write_str("not before --to"),
            NotTaken::OtherTime(Outside::NoTime) => {
                f.write_str("it has no time in its name, so it is in no time range")
            }
            NotTaken::BeyondLimit => f.write_str("newer than the archives that --limit allows"),
        }
    }
}

/// Returns for each of `archives`, which are in order, why it is not taken; None if it is.
pub fn judge(archives: &[Archive], state: &StateFile, criteria: &Criteria) -> Vec<Option<NotTaken>> {
    let mut taken = 0;
    let judge = |archive: &Archive| {
        let why = why_not_taken(archive, state, criteria);
        if why.is_none() && criteria.limit.is_some_and(|limit| taken >= limit) {
            return Some(NotTaken::BeyondLimit);
        }
        taken += usize::from(why.is_none());
        why
    };
    archives.iter().map(judge).collect()
}

/// Returns why `archive` is not taken, regardless of the limit; None if it is.
fn why_not_taken(archive: &Archive, state: &StateFile, criteria: &Criteria) -> Option<NotTaken> {
    if !criteria.shard.takes(&archive.name) {
        return Some(NotTaken::OtherShard);
    }
    if let Some(outside) = criteria.span.excludes(archive) {
        return Some(NotTaken::OtherTime(outside));
    }
    let has_changed = state.has_changed(archive);
    match state.get(&archive.name) {
        None if state.is_before_cursor(archive) => Some(NotTaken::Processed { has_changed: false }),
        None => None,
        Some(Mark::Processed) => Some(NotTaken::Processed { has_changed }),
        Some(Mark::Failed { error, .. }) => {
            // Loading the same file once more at each look would bring the same rows again.
            let retries = criteria.retry_failed && !state.has_failed_now(&archive.name);
            (!retries && !has_changed).then(|| NotTaken::Failed(error.clone()))
        }
    }
}

/// Counts the archives that cannot be looked at: those to take up later, and those that are done. Their size and time
/// are unknown, so one that is marked as failed counts as changed. A folder that cannot be listed counts as one archive,
/// whatever the criteria.
pub fn count_unreadable(
    selection: &mut Selection,
    left_out: &[LeftOut],
    state: &StateFile,
    criteria: &Criteria,
) {
    let archive = |left_out: &LeftOut| {
        let name = left_out.name().to_owned();
        Archive { seconds: archive_seconds(&name), name, ..Archive::default() }
    };
    let (archives, folders): (Vec<_>, Vec<_>) = left_out
        .iter()
        .filter(|left_out| left_out.is_for_now)
        .map(archive)
        .partition(|archive| archive.name.ends_with(ARCHIVE_SUFFIX));
    let selected = select(archives, state, criteria);
    selection.unreadable = (selected.take.len() + folders.len()) as u64;
    selection.already_done += selected.already_done;
}

/// Returns a warning if there are archives, but none in the time range.
pub fn nothing_in_span(archives: &[Archive], judged: &[Option<NotTaken>]) -> Option<String> {
    let is_outside = |why: &Option<NotTaken>| matches!(why, Some(NotTaken::OtherTime(_)));
    if archives.is_empty() || !judged.iter().all(is_outside) {
        return None;
    }
    let mut times = archives.iter().filter_map(|archive| archive.seconds);
    let first = times.next();
    let shown = |seconds: i64| rfc3339_millis(seconds.saturating_mul(1000));
    let times = match (first, times.next_back().or(first)) {
        (Some(first), Some(last)) => format!("their times are {} to {}", shown(first), shown(last)),
        _ => "their names have no time".to_owned(),
    };
    Some(format!("none of the {} archives found is between --from and --to: {times}", archives.len()))
}

/// Selects from the discovered archives, which are in order.
pub fn select(archives: Vec<Archive>, state: &StateFile, criteria: &Criteria) -> Selection {
    let judged = judge(&archives, state, criteria);
    partition(archives, judged)
}

/// Sorts archives by the results of [`judge`].
pub fn partition(archives: Vec<Archive>, judged: Vec<Option<NotTaken>>) -> Selection {
    let mut selection = Selection::default();
    for (archive, why) in archives.into_iter().zip(judged) {
        match why {
            None => selection.take.push(Arc::new(archive)),
            Some(NotTaken::Processed { .. }) => {
                selection.already_done += 1;
                selection.newest_done = selection.newest_done.max(archive.seconds);
            }
            Some(NotTaken::Failed(_)) => selection.failed += 1,
            Some(NotTaken::OtherShard) => selection.other_shard += 1,
            Some(NotTaken::OtherTime(_)) => selection.other_times += 1,
            Some(NotTaken::BeyondLimit) => selection.beyond_limit += 1,
        }
    }
    selection
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Shard, Span};

    fn archive(name: &str) -> Archive {
        Archive { name: name.into(), path: name.into(), seconds: None, bytes: 1, modified_ns: 1, etag: None }
    }

    fn at(name: &str, seconds: i64) -> Archive {
        Archive { seconds: Some(seconds), ..archive(name) }
    }

    fn state() -> StateFile {
        let folder = tempfile::tempdir().unwrap();
        let mut state = StateFile::load(&folder.path().join("state")).unwrap();
        state.mark_processed(&archive("done"), 1);
        state.mark_failed(&archive("broken"), "no table");
        state.save().unwrap();
        // As a later run reads it.
        StateFile::load(state.path()).unwrap()
    }

    fn judged(archive: Archive, criteria: &Criteria) -> Option<NotTaken> {
        judge(&[archive], &state(), criteria).remove(0)
    }

    fn names(selection: &Selection) -> Vec<&str> {
        selection.take.iter().map(|archive| archive.name.as_str()).collect()
    }

    #[test]
    fn new_archives_and_changed_failed_ones_are_taken() {
        let (all, retry) = (Criteria::ALL, Criteria { retry_failed: true, ..Criteria::ALL });
        assert_eq!(judged(archive("new"), &all), None);
        assert_eq!(judged(archive("done"), &retry), Some(NotTaken::Processed { has_changed: false }));
        assert!(matches!(judged(archive("broken"), &all), Some(NotTaken::Failed(_))));
        assert_eq!(judged(archive("broken"), &retry), None);
        assert_eq!(judged(Archive { bytes: 2, ..archive("broken") }, &all), None);
    }

    #[test]
    fn an_archive_that_fails_once_more_is_not_taken_at_the_next_look() {
        let (mut state, retry) = (state(), Criteria { retry_failed: true, ..Criteria::ALL });
        state.mark_failed(&archive("broken"), "no table");
        assert!(matches!(judge(&[archive("broken")], &state, &retry)[..], [Some(NotTaken::Failed(_))]));
        let changed = Archive { bytes: 2, ..archive("broken") };
        assert_eq!(judge(&[changed], &state, &retry), [None]);
    }

    #[test]
    fn a_processed_archive_that_has_changed_is_not_taken_even_with_retry_failed() {
        let changed = Archive { bytes: 2, ..archive("done") };
        let criteria = Criteria { retry_failed: true, ..Criteria::ALL };
        assert_eq!(judged(changed, &criteria), Some(NotTaken::Processed { has_changed: true }));
    }

    #[test]
    fn the_oldest_archives_of_the_time_range_are_taken_up_to_the_limit() {
        let span = Span { from: Some(2_000), to: Some(9_000) };
        let criteria = Criteria { span, limit: Some(2), ..Criteria::ALL };
        let archives = vec![
            at("old", 1),
            at("done", 2),
            at("a", 3),
            at("broken", 4),
            at("b", 5),
            at("c", 6),
            at("late", 9),
            archive("timeless"),
        ];
        let selection = select(archives, &state(), &criteria);
        assert_eq!(names(&selection), ["a", "b"]);
        assert_eq!(
            (selection.already_done, selection.failed, selection.beyond_limit, selection.other_times),
            (1, 1, 1, 3)
        );
    }

    #[test]
    fn an_empty_time_range_is_reported_with_the_times_of_the_archives() {
        let span = Span { from: Some(1_766_016_000_000), to: None };
        let warning = |archives: &[Archive]| {
            nothing_in_span(archives, &judge(archives, &state(), &Criteria { span, ..Criteria::ALL }))
        };
        let text = warning(&[at("a", 0), at("b", 1)]).unwrap();
        assert!(
            text.contains("of the 2") && text.contains("1970-01-01T00:00:00.000Z to 1970-01-01T00:00:01"),
            "{text}"
        );
        assert!(warning(&[archive("x")]).unwrap().contains("no time"));
        assert_eq!((warning(&[]), warning(&[at("a", 0), at("done", 1_766_016_000)])), (None, None));
    }

    #[test]
    fn the_time_of_the_newest_done_archive_is_known() {
        let archives = vec![at("done", 5), at("new", 9)];
        assert_eq!(select(archives, &state(), &Criteria::ALL).newest_done, Some(5));
    }

    #[test]
    fn every_archive_is_counted_once() {
        let archives = ["new", "done", "broken"].map(archive).to_vec();
        let selection = select(archives, &state(), &Criteria::ALL);
        assert_eq!((selection.take.len(), selection.already_done, selection.failed), (1, 1, 1));
        let of_shard = |i| {
            let shard = Shard::parse(&format!("{i}/3")).unwrap();
            let archives = (0..50).map(|n| archive(&n.to_string())).collect();
            select(archives, &state(), &Criteria { shard, ..Criteria::ALL })
        };
        let shards: Vec<Selection> = (0..3).map(of_shard).collect();
        assert_eq!(shards.iter().map(|s| s.take.len()).sum::<usize>(), 50);
    }
}
