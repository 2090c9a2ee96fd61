//! Stage 6: turns events into counters, dead letters and marks in the state file.
//!
//! Durable writes have an order: first the dead letters, then a flush of the indices (if Elasticsearch acknowledges
//! before it syncs), then the state file. After a crash in between, work is repeated but none is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::common::exit::Failure;
use crate::model::{Archive, Event, Outcomes};
use crate::observe::progress::Progress;
use crate::process::pulse::Stage;
use crate::process::shutdown::Stop;
use crate::sink::Sink;

pub mod books;
pub mod dead_letters;
mod failures;
pub mod lines;
mod marking;
pub mod refusals;
pub mod state_file;
pub mod tracker;

pub use failures::{dead_letters_not_written, moves_for_ever, state_not_written};

use books::Books;
use dead_letters::DeadLetterFile;
use lines::Lines;
use refusals::Refusals;
use tracker::{Arrivals, Finished, Tracker};

/// Maximum time until a finished archive is marked. After a crash, only archives finished in this time are repeated.
const MARK_WITHIN: Duration = Duration::from_millis(900);

/// Receives the events of all stages until the last one has ended.
pub struct Ledger<'r> {
    /// The books in which archives are marked. None for a run that marks none (dry run, verification, replay).
    books: Option<&'r Books>,
    /// The file for rejected rows, if any.
    dead_letters: Option<DeadLetterFile>,
    /// The sink, whose writes must be durable before archives are marked.
    sink: &'r dyn Sink,
    progress: &'r Progress,
    stop: &'r Stop,
    /// Why nothing may be marked any more. A later successful write does not undo a failed one: the kernel reports a
    /// failed write-back to only one fsync, so rejected rows would be lost.
    failed: Option<Failure>,
    /// Archives to do again, if there are no books to enter them in.
    again: Vec<Arc<Archive>>,
    /// Number of archives that were not begun before the run was stopped.
    not_begun: u64,
    /// Stops the run if too many rows are rejected.
    refusals: Option<&'r Refusals>,
    /// What has been logged about archives at earlier looks.
    lines: Option<&'r Lines>,
    arrivals: Arrivals,
    tracker: Tracker,
    /// Finished archives that are not marked yet.
    unmarked: Vec<Finished>,
    /// When to mark them. None if there are none.
    mark_at: Option<Instant>,
    mark_within: Duration,
}

impl<'r> Ledger<'r> {
    /// Creates a ledger that marks archives in `books` and writes rejected rows to `dead_letters`, if given. Counts
    /// everything in `progress`.
    pub fn new(
        books: Option<&'r Books>,
        dead_letters: Option<DeadLetterFile>,
        sink: &'r dyn Sink,
        progress: &'r Progress,
        stop: &'r Stop,
    ) -> Self {
        Self {
            books,
            dead_letters,
            sink,
            progress,
            stop,
            failed: None,
            again: Vec::new(),
            not_begun: 0,
            refusals: None,
            lines: None,
            arrivals: Arrivals::default(),
            tracker: Tracker::default(),
            unmarked: Vec::new(),
            mark_at: None,
            mark_within: MARK_WITHIN,
        }
    }

    /// Stops the run if `refusals` finds too many rejected rows.
    pub fn watched_by(self, refusals: &'r Refusals) -> Self {
        Self { refusals: Some(refusals), ..self }
    }

    /// Does not log what `lines` has already logged about an archive.
    pub fn logs_once(self, lines: &'r Lines) -> Self {
        Self { lines: Some(lines), ..self }
    }

