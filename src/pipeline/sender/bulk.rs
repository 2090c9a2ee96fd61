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
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Deliver;
use super::batch_report::{BatchReport, Final};
use super::patience::{Patience, Retries};
use super::reply::{Answer, Item, Operation, Refusal, judge_answer, judge_items, judge_look_up};
use super::throttle::{Permit, Stopped, Throttle};
use crate::config::BatchLimits;
use crate::elasticsearch::TransportError;
use crate::elasticsearch::client::{Client, ContentType, Reply};
use crate::exit::{ExitCode, Failure};
use crate::pipeline::encode::document::write_delete;
use crate::pipeline::encode::text::write_string;
use crate::pipeline::{Action, ActionKind, Batch, Outcomes};
use crate::shutdown::Stop;

/// Only what is judged comes back.
const BULK: &str = "/_bulk?filter_path=items.*.status,items.*.result,items.*.error.type,items.*.error.reason";

/// As [`BULK`], where both targets are aliases. Elasticsearch makes an index that a write misses, with types guessed
/// from the first document; this it refuses, so that an index deleted in the middle of a run is not made anew.
const BULK_TO_ALIASES: &str = "/_bulk?require_alias=true&filter_path=items.*.status,items.*.result,items.*.error.type,items.*.error.reason";

/// As [`BULK`], for look-ups.
const LOOK_UP: &str =
    "/_mget?_source=false&filter_path=docs._id,docs.found,docs._version,docs.error.type,docs.error.reason";

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

/// The version of the tombstone of each post looked up, or of its author; None where there is none.
type Tombstones = Vec<Option<u64>>;

/// What came of an attempt at a request.
pub(super) enum Attempt<'t, T> {
    Read(T, Permit<'t>),
    Failed,
    /// The connection broke, which is also how a server may refuse a large request.
    Interrupted(String),
    Divide(Refusal),
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

    /// One attempt at a bulk request.
    fn send(
        &self,
        permit: Permit<'r>,
        operation: Operation,
        body: &[u8],
        actions: usize,
        patience: &mut Patience<'_>,
    ) -> Result<Attempt<'r, Vec<Item>>, Stopped> {
        let again = patience.has_failed();
        let interrupted = patience.interruptions() > 0;
        // Posts are deleted from each index behind the alias.
        let to_aliases = operation == Operation::Index && self.targets.are_aliases;
        let path = if to_aliases { BULK_TO_ALIASES } else { BULK };
        self.attempt(permit, patience, |client| {
            self.counters.bulk.fetch_add(1, Ordering::Relaxed);
            self.counters.retried.fetch_add(again.into(), Ordering::Relaxed);
            self.counters.bytes_sent.fetch_add(body.len() as u64, Ordering::Relaxed);
            // A server that takes offence at the size can say so only before the body is under way.
            let reply = if interrupted {
                client.post_asking_first(path, ContentType::Ndjson, body)
            } else {
                client.post(path, ContentType::Ndjson, body)
            };
            let reply = read(reply)?;
            judge_items(&reply.body, operation, actions).map_err(|answer| (answer, None))
        })
    }

    /// One attempt to look up tombstones. Gives the permit back, for the request that follows, unless it failed.
    fn look_up(
        &self,
        permit: Permit<'r>,
        posts: &[&Action],
        patience: &mut Patience<'_>,
    ) -> Result<Option<(Tombstones, Permit<'r>)>, Stopped> {
        if posts.is_empty() {
            return Ok(Some((Vec::new(), permit)));
        }
        match self.attempt(permit, patience, |_| self.ask_for_tombstones(posts))? {
            Attempt::Failed => Ok(None),
            Attempt::Interrupted(reason) => {
                patience.failed(&reason, false)?;
                Ok(None)
            }
            Attempt::Divide(Refusal { error_type, reason }) => {
                let message = format!("Elasticsearch refuses to look up tombstones: {error_type}: {reason}");
                self.stop.fail(Failure::run(message));
                Err(Stopped)
            }
            Attempt::Read(tombstones, permit) => Ok(Some((tombstones, permit))),
        }
    }

    /// Looks posts up, once.
    fn ask_for_tombstones(&self, posts: &[&Action]) -> Result<Tombstones, (Answer, Option<Duration>)> {
        let indices = &self.targets.look_up_in;
        let (body, asked) = look_up_body(indices, posts);
        let reply = read(self.client.post(LOOK_UP, ContentType::Json, &body))?;
        let found = judge_look_up(&reply.body, &asked).map_err(|answer| (answer, None))?;
        // The author's may be older than the post's own, or one index's than another's: the newest counts.
        let mut found = found.into_iter();
        let newest = |post: &&Action| {
            found.by_ref().take(post.tombstone_ids().count() * indices.len()).max().flatten()
        };
        Ok(posts.iter().map(newest).collect())
    }

    /// Whether the server answers a bulk request that is as small as can be, and does nothing: so a connection that
    /// broke just before says something about the request that it broke over.
    fn answers_small_requests(&self) -> Result<bool, Stopped> {
        let permit = self.throttle.acquire(0)?;
        // Refused for its lack of actions (400) by a server that is well.
        let reply = self.client.post(BULK, ContentType::Ndjson, b"");
        let answers = reply.is_ok_and(|reply| matches!(judge_answer(&reply), None | Some(Answer::Divide(_))));
        if answers {
            permit.succeeded();
        } else {
            permit.pushed_back(None);
        }
        Ok(answers)
    }

    /// One attempt at a request of any kind. After one that may be repeated, waits as long as it has to.
    pub(super) fn attempt<T>(
        &self,
        permit: Permit<'r>,
        patience: &mut Patience<'_>,
        ask: impl FnOnce(&Client) -> Result<T, (Answer, Option<Duration>)>,
    ) -> Result<Attempt<'r, T>, Stopped> {
        match ask(self.client) {
            Ok(read) => Ok(Attempt::Read(read, permit)),
            Err((Answer::Divide(refusal), _)) => {
                permit.succeeded();
                Ok(Attempt::Divide(refusal))
            }
            Err((Answer::Retry(reason), retry_after)) => {
                permit.pushed_back(retry_after);
                patience.failed(&reason, false)?;
                Ok(Attempt::Failed)
            }
            Err((Answer::Interrupted(reason), _)) => {
                permit.pushed_back(None);
                Ok(Attempt::Interrupted(reason))
            }
            Err((Answer::Stop(failure), _)) => {
                self.stop.fail(failure);
                Err(Stopped)
            }
        }
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

