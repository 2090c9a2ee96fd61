//! Makes one attempt at a request, and sorts the answer into failure, refusal or result.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Bulk;
use super::lines::BodyLines;
use crate::common::exit::{ExitCode, Failure};
use crate::common::text::percent_encoded;
use crate::http::TransportError;
use crate::model::Generation;
use crate::observe::traffic::{Again, Request};
use crate::retry::patience::Patience;
use crate::retry::throttle::{Permit, Stopped};
use crate::sink::elasticsearch::answer::NoAnswer;
use crate::sink::elasticsearch::bulk::reply::{Answer, Item, Operation, Refusal, judge_answer, judge_items};
use crate::sink::elasticsearch::client::{Client, Posted, Reply};
use crate::sink::elasticsearch::outcome::is_unavailable;
use crate::sink::elasticsearch::retrying::MOVING;
use crate::sink::elasticsearch::targets::Target;

/// Returns only the fields that are judged.
const BULK: &str = "/_bulk?filter_path=items.*.status,items.*.result,items.*._id,items.*._index,items.*._version,\
                    items.*.error.type,items.*.error.reason,\
                    items.*.error.caused_by.type,items.*.error.caused_by.reason";

/// Refuses writes to a missing index. Otherwise Elasticsearch would create an index that was deleted during a run, with
/// types guessed from the first document.
const REQUIRE_ALIAS: &str = "&require_alias=true";

/// What the answer to a failed request means, with the server's `Retry-After`.
pub(in crate::sink::elasticsearch) type FailedRequest = (Answer, Option<Duration>);

