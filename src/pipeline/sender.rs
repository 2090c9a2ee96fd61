//! Stage 5: turns batches into outcomes, on plain threads with at most one request each in flight.

use crossbeam_channel::{Receiver, Sender};

use super::buffers::BufferPool;
use crate::model::{Batch, Event, Outcomes};
use crate::pulse::Stage;
use crate::shutdown::Stop;
use crate::sink::Sink;

/// Runs one sender until the channel of batches closes. A run that is to stop still drains it, so that every batch is
/// reported. A batch whose delivery panics is reported as unconfirmed.
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
        // The ledger outlives all senders. If it were gone, there would be nobody to report to.
        let _ = events.send(Event::Batch { archive: batch.archive, outcomes });
    }
}
