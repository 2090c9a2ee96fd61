//! Lines of a batch, and how they are split into requests.

use std::borrow::Cow;
use std::ops::Range;

use crate::config::BatchLimits;
use crate::model::{Action, ActionKind};
use crate::sink::elasticsearch::bulk::reply::Operation;
use crate::sink::elasticsearch::encode::action::{END, GUARD, TargetFields, write_guard};
use crate::sink::elasticsearch::targets::{Targets, routing_of};

/// Lines of one operation, and their places in the body.
pub(super) struct BodyLines<'b> {
    pub(super) operation: Operation,
    pub(super) body: &'b [u8],
    pub(super) ranges: Vec<Range<usize>>,
    pub(super) actions: Vec<&'b Action>,
}

impl<'b> BodyLines<'b> {
    /// Splits some of the lines into parts within the limits of a request. A line over the byte limit gets a part of its own.
    /// The last part in the list is sent first.
    pub(super) fn parts(&self, lines: &[usize], limits: BatchLimits) -> Vec<Vec<usize>> {
        let mut parts: Vec<Vec<usize>> = Vec::new();
        let mut bytes = 0;
        for &line in lines {
            let length = self.bytes(&[line]);
            bytes += length;
            match parts.last_mut() {
                Some(part) if part.len() < limits.docs && bytes <= limits.bytes => part.push(line),
                _ => {
                    bytes = length;
                    parts.push(vec![line]);
                }
            }
        }
        parts.reverse();
        parts
    }

    /// Returns the size of some of the lines, in bytes.
    pub(super) fn bytes(&self, part: &[usize]) -> usize {
        part.iter().filter_map(|&line| self.ranges.get(line)).map(Range::len).sum()
    }

    /// Returns the ids of the actions in a request with some of the lines.
    pub(super) fn ids(&self, part: &[usize], targets: &Targets) -> Vec<&'b str> {
        let actions = part.iter().filter_map(|&line| self.actions.get(line));
        actions.map(|action| &*action.id).chain(self.needs_guard(targets).then_some(GUARD)).collect()
    }

    /// Returns whether a request ends with a [guard](write_guard), since the server ignores `require_alias` in deletes.
    fn needs_guard(&self, targets: &Targets) -> bool {
        self.operation == Operation::Delete && targets.posts.is_alias()
    }

    /// Returns the versions that documents are indexed with, in the order of the lines; nothing for deletes.
    pub(super) fn versions(&self, part: &[usize]) -> Vec<u64> {
        let indexed = if self.operation == Operation::Index { part } else { &[] };
        indexed
            .iter()
            .filter_map(|&line| self.actions.get(line))
            .map(|action| action.version.of_index())
            .collect()
    }

    /// Returns the kind of a line's action. Lines of delete operations are deletions of posts.
    pub(super) fn kind(&self, line: usize) -> ActionKind {
        match self.operation {
            Operation::Index => self.actions.get(line).map_or(ActionKind::Post, |action| action.kind),
            Operation::Delete | Operation::DeleteFound => ActionKind::Post,
        }
    }

    /// Returns the lines to look up before they are sent, each with its post.
    pub(super) fn to_look_up(&self, part: &[usize]) -> (Vec<usize>, Vec<&'b Action>) {
        let is_post =
            |action: &&&Action| self.operation == Operation::Index && action.kind == ActionKind::Post;
        let post_of = |&line: &usize| Some((line, *self.actions.get(line).filter(is_post)?));
        part.iter().filter_map(post_of).unzip()
    }

    /// Builds the body of a request with some of the lines. Adds the fields that actions need for the current indices,
    /// so that an alias may move without the lines being written again. The lines of a whole batch are borrowed if
    /// nothing is added.
    pub(super) fn request(&self, part: &[usize], targets: &Targets) -> Cow<'b, [u8]> {
        let carries = part.iter().any(|&line| !self.target_fields(line, targets).is_nothing());
        let needs_guard = self.needs_guard(targets);
        if !carries && !needs_guard && part.len() == self.ranges.len() {
            return Cow::Borrowed(self.body);
        }
        let mut body = Vec::with_capacity(self.bytes(part) + part.len() * 64 * usize::from(carries));
        for &line in part {
            let Some(bytes) = self.ranges.get(line).and_then(|range| self.body.get(range.clone())) else {
                continue;
            };
            let (action, document) = split_action(bytes);
            match action.strip_suffix(END) {
                Some(open) => {
                    body.extend_from_slice(open);
                    self.target_fields(line, targets).write(&mut body);
                    body.extend_from_slice(END);
                }
                None => body.extend_from_slice(action),
            }
            body.extend_from_slice(document);
        }
        if needs_guard {
            write_guard(&mut body, &targets.posts.name, targets.posts.requires_routing());
        }
        Cow::Owned(body)
    }

    /// Returns the fields that an action needs: the routing, if the write index requires it, and `require_alias`, if
    /// its name is an alias. If both names are aliases, a parameter of the request has `require_alias` instead, and in
    /// requests with deletes the guard. Deletes of posts found in an index already have their fields.
    fn target_fields(&self, line: usize, targets: &Targets) -> TargetFields<'b> {
        let Some(action) = self.actions.get(line).filter(|_| self.operation != Operation::DeleteFound) else {
            return TargetFields::default();
        };
        let target = targets.of(self.kind(line));
        let is_said = self.operation == Operation::Delete || targets.are_aliases();
        TargetFields {
            require_alias: target.is_alias() && !is_said,
            routing: routing_of(&action.id, target.requires_routing()),
        }
    }
}