/// The answer to a request, or what its failure means, with the server's `Retry-After`.
pub(super) fn read(reply: Result<Reply, TransportError>) -> Result<Reply, (Answer, Option<Duration>)> {
    match reply {
        Ok(reply) => match judge_answer(&reply) {
            None => Ok(reply),
            Some(answer) => Err((answer, reply.retry_after)),
        },
        Err(TransportError::Tls(reason)) => {
            let message = format!("the certificate of ELASTICSEARCH_URL is refused: {reason}");
            Err((Answer::Stop(Failure::new(ExitCode::Refused, message)), None))
        }
        Err(error @ TransportError::Interrupted(_)) => Err((Answer::Interrupted(error.to_string()), None)),
        Err(error) => Err((Answer::Retry(error.to_string()), None)),
    }
}

/// The body of a multi get, and the ids in the order of its answer: each id once for each index.
fn look_up_body<'p>(indices: &[String], posts: &[&'p Action]) -> (Vec<u8>, Vec<&'p str>) {
    let mut body = b"{\"docs\":[".to_vec();
    let mut asked = Vec::with_capacity(posts.len() * indices.len());
    for id in posts.iter().flat_map(|post| post.tombstone_ids()) {
        for index in indices {
            body.extend_from_slice(if asked.is_empty() { b"{\"_index\":" } else { b",{\"_index\":" });
            write_string(&mut body, index);
            body.extend_from_slice(b",\"_id\":");
            write_string(&mut body, id);
            body.push(b'}');
            asked.push(id);
        }
    }
    body.extend_from_slice(b"]}");
    (body, asked)
}

#[cfg(test)]
mod tests;
