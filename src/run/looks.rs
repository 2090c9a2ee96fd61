//! Looks for archives, once or repeatedly, and remembers what the last look has found.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Archives, Intake};
use crate::exit::Failure;
use crate::model::{Archive, Selection};
use crate::pipeline::admission::Admission;
use crate::pipeline::ledger::state_file::StateFile;
use crate::pipeline::source::settling::UnsettledFiles;
use crate::pipeline::source::{Discovery, LeftOut, Source};
use crate::run::selection::{self, LeftAlone};
use crate::shutdown::Stop;
use crate::timestamp::now_millis;

/// Number of files passed over by one look that the log names.
const PASSED_OVER_NAMED: usize = 10;

/// A source, and the memory for what is read from it.
pub(super) struct Store {
    pub(super) source: Source,
    /// Admits archives by memory, and remembers those that can never be admitted.
    pub(super) admission: Admission,
    /// Whether there is more than one look.
    spools: bool,
}

impl Store {
    /// The store at `source`. `spools` means that there is more than one look.
    pub(super) fn new(source: Source, spools: bool, intake: &Intake) -> Self {
        let admission = Admission::new(intake.memory.bytes, intake.workers, !source.is_local());
        Self { source, admission, spools }
    }

    /// Whether files may still be being written, so that a later look judges them. Objects of a bucket are either
    /// complete or absent.
    pub(super) fn judges_late(&self) -> bool {
        self.spools && self.source.is_local()
    }
}

/// Looks at a store, and what the last one has found. Memory does not grow with the number of looks.
pub(super) struct Looks<'s> {
    store: &'s Store,
    /// Files that may still be written; None: files are taken as they are.
    settling: Option<UnsettledFiles>,
    /// What the last look passed over. A file is logged when it is first passed over, not at every look.
    passed_over: HashSet<PathBuf>,
    /// Times, in seconds since 1970, that several archives of the last look share. Logged once each.
    shared_times: HashSet<i64>,
    /// Archives that have changed since they were done. Logged once each.
    changed: HashSet<String>,
    /// The last look's warning that it found nothing, or nothing that was asked for.
    nothing: Option<String>,
}

impl<'s> Looks<'s> {
    /// Begins to look at a store.
    pub(super) fn new(store: &'s Store) -> Self {
        Self {
            store,
            settling: store.judges_late().then(UnsettledFiles::default),
            passed_over: HashSet::new(),
            shared_times: HashSet::new(),
            changed: HashSet::new(),
            nothing: None,
        }
    }

    /// Warns of archives that share a time, if one of them is to be taken up: events with equal row ids then have no
    /// order. `archives` are in order.
    fn warn_of_shared_times(&mut self, archives: &[Archive], is_taken: impl Fn(&Archive) -> bool) {
        let mut shared = HashSet::new();
        let mut told = 0;
        for same in archives.chunk_by(|a, b| a.seconds.is_some() && a.seconds == b.seconds) {
            let ([first, second, ..], Some(seconds)) = (same, same.first().and_then(|first| first.seconds))
            else {
                continue;
            };
            if !same.iter().any(&is_taken) {
                continue;
            }
            shared.insert(seconds);
            if self.shared_times.contains(&seconds) {
                continue;
            }
            if told < PASSED_OVER_NAMED {
                log::warn!(
                    "{:?} and {:?} have the same time: events of a post with equal row ids have no order; \
                     rename one archive if you know which is newer",
                    first.name,
                    second.name
                );
            }
            told += 1;
        }
        if told > PASSED_OVER_NAMED {
            log::warn!("{} more times belong to several archives", told - PASSED_OVER_NAMED);
        }
        self.shared_times = shared;
    }

    /// Logs files that are passed over for the first time; where there are many, names only the first.
    fn warn_of(&self, left_out: &[LeftOut]) {
        let mut new = left_out.iter().filter(|left_out| !self.passed_over.contains(&left_out.path));
        for left_out in new.by_ref().take(PASSED_OVER_NAMED) {
            log::warn!("{:?} is left out: {}", left_out.path, left_out.reason);
        }
        let others = new.count();
        if others > 0 {
            log::warn!("{others} more are left out: --list names all");
        }
    }

    /// Logs archives that have changed since they were done; where there are many, names only the first. They are not
    /// taken up again: replacing a file is no request to load it.
    fn warn_of_changed(&mut self, changed: Vec<String>) {
        let mut new = changed.iter().filter(|name| !self.changed.contains(*name));
        for name in new.by_ref().take(PASSED_OVER_NAMED) {
            log::warn!(
                "{name:?} has changed since it was processed, but is not loaded again: to load it, remove its \
                 entry from the state file while no run uses that file"
            );
        }
        let others = new.count();
        if others > 0 {
            log::warn!("{others} more have changed since they were processed: --list names all");
        }
        self.changed = changed.into_iter().collect();
    }

    /// Warns once that there is nothing, or nothing that was asked for.
    fn warn_of_nothing(&mut self, nothing: Option<String>) {
        if nothing != self.nothing {
            nothing.iter().for_each(|nothing| log::warn!("{nothing}"));
            self.nothing = nothing;
        }
    }

    /// Lists the archives.
    pub(super) fn find(&self, stop: &Stop) -> Result<Discovery, Failure> {
        self.store.source.discover(stop)
    }

    /// Selects those to be taken up from the archives that were found. Those that are `under_way` are left to whoever
    /// has them.
    pub(super) fn select(
        &mut self,
        Discovery { archives: found, left_out, nothing }: Discovery,
        archives: &Archives,
        state: &StateFile,
        under_way: impl Fn(&str) -> bool,
    ) -> Selection {
        self.warn_of(&left_out);
        let judged = selection::judge(&found, state, &archives.wanted);
        self.warn_of_nothing(nothing.or_else(|| selection::nothing_of_the_span(&found, &judged)));
        let all = || found.iter().zip(&judged);
        let taken: HashSet<&str> =
            all().filter(|(_, why)| why.is_none()).map(|(archive, _)| &*archive.name).collect();
        let changed = all().filter(|(_, why)| **why == Some(LeftAlone::Processed { has_changed: true }));
        let changed = changed.map(|(archive, _)| archive.name.clone()).collect();
        self.warn_of_shared_times(&found, |archive| taken.contains(&*archive.name));
        self.warn_of_changed(changed);
        let mut selection = selection::sort_out(found, judged);
        selection::count_unreadable(&mut selection, &left_out, state, &archives.wanted);
        self.passed_over = left_out.into_iter().map(|left_out| left_out.path).collect();
        selection.take.retain(|archive| !under_way(&archive.name));
        let found = selection.take.len();
        selection.take.retain(|archive| !self.store.admission.has_shut_out(archive));
        selection.too_large = (found - selection.take.len()) as u64;
        if let Some(settling) = &mut self.settling {
            selection.settling = settling.hold_back(&mut selection.take, now_millis());
        }
        selection
    }

    /// Returns the time until the next look.
    pub(super) fn pause(&self, interval: Duration) -> Duration {
        self.settling.as_ref().map_or(interval, |settling| settling.pause(interval))
    }
}
