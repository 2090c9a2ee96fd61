//! Stage 5: batches become outcomes. Plain threads, each with at most one request in flight.

use crossbeam_channel::{Receiver, Sender};

use super::buffers::BufferPool;
use crate::model::{Batch, Event, Outcomes};
use crate::pulse::Stage;
use crate::shutdown::Stop;
use crate::sink::Sink;

/// A sender's life: ends when the channel of batches does. Even a run that is to stop drains it, so that every
/// batch is reported: one whose delivery panics as unconfirmed.
pub fn run(
    sink: &dyn Sink,
    batches: Receiver<Batch>,
    events: Sender<Event>,
    buffers: &BufferPool,
    stop: &Stop,
) {
    for batch in batches {
        let delivered = stop.guard("a sender", || {
            let _watch = stop.pulse().watch(Stage::Sender);
            sink.deliver(&batch)
        });
        let outcomes = delivered.unwrap_or_else(|| Outcomes::unconfirmed(batch.actions.len()));
        buffers.give_back(batch.body);
        // The ledger outlives all senders; were it gone, nobody would be left to tell.
        let _ = events.send(Event::Batch { archive: batch.archive, outcomes });
    }
}
