//! Deletes posts that have a tombstone from `posts`.
//!
//! Through an alias, a delete goes to the write index, with a version above that of every post. A guard in each request
//! ensures that no index is created if the alias is missing.
//!
//! The other indices of the alias, and an index that is named directly, are searched by id first. A post found there is
//! deleted if it has not changed (`if_seq_no`). That creates no index, and sends nothing to indices that take no
//! writes. It is as safe as versions are: the writer of a post looks for its tombstone afterwards, and the writer of a
//! tombstone looks for the post afterwards ([`convergence`](crate::sink::elasticsearch::convergence)).

use super::Bulk;
use super::batch_report::{BatchReport, Final};
use super::lines::BodyLines;
use super::look_up::{LOOK_UP, LOOK_UP_ROUTINGS};
use super::reply::{FoundDocument, Operation, Refusal};
use super::settling::Settling;
use crate::model::{Action, ActionKind, INDEX_TAKES_NO_WRITES, Version};
use crate::retry::throttle::Stopped;
use crate::sink::elasticsearch::encode::action::{write_delete, write_delete_found};
use crate::sink::elasticsearch::targets::{Member, Targets, routing_of};

/// Outcome of the deletes of one id.
#[derive(Default)]
pub(super) struct Deleted {
    pub(super) refusal: Option<Refusal>,
    done: bool,
    superseded: bool,
}

impl Deleted {
    fn add(&mut self, outcome: Final) {
        match outcome {
            Final::Refused(refusal) => {
                self.refusal.get_or_insert(refusal);
            }
            Final::Superseded => self.superseded = true,
            Final::Done | Final::Suppressed(_) => self.done = true,
        }
    }

    /// Returns the combined outcome. If there was nothing to delete, the id counts as deleted.
    fn outcome(self) -> Final {
        match self {
            Deleted { refusal: Some(refusal), .. } => Final::Refused(refusal),
            Deleted { done: false, superseded: true, .. } => Final::Superseded,
            _ => Final::Done,
        }
    }
}

/// A post that an index holds for the `nth` of some actions.
#[derive(Clone)]
pub(super) struct FoundPost<'d> {
    pub(super) nth: usize,
    pub(super) action: &'d Action,
    pub(super) member: &'d Member,
    pub(super) version: u64,
    place: (u64, u64),
}

