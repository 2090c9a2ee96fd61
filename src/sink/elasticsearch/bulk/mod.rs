//! Delivers batches to Elasticsearch: look-ups, bulk requests, retries, and the deletes that follow tombstones.
//!
//! A batch takes four steps:
//!
//! 1. Look up the ids of its posts in `post_tombstones`.
//! 2. Index the tombstones, and the posts that have none.
//! 3. Look up the posts just sent again.
//! 4. Delete from `posts` those that have a tombstone now.
//!
//! If an index behind `posts` is newer than the archive, a look-up in all of them comes before that (`emissions`).
//!
//! If the next batch is there already, step 3 looks up its posts in the same request, which saves its step 1.
//!
//! A row gets its outcome after the last request that concerns it. A run that is killed in between repeats them all.
//! That is safe, since versions are external.
//!
//! The deletion of an account takes more requests, see [`accounts`].
//!
//! The first look-up keeps a deleted post from becoming visible. The second makes sure that none stays: the writer of a
//! post looks for a tombstone afterwards, and the writer of a tombstone deletes the post afterwards, so the later of
//! the two finds what the other wrote. Actions that have waited longer than half of `index.gc_deletes` since their
//! look-up are looked up again before they are sent.

use std::time::Instant;

use self::attempt::{Attempt, read};
use self::batch_report::BatchReport;
pub use self::expect::ExpectContinue;
use self::lines::BodyLines;
pub use self::refused::Notices;
use self::reply::Operation;
use self::settling::Settling;
pub use self::sizes::Sizes;
use crate::config::BatchLimits;
use crate::model::{Action, Batch, Outcomes};
use crate::observe::traffic::RequestCounters;
use crate::process::shutdown::Stop;
use crate::retry::patience::Retries;
use crate::retry::throttle::{Stopped, Throttle};
use crate::sink::elasticsearch::client::Client;
use crate::sink::elasticsearch::live_targets::LiveTargets;
use crate::sink::upcoming::{LookedUp, Upcoming};

pub mod accounts;
pub(super) mod attempt;
pub mod batch_report;
mod deletes;
mod emissions;
mod expect;
mod lines;
pub(super) mod look_up;
mod refused;
pub mod reply;
mod settling;
mod sizes;

/// Delivers batches to Elasticsearch.
pub struct Bulk<'r> {
    /// Client shared by all senders.
    pub client: &'r Client,
    /// The server's health, and the limits on requests in flight.
    pub throttle: &'r Throttle,
    /// Signal that stops the run; set here if the run cannot go on.
    pub stop: &'r Stop,
    /// The indices behind the names.
    pub targets: &'r LiveTargets,
    /// Ingest pipeline that replaces the index's default.
    pub pipeline: Option<&'r str>,
    /// Limits of a bulk request.
    pub limits: BatchLimits,
    /// How long a request is retried without progress.
    pub retries: Retries<'r>,
    /// Counters of requests and bytes.
    pub counters: &'r RequestCounters,
    /// Notices about the server that were logged already.
    pub notices: Notices,
    /// Sizes of requests that the server accepts.
    pub sizes: Sizes,
    /// Decides whether requests use `Expect: 100-continue`.
    pub expect: ExpectContinue,
}

impl Bulk<'_> {
    /// Delivers a batch: every action gets an outcome. Looks up the posts of the batch that follows, too, if there is one
    /// already.
    pub fn deliver(&self, batch: &Batch, upcoming: &mut Upcoming) -> Outcomes {
        let looked_up = upcoming.looked_up();
        // Read before the first request, so that no later move of an alias is missed.
        let generation = looked_up
            .as_ref()
            .map_or_else(|| self.targets.now().generation, |looked_up| looked_up.generation);
        let mut report = BatchReport::new(batch);
        // `stop` has the reason. Unfinished actions count as unconfirmed.
        let _ = self
            .index(batch, looked_up, &mut report)
            .and_then(|()| self.look_up_again(&mut report, upcoming))
            .and_then(|()| self.delete(&mut report))
            .and_then(|()| self.delete_accounts(batch, &mut report));
        Outcomes { generation: Some(generation), ..report.finish() }
    }

    /// Returns the client for a request that follows up on actions already sent. If the run is to stop, its time limit
    /// is short: the request before may have used its full time.
    pub fn client_to_finish(&self) -> Client {
        if self.stop.is_requested() { self.client.with_short_limit() } else { self.client.clone() }
    }

    fn index(
        &self,
        batch: &Batch,
        looked_up: Option<LookedUp>,
        report: &mut BatchReport<'_>,
    ) -> Result<(), Stopped> {
        let lines = BodyLines {
            operation: Operation::Index,
            body: &batch.body,
            ranges: batch.actions.iter().map(|action| action.lines.clone()).collect(),
            actions: batch.actions.iter().collect(),
        };
        Settling::run(self, &lines, looked_up, &mut |line, outcome| report.indexed(line, outcome))
    }

    /// Looks up which of the posts just sent have a tombstone by now. These are then deleted, too. The same request
    /// looks up the posts of the next batch.
    fn look_up_again(&self, report: &mut BatchReport<'_>, upcoming: &mut Upcoming) -> Result<(), Stopped> {
        let mut posts: Vec<&Action> = report.sent().collect();
        let sent = posts.len();
        if sent == 0 {
            return Ok(());
        }
        let (generation, at) = (self.targets.now().generation, Instant::now());
        // Where the server does not show how long it remembers deletes, a look-up counts for one request only.
        if !self.stop.is_requested() && !self.targets.now().posts.gc_deletes.is_zero() {
            posts.extend(upcoming.peek().into_iter().flat_map(Batch::posts));
        }
        let mut tombstones = self.look_up_to_finish(&posts)?;
        let of_next = tombstones.split_off(sent);
        report.looked_up_again(&tombstones);
        upcoming.keep(LookedUp { generation, at, tombstones: of_next });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
