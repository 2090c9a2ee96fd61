//! The indices behind the names that are written to, and how they change during a run.
//!
//! An alias may get a new write index (rollover) or other members at any time. An index may be created again. If
//! Elasticsearch acknowledges before it syncs, a restarted shard may have lost acknowledged writes. Each such change
//! starts a new [`Generation`]. A batch counts for the generation in which its delivery started. Archives are marked
//! only if all their batches belong to the current generation; others are delivered again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::client::Client;
use super::outcome::foreign_answer;
use super::preflight::nodes::disagreement;
use super::preflight::{self, PreflightError, Target};
use super::primaries::Primaries;
use crate::model::Names;
use crate::model::{ActionKind, Generation};

/// The indices behind the two names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Number of changes so far.
    pub generation: Generation,
    /// The names of posts and tombstones.
    pub names: Names,
    /// Whether the run writes nothing to them.
    pub reads_only: bool,
    /// The target of posts.
    pub posts: Target,
    /// The target of tombstones.
    pub tombstones: Target,
    /// Processes that hold the primary shards, if an index acknowledges before it syncs, so that it must be flushed
    /// before archives are marked.
    pub unsynced: Option<Primaries>,
}

impl Targets {
    /// Returns the target of an action.
    pub fn of(&self, kind: ActionKind) -> &Target {
        match kind {
            ActionKind::Post => &self.posts,
            ActionKind::Tombstone | ActionKind::AccountTombstone { .. } => &self.tombstones,
        }
    }

    /// Returns whether both names are aliases. One parameter of a request then ensures that no index is created by
    /// accident.
    pub fn are_aliases(&self) -> bool {
        self.posts.is_alias() && self.tombstones.is_alias()
    }

    /// Returns how long the versions of deletes are remembered.
    pub fn gc_deletes(&self) -> Duration {
        self.posts.gc_deletes
    }

    /// Returns why writes to `self` do not count for `now`; None: they do.
    fn change_to(&self, now: &Self) -> Option<String> {
        for (before, after) in [(&self.posts, &now.posts), (&self.tombstones, &now.tombstones)] {
            if !before.is_same(after) {
                return Some(describe_change(before, after));
            }
        }
        (self.unsynced != now.unsynced).then(|| {
            match (&self.unsynced, &now.unsynced) {
                (None, Some(Primaries::Known(_))) => {
                    "index.translog.durability has become async: the server may have lost rows that it had \
                     confirmed"
                }
                (_, Some(Primaries::Unknown { .. })) => {
                    "a request failed, so a node may have restarted, and the server shows neither the \
                     durability of the indices nor their shards: the server may have lost rows that it had \
                     confirmed"
                }
                _ => {
                    "a shard was restarted or moved, and index.translog.durability is async: the server may \
                     have lost rows that it had confirmed"
                }
            }
            .to_owned()
        })
    }
}

fn describe_change(before: &Target, after: &Target) -> String {
    let (name, indices) = (&after.name, after.describe());
    if before.describe() != indices {
        return format!("{name} is {indices} now, and was {}", before.describe());
    }
    let uuids = |target: &Target| target.members.iter().map(|member| member.uuid.clone()).collect::<Vec<_>>();
    if uuids(before) == uuids(after) {
        return format!("{indices} behind {name} has changed whether it requires routing");
    }
    format!(
        "{indices} behind {name} is another index of the same name: it was deleted and created again, or the URLs \
         in ELASTICSEARCH_URL belong to different clusters"
    )
}

/// Returns the routing of a document, if its index requires one: the author's DID, which is the authority of the
/// `at_uri` (AT Protocol, "AT URI scheme"). The `_id` of an account's tombstone is the DID itself.
pub fn routing_of(id: &str, is_required: bool) -> Option<&str> {
    let rest = id.strip_prefix("at://").unwrap_or(id);
    let authority = rest.split('/').next().unwrap_or(rest);
    is_required.then_some(if authority.is_empty() { id } else { authority })
}

/// The targets as last looked up, shared by all senders.
pub struct LiveTargets {
    now: Mutex<Arc<Targets>>,
    /// Locked during a look-up, so that other threads wait for its result. Whether the nodes have shown different indices
    /// since the last change: rows may have gone to another cluster.
    refreshing: Mutex<bool>,
}

impl LiveTargets {
    /// Starts with the targets that the preflight found.
    pub fn new(targets: Targets) -> Self {
        Self { now: Mutex::new(Arc::new(targets)), refreshing: Mutex::new(false) }
    }

    /// Returns the targets as last looked up.
    pub fn now(&self) -> Arc<Targets> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks the targets up again, unless another thread has done so since `seen`.
    ///
    /// # Errors
    ///
    /// Returns `Refused` if a name can no longer be written to, `Unavailable` if there is no answer for now.
    pub fn refresh(&self, client: &Client, seen: Generation) -> Result<Arc<Targets>, PreflightError> {
        let mut have_disagreed = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.now();
        if before.generation != seen {
            return Ok(before);
        }
        if let Some(why) = disagreement(client, before.names) {
            *have_disagreed = true;
            return Err(PreflightError::unavailable(why));
        }
        let client = client.recording_pages();
        let mut now = preflight::pages_as_outages(&client, |client| preflight::look(client, &before))?;
        let disagreed = || have_disagreed.then(|| "the nodes have shown different indices".to_owned());
        if let Some(why) = before.change_to(&now).or_else(disagreed) {
            // A page shows nothing about an index, and does not replace the earlier answers.
            if let Some(page) = client.page() {
                return Err(PreflightError::unavailable(foreign_answer(&page)));
            }
            let what = if before.reads_only {
                "that one is searched from now on"
            } else {
                "archives that are not marked yet are loaded again"
            };
            log::warn!("{why}: {what}");
            now.generation = before.generation + 1;
            *have_disagreed = false;
        }
        let now = Arc::new(now);
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = now.clone();
        Ok(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_indices_is_described() {
        let target = |uuid: &str, requires_routing| {
            let mut target = Target::of_one_index("posts");
            for member in &mut target.members {
                (member.uuid, member.requires_routing) = (Some(uuid.into()), requires_routing);
            }
            target
        };
        let rolled = Target { write_index: "posts_v2".into(), ..target("a", false) };
        for (after, text) in [
            (rolled, "posts is posts_v2 (and posts_v1) now, and was posts_v1"),
            (target("b", false), "deleted and created again"),
            (target("a", true), "requires routing"),
        ] {
            let described = describe_change(&target("a", false), &after);
            assert!(described.contains(text), "{described}");
        }
    }

    #[test]
    fn a_post_is_routed_by_its_author_and_an_account_by_its_did() {
        for (id, routing) in [
            ("at://did:plc:a/app.bsky.feed.post/b", "did:plc:a"),
            ("at://did:plc:a", "did:plc:a"),
            ("did:plc:a", "did:plc:a"),
            ("at://", "at://"),
            ("odd", "odd"),
        ] {
            assert_eq!(routing_of(id, true), Some(routing), "{id}");
            assert_eq!(routing_of(id, false), None, "{id}");
        }
    }
}
