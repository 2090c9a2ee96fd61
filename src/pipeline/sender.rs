//! Stage 5: batches become outcomes. Plain threads, each with at most one request in flight.

use crossbeam_channel::{Receiver, Sender};

use super::buffers::Buffers;
use crate::model::{Batch, Event};
use crate::sink::Sink;

/// A sender's life: ends when the channel of batches does. Even a run that is to stop drains it, so that every
/// batch is reported.
pub fn run(sink: &dyn Sink, batches: Receiver<Batch>, events: Sender<Event>, buffers: &Buffers) {
    for batch in batches {
        let outcomes = sink.deliver(&batch);
        buffers.give_back(batch.body);
        // The ledger outlives all senders; were it gone, nobody would be left to tell.
        let _ = events.send(Event::Batch { archive: batch.archive, outcomes });
    }
}
