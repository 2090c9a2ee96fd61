//! The lines of a batch, and the parts of it that are sent.

use std::ops::Range;

use crate::pipeline::Action;
use crate::pipeline::sender::reply::Operation;

/// Lines of one kind, and where each of them is in the body.
pub(super) struct Lines<'b> {
    pub(super) operation: Operation,
    pub(super) body: &'b [u8],
    pub(super) ranges: Vec<Range<usize>>,
    /// The posts to look up before a line is sent, line by line; None: no look-up.
    pub(super) look_up: Vec<Option<&'b Action>>,
}

impl Lines<'_> {
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
