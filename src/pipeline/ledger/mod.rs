//! Stage 6: turns events into counters, dead letters and marks in the state file.
//!
//! Durable writes have an order: dead letters first, then a flush of the indices (if Elasticsearch acknowledges before
//! it syncs), then the state file. A crash in between repeats work and loses none.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::exit::{ExitCode, Failure};
use crate::model::{Archive, Event, Outcomes};
use crate::observe::progress::Progress;
use crate::pulse::Stage;
use crate::shutdown::Stop;
use crate::sink::Sink;

pub mod books;
pub mod dead_letters;
pub mod lines;
pub mod refusals;
pub mod state_file;
pub mod tracker;

use books::{Books, Open};
use dead_letters::DeadLetterFile;
use lines::Lines;
use refusals::Refusals;
use tracker::{Arrivals, Fate, Finished, Tracker};

/// The longest time until a finished archive is marked. A crash repeats only what finished in this time.
const MARK_WITHIN: Duration = Duration::from_millis(900);

/// Receives the events of all stages until the last stage has ended.
pub struct Ledger<'r> {
    /// Where archives are marked. None: nowhere (a dry run, a verification, a replay).
    books: Option<&'r Books>,
    /// Where rejected rows go. None: nowhere.
    dead_letters: Option<DeadLetterFile>,
    /// Makes its confirmed writes durable before they are marked.
    sink: &'r dyn Sink,
    /// The run's counters.
    progress: &'r Progress,
    /// Stops the run if something cannot be written.
    stop: &'r Stop,
    /// Why nothing may be marked any more. A later successful write does not undo a failed one: the kernel reports a
    /// failed write-back to only one fsync, so rejected rows would be lost.
    failed: Option<Failure>,
    /// Archives to do again that are not in any books.
    again: Vec<Arc<Archive>>,
    /// Archives that were not begun before the run was stopped.
    not_begun: u64,
    /// Stops the run if too much is rejected.
    refusals: Option<&'r Refusals>,
    /// Remembers over several looks what has been logged about archives.
    lines: Option<&'r Lines>,
    arrivals: Arrivals,
    tracker: Tracker,
    /// Archives that are finished and not marked yet.
    unmarked: Vec<Finished>,
    /// When to mark them, if there are any.
    mark_at: Option<Instant>,
    mark_within: Duration,
}

impl<'r> Ledger<'r> {
    /// A ledger that marks archives in `books` and writes rejected rows to `dead_letters`, if given. Counts everything
    /// in `progress`.
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

    /// Lets `refusals` watch the rejected rows.
    pub fn watched_by(self, refusals: &'r Refusals) -> Self {
        Self { refusals: Some(refusals), ..self }
    }

    /// Does not log about an archive what `lines` says has been logged before.
    pub fn logs_once(self, lines: &'r Lines) -> Self {
        Self { lines: Some(lines), ..self }
    }

