//! Looks up documents by id: finds the posts that have a tombstone.

use std::time::Instant;

use super::Bulk;
use super::attempt::{Attempt, FailedRequest, read};
use super::sizes::INTERRUPTIONS_BEFORE_DIVIDING;
use crate::model::Action;
use crate::observe::traffic::{Again, Request};
use crate::retry::patience::Patience;
use crate::retry::throttle::{Permit, Stopped};
use crate::sink::elasticsearch::bulk::reply::{FoundDocument, judge_look_up};
use crate::sink::elasticsearch::client::Client;
use crate::sink::elasticsearch::encode::action::write_routing;
use crate::sink::elasticsearch::encode::text::write_string;
use crate::sink::elasticsearch::targets::routing_of;

/// Returns only the fields that are judged.
pub(in crate::sink::elasticsearch) const LOOK_UP: &str = "/_mget?_source=false&filter_path=docs._id,docs.found,docs._version,docs._seq_no,\
                       docs._primary_term,docs.error.type,docs.error.reason";

/// Also returns whether documents were written with a routing. Without `stored_fields`, the server does not show that.
pub(super) const LOOK_UP_ROUTINGS: &str = "/_mget?_source=false&stored_fields=_routing&filter_path=docs._id,docs.found,docs._version,\
                       docs._seq_no,docs._primary_term,docs._routing,docs.error.type,docs.error.reason";

/// A document to look up: index, whether to send the author's routing, and id.
pub(in crate::sink::elasticsearch) type LookUp<'q> = (&'q str, bool, &'q str);

/// Looks up some of the ids, once.
pub(in crate::sink::elasticsearch) type Ask<'a, A, T> =
    dyn Fn(&Client, &[A]) -> Result<Vec<T>, FailedRequest> + 'a;

/// Version of the newest tombstone of each post or of its author; None: there is no tombstone.
pub(super) type Tombstones = Vec<Option<u64>>;

impl<'r> Bulk<'r> {
    /// Looks up posts until there is an answer. Work already sent is finished even if the run is to stop. The look-up
    /// is then tried once, without waiting and with a short time limit: the request before may have used its full time.
    pub(super) fn look_up_to_finish(&self, posts: &[&Action]) -> Result<Tombstones, Stopped> {
        let mut patience = self.retries.patience();
        loop {
            let Ok(permit) = self.throttle.acquire(0) else {
                return self.get_tombstones(&self.client_to_finish(), posts).map_err(|_| Stopped);
            };
            if let Some((tombstones, permit)) = self.look_up(permit, posts, &mut patience)? {
                permit.succeeded();
                return Ok(tombstones);
            }
        }
    }

    /// Makes one attempt to look up tombstones. Returns them, with the permit for the next request; None: the attempt
    /// failed.
    pub(super) fn look_up(
        &self,
        permit: Permit<'r>,
        posts: &[&Action],
        patience: &mut Patience<'_>,
    ) -> Result<Option<(Tombstones, Permit<'r>)>, Stopped> {
        self.look_up_once(permit, posts, patience, &|client, posts| self.get_tombstones(client, posts))
    }

