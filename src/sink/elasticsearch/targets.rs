//! The indices behind the names that are written to, and how they change during a run.
//!
//! An alias may get a new write index (rollover) or other members at any time. An index may be created again. If
//! Elasticsearch acknowledges before it syncs, a restarted shard may have lost acknowledged writes. Each such change
//! starts a new [`Generation`]. A batch counts for the generation in which its delivery started. Archives are marked
//! only if all their batches belong to the current generation; others are delivered again.

use std::time::Duration;

use super::primaries::Primaries;
use super::returned::Returned;
use crate::model::{ActionKind, Generation, Names, Version};

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

    /// Returns why writes to `self` do not count for `now`; None: they do.
    pub(super) fn change_to(&self, now: &Self) -> Option<String> {
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
    if before.routing != after.routing {
        return format!(
            "the routing of the alias {name} has changed, so deletes and look-ups miss documents that were written \
             before"
        );
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

/// An index or alias that is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name to write to.
    pub name: String,
    /// Concrete indices behind the name, sorted by name, at least one.
    pub members: Vec<Member>,
    /// Concrete index that takes new documents.
    pub write_index: String,
    /// Whether the server has shown all this. If not, one index without problems is assumed.
    pub is_known: bool,
    /// How long deletes are remembered (`index.gc_deletes`): the shortest time of all indices; zero if unknown.
    pub gc_deletes: Duration,
    /// Whether any of the indices acknowledges before it syncs (`index.translog.durability: async`), or may do so.
    pub durability_async: bool,
    /// Whether the write index maps all vectors as Elasticsearch's `dense_vector`, which base64 requires. Tombstones have
    /// none.
    pub dense_vectors: bool,
    /// Why posts cannot be searched by author, and what to do: one text for each such index.
    pub unsearchable: Vec<String>,
    /// Whether searches through the name may miss documents: the alias has a filter, or searches only some shards.
    pub hides_documents: bool,
    /// The routing that the alias gives to all documents, if any.
    pub routing: Option<String>,
}

/// A concrete index behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name of the index.
    pub name: String,
    /// UUID of the index, which changes when the index is created again; None: unknown.
    pub uuid: Option<String>,
    /// When it was created, in milliseconds since 1970; None: unknown.
    pub created: Option<i64>,
    /// Whether every action and look-up must have a routing (`_routing.required`).
    pub requires_routing: bool,
    /// Block that prevents writes until somebody removes it.
    pub block: Option<&'static str>,
    /// How the index returns documents.
    pub returned: Returned,
}

impl Member {
    /// Creates an index of which nothing is known.
    pub(super) fn unknown(name: &str) -> Self {
        let returned = Returned::default();
        Self {
            name: name.to_owned(),
            uuid: None,
            created: None,
            requires_routing: false,
            block: None,
            returned,
        }
    }
}

#[cfg(test)]
impl Target {
    /// Creates an alias of the one index `{name}_v1`.
    pub(super) fn of_one_index(name: &str) -> Self {
        let write_index = format!("{name}_v1");
        let members = vec![Member::unknown(&write_index)];
        Self { members, write_index, is_known: true, durability_async: false, ..Self::unknown(name) }
    }
}