    /// Receives events until the channel closes. Archives that were delivered to an earlier generation of the sink, which
    /// no longer counts, are to be done again: the books hand them out; without books, they are returned.
    ///
    /// A panic stops the run, and nothing is marked from then on. Events are still received, so that nobody blocks and
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
                self.tell_not_begun();
                return self.again;
            }
        }
    }

    /// Whether nothing is on its way here after this event, unless more archives are taken up.
    fn drains(&mut self, event: &Event) -> bool {
        let Some(books) = self.books else { return false };
        self.arrivals.note(event) && books.open().under_way().archives == self.arrivals.complete()
    }

    /// Tells how many archives were found and not begun, as the run was stopped.
    fn tell_not_begun(&self) {
        // Some were never handed out.
        let left = self.books.map_or(0, |books| books.open().under_way().archives);
        let not_begun = self.not_begun + if self.stop.is_requested() { left } else { 0 };
        if not_begun > 0 && !self.stop.is_unread() {
            log::warn!("{not_begun} archives were not started: the next run loads them");
        }
    }

    /// The events that are decided by this event, or as no more are on their way.
    fn decided(&self, event: Option<Event>, is_last: bool) -> Vec<Event> {
        let Some(refusals) = self.refusals else { return event.into_iter().collect() };
        let mut decided = event.map_or_else(Vec::new, |event| refusals.judge(event, self.stop));
        if is_last {
            decided.extend(refusals.finish(self.stop));
        }
        decided
    }

    fn guarded(&mut self, mut event: Option<Event>) {
        let stop = self.stop;
        if let Some(outcomes) = event.as_mut().map(Event::outcomes_mut) {
            self.progress.count_rows(&outcomes.tally, std::mem::take(&mut outcomes.reasons));
        }
        let taken_in = stop.guard("the ledger", || {
            let _watch = stop.pulse().watch(Stage::Ledger);
            self.take_in(event);
        });
        if taken_in.is_none() {
            self.failed.get_or_insert_with(|| stop.as_failure());
        }
    }

    /// Handles an event. None: no event is waiting, or none will come, so finished archives are marked.
    fn take_in(&mut self, event: Option<Event>) {
        let is_idle = event.is_none();
        if let Some(event) = event {
            let finished = self.tracker.apply(&event);
            let (Event::Batch { outcomes, .. } | Event::Archive { outcomes, .. }) = event;
            self.keep_rejected(&outcomes);
            if let Some(finished) = finished {
                self.unmarked.push(finished);
                self.mark_at.get_or_insert_with(|| Instant::now() + self.mark_within);
            }
        }
        if is_idle || self.mark_at.is_some_and(|time| Instant::now() >= time) {
            self.mark_at = None;
            let finished = std::mem::take(&mut self.unmarked);
            self.mark(finished);
        }
    }

    fn keep_rejected(&mut self, outcomes: &Outcomes) {
        let Some(file) = &mut self.dead_letters else { return };
        let appended =
            file.append(&outcomes.dead_letters).and_then(|()| file.append_lines(&outcomes.kept_lines));
        if let Err(error) = appended {
            let failure = cannot_write("the dead-letter file", file.path(), &error);
            self.fail(failure);
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.stop.fail(failure.clone());
        self.failed.get_or_insert(failure);
    }

    /// Marks finished archives with one save.
    fn mark(&mut self, mut finished: Vec<Finished>) {
        if finished.is_empty() {
            return;
        }
        self.arrivals.dealt_with(finished.len() as u64);
        let durable = self.make_durable(&mut finished);
        // From here on no look sees an archive that is neither under way nor done, or both.
        let mut open = self.books.map(Books::open);
        let marked = durable.and_then(|()| open.as_mut().map_or(Ok(()), |open| save(open, &finished)));
        if let Err(failure) = &marked {
            self.fail(failure.clone());
        }
        for archive in finished {
            let fate = match (&marked, archive.fate) {
                (Err(failure), Fate::Processed | Fate::Failed(_)) => Fate::Pending(failure.message.clone()),
                (_, fate) => fate,
            };
            let is_pending = matches!(fate, Fate::Pending(_));
            if archive.tally.read == 0 && is_pending && self.stop.is_requested() {
                self.not_begun += 1;
            } else if !is_pending || self.lines.is_none_or(|lines| lines.is_new(&archive.archive, &fate)) {
                // Whoever has gone has no use for the rest, and need not be told that it is left.
                if !(is_pending && self.stop.is_unread()) {
                    lines::log_archive(&archive.archive.name, &archive.tally, &fate);
                }
            }
            match fate {
                Fate::Processed => self.progress.processed(&archive.archive),
                Fate::Failed(_) => self.progress.failed(&archive.archive),
                Fate::Pending(_) => {}
                Fate::Again => {
                    self.do_again(archive.archive, open.as_deref_mut());
                    continue;
                }
            }
            if let Some(open) = &mut open {
                open.leave(&archive.archive);
            }
        }
        if let (Some(open), Some(books)) = (open, self.books)
            && open.under_way().archives == 0
        {
            self.progress.passed();
            books.tell_settled();
        }
    }

    fn do_again(&mut self, archive: Arc<Archive>, open: Option<&mut Open>) {
        let Some((open, books)) = open.zip(self.books) else { return self.again.push(archive) };
        if self.stop.is_requested() {
            open.leave(&archive);
        } else if !books.allows(open.again(&archive)) {
            self.stop.fail(moves_for_ever());
        }
    }

    /// Makes durable what the marks stand on. Finds out which archives have to be done again.
    fn make_durable(&mut self, finished: &mut [Finished]) -> Result<(), Failure> {
        if finished.iter().all(|archive| matches!(archive.fate, Fate::Pending(_))) {
            return Ok(());
        }
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        if let Some(file) = &mut self.dead_letters {
            file.sync().map_err(|error| cannot_write("the dead-letter file", file.path(), &error))?;
        }
        let present = self.sink.make_durable()?;
        for archive in finished.iter_mut().filter(|archive| !archive.counts_for(present)) {
            // A failed archive, too: some of its rows were delivered before it turned out to be broken.
            if matches!(archive.fate, Fate::Processed | Fate::Failed(_)) {
                archive.fate = Fate::Again;
            }
        }
        Ok(())
    }
}

/// Marks archives in the state file, and saves it.
fn save(open: &mut Open, finished: &[Finished]) -> Result<(), Failure> {
    let state = &mut open.state;
    let mut is_new = false;
    for archive in finished {
        match &archive.fate {
            Fate::Processed => state.mark_processed(&archive.archive, archive.tally.read),
            Fate::Failed(error) => state.mark_failed(&archive.archive, error),
            Fate::Pending(_) | Fate::Again => continue,
        }
        is_new = true;
    }
    if !is_new {
        return Ok(());
    }
    state.save().map_err(|error| state_not_written(state.path(), &error))
}

/// The failure if archives could not be marked, however often they were done again.
pub fn moves_for_ever() -> Failure {
    let message = "the aliases of the indices move again and again before archives can be marked: find out \
    who changes them, and run again";
    Failure::new(ExitCode::Unavailable, message)
}

/// The failure if the state file cannot be written.
pub fn state_not_written(path: &Path, error: &io::Error) -> Failure {
    cannot_write("the state file", path, error)
}

fn cannot_write(what: &str, path: &Path, error: &io::Error) -> Failure {
    let what_to_do = match error.kind() {
        ErrorKind::InvalidInput => "name another one",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => "free the disk",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "make it and its folder writable",
        // Not of the system, but of this program: see `Text::write`.
        ErrorKind::Other => "edit it only while no run uses it",
        _ => "free the disk or make its folder writable",
    };
    Failure::run(format!(
        "{what} {} cannot be written: {error}; {what_to_do}, then run again: archives that are not marked \
         are loaded again, nothing is lost",
        path.display()
    ))
}

#[cfg(test)]
mod tests;