/// Splits the lines of an action into the action line and the document line, which may be missing.
fn split_action(lines: &[u8]) -> (&[u8], &[u8]) {
    let end = lines.iter().position(|&byte| byte == b'\n').map_or(lines.len(), |at| at + 1);
    lines.split_at(end)
}

/// Splits a part in half. The last half in the list is sent first.
pub(super) fn halves(mut part: Vec<usize>) -> [Vec<usize>; 2] {
    let second = part.split_off(part.len() / 2);
    [second, part]
}

#[cfg(test)]
mod tests {

    use serde_json::{Value, json};

    use super::*;
    use crate::model::{Names, Version};
    use crate::sink::elasticsearch::targets::Target;

    /// Creates an alias of one index.
    fn target(name: &str, requires_routing: bool) -> Target {
        let mut target = Target::of_one_index(name);
        target.members.iter_mut().for_each(|member| member.requires_routing = requires_routing);
        target
    }

    /// Returns the action lines of a request that deletes two posts; posts and tombstones may require routing.
    fn action_lines(operation: Operation, posts: bool, tombstones: bool) -> Vec<Value> {
        let ids = ["at://did:plc:a/app.bsky.feed.post/1", "at://did:plc:b/app.bsky.feed.post/2"];
        let (index, document, name) = match operation {
            Operation::Index => ("post_tombstones", "{}\n", "index"),
            Operation::Delete | Operation::DeleteFound => ("posts", "", "delete"),
        };
        let lines =
            ids.map(|id| format!("{{\"{name}\":{{\"_index\":\"{index}\",\"_id\":\"{id}\"}}}}\n{document}"));
        let version = Version::new(1, 1).unwrap();
        let actions = ids.map(|id| Action::new(ActionKind::Tombstone, version, id));
        let ranges = vec![0..lines[0].len(), lines[0].len()..lines.concat().len()];
        let body = lines.concat();
        let lines = BodyLines { operation, body: body.as_bytes(), ranges, actions: actions.iter().collect() };
        let (posts, tombstones) = (target("posts", posts), target("post_tombstones", tombstones));
        let names = Names::default();
        let targets = Targets { generation: 0, names, reads_only: false, posts, tombstones, unsynced: None };
        let request = lines.request(&[0, 1], &targets);
        let lines = std::str::from_utf8(&request).unwrap().lines();
        lines.filter(|line| *line != "{}").map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_delete_is_routed_by_the_author_if_the_index_of_posts_requires_it() {
        for tombstones in [false, true] {
            let mut routed = action_lines(Operation::Delete, true, tombstones);
            let guard = routed.pop().unwrap();
            assert!(guard["index"]["require_alias"] == true && guard["index"]["routing"] == GUARD, "{guard}");
            let routings: Vec<&Value> = routed.iter().map(|line| &line["delete"]["routing"]).collect();
            assert_eq!(routings, [&json!("did:plc:a"), &json!("did:plc:b")], "{routed:?}");
            let unrouted = action_lines(Operation::Delete, false, tombstones);
            assert!(unrouted.iter().all(|line| line["delete"]["routing"].is_null()), "{unrouted:?}");
        }
    }

    #[test]
    fn a_tombstone_is_routed_if_the_index_of_tombstones_requires_it() {
        let routing = |posts, tombstones| {
            action_lines(Operation::Index, posts, tombstones)[1]["index"]["routing"].clone()
        };
        assert_eq!([routing(false, true), routing(true, false)], [json!("did:plc:b"), Value::Null]);
    }

    #[test]
    fn a_delete_of_a_found_post_keeps_its_fields() {
        let lines = action_lines(Operation::DeleteFound, true, true);
        assert!(lines.iter().all(|line| line["delete"].as_object().unwrap().len() == 2), "{lines:?}");
    }

    fn parts(lengths: &[usize], limits: BatchLimits) -> Vec<Vec<usize>> {
        let mut end = 0;
        let ranges = lengths.iter().map(|length| {
            end += length;
            end - length..end
        });
        let ranges = ranges.collect();
        let all: Vec<usize> = (0..lengths.len()).collect();
        BodyLines { operation: Operation::Delete, body: &[], ranges, actions: Vec::new() }.parts(&all, limits)
    }

    #[test]
    fn parts_keep_to_both_limits_and_the_first_comes_last() {
        let limits = BatchLimits { docs: 3, bytes: 10 };
        assert_eq!(parts(&[1; 7], limits), [vec![6], vec![3, 4, 5], vec![0, 1, 2]]);
        assert_eq!(parts(&[5, 5, 1, 12, 9, 1], limits), [vec![4, 5], vec![3], vec![2], vec![0, 1]]);
        assert!(parts(&[], limits).is_empty());
    }
}