    /// Looks up documents with [`LOOK_UP`] or [`LOOK_UP_ROUTINGS`] until there is an answer.
    pub(super) fn look_up_documents(
        &self,
        path: &str,
        documents: &[LookUp<'_>],
    ) -> Result<Vec<Option<FoundDocument>>, Stopped> {
        self.look_up_all(documents, &|client, part| multi_get(client, path, part))
    }

    /// Looks up all of `asked` until there is an answer.
    pub(in crate::sink::elasticsearch) fn look_up_all<A, T>(
        &self,
        asked: &[A],
        ask: &Ask<'_, A, T>,
    ) -> Result<Vec<T>, Stopped> {
        let mut patience = self.retries.patience();
        loop {
            let permit = self.throttle.acquire(0)?;
            if let Some((found, permit)) = self.look_up_once(permit, asked, &mut patience, ask)? {
                permit.succeeded();
                return Ok(found);
            }
        }
    }

    /// Makes one attempt at a look-up, in halves if it is too large for the server.
    fn look_up_once<A, T>(
        &self,
        permit: Permit<'r>,
        asked: &[A],
        patience: &mut Patience<'_>,
        ask: &Ask<'_, A, T>,
    ) -> Result<Option<(Vec<T>, Permit<'r>)>, Stopped> {
        if asked.is_empty() {
            return Ok(Some((Vec::new(), permit)));
        }
        let sizes = &self.sizes.look_up;
        if asked.len() > sizes.current(Instant::now()) {
            return self.look_up_halves(permit, asked, patience, ask);
        }
        match self.attempt(Request::LookUp, permit, patience, |client| ask(client, asked))? {
            Attempt::Failed => Ok(None),
            Attempt::TooSlow(reason) if asked.len() > 1 && self.answers_small_requests(patience)? => {
                patience.unanswered(&reason)?;
                if patience.interruptions() >= INTERRUPTIONS_BEFORE_DIVIDING {
                    sizes.divided(asked.len(), Instant::now());
                }
                Ok(None)
            }
            Attempt::Interrupted(reason) | Attempt::TooSlow(reason) => {
                patience.away(&reason)?;
                Ok(None)
            }
            Attempt::Divide(_, permit) | Attempt::TooLarge(_, permit) if asked.len() > 1 => {
                self.counters.traffic.again(Again::TooLarge);
                self.look_up_halves(permit, asked, patience, ask)
            }
            Attempt::Divide(refusal, _) | Attempt::TooLarge(refusal, _) => {
                self.refused("to look documents up", &refusal)
            }
            Attempt::Read(found, permit) => Ok(Some((found, permit))),
        }
    }

    /// Makes one attempt at the look-up of each half.
    fn look_up_halves<A, T>(
        &self,
        permit: Permit<'r>,
        asked: &[A],
        patience: &mut Patience<'_>,
        ask: &Ask<'_, A, T>,
    ) -> Result<Option<(Vec<T>, Permit<'r>)>, Stopped> {
        let (first, second) = asked.split_at(asked.len() / 2);
        let Some((mut found, permit)) = self.look_up_once(permit, first, patience, ask)? else {
            return Ok(None);
        };
        let Some((others, permit)) = self.look_up_once(permit, second, patience, ask)? else {
            return Ok(None);
        };
        found.extend(others);
        Ok(Some((found, permit)))
    }

    /// Looks up the tombstones of posts, once.
    fn get_tombstones(&self, client: &Client, posts: &[&Action]) -> Result<Tombstones, FailedRequest> {
        let targets = self.targets.now();
        let indices: Vec<(&str, bool)> = targets.tombstones.look_up_in().collect();
        let ids = posts.iter().flat_map(|post| post.tombstone_ids());
        let asked: Vec<LookUp<'_>> =
            ids.flat_map(|id| indices.iter().map(move |(index, routed)| (*index, *routed, id))).collect();
        let mut found = multi_get(client, LOOK_UP, &asked)?.into_iter().map(|found| Some(found?.version));
        // The author's tombstone may be older than the post's own, and indices may differ. The newest counts.
        let newest = |post: &&Action| {
            found.by_ref().take(post.tombstone_ids().count() * indices.len()).max().flatten()
        };
        Ok(posts.iter().map(newest).collect())
    }

    /// Returns whether the server answers a minimal request. If it does, a connection that broke just before did so
    /// because of its request.
    pub(super) fn answers_small_requests(&self, patience: &Patience<'_>) -> Result<bool, Stopped> {
        let permit = self.throttle.acquire(0)?;
        let targets = self.targets.now();
        let asked: Vec<_> =
            targets.tombstones.look_up_in().map(|(index, routed)| (index, routed, "-")).collect();
        let answers = multi_get(&self.client.within(patience.limit()), LOOK_UP, &asked).is_ok();
        if answers {
            permit.succeeded();
        } else {
            permit.found_away(None);
        }
        Ok(answers)
    }
}

/// Looks up documents, once.
fn multi_get(
    client: &Client,
    path: &str,
    documents: &[LookUp<'_>],
) -> Result<Vec<Option<FoundDocument>>, FailedRequest> {
    let ids: Vec<&str> = documents.iter().map(|(.., id)| *id).collect();
    let reply = read(client.post(path, &look_up_body(documents)))?;
    judge_look_up(&reply.body, &ids).map_err(|answer| (answer, None))
}

/// Builds the body of a multi get.
pub(in crate::sink::elasticsearch) fn look_up_body(documents: &[LookUp<'_>]) -> Vec<u8> {
    let mut body = b"{\"docs\":[".to_vec();
    for (n, (index, requires_routing, id)) in documents.iter().enumerate() {
        body.extend_from_slice(if n == 0 { b"{\"_index\":" } else { b",{\"_index\":" });
        write_string(&mut body, index);
        body.extend_from_slice(b",\"_id\":");
        write_string(&mut body, id);
        write_routing(&mut body, routing_of(id, *requires_routing));
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    body
}