impl Bulk<'_> {
    /// Deletes posts that have a tombstone from `posts`.
    pub(super) fn delete(&self, report: &mut BatchReport<'_>) -> Result<(), Stopped> {
        let to_delete: Vec<(&Action, Version)> = report.to_delete().collect();
        if to_delete.is_empty() {
            return Ok(());
        }
        let mut deleted: Vec<Deleted> = to_delete.iter().map(|_| Deleted::default()).collect();
        self.delete_through_alias(&to_delete, &mut deleted)?;
        let mut left: Vec<usize> = (0..to_delete.len()).collect();
        while !left.is_empty() {
            let targets = self.targets.now();
            let members = members_to_search(&targets);
            let actions = left.iter().filter_map(|&nth| Some((nth, to_delete.get(nth)?.0)));
            let asked: Vec<_> = actions
                .flat_map(|(nth, action)| members.iter().map(move |member| (nth, action, *member)))
                .collect();
            let found = self.find_posts(&asked)?;
            left = self.delete_found(&found, &mut deleted)?;
        }
        deleted.into_iter().enumerate().for_each(|(nth, deleted)| report.deleted(nth, deleted.outcome()));
        Ok(())
    }

    /// Deletes from the write index, if the name is an alias.
    fn delete_through_alias(
        &self,
        to_delete: &[(&Action, Version)],
        deleted: &mut [Deleted],
    ) -> Result<(), Stopped> {
        let targets = self.targets.now();
        if !targets.posts.is_alias() && targets.posts.is_known {
            return Ok(());
        }
        let mut body = Vec::new();
        let mut ranges = Vec::with_capacity(to_delete.len());
        for (action, version) in to_delete {
            let start = body.len();
            write_delete(&mut body, &targets.posts.name, &action.id, *version);
            ranges.push(start..body.len());
        }
        let actions = to_delete.iter().map(|(action, _)| *action).collect();
        let lines = BodyLines { operation: Operation::Delete, body: &body, ranges, actions };
        Settling::run(self, &lines, None, &mut |line, outcome| {
            if let Some(deleted) = deleted.get_mut(line) {
                deleted.add(outcome);
            }
        })
    }

    /// Looks for posts in indices. Each is given by its number, its action and an index.
    pub(super) fn find_posts<'d>(
        &self,
        asked: &[(usize, &'d Action, &'d Member)],
    ) -> Result<Vec<FoundPost<'d>>, Stopped> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<(&str, bool, &str)> = asked
            .iter()
            .map(|(_, action, member)| (&*member.name, member.requires_routing, &*action.id))
            .collect();
        let found = self.look_up_documents(LOOK_UP, &ids)?;
        let posts = asked.iter().zip(found).filter_map(|(&(nth, action, member), found)| {
            let FoundDocument { version, place, .. } = found?;
            Some(FoundPost { nth, action, member, version, place: place.unwrap_or_default() })
        });
        Ok(posts.collect())
    }

    /// Deletes the posts found. Returns those that have changed in the meantime, to look for them again.
    pub(super) fn delete_found(
        &self,
        found: &[FoundPost<'_>],
        deleted: &mut [Deleted],
    ) -> Result<Vec<usize>, Stopped> {
        let mut body = Vec::new();
        let (mut ranges, mut actions, mut nths) = (Vec::new(), Vec::new(), Vec::new());
        for post in found {
            if let (Some(block), Some(deleted)) = (post.member.block, deleted.get_mut(post.nth)) {
                deleted.add(Final::Refused(blocked(&post.member.name, block)));
                continue;
            }
            let start = body.len();
            let routing = routing_of(&post.action.id, post.member.requires_routing);
            write_delete_found(&mut body, &post.member.name, &post.action.id, post.place, routing);
            ranges.push(start..body.len());
            actions.push(post.action);
            nths.push(post.nth);
        }
        let lines = BodyLines { operation: Operation::DeleteFound, body: &body, ranges, actions };
        let mut again = Vec::new();
        Settling::run(self, &lines, None, &mut |line, outcome| match (nths.get(line), outcome) {
            (Some(&nth), Final::Superseded) => again.push(nth),
            (Some(&nth), outcome) => {
                if let Some(deleted) = deleted.get_mut(nth) {
                    deleted.add(outcome);
                }
            }
            (None, _) => {}
        })?;
        again.sort_unstable();
        again.dedup();
        Ok(again)
    }

    /// Deletes copies that were written with a routing to an index that needs none, each given by kind, action and index.
    /// A copy in the shard to which requests without a routing go is the document itself: it stays.
    pub(super) fn delete_misrouted(&self, copies: &[(ActionKind, &Action, String)]) -> Result<(), Stopped> {
        if copies.is_empty() {
            return Ok(());
        }
        let targets = self.targets.now();
        let names: Vec<&str> =
            copies.iter().map(|(kind, _, index)| targets.of(*kind).name_for(index)).collect();
        let asked = copies.iter().zip(&names).flat_map(|((_, action, _), name)| {
            [true, false].map(|with_routing| (*name, with_routing, &*action.id))
        });
        let found = self.look_up_documents(LOOK_UP_ROUTINGS, &asked.collect::<Vec<_>>())?;
        let (mut body, mut ranges, mut actions) = (Vec::new(), Vec::new(), Vec::new());
        for (((_, action, _), name), found) in copies.iter().zip(&names).zip(found.chunks(2)) {
            let [Some(copy), document] = found else { continue };
            let Some(place) = copy.place else { continue };
            if !copy.has_routing || document.is_some_and(|document| document.has_routing) {
                continue;
            }
            let start = body.len();
            write_delete_found(&mut body, name, &action.id, place, routing_of(&action.id, true));
            ranges.push(start..body.len());
            actions.push(*action);
        }
        let lines = BodyLines { operation: Operation::DeleteFound, body: &body, ranges, actions };
        // A copy that has changed belongs to another writer, who deletes it.
        Settling::run(self, &lines, None, &mut |_, _| ())
    }
}

/// Returns the indices to search before a delete: all that deletes through the alias do not reach.
fn members_to_search(targets: &Targets) -> Vec<&Member> {
    let posts = &targets.posts;
    let through_alias = |name: &str| posts.is_alias() && name == posts.write_index;
    posts.members.iter().filter(|member| posts.is_known && !through_alias(&member.name)).collect()
}

/// Returns the refusal for a post in an index that takes no writes.
fn blocked(index: &str, block: &str) -> Refusal {
    let reason =
        format!("{index} has the post and the block {block}: remove the block and replay the dead letter");
    Refusal { error_type: INDEX_TAKES_NO_WRITES.into(), reason }
}