    /// Receives events until the channel closes. Archives that were delivered to an earlier generation of the sink are to
    /// be done again. They go back to the queue of the books; without books, they are returned.
    ///
    /// A panic stops the run, and nothing is marked from then on. Events are still received, so that no sender blocks and
    /// every row is counted.
    pub fn run(mut self, events: Receiver<Event>) -> Vec<Arc<Archive>> {
        loop {
            let received = match self.mark_at {
                Some(time) => events.recv_deadline(time),
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let is_last = matches!(received, Err(RecvTimeoutError::Disconnected));
            let is_idle = received.is_err();
            let event = received.ok();
            let is_drained = event.as_ref().is_some_and(|event| self.drains(event));
            for event in self.decided(event, is_last || is_drained) {
                self.guarded(Some(event));
            }
            if is_idle || is_drained {
                self.guarded(None);
            }
            if is_last {
                self.log_not_begun();
                return self.again;
            }
        }
    }

    /// Whether this is the last event of all archives under way.
    fn drains(&mut self, event: &Event) -> bool {
        let Some(books) = self.books else { return false };
        self.arrivals.note(event) && books.open().under_way().archives == self.arrivals.complete()
    }

    /// Logs how many archives were found but not begun before the run was stopped.
    fn log_not_begun(&self) {
        // Archives that never left the queue have no events.
        let left = self.books.map_or(0, |books| books.open().under_way().archives);
        let not_begun = self.not_begun + if self.stop.is_requested() { left } else { 0 };
        if not_begun > 0 && !self.stop.is_unread() {
            match not_begun {
                1 => log::warn!("1 archive was not started: the next run loads it"),
                _ => log::warn!("{not_begun} archives were not started: the next run loads them"),
            }
        }
    }

    /// Returns the events whose outcomes are final after this event. Refused ones may be held back until the last event.
    fn decided(&self, event: Option<Event>, is_last: bool) -> Vec<Event> {
        let Some(refusals) = self.refusals else { return event.into_iter().collect() };
        let mut decided = event.map_or_else(Vec::new, |event| refusals.judge(event, self.stop));
        if is_last {
            decided.extend(refusals.finish(self.stop));
        }
        decided
    }

    fn guarded(&mut self, mut event: Option<Event>) {
        let mut written = Some(());
        if let Some(outcomes) = event.as_mut().map(|event| &mut event.outcomes) {
            written = self.watched(|ledger| ledger.write_rejected(outcomes));
            self.progress.count_rows(&outcomes.tally, std::mem::take(&mut outcomes.reasons));
        }
        if written.and_then(|()| self.watched(|ledger| ledger.handle(event))).is_none() {
            self.failed.get_or_insert_with(|| self.stop.as_failure());
        }
    }

    fn watched(&mut self, work: impl FnOnce(&mut Self)) -> Option<()> {
        let stop = self.stop;
        stop.guard("the ledger", || {
            let _watch = stop.pulse().watch(Stage::Ledger);
            work(self);
        })
    }

    /// Handles an event. None means that no event is waiting, so finished archives are marked now.
    fn handle(&mut self, event: Option<Event>) {
        let is_idle = event.is_none();
        if let Some(finished) = event.and_then(|event| self.tracker.apply(&event)) {
            self.unmarked.push(finished);
            self.mark_at.get_or_insert_with(|| Instant::now() + self.mark_within);
        }
        if is_idle || self.mark_at.is_some_and(|time| Instant::now() >= time) {
            self.mark_at = None;
            let finished = std::mem::take(&mut self.unmarked);
            self.mark(finished);
        }
    }

    /// Writes the rejected rows to the dead-letter file. Those that cannot be written have no outcome.
    fn write_rejected(&mut self, outcomes: &mut Outcomes) {
        if outcomes.dead_letters.is_empty() && outcomes.kept_lines.is_empty() {
            return;
        }
        let Some(file) = &mut self.dead_letters else { return };
        let path = file.path().to_owned();
        let appended = self.stop.pulse().while_using(&path, || {
            file.append(&outcomes.dead_letters).and_then(|()| file.append_lines(&outcomes.kept_lines))
        });
        if let Err(error) = appended {
            let failure = dead_letters_not_written(&path, &error);
            refusals::unconfirm(outcomes);
            self.fail(failure);
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.stop.fail(failure.clone());
        self.failed.get_or_insert(failure);
    }
}

#[cfg(test)]
mod tests;
