//! Passes the actions of workers and replays to the senders, in batches, and their outcomes to the ledger.
//!
//! Posts and deletions are batched separately. A deletion takes one more request than a post, the delete after its
//! tombstone, and the deletions of a batch share it. If batches were mixed, each would cause a small extra request: half
//! of all bulk requests if one row in twenty is a deletion. The order of posts and deletions does not matter, see
//! [`convergence`](crate::sink::elasticsearch::convergence).

use std::mem;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::buffers::BufferPool;
use crate::config::BatchLimits;
use crate::model::{Action, ActionKind, Archive, Batch, Document, Event, Outcomes};
use crate::sink::Sink;
use crate::sink::batch::Batcher;

/// Where actions and outcomes go. The channels close once this is dropped.
pub struct Outlets<'p> {
    /// Encodes documents.
    pub sink: &'p dyn Sink,
    /// Limits of one batch.
    pub limits: BatchLimits,
    /// The channel to the senders.
    pub batches: Sender<Batch>,
    /// The channel to the ledger.
    pub events: Sender<Event>,
    /// Buffers for batch bodies.
    pub buffers: &'p BufferPool,
}

impl Outlets<'_> {
    /// Opens an outlet for an archive, or for one of its row ranges.
    pub fn open(&self, archive: &Arc<Archive>) -> Outlet<'_> {
        Outlet {
            outlets: self,
            outcomes: Outcomes::default(),
            archive: archive.clone(),
            posts: Batcher::new(archive.clone(), self.limits, self.buffers.take()),
            // A batch of deletions is small, so it needs no pooled buffer of megabytes.
            deletions: Batcher::new(archive.clone(), self.limits, Vec::new()),
            sent: 0,
        }
    }

    /// Sends an event to the ledger.
    pub fn report(&self, event: Event) {
        // Fails only if the ledger is gone, and it receives events until the last sending end is dropped.
        let _ = self.events.send(event);
    }
}

/// Hands on the actions and outcomes of one archive, or of one of its row ranges.
pub struct Outlet<'p> {
    outlets: &'p Outlets<'p>,
    /// The number of rows read, and outcomes of rows that are in no batch and not reported yet.
    pub outcomes: Outcomes,
    archive: Arc<Archive>,
    posts: Batcher,
    deletions: Batcher,
    /// Number of batches sent, and of outcomes reported before the end.
    sent: u64,
}

impl Outlet<'_> {
    /// Adds an action to its batch. Sends the batch if it is full.
    pub fn push(&mut self, action: Action, document: &Document<'_>) {
        let write = |body: &mut Vec<u8>, action: &Action| self.outlets.sink.encode(body, action, document);
        let full = match action.kind {
            ActionKind::Post => self.posts.push(action, write, || self.outlets.buffers.take()),
            ActionKind::Tombstone | ActionKind::AccountTombstone { .. } => {
                self.deletions.push(action, write, Vec::new)
            }
        };
        self.send(full);
    }

    /// Reports the outcomes so far to the ledger, except for the number of rows read, which is reported at the end.
    pub fn report_outcomes(&mut self) {
        let mut outcomes = mem::take(&mut self.outcomes);
        self.outcomes.tally.read = mem::take(&mut outcomes.tally.read);
        self.outlets.report(Event { archive: self.archive.clone(), outcomes, end: None });
        self.sent += 1;
    }

    /// Sends the last batches. Returns the outcomes not reported yet, and the number of batches sent and outcomes
    /// reported.
    pub fn finish(mut self) -> (Outcomes, u64) {
        for last in [self.posts.finish(), self.deletions.finish()] {
            self.send(last);
        }
        (self.outcomes, self.sent)
    }

    fn send(&mut self, batch: Option<Batch>) {
        let Some(batch) = batch else { return };
        let rows = batch.actions.len() as u64;
        match self.outlets.batches.send(batch) {
            Ok(()) => self.sent += 1,
            // The channel outlives its producers. If it did not, the rows would still be reported.
            Err(_) => self.outcomes.tally.unconfirmed += rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, unbounded};

    use super::*;
    use crate::model::Version;
    use crate::pipeline::tests::NullSink;

    fn archive() -> Arc<Archive> {
        Arc::new(Archive { name: "a".into(), path: "a".into(), seconds: Some(1), ..Archive::default() })
    }

    fn push(outlet: &mut Outlet<'_>, kind: ActionKind, row_id: i64) {
        let action = Action::new(kind, Version::new(1, row_id).unwrap(), "id");
        outlet.push(action, &Document::Replayed("line"));
    }

    fn with_outlet(docs: usize, f: impl FnOnce(Outlet<'_>)) -> (Receiver<Batch>, Receiver<Event>) {
        let ((batch_sender, batches), (event_sender, events)) = (unbounded(), unbounded());
        f(outlets(docs, batch_sender, event_sender, &BufferPool::new(1)).open(&archive()));
        (batches, events)
    }

    fn outlets(
        docs: usize,
        batches: Sender<Batch>,
        events: Sender<Event>,
        buffers: &BufferPool,
    ) -> Outlets<'_> {
        Outlets { sink: &NullSink, limits: BatchLimits { docs, bytes: 1 << 20 }, batches, events, buffers }
    }

    #[test]
    fn posts_and_deletions_are_batched_separately() {
        let (batches, _) = with_outlet(2, |mut outlet| {
            for row_id in 0..3 {
                push(&mut outlet, ActionKind::Post, row_id);
                push(&mut outlet, ActionKind::Tombstone, 10 + row_id);
            }
            assert_eq!(outlet.finish().1, 4);
        });
        let rows: Vec<Vec<i64>> =
            batches.iter().map(|batch| batch.actions.iter().map(|action| action.row_id).collect()).collect();
        assert_eq!(rows, [vec![0, 1], vec![10, 11], vec![2], vec![12]]);
    }

    #[test]
    fn outcomes_reported_early_leave_the_number_of_rows_for_the_end() {
        let (_, events) = with_outlet(2, |mut outlet| {
            outlet.outcomes.tally.read = 5;
            outlet.outcomes.tally.skipped = 2;
            outlet.report_outcomes();
            let (outcomes, sent) = outlet.finish();
            assert_eq!((outcomes.tally.read, outcomes.tally.skipped, sent), (5, 0, 1));
        });
        let Ok(Event { outcomes, end: None, .. }) = events.recv() else { panic!("no batch event") };
        assert_eq!((outcomes.tally.read, outcomes.tally.skipped), (0, 2));
    }

    #[test]
    fn rows_that_cannot_be_sent_are_unconfirmed() {
        let ((batch_sender, batches), (event_sender, _events)) = (unbounded(), unbounded());
        drop(batches);
        let buffers = BufferPool::new(1);
        let outlets = outlets(10, batch_sender, event_sender, &buffers);
        let mut outlet = outlets.open(&archive());
        push(&mut outlet, ActionKind::Post, 1);
        push(&mut outlet, ActionKind::Tombstone, 2);
        let (outcomes, sent) = outlet.finish();
        assert_eq!((outcomes.tally.unconfirmed, sent), (2, 0));
    }
}
