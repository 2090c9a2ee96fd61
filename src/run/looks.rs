//! Looks for archives, once or repeatedly, and remembers what the last look found.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::common::exit::Failure;
use crate::common::timestamp::now_millis;
use crate::config::{Archives, Intake};
use crate::model::{Archive, Selection};
use crate::pipeline::admission::Admission;
use crate::pipeline::ledger::state_file::StateFile;
use crate::pipeline::source::settling::UnsettledFiles;
use crate::pipeline::source::{Discovery, LeftOut, Source};
use crate::process::shutdown::Stop;
use crate::run::selection::{self, NotTaken};

/// Maximum number of files that the log names for one look.
const MAX_NAMED: usize = 10;

/// A source, and the memory for its archives.
pub(super) struct Store {
    pub(super) source: Source,
    /// Admits archives if there is memory, and remembers those that are too large.
    pub(super) admission: Admission,
    /// Whether this is a spool run.
    spools: bool,
}

impl Store {
    /// Creates the store at `source`. `spools`: whether this is a spool run.
    pub(super) fn new(source: Source, spools: bool, intake: &Intake) -> Self {
        let admission = Admission::new(intake.memory.bytes, intake.workers, !source.is_local());
        Self { source, admission, spools }
    }

    /// Whether a file may be incomplete, so that it is left to a later look. Objects in a bucket are always complete.
    pub(super) fn judges_late(&self) -> bool {
        self.spools && self.source.is_local()
    }
}

/// The looks at a store, and what the last one found. Its size does not grow with the number of looks.
pub(super) struct Looks<'s> {
    store: &'s Store,
    /// Files that may be incomplete; None: all files count as complete.
    settling: Option<UnsettledFiles>,
    /// Files that the last look left out. Each is logged once.
    left_out_before: HashSet<PathBuf>,
    /// Times that several archives of the last look share, in seconds since 1970. Each is logged once.
    shared_times: HashSet<i64>,
    /// Archives that have changed since they were done. Each is logged once.
    changed: HashSet<String>,
    /// The last look's warning that it found no archives, or none in the time range.
    nothing: Option<String>,
}

impl<'s> Looks<'s> {
    /// Prepares looks at a store.
    pub(super) fn new(store: &'s Store) -> Self {
        Self {
            store,
            settling: store.judges_late().then(UnsettledFiles::default),
            left_out_before: HashSet::new(),
            shared_times: HashSet::new(),
            changed: HashSet::new(),
            nothing: None,
        }
    }

    /// Warns of archives with the same time, if one of them is taken: their events with equal row ids have no order.
    /// `archives` are in order, each with why it is not taken.
    fn warn_of_shared_times(&mut self, archives: &[(&Archive, &Option<NotTaken>)]) {
        let mut shared = HashSet::new();
        let mut count = 0;
        for same in archives.chunk_by(|(a, _), (b, _)| a.seconds.is_some() && a.seconds == b.seconds) {
            let [(first, _), (second, _), ..] = same else { continue };
            let Some(seconds) = first.seconds.filter(|_| same.iter().any(|(_, why)| why.is_none())) else {
                continue;
            };
            shared.insert(seconds);
            if self.shared_times.contains(&seconds) {
                continue;
            }
            if count < MAX_NAMED {
                log::warn!(
                    "{:?} and {:?} have the same time: events of a post with equal row ids have no order; \
                     rename one archive if you know which is newer",
                    first.name,
                    second.name
                );
            }
            count += 1;
        }
        if count > MAX_NAMED {
            log::warn!("{} more times are shared by several archives", count - MAX_NAMED);
        }
        self.shared_times = shared;
    }

    /// Logs files that are left out for the first time. If there are many, names only the first.
    fn warn_of(&self, left_out: &[LeftOut]) {
        let new = left_out.iter().filter(|left_out| !self.left_out_before.contains(&left_out.path));
        let warn = |left_out: &LeftOut| log::warn!("{:?} is left out: {}", left_out.path, left_out.reason);
        warn_of_first(new, warn, "are left out");
    }

    /// Logs archives that have changed since they were done. If there are many, names only the first. They are not
    /// loaded again: replacing a file is not a request to load it.
    fn warn_of_changed(&mut self, changed: Vec<String>) {
        let new = changed.iter().filter(|name| !self.changed.contains(*name));
        let warn = |name: &String| {
            log::warn!(
                "{name:?} has changed since it was processed, but is not loaded again: to load it, remove its \
                 entry from the state file while no run uses that file"
            );
        };
        warn_of_first(new, warn, "have changed since they were processed");
        self.changed = changed.into_iter().collect();
    }

    /// Warns once that there are no archives, or none in the time range.
    fn warn_of_nothing(&mut self, nothing: Option<String>) {
        if nothing != self.nothing {
            nothing.iter().for_each(|nothing| log::warn!("{nothing}"));
            self.nothing = nothing;
        }
    }

    /// Lists the archives of the source.
    pub(super) fn find(&self, stop: &Stop) -> Result<Discovery, Failure> {
        self.store.source.discover(self.store.spools, stop)
    }

    /// Selects the archives to take from those found. Archives that are `under_way` are not taken again.
    pub(super) fn select(
        &mut self,
        Discovery { archives: found, left_out, nothing, .. }: Discovery,
        archives: &Archives,
        state: &StateFile,
        under_way: impl Fn(&str) -> bool,
    ) -> Selection {
        self.warn_of(&left_out);
        let judged = selection::judge(&found, state, &archives.criteria);
        self.warn_of_nothing(nothing.or_else(|| selection::nothing_in_span(&found, &judged)));
        let all: Vec<_> = found.iter().zip(&judged).collect();
        let changed = all.iter().filter(|(_, why)| **why == Some(NotTaken::Processed { has_changed: true }));
        let changed = changed.map(|(archive, _)| archive.name.clone()).collect();
        self.warn_of_shared_times(&all);
        self.warn_of_changed(changed);
        let mut selection = selection::partition(found, judged);
        selection::count_unreadable(&mut selection, &left_out, state, &archives.criteria);
        self.left_out_before = left_out.into_iter().map(|left_out| left_out.path).collect();
        selection.take.retain(|archive| !under_way(&archive.name));
        let found = selection.take.len();
        selection.take.retain(|archive| !self.store.admission.is_too_large(archive));
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

/// Calls `warn` for the first files, and counts the others in one line.
fn warn_of_first<'f, T: 'f>(mut files: impl Iterator<Item = &'f T>, warn: impl FnMut(&'f T), what: &str) {
    files.by_ref().take(MAX_NAMED).for_each(warn);
    let others = files.count();
    if others > 0 {
        log::warn!("{others} more {what}: --list names all");
    }
}
