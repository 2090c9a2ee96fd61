//! The one place where it is decided which archives a run takes up, and why not the others. Pure.

use std::fmt;
use std::sync::Arc;

use crate::model::{Archive, Selection};
use crate::pipeline::ledger::state_file::{Mark, StateFile};
use crate::shard::Shard;

/// Why an archive is not taken up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftAlone {
    /// The state file says `processed`.
    Processed,
    /// The state file says `failed`, for the reason given, and the file has not changed since.
    Failed(String),
    /// Another shard takes it.
    OtherShard,
}

impl fmt::Display for LeftAlone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeftAlone::Processed => f.write_str("processed"),
            LeftAlone::Failed(error) => write!(f, "failed: {error} (--retry-failed takes it up)"),
            LeftAlone::OtherShard => f.write_str("another shard's"),
        }
    }
}

/// Why `archive` is not taken up; None where it is.
pub fn left_alone(
    archive: &Archive,
    state: &StateFile,
    shard: Shard,
    retry_failed: bool,
) -> Option<LeftAlone> {
    if !shard.takes(&archive.name) {
        return Some(LeftAlone::OtherShard);
    }
    let Some(mark) = state.get(&archive.name) else {
        return state.is_before_cursor(archive).then_some(LeftAlone::Processed);
    };
    match mark {
        Mark::Processed => Some(LeftAlone::Processed),
        known @ Mark::Failed { error, .. } => {
            (!retry_failed && !known.has_changed(archive)).then(|| LeftAlone::Failed(error.clone()))
        }
    }
}

/// Sorts out what was discovered.
pub fn select(archives: Vec<Archive>, state: &StateFile, shard: Shard, retry_failed: bool) -> Selection {
    let mut selection = Selection::default();
    for archive in archives {
        match left_alone(&archive, state, shard, retry_failed) {
            None => selection.take.push(Arc::new(archive)),
            Some(LeftAlone::Processed) => {
                selection.already_done += 1;
                selection.newest_done = selection.newest_done.max(archive.seconds);
            }
            Some(LeftAlone::Failed(_)) => selection.failed += 1,
            Some(LeftAlone::OtherShard) => selection.other_shard += 1,
        }
    }
    selection
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(name: &str) -> Archive {
        Archive { name: name.into(), path: name.into(), seconds: None, bytes: 1, modified_ns: 1 }
    }

    fn state() -> StateFile {
        let folder = tempfile::tempdir().unwrap();
        let mut state = StateFile::load(&folder.path().join("state")).unwrap();
        state.mark_processed(&archive("done"), 1);
        state.mark_failed(&archive("broken"), "no table");
        state
    }

    #[test]
    fn new_and_changed_archives_are_taken_up() {
        let (state, all) = (state(), Shard::ALL);
        assert_eq!(left_alone(&archive("new"), &state, all, false), None);
        assert_eq!(left_alone(&archive("done"), &state, all, true), Some(LeftAlone::Processed));
        assert!(matches!(left_alone(&archive("broken"), &state, all, false), Some(LeftAlone::Failed(_))));
        assert_eq!(left_alone(&archive("broken"), &state, all, true), None);
        let changed = Archive { bytes: 2, ..archive("broken") };
        assert_eq!(left_alone(&changed, &state, all, false), None);
    }

    #[test]
    fn the_newest_that_is_done_is_known() {
        let at = |name: &str, seconds| Archive { seconds: Some(seconds), ..archive(name) };
        let archives = vec![at("new", 9), at("done", 5)];
        assert_eq!(select(archives, &state(), Shard::ALL, false).newest_done, Some(5));
    }

    #[test]
    fn every_archive_is_counted_once() {
        let archives = ["new", "done", "broken"].map(archive).to_vec();
        let selection = select(archives, &state(), Shard::ALL, false);
        assert_eq!((selection.take.len(), selection.already_done, selection.failed), (1, 1, 1));
        let shards: Vec<Selection> = (0..3)
            .map(|i| Shard::parse(&format!("{i}/3")).unwrap())
            .map(|shard| select((0..50).map(|n| archive(&n.to_string())).collect(), &state(), shard, false))
            .collect();
        assert_eq!(shards.iter().map(|s| s.take.len()).sum::<usize>(), 50);
    }
}
