//! Delivery to Elasticsearch: look-up, bulk requests, retries, and the delete that follows a tombstone.
//!
//! A batch takes four requests. Its posts' ids are looked up in `post_tombstones`. Tombstones, and posts without a
//! tombstone, are indexed. The posts sent are looked up again. Posts that have a tombstone by then are deleted from
//! `posts`. A row has its outcome after the last request that concerns it. A run killed in between repeats them all,
//! and all can be repeated (external versions).
//!
//! The deletion of an account takes more requests, see [`accounts`].
//!
//! The first look-up keeps a deleted post from becoming visible. The second makes sure that none stays: the writer of a
//! post looks for a tombstone afterwards, and the writer of a tombstone deletes the post afterwards, so the later of
//! the two finds what the other wrote. A part that has waited longer than half of `index.gc_deletes` since its look-up
//! is looked up again before it is sent.

pub use self::asking::Asking;
use self::attempt::{Attempt, read};
use self::batch_report::BatchReport;
use self::lines::BodyLines;
pub use self::refused::Notices;
use self::reply::Operation;
use self::settling::Settling;
pub use self::sizes::Sizes;
use crate::config::BatchLimits;
use crate::model::{Action, Batch, Outcomes};
use crate::observe::report::RequestCounters;
use crate::retry::patience::Retries;
use crate::retry::throttle::{Stopped, Throttle};
use crate::shutdown::Stop;
use crate::sink::elasticsearch::client::Client;
use crate::sink::elasticsearch::targets::LiveTargets;

pub mod accounts;
mod asking;
pub(super) mod attempt;
pub mod batch_report;
mod deletes;
mod lines;
pub(super) mod look_up;
mod refused;
pub mod reply;
mod settling;
mod sizes;

/// Delivers to Elasticsearch.
pub struct Bulk<'r> {
    /// The client shared by all senders.
    pub client: &'r Client,
    /// The server's health as all senders see it.
    pub throttle: &'r Throttle,
    /// Told when the run cannot go on.
    pub stop: &'r Stop,
    /// The indices behind the names.
    pub targets: &'r LiveTargets,
    /// The ingest pipeline that replaces the index's default.
    pub pipeline: Option<&'r str>,
    /// Limits of a bulk request.
    pub limits: BatchLimits,
    /// How long a request is retried without progress.
    pub retries: Retries<'r>,
    /// Requests made.
    pub counters: &'r RequestCounters,
    /// The notices about the server that were logged.
    pub notices: Notices,
    /// The sizes of requests that the server takes.
    pub sizes: Sizes,
    /// Whether requests ask before they send their bodies.
    pub asking: Asking,
}

impl Bulk<'_> {
    /// Delivers a batch: brings every action to an outcome.
    pub fn deliver(&self, batch: &Batch) -> Outcomes {
        // Read before the first request: a later move of an alias may have been missed.
        let generation = self.targets.now().generation;
        let mut report = BatchReport::new(batch);
        // `stop` holds the reason; unfinished actions are counted as unconfirmed.
        let _ = self
            .index(batch, &mut report)
            .and_then(|()| self.look_again(&mut report))
            .and_then(|()| self.delete(&mut report))
            .and_then(|()| self.delete_accounts(batch, &mut report));
        Outcomes { generation: Some(generation), ..report.finish() }
    }
}

impl Bulk<'_> {
    /// The client for a request that follows up on sent actions. When the run is to stop, its time limit is short,
    /// since the request before may have used its full time.
    pub fn client_to_finish(&self) -> Client {
        if self.stop.is_requested() { self.client.in_haste() } else { self.client.clone() }
    }

    /// Indexes posts and tombstones.
    pub(super) fn index(&self, batch: &Batch, report: &mut BatchReport<'_>) -> Result<(), Stopped> {
        let lines = BodyLines {
            operation: Operation::Index,
            body: &batch.body,
            ranges: batch.actions.iter().map(|action| action.lines.clone()).collect(),
            actions: batch.actions.iter().collect(),
        };
        Settling::new(self, &lines, &mut |line, outcome| report.indexed(line, outcome)).run()
    }

    /// Looks up which of the posts sent have a tombstone by now. Those are deleted like the rest.
    fn look_again(&self, report: &mut BatchReport<'_>) -> Result<(), Stopped> {
        let posts: Vec<&Action> = report.sent().collect();
        if !posts.is_empty() {
            let tombstones = self.look_up_to_finish(&posts)?;
            report.looked_again(&tombstones);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
