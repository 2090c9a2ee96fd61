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

/// Hands on the actions and outcomes of one archive, or of one of its row ranges.
pub struct Outlet<'p> {
    /// The number of rows read, and outcomes of rows that are in no batch and not reported yet.
    pub outcomes: Outcomes,
    archive: Arc<Archive>,
    sink: &'p dyn Sink,
    batches: &'p Sender<Batch>,
    events: &'p Sender<Event>,
    buffers: &'p BufferPool,
    posts: Batcher,
    deletions: Batcher,
    /// Number of batches sent, and of outcomes reported before the end.
    sent: u64,
}

impl<'p> Outlet<'p> {
    /// Creates an outlet for an archive.
    pub fn new(
        archive: &Arc<Archive>,
        sink: &'p dyn Sink,
        limits: BatchLimits,
        batches: &'p Sender<Batch>,
        events: &'p Sender<Event>,
        buffers: &'p BufferPool,
    ) -> Self {
        Self {
            outcomes: Outcomes::default(),
            archive: archive.clone(),
            sink,
            batches,
            events,
            buffers,
            posts: Batcher::new(archive.clone(), limits, buffers.take()),
            // A batch of deletions is small, so it needs no pooled buffer of megabytes.
            deletions: Batcher::new(archive.clone(), limits, Vec::new()),
            sent: 0,
        }
    }

    /// Adds an action to its batch. Sends the batch if it is full.
    pub fn push(&mut self, action: Action, document: &Document<'_>) {
        let write = |body: &mut Vec<u8>, action: &Action| self.sink.encode(body, action, document);
        let full = match action.kind {
            ActionKind::Post => self.posts.push(action, write, || self.buffers.take()),
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
        // Fails only if the ledger is gone, and it receives events until the last sending end is dropped.
        let _ = self.events.send(Event { archive: self.archive.clone(), outcomes, end: None });
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
        match self.batches.send(batch) {
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
        let limits = BatchLimits { docs, bytes: 1 << 20 };
        f(Outlet::new(&archive(), &NullSink, limits, &batch_sender, &event_sender, &BufferPool::new(1)));
        (batches, events)
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
        let limits = BatchLimits { docs: 10, bytes: 1 << 20 };
        let buffers = BufferPool::new(1);
        let mut outlet = Outlet::new(&archive(), &NullSink, limits, &batch_sender, &event_sender, &buffers);
        push(&mut outlet, ActionKind::Post, 1);
        push(&mut outlet, ActionKind::Tombstone, 2);
        let (outcomes, sent) = outlet.finish();
        assert_eq!((outcomes.tally.unconfirmed, sent), (2, 0));
    }
}
