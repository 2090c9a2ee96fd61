//! Delivery to Elasticsearch: look-up, bulk requests, retries, and the delete that follows a tombstone.
//!
//! A batch goes through four requests: its posts' ids are looked up in `post_tombstones`; posts without a tombstone
//! and tombstones are indexed; the posts sent are looked up again; and what has a tombstone by then, or was
//! given one, is deleted from `posts`. A row has its outcome after the last request that concerns it, so a run
//! killed in between repeats them all, and all bear repetition (external versions).
//!
//! The deletion of an account takes more than these, see [`super::accounts`].
//!
//! The first look-up keeps a deleted post from being seen; the second makes sure that none stays, whatever
//! happened in between: whoever writes a post looks for a tombstone afterwards, and whoever writes a tombstone
//! deletes the post afterwards, so that the later of the two finds what the other one wrote. A part of a batch that
//! has waited for longer than half of `index.gc_deletes` since its look-up is looked up anew before it is sent.

use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use self::attempt::Tombstones;
pub(super) use self::attempt::{Attempt, read};
use super::Deliver;
use super::batch_report::{BatchReport, Final};
use super::patience::{Patience, Retries};
use super::reply::{Item, Operation, Refusal};
use super::throttle::{Permit, Stopped, Throttle};
use crate::config::BatchLimits;
use crate::elasticsearch::client::Client;
use crate::pipeline::encode::document::write_delete;
use crate::pipeline::{Action, ActionKind, Batch, Outcomes};
use crate::shutdown::Stop;

mod attempt;

/// A request of several actions whose connection broke so often in a row, while the server answered others, is sent
/// in halves: it may be too large.
const INTERRUPTIONS_BEFORE_DIVIDING: u32 = 3;

/// A request of one action is refused after so many, which is some seconds: by chance that hardly happens.
const INTERRUPTIONS_BEFORE_REFUSING: u32 = 8;

/// What is known of the two indices, from the preflight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// The names under which posts are deleted: `posts`, or each index behind the alias where it has several
    /// (ids are unique per index only).
    pub delete_from: Vec<String>,
    /// The names under which tombstones are looked up, likewise.
    pub look_up_in: Vec<String>,
    /// Whether posts and tombstones are both written to an alias.
    pub are_aliases: bool,
    /// How long Elasticsearch remembers the version of a delete from `posts`.
    pub gc_deletes: Duration,
}

/// Requests made in a run.
#[derive(Debug, Default)]
pub struct RequestCounters {
    /// Bulk requests sent.
    pub bulk: AtomicU64,
    /// Those of them that sent something again.
    pub retried: AtomicU64,
    /// Bytes of their bodies.
    pub bytes_sent: AtomicU64,
}

/// Delivers to Elasticsearch.
pub struct Bulk<'r> {
    /// The client shared by all senders.
    pub client: &'r Client,
    /// The server's health as all senders see it.
    pub throttle: &'r Throttle,
    /// Told when the run cannot go on.
    pub stop: &'r Stop,
    /// What is known of the indices.
    pub targets: &'r Targets,
    /// Limits of a bulk request that is made up here.
    pub limits: BatchLimits,
    /// How long a request is tried without any progress.
    pub retries: Retries<'r>,
    /// Requests made.
    pub counters: &'r RequestCounters,
}

impl Deliver for Bulk<'_> {
    fn deliver(&self, batch: &Batch) -> Outcomes {
        let mut report = BatchReport::new(batch);
        // Why the run stops is with `stop`; what it leaves undone is counted as unconfirmed.
        let _ = self
            .index(batch, &mut report)
            .and_then(|()| self.look_again(&mut report))
            .and_then(|()| self.delete(&mut report))
            .and_then(|()| self.delete_accounts(batch, &mut report));
        report.finish()
    }
}

/// Lines of one kind, and where each of them is in the body.
struct Lines<'b> {
    operation: Operation,
    body: &'b [u8],
    ranges: Vec<Range<usize>>,
    /// The posts to look up before a line is sent, line by line; None: no look-up.
    look_up: Vec<Option<&'b Action>>,
}

