//! Builds the stages behind the workers, owns both channels, and joins what it started.

use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Sender, bounded};

use crate::model::{Archive, Batch, Event};
use crate::pipeline::buffers::BufferPool;
use crate::pipeline::ledger::Ledger;
use crate::pipeline::sender;
use crate::shutdown::Stop;
use crate::sink::Sink;

/// Batches that wait for each sender: enough that none of them waits for a worker, few enough to bound memory.
const BATCHES_PER_SENDER: usize = 2;

/// Runs the stages behind `produce`, which hands batches on and drops its ends of the channels when it is done.
/// `workers` threads make them. Returns when the ledger has heard of every batch, with the archives that are to be
/// done again. A panic in any of the threads stops the run.
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
        // Takes the receiving end along: without the ledger nobody waits for it to listen.
        ledger.run(events)
    })
}

#[cfg(test)]
mod tests;
