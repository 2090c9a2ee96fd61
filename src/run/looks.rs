//! Looking for archives, once or again and again, and what is remembered from one look to the next.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Archives;
use crate::exit::Failure;
use crate::model::Selection;
use crate::pipeline::ledger::state_file::StateFile;
use crate::pipeline::source::settling::Settling;
use crate::pipeline::source::{LeftOut, Source};
use crate::run::selection;
use crate::timestamp::now_millis;

/// Of what one look passes over, so many are named in the log.
const PASSED_OVER_NAMED: usize = 10;

/// A source, and what the last look at it has shown. What is remembered does not grow with the number of looks.
pub(super) struct Looks {
    pub(super) source: Source,
    /// None: files are taken as they are.
    settling: Option<Settling>,
    /// What the last look passed over: told when it is first seen, not at every look.
    passed_over: HashSet<PathBuf>,
}

impl Looks {
    /// Looks at `source`. With `spools` there will be more than one look, and files that are still being written wait
    /// for a later one; objects of a bucket are there as a whole or not at all.
    pub(super) fn new(source: Source, spools: bool) -> Self {
        let settling = (spools && source.is_local()).then(Settling::default);
        Self { source, settling, passed_over: HashSet::new() }
    }

    /// Tells what is passed over for the first time, and of much the first by name.
    fn warn_of(&self, left_out: &[LeftOut]) {
        let mut new = left_out.iter().filter(|left_out| !self.passed_over.contains(&left_out.path));
        for left_out in new.by_ref().take(PASSED_OVER_NAMED) {
            log::warn!("{:?} is passed over: {}", left_out.path, left_out.reason);
        }
        let others = new.count();
        if others > 0 {
            log::warn!("{others} more are passed over: --list names all");
        }
    }

    /// Looks what there is, and what of it is to be taken up.
    pub(super) fn look(&mut self, archives: &Archives, state: &StateFile) -> Result<Selection, Failure> {
        let discovery = self.source.discover()?;
        self.warn_of(&discovery.left_out);
        self.passed_over = discovery.left_out.into_iter().map(|left_out| left_out.path).collect();
        let mut selection =
            selection::select(discovery.archives, state, archives.shard, archives.retry_failed);
        if let Some(settling) = &mut self.settling {
            selection.settling = settling.hold_back(&mut selection.take, now_millis());
        }
        Ok(selection)
    }

    /// Whether files may still be being written, and there is a later look at them.
    pub(super) fn judges_late(&self) -> bool {
        self.settling.is_some()
    }

    /// Time until the next look.
    pub(super) fn pause(&self, interval: Duration) -> Duration {
        self.settling.as_ref().map_or(interval, |settling| settling.pause(interval))
    }
}
