//! One attempt at each kind of request: what is sent, and what of the answer is a failure, a refusal or a result.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Bulk;
use crate::elasticsearch::TransportError;
use crate::elasticsearch::client::{Client, ContentType, Reply};
use crate::exit::{ExitCode, Failure};
use crate::pipeline::Action;
use crate::pipeline::encode::text::write_string;
use crate::pipeline::sender::patience::Patience;
use crate::pipeline::sender::reply::{
    Answer, Item, Operation, Refusal, judge_answer, judge_items, judge_look_up,
};
use crate::pipeline::sender::throttle::{Permit, Stopped};

/// Only what is judged comes back.
const BULK: &str = "/_bulk?filter_path=items.*.status,items.*.error.type,items.*.error.reason";

/// As [`BULK`], where both targets are aliases. Elasticsearch makes an index that a write misses, with types guessed
/// from the first document; this it refuses, so that an index deleted in the middle of a run is not made anew.
const BULK_TO_ALIASES: &str =
    "/_bulk?require_alias=true&filter_path=items.*.status,items.*.error.type,items.*.error.reason";

/// As [`BULK`], for look-ups.
const LOOK_UP: &str =
    "/_mget?_source=false&filter_path=docs._id,docs.found,docs._version,docs.error.type,docs.error.reason";

/// The version of the tombstone of each post looked up, or of its author; None where there is none.
pub(super) type Tombstones = Vec<Option<u64>>;

/// What came of an attempt at a request.
pub(in crate::pipeline::sender) enum Attempt<'t, T> {
    Read(T, Permit<'t>),
    Failed,
    /// The connection broke, which is also how a server may refuse a large request.
    Interrupted(String),
    Divide(Refusal),
}

impl<'r> Bulk<'r> {
    /// One attempt at a bulk request.
    pub(super) fn send(
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
    pub(super) fn look_up(
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
    pub(super) fn ask_for_tombstones(
        &self,
        posts: &[&Action],
    ) -> Result<Tombstones, (Answer, Option<Duration>)> {
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
    pub(super) fn answers_small_requests(&self) -> Result<bool, Stopped> {
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
    pub(in crate::pipeline::sender) fn attempt<T>(
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
            Err((Answer::Unauthenticated(failure), _)) if patience.may_be_starting() => {
                permit.pushed_back(None);
                patience.failed(&failure.message, false)?;
                Ok(Attempt::Failed)
            }
            Err((Answer::Unauthenticated(failure) | Answer::Stop(failure), _)) => {
                self.stop.fail(failure);
                Err(Stopped)
            }
        }
    }
}

/// The answer to a request, or what its failure means, with the server's `Retry-After`.
pub(in crate::pipeline::sender) fn read(
    reply: Result<Reply, TransportError>,
) -> Result<Reply, (Answer, Option<Duration>)> {
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
