//! Decides which archives a run takes up, and why not the others. Nothing else decides that. Pure.

use std::fmt;
use std::sync::Arc;

use crate::model::{Archive, Outside, Selection, Wanted, archive_seconds};
use crate::pipeline::ledger::state_file::{Mark, StateFile};
use crate::pipeline::source::LeftOut;
use crate::timestamp::rfc3339_millis;

/// Why an archive is not taken up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftAlone {
    /// The state file says `processed`.
    Processed {
        /// Whether the archive has changed since.
        has_changed: bool,
    },
    /// The state file says `failed`, for the reason given, and the file has not changed since.
    Failed(String),
    /// Another shard takes it up.
    OtherShard,
    /// Its time is outside `--from` and `--to`.
    OtherTime(Outside),
    /// `--limit` is reached by older archives.
    BeyondLimit,
}

impl LeftAlone {
    /// Returns the reason as a word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            LeftAlone::Processed { .. } => "processed",
            LeftAlone::Failed(_) => "failed",
            LeftAlone::OtherShard => "other_shard",
            LeftAlone::OtherTime(Outside::Before) => "before_from",
            LeftAlone::OtherTime(Outside::Behind) => "not_before_to",
            LeftAlone::OtherTime(Outside::NoTime) => "no_time",
            LeftAlone::BeyondLimit => "beyond_limit",
        }
    }
}

impl fmt::Display for LeftAlone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeftAlone::Processed { has_changed: false } => f.write_str("processed"),
            LeftAlone::Processed { has_changed: true } => f.write_str(
                "processed, but it has changed since: remove its entry from the state file to load it again",
            ),
            LeftAlone::Failed(error) => write!(f, "failed: {error} (--retry-failed loads it)"),
            LeftAlone::OtherShard => f.write_str("of another shard"),
            LeftAlone::OtherTime(Outside::Before) => f.write_str("older than --from"),
            LeftAlone::OtherTime(Outside::Behind) => f.write_str("not older than --to"),
            LeftAlone::OtherTime(Outside::NoTime) => {
                f.write_str("it has no time in its name, so it is in no span of --from and --to")
            }
            LeftAlone::BeyondLimit => f.write_str("newer than the archives that --limit allows"),
        }
    }
}

/// Returns for each of `archives`, which are in order, why it is not taken up; None for those that are.
pub fn judge(archives: &[Archive], state: &StateFile, wanted: &Wanted) -> Vec<Option<LeftAlone>> {
    let mut taken = 0;
    let judge = |archive: &Archive| {
        let why = left_alone(archive, state, wanted);
        if why.is_none() && wanted.limit.is_some_and(|limit| taken >= limit) {
            return Some(LeftAlone::BeyondLimit);
        }
        taken += usize::from(why.is_none());
        why
    };
    archives.iter().map(judge).collect()
}

/// Returns why `archive` is not taken up, without regard to the limit; None where it is.
fn left_alone(archive: &Archive, state: &StateFile, wanted: &Wanted) -> Option<LeftAlone> {
    if !wanted.shard.takes(&archive.name) {
        return Some(LeftAlone::OtherShard);
    }
    if let Some(outside) = wanted.span.excludes(archive) {
        return Some(LeftAlone::OtherTime(outside));
    }
    let has_changed = state.has_changed(archive);
    match state.get(&archive.name) {
        None if state.is_before_cursor(archive) => Some(LeftAlone::Processed { has_changed: false }),
        None => None,
        Some(Mark::Processed) => Some(LeftAlone::Processed { has_changed }),
        Some(Mark::Failed { error, .. }) => {
            (!wanted.retry_failed && !has_changed).then(|| LeftAlone::Failed(error.clone()))
        }
    }
}

/// Counts the archives that cannot be looked at: those to take up later, and those that are done. Their size and time
/// are unknown, so one that is marked as failed counts as changed.
pub fn count_unreadable(selection: &mut Selection, left_out: &[LeftOut], state: &StateFile, wanted: &Wanted) {
    let archive = |left_out: &LeftOut| {
        let name = left_out.name().to_owned();
        Archive { seconds: archive_seconds(&name), name, ..Archive::default() }
    };
    let archives = left_out.iter().filter(|left_out| left_out.is_for_now).map(archive).collect();
    let selected = select(archives, state, wanted);
    selection.unreadable = selected.take.len() as u64;
    selection.already_done += selected.already_done;
}

/// Returns a warning where there are archives, but none within the times asked for.
pub fn nothing_of_the_span(archives: &[Archive], judged: &[Option<LeftAlone>]) -> Option<String> {
    let is_outside = |why: &Option<LeftAlone>| matches!(why, Some(LeftAlone::OtherTime(_)));
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
    Some(format!("none of the {} archives found is in the span of --from and --to: {times}", archives.len()))
}

