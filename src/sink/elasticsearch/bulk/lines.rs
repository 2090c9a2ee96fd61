//! The lines of a batch, and the parts of it that are sent.

use std::borrow::Cow;
use std::ops::Range;

use crate::config::BatchLimits;
use crate::model::{Action, ActionKind};
use crate::sink::elasticsearch::bulk::reply::Operation;
use crate::sink::elasticsearch::encode::action::{Carried, END};
use crate::sink::elasticsearch::targets::{Targets, routing_of};

/// Lines of one kind, and where each of them is in the body.
pub(super) struct BodyLines<'b> {
    pub(super) operation: Operation,
    pub(super) body: &'b [u8],
    pub(super) ranges: Vec<Range<usize>>,
    /// The action that each line is of.
    pub(super) actions: Vec<&'b Action>,
}

impl<'b> BodyLines<'b> {
    /// All lines in parts that keep to the limits of a request, but for a line over the byte limit, which travels
    /// alone. The first is the one to be sent first, from the end of the list.
    pub(super) fn parts(&self, limits: BatchLimits) -> Vec<Vec<usize>> {
        let mut parts: Vec<Vec<usize>> = Vec::new();
        let mut bytes = 0;
        for (line, range) in self.ranges.iter().enumerate() {
            bytes += range.len();
            match parts.last_mut() {
                Some(part) if part.len() < limits.docs && bytes <= limits.bytes => part.push(line),
                _ => {
                    bytes = range.len();
                    parts.push(vec![line]);
                }
            }
        }
        parts.reverse();
        parts
    }

    /// How many bytes some of the lines have.
    pub(super) fn bytes(&self, part: &[usize]) -> usize {
        part.iter().filter_map(|&line| self.ranges.get(line)).map(Range::len).sum()
    }

    /// The ids of some of the lines.
    pub(super) fn ids(&self, part: &[usize]) -> Vec<&'b str> {
        part.iter().filter_map(|&line| self.actions.get(line)).map(|action| &*action.id).collect()
    }

    /// What an action of a line does; those of deletes are deletions of posts.
    pub(super) fn kind(&self, line: usize) -> ActionKind {
        match self.operation {
            Operation::Index => self.actions.get(line).map_or(ActionKind::Post, |action| action.kind),
            Operation::Delete | Operation::DeleteFound => ActionKind::Post,
        }
    }

    /// Those of some lines that are to be looked up before they are sent, each with its post.
    pub(super) fn to_look_up(&self, part: &[usize]) -> (Vec<usize>, Vec<&'b Action>) {
        let is_post =
            |action: &&&Action| self.operation == Operation::Index && action.kind == ActionKind::Post;
        let post_of = |&line: &usize| Some((line, *self.actions.get(line).filter(is_post)?));
        part.iter().filter_map(post_of).unzip()
    }

    /// The body of a request with some of the lines. What an action has to carry for what stands behind the names now
    /// is put in here, so that lines need not be written anew when that moves. The lines of a whole batch are sent as
    /// they stand, where nothing is to be put in.
    pub(super) fn request(&self, part: &[usize], targets: &Targets) -> Cow<'b, [u8]> {
        let carries = part.iter().any(|&line| !self.carried(line, targets).is_nothing());
        if !carries && part.len() == self.ranges.len() {
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
                    self.carried(line, targets).write(&mut body);
                    body.extend_from_slice(END);
                }
                None => body.extend_from_slice(action),
            }
            body.extend_from_slice(document);
        }
        Cow::Owned(body)
    }

    /// What an index action carries: its routing where the write index requires one, and where one of the names alone
    /// is an alias, that it must be. (Where both are, a parameter of the request says so.) Deletes are written with what
    /// they carry.
    fn carried(&self, line: usize, targets: &Targets) -> Carried<'b> {
        let Some(action) = self.actions.get(line).filter(|_| self.operation == Operation::Index) else {
            return Carried::default();
        };
        let target = targets.of(action.kind);
        Carried {
            require_alias: target.is_alias() && !targets.are_aliases(),
            routing: routing_of(&action.id, target.requires_routing()),
        }
    }
}

/// The action line of some lines, and the document line, if there is one.
fn split_action(lines: &[u8]) -> (&[u8], &[u8]) {
    let end = lines.iter().position(|&byte| byte == b'\n').map_or(lines.len(), |at| at + 1);
    lines.split_at(end)
}

/// The two halves of a part; the first is the one to be sent first, from the end of a list.
pub(super) fn halves(mut part: Vec<usize>) -> [Vec<usize>; 2] {
    let second = part.split_off(part.len() / 2);
    [second, part]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(lengths: &[usize], limits: BatchLimits) -> Vec<Vec<usize>> {
        let mut end = 0;
        let ranges = lengths.iter().map(|length| {
            end += length;
            end - length..end
        });
        let ranges = ranges.collect();
        BodyLines { operation: Operation::Delete, body: &[], ranges, actions: Vec::new() }.parts(limits)
    }

    #[test]
    fn parts_keep_to_both_limits_and_the_first_comes_last() {
        let limits = BatchLimits { docs: 3, bytes: 10 };
        assert_eq!(parts(&[1; 7], limits), [vec![6], vec![3, 4, 5], vec![0, 1, 2]]);
        assert_eq!(parts(&[5, 5, 1, 12, 9, 1], limits), [vec![4, 5], vec![3], vec![2], vec![0, 1]]);
        assert!(parts(&[], limits).is_empty());
    }
}