/// Outcome of one attempt at a request.
pub(super) enum Attempt<'t, T> {
    Read(T, Permit<'t>),
    Failed,
    /// The connection broke. A server may also refuse a large request this way.
    Interrupted(String),
    /// No answer came in time. The request may have been too large.
    TooSlow(String),
    Divide(Refusal, Permit<'t>),
    TooLarge(Refusal, Permit<'t>),
}

impl<'r> Bulk<'r> {
    /// Makes one attempt at a bulk request.
    pub(super) fn send(
        &self,
        permit: Permit<'r>,
        lines: &BodyLines<'_>,
        part: &[usize],
        patience: &mut Patience<'_>,
    ) -> Result<Attempt<'r, Vec<Item>>, Stopped> {
        let targets = self.targets.now();
        let (operation, ids, versions) = (lines.operation, lines.ids(part, &targets), lines.versions(part));
        let body = &*lines.request(part, &targets);
        let target = |nth: usize| part.get(nth).map(|&line| targets.of(lines.kind(line)));
        let has_routing = |nth| target(nth).is_some_and(Target::requires_routing);
        let holds = |nth: usize, index: &str| {
            target(nth).is_none_or(|target| {
                target.holds(index) && (index == target.write_index || !target.requires_routing())
            })
        };
        let with_routing = |(nth, item)| match item {
            Item::Elsewhere(index) if has_routing(nth) => Item::ElsewhereWithRouting(index),
            item => item,
        };
        let again = patience.has_failed();
        let interrupted = patience.interruptions() > 0;
        let to_aliases = operation == Operation::Index && targets.are_aliases();
        let mut path = format!("{BULK}{}", if to_aliases { REQUIRE_ALIAS } else { "" });
        if let (Operation::Index, Some(pipeline)) = (operation, self.pipeline) {
            path.push_str("&pipeline=");
            path.push_str(&percent_encoded(pipeline));
        }
        self.attempt(Request::Bulk, permit, patience, |client| {
            self.counters.bulk.fetch_add(1, Ordering::Relaxed);
            self.counters.retried.fetch_add(again.into(), Ordering::Relaxed);
            // Only before the body is under way can a server refuse a request without reading it.
            let expects_continue = interrupted || self.expect.applies(Instant::now());
            let Posted { reply, sent, on_wire, expect_answer } =
                client.post_bulk(&path, body, expects_continue);
            self.counters.bytes_sent.fetch_add(sent, Ordering::Relaxed);
            self.counters.bytes_on_wire.fetch_add(on_wire, Ordering::Relaxed);
            self.expect.learn(expect_answer, reply.as_ref().is_ok_and(is_unavailable), Instant::now());
            let reply = read(reply)?;
            let items = judge_items(&reply.body, operation, &ids, &versions, &holds)
                .map_err(|answer| (answer, None))?;
            Ok(items.into_iter().enumerate().map(with_routing).collect())
        })
    }

    /// Makes one attempt at a request of any kind. If it may be repeated, waits as long as required.
    pub(super) fn attempt<T>(
        &self,
        request: Request,
        permit: Permit<'r>,
        patience: &mut Patience<'_>,
        ask: impl FnOnce(&Client) -> Result<T, FailedRequest>,
    ) -> Result<Attempt<'r, T>, Stopped> {
        let generation = self.targets.now().generation;
        let client = self.client.within(patience.begin());
        let begun = Instant::now();
        let answer = ask(&client);
        let traffic = &self.counters.traffic;
        traffic.took(request, begun.elapsed());
        match answer {
            Ok(read) => Ok(Attempt::Read(read, permit)),
            Err((Answer::Divide(refusal), _)) => Ok(Attempt::Divide(refusal, permit)),
            Err((Answer::TooLarge(refusal), _)) => Ok(Attempt::TooLarge(refusal, permit)),
            Err((Answer::Retry(reason), retry_after)) => {
                traffic.again(Again::PushedBack);
                permit.pushed_back(retry_after);
                patience.failed(&reason, false)?;
                Ok(Attempt::Failed)
            }
            Err((Answer::Away(reason), retry_after)) => {
                traffic.again(Again::Unavailable);
                permit.found_away(retry_after);
                patience.away(&reason)?;
                Ok(Attempt::Failed)
            }
            Err((Answer::Interrupted(reason), _)) => {
                traffic.again(Again::Interrupted);
                permit.found_away(None);
                Ok(Attempt::Interrupted(reason))
            }
            Err((Answer::TooSlow(reason), retry_after)) => {
                traffic.again(Again::Unavailable);
                permit.found_away(retry_after);
                Ok(Attempt::TooSlow(reason))
            }
            Err((Answer::Moved(failure), _)) => {
                traffic.again(Again::Moved);
                permit.succeeded();
                self.refresh_targets(generation, failure, patience)?;
                Ok(Attempt::Failed)
            }
            Err((Answer::Unauthenticated(failure), _)) => {
                self.refused_for_now(permit, patience, self.client.with_advice(failure))
            }
            Err((Answer::Forbidden(failure), _)) => self.refused_for_now(permit, patience, failure),
            Err((Answer::Stop(failure), _)) => self.fail(failure),
        }
    }

    /// Waits for the next attempt if the server was away until now, since a node that starts may not know its keys yet.
    /// Otherwise stops the run with `failure`.
    fn refused_for_now<T>(
        &self,
        permit: Permit<'r>,
        patience: &mut Patience<'_>,
        failure: Failure,
    ) -> Result<Attempt<'r, T>, Stopped> {
        self.counters.traffic.again(Again::Unauthenticated);
        permit.pushed_back(None);
        patience.refused(failure)?;
        Ok(Attempt::Failed)
    }

    /// Stops the run with a failure.
    pub(in crate::sink::elasticsearch) fn fail<T>(&self, failure: Failure) -> Result<T, Stopped> {
        self.stop.fail(failure);
        Err(Stopped)
    }

    /// Stops the run because the server refuses a request that it needs. `what` follows "refuses".
    pub(super) fn refused<T>(
        &self,
        what: &str,
        Refusal { error_type, reason }: &Refusal,
    ) -> Result<T, Stopped> {
        self.fail(Failure::run(format!("Elasticsearch refuses {what}: {error_type}: {reason}")))
    }

    /// Looks up the indices behind the names again, because an answer says that they have changed. If they have not, or
    /// cannot be used, for [`MOVING`], the run stops with `failure`.
    pub(super) fn refresh_targets(
        &self,
        seen: Generation,
        failure: Failure,
        patience: &mut Patience<'_>,
    ) -> Result<(), Stopped> {
        match self.targets.refresh(&self.client.within(patience.begin()), seen) {
            Ok(targets) if targets.generation != seen => {}
            Err(NoAnswer::Unavailable(outage)) => patience.away(&outage.why)?,
            Ok(_) | Err(NoAnswer::Refused(_)) => patience.refused_for(MOVING, failure)?,
        }
        Ok(())
    }
}

/// Returns the reply if the request was carried out. Otherwise returns what the failure means, and the server's
/// `Retry-After`.
pub(in crate::sink::elasticsearch) fn read(
    reply: Result<Reply, TransportError>,
) -> Result<Reply, FailedRequest> {
    let answer = match reply {
        Ok(reply) => match judge_answer(&reply) {
            None => return Ok(reply),
            Some(answer) => return Err((answer, reply.retry_after)),
        },
        Err(TransportError::Tls(reason)) => {
            let message = format!("the certificate of ELASTICSEARCH_URL is refused: {reason}");
            Answer::Stop(Failure::new(ExitCode::Refused, message))
        }
        Err(TransportError::Refused(reason)) => Answer::Stop(Failure::new(ExitCode::Refused, reason)),
        Err(error @ TransportError::Interrupted(_)) => Answer::Interrupted(error.to_string()),
        Err(error @ TransportError::TimedOut) => Answer::TooSlow(error.to_string()),
        Err(error @ TransportError::Other(_)) => Answer::Retry(error.to_string()),
        Err(error) => Answer::Away(error.to_string()),
    };
    Err((answer, None))
}
