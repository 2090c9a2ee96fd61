//! Looks up which documents the indices hold for ids, without `_source`.

use std::sync::atomic::Ordering;

use super::Verifier;
use crate::model::{Action, ActionKind};
use crate::retry::throttle::Stopped;
use crate::sink::elasticsearch::bulk::attempt::{FailedRequest, read};
use crate::sink::elasticsearch::bulk::look_up::{LOOK_UP, LookUp, look_up_body};
use crate::sink::elasticsearch::bulk::reply::{Answer, FoundDocument, UNKNOWN_VERSION, judge_look_up};
use crate::sink::elasticsearch::client::{Client, ContentType, Reply};
use crate::sink::elasticsearch::targets::{Target, Targets};

/// Maximum number of ids in one request. A thousand take some ten milliseconds, and a reply of some hundred kilobytes.
const MAX_IDS: usize = 500;

/// Whether posts and tombstones are looked up with routing, in the order in which this is tried if nothing is known of
/// their indices. An error only says that one of them requires routing; routing that an index does not require may lead
/// to another shard.
pub(super) const ROUTED: [[bool; 2]; 4] = [[false, false], [true, false], [false, true], [true, true]];

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
        let nth = self.routed.load(Ordering::Relaxed);
        let routed = ROUTED.get(nth).copied().unwrap_or_default();
        let look_ups: Vec<LookUp<'_>> =
            actions.iter().flat_map(|action| look_ups(action, &targets, routed)).collect();
        let ids: Vec<&str> = look_ups.iter().map(|(.., id)| *id).collect();
        let reply = self.post(client, LOOK_UP.to_owned(), look_up_body(&look_ups))?;
        let found =
            judge_look_up(&reply.body, &ids).map_err(|answer| self.learn_routing(answer, &targets, nth))?;
        let mut answers = look_ups.iter().zip(found);
        Ok(actions
            .iter()
            .map(|action| {
                let count = self::look_ups(action, &targets, routed).count();
                held(answers.by_ref().take(count), &targets.posts, post_look_ups(action, &targets))
            })
            .collect())
    }

    /// Returns what a failed look-up means. If an index of which nothing is known turns out to require routing, that is
    /// a retry with the next of [`ROUTED`]. `nth`: the one that the request had.
    fn learn_routing(&self, answer: Answer, targets: &Targets, nth: usize) -> FailedRequest {
        let is_unknown = !targets.posts.is_known || !targets.tombstones.is_known;
        match answer {
            Answer::Moved(failure)
                if is_unknown && nth + 1 < ROUTED.len() && failure.message.contains("requires routing") =>
            {
                self.routed.fetch_max(nth + 1, Ordering::Relaxed);
                let why = "an index requires routing, which the server did not show before";
                (Answer::Retry(why.to_owned()), None)
            }
            answer => (answer, None),
        }
    }

    /// Posts a look-up. A stop of the run does not wait for its reply, since nothing depends on it.
    pub(super) fn post(&self, client: &Client, path: String, body: Vec<u8>) -> Result<Reply, FailedRequest> {
        let client = client.clone();
        let ask = move || client.post(&path, ContentType::Json, &body);
        match self.elasticsearch.stop.unless_requested(ask) {
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
    [posts_routed, tombstones_routed]: [bool; 2],
) -> impl Iterator<Item = LookUp<'q>> {
    let in_all = move |target: &'q Target, routed: bool, id: &'q str| {
        let unknown = routed && !target.is_known;
        target.look_up_in().map(move |(index, requires)| (index, requires || unknown, id))
    };
    let posts = in_all(&targets.posts, posts_routed, &action.id).take(post_look_ups(action, targets));
    posts.chain(action.tombstone_ids().flat_map(move |id| in_all(&targets.tombstones, tombstones_routed, id)))
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
