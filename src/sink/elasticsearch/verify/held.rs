//! Looks up which documents the indices hold for ids, without `_source`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Verifier;
use crate::model::{Action, ActionKind};
use crate::retry::throttle::Stopped;
use crate::sink::elasticsearch::bulk::attempt::{FailedRequest, read};
use crate::sink::elasticsearch::bulk::look_up::{LOOK_UP, LookUp, look_up_body};
use crate::sink::elasticsearch::bulk::reply::{Answer, FoundDocument, UNKNOWN_VERSION, judge_look_up};
use crate::sink::elasticsearch::client::{Client, Reply};
use crate::sink::elasticsearch::targets::{Target, Targets};

/// Maximum number of ids in one request. A thousand take some ten milliseconds, and a reply of some hundred kilobytes.
const MAX_IDS: usize = 500;

/// Documents that the indices hold for an id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// The newest post in any of the indices.
    pub(super) post: Option<Place>,
    /// Version of the newest tombstone of the post or of its author.
    pub(super) tombstone: Option<u64>,
}

/// Where a post is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) index: String,
    pub(super) requires_routing: bool,
    pub(super) version: u64,
}

impl Verifier<'_> {
    /// Looks up which documents the indices hold for the id of each action.
    pub(super) fn look_up_held(&self, actions: &[&Action]) -> Result<Vec<Held>, Stopped> {
        let mut held = Vec::with_capacity(actions.len());
        for part in actions.chunks(MAX_IDS) {
            held.extend(
                self.elasticsearch.bulk.look_up_all(part, &|client, part| self.look_up_ids(client, part))?,
            );
        }
        Ok(held)
    }

    fn look_up_ids(&self, client: &Client, actions: &[&Action]) -> Result<Vec<Held>, FailedRequest> {
        let targets = self.elasticsearch.server.targets.now();
        let routed = self.routed.lock().clone();
        let look_ups: Vec<LookUp<'_>> =
            actions.iter().flat_map(|action| look_ups(action, &targets, &routed)).collect();
        let ids: Vec<&str> = look_ups.iter().map(|(.., id)| *id).collect();
        let reply = self.post(client, LOOK_UP, look_up_body(&look_ups))?;
        let found = judge_look_up(&reply.body, &ids)
            .map_err(|answer| self.learn_routing(answer, &reply, &targets, &look_ups))?;
        let mut answers = look_ups.iter().zip(found);
        Ok(actions
            .iter()
            .map(|action| {
                let count = self::look_ups(action, &targets, &routed).count();
                held(answers.by_ref().take(count), &targets.posts, post_look_ups(action, &targets))
            })
            .collect())
    }

    /// Returns what a failed look-up means. If names of which nothing is known turn out to require routing, that is a
    /// retry with routing for these. Routing that an index does not require would lead to another shard.
    fn learn_routing(
        &self,
        answer: Answer,
        reply: &Reply,
        targets: &Targets,
        look_ups: &[LookUp<'_>],
    ) -> FailedRequest {
        let docs = reply.json::<Value>().and_then(|mut reply| Some(reply.get_mut("docs")?.take()));
        let docs = docs.as_ref().and_then(Value::as_array).into_iter().flatten();
        let unknown = [&targets.posts, &targets.tombstones].into_iter().filter(|target| !target.is_known);
        let unknown: Vec<&str> = unknown.flat_map(Target::look_up_in).map(|(name, _)| name).collect();
        let lacking = docs.zip(look_ups).filter(|(doc, (name, is_routed, _))| {
            let requires = doc.pointer("/error/type").is_some_and(|kind| kind == "routing_missing_exception");
            requires && !is_routed && unknown.contains(name)
        });
        let lacking: Vec<String> = lacking.map(|(_, (name, ..))| (*name).to_owned()).collect();
        if lacking.is_empty() {
            return (answer, None);
        }
        self.routed.lock().extend(lacking);
        (Answer::Retry("an index requires routing, which the server did not show before".to_owned()), None)
    }

    /// Posts a look-up. A stop of the run does not wait for its reply, since nothing depends on it.
    pub(super) fn post(
        &self,
        client: &Client,
        path: &'static str,
        body: Vec<u8>,
    ) -> Result<Reply, FailedRequest> {
        let client = client.clone();
        let ask = move || client.post(path, &body);
        match self.elasticsearch.bulk.stop.unless_requested(ask) {
            Ok(Some(reply)) => read(reply),
            Ok(None) => Err((Answer::Retry("the run was stopped".to_owned()), None)),
            Err(error) => Err((Answer::Retry(format!("no thread can be started: {error}")), None)),
        }
    }
}

/// Returns how many of an action's look-ups are for posts.
fn post_look_ups(action: &Action, targets: &Targets) -> usize {
    let is_of_account = matches!(action.kind, ActionKind::AccountTombstone { .. });
    if is_of_account { 0 } else { targets.posts.members.len() }
}

/// Returns the look-ups for an action: first posts, then tombstones.
fn look_ups<'q>(
    action: &'q Action,
    targets: &'q Targets,
    routed: &'q BTreeSet<String>,
) -> impl Iterator<Item = LookUp<'q>> {
    let in_all = move |target: &'q Target, id: &'q str| {
        let requires_unseen = |name: &str| !target.is_known && routed.contains(name);
        target.look_up_in().map(move |(name, requires)| (name, requires || requires_unseen(name), id))
    };
    let posts = in_all(&targets.posts, &action.id).take(post_look_ups(action, targets));
    posts.chain(action.tombstone_ids().flat_map(move |id| in_all(&targets.tombstones, id)))
}

/// Combines the results for an action. The first `about_posts` are for posts.
fn held<'q>(
    answers: impl Iterator<Item = (&'q LookUp<'q>, Option<FoundDocument>)>,
    posts: &Target,
    about_posts: usize,
) -> Held {
    let mut held = Held::default();
    for (nth, (&(index, requires_routing, _), found)) in answers.enumerate() {
        let Some(FoundDocument { version, .. }) = found else { continue };
        if nth >= about_posts {
            held.tombstone = held.tombstone.max(Some(version));
            continue;
        }
        let place = Place { index: index.to_owned(), requires_routing, version };
        if held.post.as_ref().is_none_or(|other| rank(&place, posts) > rank(other, posts)) {
            held.post = Some(place);
        }
    }
    held
}

/// Ranks posts: the newest counts; of two equal ones, the one that a repair would replace. A post without a version is
/// older than any other.
fn rank(place: &Place, posts: &Target) -> (u64, bool) {
    let version = if place.version == UNKNOWN_VERSION { 0 } else { place.version };
    (version, place.index == posts.write_index)
}
