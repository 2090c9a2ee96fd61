//! Chooses the node of a cluster for each request.
//!
//! Requests go to the nodes in turn. A node that fails is left out for a while, twice as long each time. Before its
//! next request it has to answer a small one. Otherwise a node that accepts connections but never answers would cost a
//! bulk request its whole time limit again and again. If all nodes are left out, all are tried.

use std::sync::MutexGuard;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::mutex::Mutex;

/// How long a node is left out after its first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest time that a node is left out.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The nodes of a cluster, at least one.
#[derive(Debug)]
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    /// Number of requests with a small and with a large body so far. Each kind has its own turn: a sender that alternates
    /// between them would send all large ones to the same of two nodes.
    next: [AtomicUsize; 2],
}

#[derive(Debug)]
struct Node {
    url: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the node has ever answered. If so, it speaks the protocol of its URL.
    has_answered: bool,
    /// Failures since a request last succeeded.
    failures: u32,
    /// Until when the node is left out; None: it has answered since its last failure.
    out_until: Option<Instant>,
    /// Whether a thread is checking if the node answers again.
    is_probed: bool,
}

/// How a request treats a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Send the request to it.
    Ready,
    /// The node has failed: send a small request first, and this one if the node answers.
    Probe,
    /// Skip it: another thread is probing it right now.
    Busy,
}

impl Nodes {
    /// Creates the list of nodes from their base URLs.
    pub(crate) fn new(urls: Vec<String>) -> Self {
        let nodes = urls.into_iter().map(|url| Node { url, state: Mutex::default() });
        Self { nodes: nodes.collect(), next: Default::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn url(&self, node: usize) -> &str {
        self.nodes.get(node).map_or("", |node| &node.url)
    }

    /// Records that a node has answered, whatever its answer.
    pub(crate) fn answered(&self, node: usize) {
        if let Some(mut state) = self.state(node) {
            state.has_answered = true;
        }
    }

    pub(crate) fn has_answered(&self, node: usize) -> bool {
        self.state(node).is_some_and(|state| state.has_answered)
    }

    pub(crate) fn urls(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.url.as_str())
    }

    /// Returns the order in which a request tries the nodes: round robin; then the nodes that are left out, the one
    /// that returns first before the others. `is_large`: the request has a large body.
    pub(crate) fn order(&self, is_large: bool, now: Instant) -> Vec<usize> {
        let [small, large] = &self.next;
        let first = if is_large { large } else { small }.fetch_add(1, Ordering::Relaxed);
        let round = (0..self.len()).map(|n| first.wrapping_add(n) % self.len());
        let is_out = |node: &usize| self.out_until(*node).filter(|until| *until > now);
        let mut order: Vec<usize> = round.collect();
        order.sort_by_key(is_out);
        order
    }

    /// Decides how a request treats a node.
    pub(crate) fn begin(&self, node: usize) -> Turn {
        let Some(mut state) = self.state(node) else { return Turn::Busy };
        match (state.out_until, state.is_probed) {
            (None, _) => Turn::Ready,
            (Some(_), true) => Turn::Busy,
            (Some(_), false) => {
                state.is_probed = true;
                Turn::Probe
            }
        }
    }

    /// Records that a node has answered a small request. Its failures stay counted until it carries out a real one.
    pub(crate) fn came_back(&self, node: usize) {
        if let Some(mut state) = self.state(node) {
            (state.is_probed, state.out_until) = (false, None);
        }
    }

    /// Records that a node has carried out a request, or refused it. Returns whether it had failed before.
    pub(crate) fn succeeded(&self, node: usize) -> bool {
        self.state(node).is_some_and(|mut state| std::mem::take(&mut state.failures) > 0)
    }

    /// Returns whether a node has failed since its last successful request. It may still be starting.
    pub(crate) fn has_failed(&self, node: usize) -> bool {
        self.state(node).is_some_and(|state| state.failures > 0)
    }

    /// Records a failure of a node. Returns how long the node is left out; None: it already is.
    pub(crate) fn failed(&self, node: usize, now: Instant) -> Option<Duration> {
        let mut state = self.state(node)?;
        // Several requests that fail at the same time count once.
        if !state.is_probed && state.out_until.is_some_and(|until| until > now) {
            return None;
        }
        let pause = FIRST_PAUSE
            .saturating_mul(1_u32.checked_shl(state.failures).unwrap_or(u32::MAX))
            .min(LONGEST_PAUSE);
        state.failures = state.failures.saturating_add(1);
        (state.out_until, state.is_probed) = (Some(now + pause), false);
        Some(pause)
    }

    /// Returns whether a node has failed and has not answered since.
    pub(crate) fn is_left_out(&self, node: usize) -> bool {
        self.out_until(node).is_some()
    }

    fn out_until(&self, node: usize) -> Option<Instant> {
        self.state(node)?.out_until
    }

    fn state(&self, node: usize) -> Option<MutexGuard<'_, State>> {
        Some(self.nodes.get(node)?.state.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Nodes {
        Nodes::new(["a", "b", "c"].map(str::to_owned).to_vec())
    }

    #[test]
    fn requests_go_to_the_nodes_in_turn() {
        let (nodes, now) = (nodes(), Instant::now());
        assert_eq!(
            [0; 4].map(|_| nodes.order(false, now)),
            [vec![0, 1, 2], vec![1, 2, 0], vec![2, 0, 1], vec![0, 1, 2]]
        );
    }

    #[test]
    fn large_requests_go_to_all_nodes_even_if_each_is_followed_by_a_small_one() {
        let (nodes, now) = (Nodes::new(["a", "b"].map(str::to_owned).to_vec()), Instant::now());
        let first = |is_large| nodes.order(is_large, now)[0];
        assert_eq!([0; 3].map(|_| (first(true), first(false))), [(0, 0), (1, 1), (0, 0)]);
    }

    #[test]
    fn a_node_that_fails_is_left_out_and_probed_before_it_is_used_again() {
        let (nodes, now) = (nodes(), Instant::now());
        assert_eq!(nodes.failed(1, now), Some(FIRST_PAUSE));
        assert_eq!(nodes.failed(1, now), None, "of several at a time one counts");
        assert_eq!([0; 3].map(|_| nodes.order(false, now)), [[0, 2, 1], [2, 0, 1], [2, 0, 1]].map(Vec::from));
        assert_eq!(nodes.order(false, now + FIRST_PAUSE), [0, 1, 2], "its time has come");
        assert_eq!([nodes.begin(0), nodes.begin(1), nodes.begin(1)], [Turn::Ready, Turn::Probe, Turn::Busy]);
        nodes.came_back(1);
        assert_eq!(nodes.begin(1), Turn::Ready);
        assert!(nodes.has_failed(1) && nodes.succeeded(1) && !nodes.succeeded(1) && !nodes.has_failed(1));
    }

    #[test]
    fn a_node_is_left_out_for_twice_as_long_each_time_up_to_a_minute() {
        let (nodes, mut now) = (nodes(), Instant::now());
        let pauses: Vec<u64> = (0..9)
            .map(|_| {
                let pause = nodes.failed(0, now).unwrap();
                now += pause;
                assert_eq!(nodes.begin(0), Turn::Probe);
                pause.as_secs()
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn if_all_nodes_are_left_out_the_one_that_returns_first_is_tried_first() {
        let (nodes, now) = (nodes(), Instant::now());
        for (node, after) in [(0, 3), (1, 1), (2, 2)] {
            nodes.failed(node, now + Duration::from_millis(after));
        }
        assert_eq!(nodes.order(false, now), [1, 2, 0]);
    }
}
