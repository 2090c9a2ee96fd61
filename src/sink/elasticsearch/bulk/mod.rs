//! Delivery to Elasticsearch: look-up, bulk requests, retries, and the delete that follows a tombstone.
//!
//! A batch goes through four requests: its posts' ids are looked up in `post_tombstones`; posts without a tombstone
//! and tombstones are indexed; the posts sent are looked up again; and what has a tombstone by then, or was
//! given one, is deleted from `posts`. A row has its outcome after the last request that concerns it, so a run
//! killed in between repeats them all, and all bear repetition (external versions).
//!
//! The deletion of an account takes more than these, see [`accounts`].
//!
//! The first look-up keeps a deleted post from being seen; the second makes sure that none stays, whatever
//! happened in between: whoever writes a post looks for a tombstone afterwards, and whoever writes a tombstone
//! deletes the post afterwards, so that the later of the two finds what the other one wrote. A part of a batch that
//! has waited for longer than half of `index.gc_deletes` since its look-up is looked up anew before it is sent.

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
    /// What stands behind the names of the indices.
    pub targets: &'r LiveTargets,
    /// The ingest pipeline that documents go through in place of the index's default.
    pub pipeline: Option<&'r str>,
    /// Limits of a bulk request.
    pub limits: BatchLimits,
    /// How long a request is tried without any progress.
    pub retries: Retries<'r>,
    /// Requests made.
    pub counters: &'r RequestCounters,
    /// What has been noticed of the server.
    pub notices: Notices,
    /// What sizes of requests it takes.
    pub sizes: Sizes,
}

impl Bulk<'_> {
    /// Brings every action of a batch to an outcome.
    pub fn deliver(&self, batch: &Batch) -> Outcomes {
        // Before the first request: what moves afterwards may have been missed.
        let generation = self.targets.now().generation;
        let mut report = BatchReport::new(batch);
        // Why the run stops is with `stop`; what it leaves undone is counted as unconfirmed.
        let _ = self
            .index(batch, &mut report)
            .and_then(|()| self.look_again(&mut report))
            .and_then(|()| self.delete(&mut report))
            .and_then(|()| self.delete_accounts(batch, &mut report));
        Outcomes { generation: Some(generation), ..report.finish() }
    }
}

impl Bulk<'_> {
    /// The client for a request that belongs to what has been sent: where the run is to stop, it has not much time,
    /// since the request before may have had all of its own.
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

    /// Looks up which of the posts sent have a tombstone by now: those are deleted like the rest.
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
