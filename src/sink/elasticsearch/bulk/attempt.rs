//! One attempt at each kind of request: what is sent, and what of the answer is a failure, a refusal or a result.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Bulk;
use crate::exit::{ExitCode, Failure};
use crate::http::TransportError;
use crate::retry::patience::Patience;
use crate::retry::throttle::{Permit, Stopped};
use crate::sink::elasticsearch::bulk::reply::{Answer, Item, Operation, Refusal, judge_answer, judge_items};
use crate::sink::elasticsearch::client::{Client, ContentType, Reply};

/// Only what is judged comes back.
const BULK: &str = "/_bulk?filter_path=items.*.status,items.*.error.type,items.*.error.reason";

/// As [`BULK`], where both targets are aliases. Elasticsearch makes an index that a write misses, with types guessed
/// from the first document; this it refuses, so that an index deleted in the middle of a run is not made anew.
const BULK_TO_ALIASES: &str =
    "/_bulk?require_alias=true&filter_path=items.*.status,items.*.error.type,items.*.error.reason";

/// What came of an attempt at a request.
pub(super) enum Attempt<'t, T> {
    Read(T, Permit<'t>),
    Failed,
    /// The connection broke, which is also how a server may refuse a large request.
    Interrupted(String),
    Divide(Refusal, Permit<'t>),
    TooLarge(Refusal, Permit<'t>),
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

    /// One attempt at a request of any kind. After one that may be repeated, waits as long as it has to.
    pub(super) fn attempt<T>(
        &self,
        permit: Permit<'r>,
        patience: &mut Patience<'_>,
        ask: impl FnOnce(&Client) -> Result<T, (Answer, Option<Duration>)>,
    ) -> Result<Attempt<'r, T>, Stopped> {
        match ask(&self.client.within(patience.begin())) {
            Ok(read) => Ok(Attempt::Read(read, permit)),
            Err((Answer::Divide(refusal), _)) => Ok(Attempt::Divide(refusal, permit)),
            Err((Answer::TooLarge(refusal), _)) => Ok(Attempt::TooLarge(refusal, permit)),
            Err((Answer::Retry(reason), retry_after)) => {
                permit.pushed_back(retry_after);
                patience.failed(&reason, false)?;
                Ok(Attempt::Failed)
            }
            Err((Answer::Away(reason), retry_after)) => {
                permit.found_away(retry_after);
                patience.away(&reason)?;
                Ok(Attempt::Failed)
            }
            Err((Answer::Interrupted(reason), _)) => {
                permit.found_away(None);
                Ok(Attempt::Interrupted(reason))
            }
            Err((Answer::Unauthenticated(failure), _)) => {
                permit.pushed_back(None);
                patience.refused(self.client.with_advice(failure))?;
                Ok(Attempt::Failed)
            }
            Err((Answer::Stop(failure), _)) => {
                self.stop.fail(failure);
                Err(Stopped)
            }
        }
    }
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
        Err(TransportError::Refused(reason)) => {
            Err((Answer::Stop(Failure::new(ExitCode::Refused, reason)), None))
        }
        Err(error @ TransportError::Interrupted(_)) => Err((Answer::Interrupted(error.to_string()), None)),
        Err(error @ TransportError::Other(_)) => Err((Answer::Retry(error.to_string()), None)),
        Err(error) => Err((Answer::Away(error.to_string()), None)),
    }
}