impl Target {
    /// Creates what is assumed if the server shows nothing about a name: one index without problems.
    pub(super) fn unknown(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            members: vec![Member::unknown(name)],
            write_index: name.to_owned(),
            is_known: false,
            gc_deletes: Duration::ZERO,
            durability_async: true,
            dense_vectors: false,
            unsearchable: Vec::new(),
            hides_documents: false,
            routing: None,
        }
    }

    /// Returns whether the name is an alias.
    pub fn is_alias(&self) -> bool {
        self.is_known && self.members.iter().all(|member| member.name != self.name)
    }

    /// Returns the name to use in requests for one of the indices. An alias of one index is named itself, since the
    /// credentials may cover only the alias.
    pub fn name_for<'a>(&'a self, index: &'a str) -> &'a str {
        if self.members.len() > 1 { index } else { &self.name }
    }

    /// Returns the names under which documents are looked up, and whether each requires routing. Ids are unique only
    /// per index, so all indices of an alias are listed.
    pub fn look_up_in(&self) -> impl Iterator<Item = (&str, bool)> {
        self.members.iter().map(|member| (self.name_for(&member.name), member.requires_routing))
    }

    /// Returns the names to search, separated by commas: the name itself, or its indices if the name hides documents.
    pub fn search_in(&self) -> String {
        if !self.hides_documents {
            return self.name.clone();
        }
        let members: Vec<&str> = self.members.iter().map(|member| &*member.name).collect();
        members.join(",")
    }

    /// Returns whether writes to the name must have a routing.
    pub fn requires_routing(&self) -> bool {
        self.needs_routing_in(&self.write_index)
    }

    /// Returns whether an index is behind the name, as far as is known.
    pub fn holds(&self, index: &str) -> bool {
        !self.is_known || self.members.iter().any(|member| member.name == index)
    }

    /// Returns the indices in which a newer emission of a post than this one, or a copy of this one, may be; none if
    /// that is the write index alone. An index takes no more posts once the next one is created, so indices before the
    /// newest that is older than the archive hold only older emissions.
    pub fn may_hold_newer(&self, version: Version) -> Vec<&Member> {
        // Asked for every post, so the usual one index costs nothing.
        if self.members.len() < 2 {
            return Vec::new();
        }
        let archive = version.archive_seconds() * 1000;
        let dates: Option<Vec<i64>> = self.members.iter().map(|member| member.created).collect();
        let older = dates.into_iter().flatten().filter(|created| *created < archive);
        let since = older.max();
        let members: Vec<&Member> = self.members.iter().filter(|member| member.created >= since).collect();
        if members.len() > 1 { members } else { Vec::new() }
    }

    /// Returns whether documents must have a routing in an index behind the name.
    pub fn needs_routing_in(&self, index: &str) -> bool {
        self.members.iter().any(|member| member.name == index && member.requires_routing)
    }

    /// Returns whether the same indices are behind the name and the same one takes writes. A block may come and go.
    pub fn is_same(&self, other: &Self) -> bool {
        let key = |member: &Member| (member.name.clone(), member.uuid.clone(), member.requires_routing);
        self.write_index == other.write_index
            && self.routing == other.routing
            && self.members.iter().map(key).eq(other.members.iter().map(key))
    }

    /// Names the write index and the others.
    pub fn describe(&self) -> String {
        let others: Vec<&str> = self
            .members
            .iter()
            .map(|member| &*member.name)
            .filter(|name| *name != self.write_index)
            .collect();
        if others.is_empty() {
            return self.write_index.clone();
        }
        format!("{} (and {})", self.write_index, others.join(", "))
    }
}

/// Returns the routing of a document, if its index requires one: the author's DID, which is the authority of the
/// `at_uri` (AT Protocol, "AT URI scheme"). The `_id` of an account's tombstone is the DID itself.
pub fn routing_of(id: &str, is_required: bool) -> Option<&str> {
    let rest = id.strip_prefix("at://").unwrap_or(id);
    let authority = rest.split('/').next().unwrap_or(rest);
    is_required.then_some(if authority.is_empty() { id } else { authority })
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
    fn an_older_index_may_hold_a_newer_emission_unless_the_archive_is_newer_than_the_next_index() {
        let may_hold_newer = |members: &[Option<i64>]| {
            let member = |&created| Member { created, ..Member::unknown("posts") };
            let members = members.iter().map(member).collect();
            let target = Target { members, ..Target::of_one_index("posts") };
            let held = target.may_hold_newer(Version::new(7, 1).unwrap());
            held.into_iter().map(|member| member.created).collect::<Vec<_>>()
        };
        let [early, before, same, later] = [Some(1_000), Some(6_999), Some(7_000), Some(9_000)];
        for members in [&[later][..], &[None], &[early], &[early, before]] {
            assert_eq!(may_hold_newer(members), [], "{members:?}");
        }
        assert_eq!(may_hold_newer(&[early, before, same]), [before, same]);
        assert_eq!(may_hold_newer(&[later, before, early]), [later, before]);
        for members in [&[same, later][..], &[early, None, later]] {
            assert_eq!(may_hold_newer(members), members);
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
