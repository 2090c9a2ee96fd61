//! Look-ups by id: which posts have a tombstone.

use std::time::Duration;

use super::Bulk;
use super::attempt::{Attempt, BULK, read};
use crate::elasticsearch::client::ContentType;
use crate::exit::Failure;
use crate::pipeline::Action;
use crate::pipeline::encode::text::write_string;
use crate::pipeline::sender::patience::Patience;
use crate::pipeline::sender::reply::{Answer, Refusal, judge_answer, judge_look_up};
use crate::pipeline::sender::throttle::{Permit, Stopped};

/// Only what is judged comes back.
const LOOK_UP: &str =
    "/_mget?_source=false&filter_path=docs._id,docs.found,docs._version,docs.error.type,docs.error.reason";

/// The version of the tombstone of each post looked up, or of its author; None where there is none.
pub(super) type Tombstones = Vec<Option<u64>>;

impl<'r> Bulk<'r> {
    /// Looks up until there is an answer. What was sent is finished even where the run is to stop: then this is tried
    /// once, and waits for nothing.
    pub(super) fn look_up_to_finish(&self, posts: &[&Action]) -> Result<Tombstones, Stopped> {
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