impl Lines<'_> {
    /// How many bytes some of the lines have.
    fn bytes(&self, part: &[usize]) -> usize {
        part.iter().filter_map(|&line| self.ranges.get(line)).map(Range::len).sum()
    }

    /// The bytes of some of the lines, in order.
    fn gather(&self, part: &[usize]) -> Vec<u8> {
        let bytes = |&line: &usize| self.body.get(self.ranges.get(line)?.clone());
        part.iter().filter_map(bytes).flatten().copied().collect()
    }

    /// Those of some lines that are to be looked up, each with its post.
    fn to_look_up(&self, part: &[usize]) -> Vec<(usize, &Action)> {
        let post_of = |&line: &usize| Some((line, self.look_up.get(line).copied().flatten()?));
        part.iter().filter_map(post_of).collect()
    }
}

/// The two halves of a part; the first is the one to be sent first, from the end of a list.
fn halves(mut part: Vec<usize>) -> [Vec<usize>; 2] {
    let second = part.split_off(part.len() / 2);
    [second, part]
}

impl<'r> Bulk<'r> {
    /// Indexes posts and tombstones.
    pub(super) fn index(&self, batch: &Batch, report: &mut BatchReport<'_>) -> Result<(), Stopped> {
        let lines = Lines {
            operation: Operation::Index,
            body: &batch.body,
            ranges: batch.actions.iter().map(|action| action.lines.clone()).collect(),
            look_up: batch.actions.iter().map(|a| (a.kind == ActionKind::Post).then_some(a)).collect(),
        };
        let deletes = self.targets.delete_from.len();
        self.settle(&lines, &mut |line, outcome| report.indexed(line, outcome, deletes))
    }

    /// Looks up which of the posts sent have a tombstone by now: those are deleted like the rest.
    fn look_again(&self, report: &mut BatchReport<'_>) -> Result<(), Stopped> {
        let posts: Vec<&Action> = report.sent().collect();
        if !posts.is_empty() {
            let tombstones = self.look_up_to_finish(&posts)?;
            report.looked_again(&tombstones, self.targets.delete_from.len());
        }
        Ok(())
    }

    /// Looks up until there is an answer. What was sent is finished even where the run is to stop: then this is tried
    /// once, and waits for nothing.
    fn look_up_to_finish(&self, posts: &[&Action]) -> Result<Tombstones, Stopped> {
        let mut patience = self.retries.patience();
        loop {
            let Ok(permit) = self.throttle.acquire(0) else {
                return self.ask_for_tombstones(posts).map_err(|_| Stopped);
            };
            if let Some((tombstones, permit)) = self.look_up(permit, posts, &mut patience)? {
                permit.succeeded();
                return Ok(tombstones);
            }
        }
    }

    /// Deletes from `posts` what has a tombstone.
    pub(super) fn delete(&self, report: &mut BatchReport<'_>) -> Result<(), Stopped> {
        let mut body = Vec::new();
        let mut ranges = Vec::new();
        for (action, version) in report.dead() {
            for index in &self.targets.delete_from {
                let start = body.len();
                write_delete(&mut body, index, &action.id, version);
                ranges.push(start..body.len());
            }
        }
        let look_up = vec![None; ranges.len()];
        let lines = Lines { operation: Operation::Delete, body: &body, ranges, look_up };
        let deletes = self.targets.delete_from.len().max(1);
        self.settle(&lines, &mut |line, outcome| report.deleted(line / deletes, outcome))
    }

    /// Sends lines until each of them has a final outcome.
    fn settle(&self, lines: &Lines<'_>, on_final: &mut dyn FnMut(usize, Final)) -> Result<(), Stopped> {
        let mut parts = vec![(0..lines.ranges.len()).collect::<Vec<usize>>()];
        while let Some(part) = parts.pop() {
            if let Some(halves) = self.settle_part(lines, part, on_final)? {
                parts.extend(halves);
            }
        }
        Ok(())
    }

