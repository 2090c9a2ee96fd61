//! Marks finished archives once their dead letters and documents are durable.

use std::sync::Arc;

use super::books::{Books, Open};
use super::failures::{dead_letters_not_written, moves_for_ever, state_not_written};
use super::tracker::{Fate, Finished};
use super::{Ledger, lines};
use crate::common::exit::Failure;
use crate::model::Archive;
use crate::process::shutdown::Stop;

impl Ledger<'_> {
    /// Marks finished archives, with a single save of the state file.
    pub(super) fn mark(&mut self, mut finished: Vec<Finished>) {
        if finished.is_empty() {
            return;
        }
        self.arrivals.dealt_with(finished.len() as u64);
        let durable = self.make_durable(&mut finished);
        // Locked until all are marked, so that every look sees each archive either under way or done.
        let mut open = self.books.map(Books::open);
        let marked =
            durable.and_then(|()| open.as_mut().map_or(Ok(()), |open| save(open, &finished, self.stop)));
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
                // If the reader of the output is gone, pending archives are expected and not logged.
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
            books.notify_settled();
        }
    }

    fn do_again(&mut self, archive: Arc<Archive>, open: Option<&mut Open>) {
        let Some((open, books)) = open.zip(self.books) else { return self.again.push(archive) };
        if self.stop.is_requested() {
            open.leave(&archive);
        } else if !books.allows(open.enqueue_again(&archive)) {
            self.stop.fail(moves_for_ever());
        }
    }

    /// Makes dead letters and documents durable before archives are marked. Finds the archives to do again.
    fn make_durable(&mut self, finished: &mut [Finished]) -> Result<(), Failure> {
        if finished.iter().all(|archive| matches!(archive.fate, Fate::Pending(_))) {
            return Ok(());
        }
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        if let Some(file) = &mut self.dead_letters {
            let path = file.path().to_owned();
            let synced = self.stop.pulse().while_using(&path, || file.sync());
            synced.map_err(|error| dead_letters_not_written(&path, &error))?;
        }
        let present = self.sink.make_durable()?;
        for archive in finished.iter_mut().filter(|archive| !archive.counts_for(present)) {
            // Includes failed archives: some of their rows may have been delivered before the damage.
            if matches!(archive.fate, Fate::Processed | Fate::Failed(_)) {
                archive.fate = Fate::Again;
            }
        }
        Ok(())
    }
}

/// Marks archives in the state file and saves it.
fn save(open: &mut Open, finished: &[Finished], stop: &Stop) -> Result<(), Failure> {
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
    let path = state.path().to_owned();
    stop.pulse().while_using(&path, || state.save()).map_err(|error| state_not_written(&path, &error))
}
