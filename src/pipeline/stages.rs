//! Builds the stages behind the workers, owns both channels, and joins what it started.

use std::thread;

use crossbeam_channel::{Sender, bounded};

use crate::config::Config;
use crate::model::{Batch, Event};
use crate::pipeline::buffers::Buffers;
use crate::pipeline::ledger::Ledger;
use crate::pipeline::sender;
use crate::shutdown::Stop;
use crate::sink::Sink;

/// Batches that wait for each sender: enough that none of them waits for a worker, few enough to bound memory.
const BATCHES_PER_SENDER: usize = 2;

/// Runs the stages behind `produce`, which hands batches on and drops its ends of the channels when it is done.
/// Returns when the ledger has heard of every batch. A panic in any of the threads stops the run.
pub fn stages(
    config: &Config,
    sink: &dyn Sink,
    ledger: Ledger<'_>,
    stop: &Stop,
    produce: impl FnOnce(Sender<Batch>, Sender<Event>, &Buffers) + Send,
) {
    let (batch_sender, batches) = bounded(config.senders * BATCHES_PER_SENDER);
    let (event_sender, events) = bounded(config.senders + config.workers);
    let buffers = &Buffers::new(config.senders * (BATCHES_PER_SENDER + 1) + config.workers);
    thread::scope(|scope| {
        for _ in 0..config.senders {
            let (batches, events) = (batches.clone(), event_sender.clone());
            scope.spawn(move || sender::run(sink, batches, events, buffers, stop));
        }
        drop(batches);
        scope.spawn(move || {
            stop.guard("the reading", || produce(batch_sender, event_sender, buffers));
        });
        // Takes the receiving end along: without the ledger nobody waits for it to listen.
        ledger.run(events);
    });
}

#[cfg(test)]
mod tests;