/// Sorts the discovered archives, which are in order, into those to take up and the others.
pub fn select(archives: Vec<Archive>, state: &StateFile, wanted: &Wanted) -> Selection {
    let judged = judge(&archives, state, wanted);
    sort_out(archives, judged)
}

/// Sorts archives by the verdicts of [`judge`].
pub fn sort_out(archives: Vec<Archive>, judged: Vec<Option<LeftAlone>>) -> Selection {
    let mut selection = Selection::default();
    for (archive, why) in archives.into_iter().zip(judged) {
        match why {
            None => selection.take.push(Arc::new(archive)),
            Some(LeftAlone::Processed { .. }) => {
                selection.already_done += 1;
                selection.newest_done = selection.newest_done.max(archive.seconds);
            }
            Some(LeftAlone::Failed(_)) => selection.failed += 1,
            Some(LeftAlone::OtherShard) => selection.other_shard += 1,
            Some(LeftAlone::OtherTime(_)) => selection.other_times += 1,
            Some(LeftAlone::BeyondLimit) => selection.beyond_limit += 1,
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
        state
    }

    fn judged(archive: Archive, wanted: &Wanted) -> Option<LeftAlone> {
        judge(&[archive], &state(), wanted).remove(0)
    }

    fn names(selection: &Selection) -> Vec<&str> {
        selection.take.iter().map(|archive| archive.name.as_str()).collect()
    }

    #[test]
    fn new_ones_and_failed_ones_that_have_changed_are_taken_up() {
        let (all, retry) = (Wanted::ALL, Wanted { retry_failed: true, ..Wanted::ALL });
        assert_eq!(judged(archive("new"), &all), None);
        assert_eq!(judged(archive("done"), &retry), Some(LeftAlone::Processed { has_changed: false }));
        assert!(matches!(judged(archive("broken"), &all), Some(LeftAlone::Failed(_))));
        assert_eq!(judged(archive("broken"), &retry), None);
        assert_eq!(judged(Archive { bytes: 2, ..archive("broken") }, &all), None);
    }

    #[test]
    fn a_processed_one_that_has_changed_is_not_taken_up_by_retry_failed_either() {
        let changed = Archive { bytes: 2, ..archive("done") };
        let wanted = Wanted { retry_failed: true, ..Wanted::ALL };
        assert_eq!(judged(changed, &wanted), Some(LeftAlone::Processed { has_changed: true }));
    }

    #[test]
    fn the_oldest_of_those_that_are_asked_for_are_taken_up_to_the_limit() {
        let span = Span { from: Some(2_000), to: Some(9_000) };
        let wanted = Wanted { span, limit: Some(2), ..Wanted::ALL };
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
        let selection = select(archives, &state(), &wanted);
        assert_eq!(names(&selection), ["a", "b"]);
        assert_eq!(
            (selection.already_done, selection.failed, selection.beyond_limit, selection.other_times),
            (1, 1, 1, 3)
        );
    }

    #[test]
    fn that_nothing_is_of_the_times_asked_for_is_told_with_the_times_that_there_are() {
        let span = Span { from: Some(1_766_016_000_000), to: None };
        let told = |archives: &[Archive]| {
            nothing_of_the_span(archives, &judge(archives, &state(), &Wanted { span, ..Wanted::ALL }))
        };
        let text = told(&[at("a", 0), at("b", 1)]).unwrap();
        assert!(
            text.contains("of the 2") && text.contains("1970-01-01T00:00:00.000Z to 1970-01-01T00:00:01"),
            "{text}"
        );
        assert!(told(&[archive("x")]).unwrap().contains("no time"));
        assert_eq!((told(&[]), told(&[at("a", 0), at("done", 1_766_016_000)])), (None, None));
    }

    #[test]
    fn the_newest_that_is_done_is_known() {
        let archives = vec![at("done", 5), at("new", 9)];
        assert_eq!(select(archives, &state(), &Wanted::ALL).newest_done, Some(5));
    }

    #[test]
    fn every_archive_is_counted_once() {
        let archives = ["new", "done", "broken"].map(archive).to_vec();
        let selection = select(archives, &state(), &Wanted::ALL);
        assert_eq!((selection.take.len(), selection.already_done, selection.failed), (1, 1, 1));
        let of_shard = |i| {
            let shard = Shard::parse(&format!("{i}/3")).unwrap();
            let archives = (0..50).map(|n| archive(&n.to_string())).collect();
            select(archives, &state(), &Wanted { shard, ..Wanted::ALL })
        };
        let shards: Vec<Selection> = (0..3).map(of_shard).collect();
        assert_eq!(shards.iter().map(|s| s.take.len()).sum::<usize>(), 50);
    }
}
