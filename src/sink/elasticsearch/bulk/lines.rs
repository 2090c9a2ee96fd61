//! The lines of a batch, and the parts of it that are sent.

use std::ops::Range;

use crate::config::BatchLimits;
use crate::model::Action;
use crate::sink::elasticsearch::bulk::reply::Operation;

/// Lines of one kind, and where each of them is in the body.
pub(super) struct Lines<'b> {
    pub(super) operation: Operation,
    pub(super) body: &'b [u8],
    pub(super) ranges: Vec<Range<usize>>,
    /// The posts to look up before a line is sent, line by line; None: no look-up.
    pub(super) look_up: Vec<Option<&'b Action>>,
}

impl Lines<'_> {
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

    /// The bytes of some of the lines, in order.
    pub(super) fn gather(&self, part: &[usize]) -> Vec<u8> {
        let bytes = |&line: &usize| self.body.get(self.ranges.get(line)?.clone());
        part.iter().filter_map(bytes).flatten().copied().collect()
    }

    /// Those of some lines that are to be looked up, each with its post.
    pub(super) fn to_look_up(&self, part: &[usize]) -> (Vec<usize>, Vec<&Action>) {
        let post_of = |&line: &usize| Some((line, self.look_up.get(line).copied().flatten()?));
        part.iter().filter_map(post_of).unzip()
    }
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
        Lines { operation: Operation::Delete, body: &[], ranges, look_up: Vec::new() }.parts(limits)
    }

    #[test]
    fn parts_keep_to_both_limits_and_the_first_comes_last() {
        let limits = BatchLimits { docs: 3, bytes: 10 };
        assert_eq!(parts(&[1; 7], limits), [vec![6], vec![3, 4, 5], vec![0, 1, 2]]);
        assert_eq!(parts(&[5, 5, 1, 12, 9, 1], limits), [vec![4, 5], vec![3], vec![2], vec![0, 1]]);
        assert!(parts(&[], limits).is_empty());
    }
}
