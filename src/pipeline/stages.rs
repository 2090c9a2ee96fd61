//! Runs the threads of all stages, connected by two channels.

use std::sync::Arc;
use std::thread;

use crossbeam_channel::bounded;

use crate::config::BatchLimits;
use crate::model::Archive;
use crate::pipeline::buffers::BufferPool;
use crate::pipeline::ledger::Ledger;
use crate::pipeline::outlet::Outlets;
use crate::pipeline::sender;
use crate::process::shutdown::Stop;
use crate::sink::Sink;

/// Capacity of the batch channel per sender: enough that no sender waits for a worker, few enough to bound memory.
const QUEUED_PER_SENDER: usize = 1;

/// Batches that a sender has at most: the one that it delivers, and the next one.
const TAKEN_PER_SENDER: usize = 2;

/// Runs `produce`, which sends batches from `workers` threads, together with the senders and the ledger. Returns the
/// archives to do again, once `produce` has dropped the outlets and the ledger has received every event. A
/// panic in any of the threads stops the run.
pub fn stages(
    senders: usize,
    workers: usize,
    sink: &dyn Sink,
    limits: BatchLimits,
    ledger: Ledger<'_>,
    stop: &Stop,
    produce: impl FnOnce(Outlets<'_>) + Send,
) -> Vec<Arc<Archive>> {
    let (batch_sender, batches) = bounded(senders * QUEUED_PER_SENDER);
    let (event_sender, events) = bounded(senders + workers);
    let buffers = &BufferPool::new(senders * (QUEUED_PER_SENDER + TAKEN_PER_SENDER) + workers);
    thread::scope(|scope| {
        for _ in 0..senders {
            let (batches, events) = (batches.clone(), event_sender.clone());
            scope.spawn(move || sender::run(sink, batches, events, buffers, stop));
        }
        drop(batches);
        scope.spawn(move || {
            let outlets = Outlets { sink, limits, batches: batch_sender, events: event_sender, buffers };
            stop.guard("the reading", || produce(outlets));
        });
        // The ledger owns the receiving end, so no thread blocks on the channel if the ledger is gone.
        ledger.run(events)
    })
}

#[cfg(test)]
mod tests;
