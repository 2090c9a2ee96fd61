//! Look-ups by id: which posts have a tombstone.

use std::time::Duration;

use super::Bulk;
use super::attempt::{Attempt, read};
use crate::exit::Failure;
use crate::model::Action;
use crate::retry::patience::Patience;
use crate::retry::throttle::{Permit, Stopped};
use crate::sink::elasticsearch::bulk::reply::{Answer, Refusal, judge_look_up};
use crate::sink::elasticsearch::client::{Client, ContentType};
use crate::sink::elasticsearch::encode::text::write_string;

/// Only what is judged comes back.
const LOOK_UP: &str =
    "/_mget?_source=false&filter_path=docs._id,docs.found,docs._version,docs.error.type,docs.error.reason";

/// The version of the tombstone of each post looked up, or of its author; None where there is none.
pub(super) type Tombstones = Vec<Option<u64>>;

impl<'r> Bulk<'r> {
    /// Looks up until there is an answer. What was sent is finished even where the run is to stop: then this is tried
    /// once, waits for nothing, and has not much time, since the request before may have had all of its own.
    pub(super) fn look_up_to_finish(&self, posts: &[&Action]) -> Result<Tombstones, Stopped> {
        let mut patience = self.retries.patience();
        loop {
            let Ok(permit) = self.throttle.acquire(0) else {
                return self.ask_for_tombstones(&self.client_to_finish(), posts).map_err(|_| Stopped);
            };
            if let Some((tombstones, permit)) = self.look_up(permit, posts, &mut patience)? {
                permit.succeeded();
                return Ok(tombstones);
            }
        }
    }

    /// One attempt to look up tombstones, in halves where the server finds it too large. Gives the permit back, for the
    /// request that follows, unless it failed.
    pub(super) fn look_up(
        &self,
        permit: Permit<'r>,
        posts: &[&Action],
        patience: &mut Patience<'_>,
    ) -> Result<Option<(Tombstones, Permit<'r>)>, Stopped> {
        if posts.is_empty() {
            return Ok(Some((Vec::new(), permit)));
        }
        match self.attempt(permit, patience, |client| self.ask_for_tombstones(client, posts))? {
            Attempt::Failed => Ok(None),
            Attempt::Interrupted(reason) => {
                patience.away(&reason)?;
                Ok(None)
            }
            Attempt::Divide(_, permit) | Attempt::TooLarge(_, permit) if posts.len() > 1 => {
                let (first, second) = posts.split_at(posts.len() / 2);
                let Some((mut tombstones, permit)) = self.look_up(permit, first, patience)? else {
                    return Ok(None);
                };
                let Some((others, permit)) = self.look_up(permit, second, patience)? else { return Ok(None) };
                tombstones.extend(others);
                Ok(Some((tombstones, permit)))
            }
            Attempt::Divide(Refusal { error_type, reason }, _)
            | Attempt::TooLarge(Refusal { error_type, reason }, _) => {
                let message = format!("Elasticsearch refuses to look up tombstones: {error_type}: {reason}");
                self.stop.fail(Failure::run(message));
                Err(Stopped)
            }
            Attempt::Read(tombstones, permit) => Ok(Some((tombstones, permit))),
        }
    }

    /// Looks posts up, once.
    fn ask_for_tombstones(
        &self,
        client: &Client,
        posts: &[&Action],
    ) -> Result<Tombstones, (Answer, Option<Duration>)> {
        let ids: Vec<&str> = posts.iter().flat_map(|post| post.tombstone_ids()).collect();
        let mut found = self.ask_for_ids(client, &ids)?.into_iter();
        // The author's may be older than the post's own, or one index's than another's: the newest counts.
        let indices = self.targets.look_up_in.len();
        let newest =
            |post: &&Action| found.by_ref().take(post.tombstone_ids().count() * indices).max().flatten();
        Ok(posts.iter().map(newest).collect())
    }

    /// Looks ids up, once: for each of them one version for each index.
    fn ask_for_ids(
        &self,
        client: &Client,
        ids: &[&str],
    ) -> Result<Vec<Option<u64>>, (Answer, Option<Duration>)> {
        let (body, asked) = look_up_body(&self.targets.look_up_in, ids);
        let reply = read(client.post(LOOK_UP, ContentType::Json, &body))?;
        judge_look_up(&reply.body, &asked).map_err(|answer| (answer, None))
    }

    /// Whether the server answers a request that is as small as can be: so a connection that broke just before says
    /// something about the request that it broke over.
    pub(super) fn answers_small_requests(&self) -> Result<bool, Stopped> {
        let permit = self.throttle.acquire(0)?;
        let answers = self.ask_for_ids(self.client, &["-"]).is_ok();
        if answers {
            permit.succeeded();
        } else {
            permit.found_away(None);
        }
        Ok(answers)
    }
}

/// The body of a multi get, and the ids in the order of its answer: each id once for each index.
fn look_up_body<'i>(indices: &[String], ids: &[&'i str]) -> (Vec<u8>, Vec<&'i str>) {
    let mut body = b"{\"docs\":[".to_vec();
    let mut asked = Vec::with_capacity(ids.len() * indices.len());
    for id in ids {
        for index in indices {
            body.extend_from_slice(if asked.is_empty() { b"{\"_index\":" } else { b",{\"_index\":" });
            write_string(&mut body, index);
            body.extend_from_slice(b",\"_id\":");
            write_string(&mut body, id);
            body.push(b'}');
            asked.push(*id);
        }
    }
    body.extend_from_slice(b"]}");
    (body, asked)
}