    /// Sends part of the lines again and again until each has an outcome, or the part has to be divided.
    fn settle_part(
        &self,
        lines: &Lines<'_>,
        mut part: Vec<usize>,
        on_final: &mut dyn FnMut(usize, Final),
    ) -> Result<Option<[Vec<usize>; 2]>, Stopped> {
        let mut patience = self.retries.patience();
        let mut looked_up: Option<Instant> = None;
        while !part.is_empty() {
            let bytes = lines.bytes(&part);
            let mut permit = self.throttle.acquire(bytes)?;
            // Only with the permit is it known how long the lines have waited.
            if looked_up.is_none_or(|at| at.elapsed() > self.targets.gc_deletes / 2) {
                let begun = Instant::now();
                let asked = lines.to_look_up(&part);
                let posts: Vec<&Action> = asked.iter().map(|&(_, post)| post).collect();
                let Some((tombstones, given_back)) = self.look_up(permit, &posts, &mut patience)? else {
                    continue;
                };
                for (&(line, _), tombstone) in asked.iter().zip(tombstones) {
                    let Some(version) = tombstone else { continue };
                    on_final(line, Final::Suppressed(version));
                    part.retain(|&other| other != line);
                }
                looked_up = Some(begun);
                permit = given_back;
                // One request more after a signal would double the time that a server which hangs takes to end.
                if self.stop.is_requested() {
                    return Err(Stopped);
                }
                if part.is_empty() {
                    permit.succeeded();
                    break;
                }
            }
            // The lines of a whole batch are sent as they stand.
            let gathered = (part.len() < lines.ranges.len()).then(|| lines.gather(&part));
            let body = gathered.as_deref().unwrap_or(lines.body);
            match self.send(permit, lines.operation, body, part.len(), &mut patience)? {
                Attempt::Failed => {}
                Attempt::Interrupted(reason) => {
                    patience.interrupted(&reason, self.answers_small_requests()?)?;
                    match (patience.interruptions(), &part[..]) {
                        (INTERRUPTIONS_BEFORE_REFUSING.., &[line]) => {
                            on_final(line, Final::Refused(breaks_connection(&reason, bytes)));
                            return Ok(None);
                        }
                        (INTERRUPTIONS_BEFORE_DIVIDING.., [_, _, ..]) => return Ok(Some(halves(part))),
                        _ => {}
                    }
                }
                Attempt::Read(items, permit) => {
                    part = self.settle_items(part, items, permit, &mut patience, on_final)?;
                }
                Attempt::Divide(refusal) => {
                    let [line] = part[..] else { return Ok(Some(halves(part))) };
                    on_final(line, Final::Refused(with_size(refusal, bytes)));
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    /// Hands on the outcomes of a request's items. Returns the lines that are to be sent again.
    fn settle_items(
        &self,
        part: Vec<usize>,
        items: Vec<Item>,
        permit: Permit<'_>,
        patience: &mut Patience<'_>,
        on_final: &mut dyn FnMut(usize, Final),
    ) -> Result<Vec<usize>, Stopped> {
        let sent = part.len();
        let mut again = Vec::new();
        let mut why = None;
        for (line, item) in part.into_iter().zip(items) {
            match item {
                Item::Done => on_final(line, Final::Done),
                Item::Superseded => on_final(line, Final::Superseded),
                Item::Refused(refusal) => on_final(line, Final::Refused(refusal)),
                Item::Retry(reason) => {
                    again.push(line);
                    why.get_or_insert(reason);
                }
            }
        }
        match why {
            None => permit.succeeded(),
            Some(reason) => {
                let progress = again.len() < sent;
                if progress {
                    permit.pushed_back_in_part();
                } else {
                    permit.pushed_back(None);
                }
                patience.failed(&format!("{} of {sent} actions: {reason}", again.len()), progress)?;
            }
        }
        Ok(again)
    }
}

/// The refusal of a document that a server breaks the connection over every time.
fn breaks_connection(reason: &str, bytes: usize) -> Refusal {
    let reason = format!(
        "the server breaks the connection over this document every time, while it answers other requests; it may be \
         too large for it ({reason})"
    );
    with_size(Refusal { error_type: "connection_broken".into(), reason }, bytes)
}

/// Names the size of the request that was refused, of which a document that is too large is the most.
fn with_size(mut refusal: Refusal, bytes: usize) -> Refusal {
    refusal.reason.push_str(&format!("; the request has {bytes} bytes"));
    refusal
}

#[cfg(test)]
mod tests;
