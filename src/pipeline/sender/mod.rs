//! Stage 5: batches become outcomes. Plain threads, each with at most one request in flight.

use crossbeam_channel::{Receiver, Sender};

use super::{Batch, Event, Outcomes};
use crate::pipeline::encode::buffers::Buffers;

pub mod accounts;
pub mod batch_report;
pub mod bulk;
pub mod dry_run;
pub mod limiter;
pub mod patience;
pub mod reply;
pub mod throttle;

/// What becomes of a batch: written to Elasticsearch, or not (a dry run).
pub trait Deliver: Sync {
    /// Brings every action of a batch to an outcome. Where the run stops first, the rest is `unconfirmed`; the
    /// outcomes always add up to the number of actions.
    fn deliver(&self, batch: &Batch) -> Outcomes;
}

/// A sender's life: ends when the channel of batches does. Even a run that is to stop drains it, so that every
/// batch is reported.
pub fn run(deliver: &dyn Deliver, batches: Receiver<Batch>, events: Sender<Event>, buffers: &Buffers) {
    for batch in batches {
        let outcomes = deliver.deliver(&batch);
        buffers.give_back(batch.body);
        // The ledger outlives all senders; were it gone, nobody would be left to tell.
        let _ = events.send(Event::Batch { archive: batch.archive, outcomes });
    }
}
