//! Stage 5: delivers batches, on plain threads with at most one request in flight each.

use crossbeam_channel::{Receiver, Sender};

use super::buffers::BufferPool;
use crate::model::{Batch, Event, Outcomes};
use crate::process::pulse::Stage;
use crate::process::shutdown::Stop;
use crate::sink::Sink;
use crate::sink::upcoming::Upcoming;

/// Runs one sender until the batch channel closes. The channel is drained even if the run is to stop, so that every batch
/// is reported. If a delivery panics, its rows are reported as unconfirmed.
pub fn run(
    sink: &dyn Sink,
    batches: Receiver<Batch>,
    events: Sender<Event>,
    buffers: &BufferPool,
    stop: &Stop,
) {
    let mut upcoming = Upcoming::new(batches);
    while let Some(batch) = upcoming.advance() {
        let delivered = stop.guard("a sender", || {
            let _watch = stop.pulse().watch(Stage::Sender);
            sink.deliver(&batch, &mut upcoming)
        });
        let outcomes = delivered.unwrap_or_else(|| Outcomes::unconfirmed(batch.actions.len()));
        buffers.put_back(batch.body);
        // Fails only if the ledger is gone, and it outlives all senders.
        let _ = events.send(Event { archive: batch.archive, outcomes, end: None });
    }
}
