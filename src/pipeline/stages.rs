//! Starts the stages behind the workers, owns both channels, and joins the threads.

use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Sender, bounded};

use crate::model::{Archive, Batch, Event};
use crate::pipeline::buffers::BufferPool;
use crate::pipeline::ledger::Ledger;
use crate::pipeline::sender;
use crate::shutdown::Stop;
use crate::sink::Sink;

/// Batches waiting for each sender: enough that no sender waits for a worker, few enough to bound memory.
const BATCHES_PER_SENDER: usize = 2;

/// Runs the stages behind `produce`, which hands on batches and drops its ends of the channels when it is done.
/// `workers` is the number of threads that make them. Returns when the ledger has received every batch, with the
/// archives to do again. A panic in any of the threads stops the run.
pub fn stages(
    senders: usize,
    workers: usize,
    sink: &dyn Sink,
    ledger: Ledger<'_>,
    stop: &Stop,
    produce: impl FnOnce(Sender<Batch>, Sender<Event>, &BufferPool) + Send,
) -> Vec<Arc<Archive>> {
    let (batch_sender, batches) = bounded(senders * BATCHES_PER_SENDER);
    let (event_sender, events) = bounded(senders + workers);
    let buffers = &BufferPool::new(senders * (BATCHES_PER_SENDER + 1) + workers);
    thread::scope(|scope| {
        for _ in 0..senders {
            let (batches, events) = (batches.clone(), event_sender.clone());
            scope.spawn(move || sender::run(sink, batches, events, buffers, stop));
        }
        drop(batches);
        scope.spawn(move || {
            stop.guard("the reading", || produce(batch_sender, event_sender, buffers));
        });
        // Owns the receiving end: if the ledger is gone, nobody waits for it.
        ledger.run(events)
    })
}

#[cfg(test)]
mod tests;
