//! Counts requests to Elasticsearch: their number and bytes, durations, and retries by reason.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::common::mutex::Mutex;

/// The counts of a run's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Bulk requests.
    pub bulk: u64,
    /// Bulk requests that retried something.
    pub retried: u64,
    /// Bytes of request bodies before compression.
    pub bytes_sent: u64,
    /// Bytes of request bodies as sent: fewer with `--compress`.
    pub bytes_on_wire: u64,
}

/// The counters of a run's requests, which the senders update.
#[derive(Debug, Default)]
pub struct RequestCounters {
    /// Bulk requests sent.
    pub bulk: AtomicU64,
    /// Bulk requests that retried something.
    pub retried: AtomicU64,
    /// Bytes of request bodies before compression.
    pub bytes_sent: AtomicU64,
    /// Bytes of request bodies as sent.
    pub bytes_on_wire: AtomicU64,
    /// Durations and retries of requests.
    pub traffic: Traffic,
}

impl From<&RequestCounters> for Requests {
    fn from(counters: &RequestCounters) -> Self {
        Self {
            bulk: counters.bulk.load(Ordering::Relaxed),
            retried: counters.retried.load(Ordering::Relaxed),
            bytes_sent: counters.bytes_sent.load(Ordering::Relaxed),
            bytes_on_wire: counters.bytes_on_wire.load(Ordering::Relaxed),
        }
    }
}

/// Upper bounds of the histogram's buckets, in seconds; one more bucket holds longer durations. A request takes at most
/// 90 s per node.
pub const BOUNDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 90.0];

/// Number of buckets.
const CLASSES: usize = BOUNDS.len() + 1;

/// The kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A bulk request.
    Bulk,
    /// A look-up of documents by their ids.
    LookUp,
    /// A search for the posts of an account.
    Search,
}

impl Request {
    /// All kinds in the order of their discriminants, with their names in metrics.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Bulk, "bulk"), (Self::LookUp, "look_up"), (Self::Search, "search")];
}

/// The reasons for a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// The request was refused for now: 429, or 5xx from a server that is up.
    PushedBack,
    /// The request was carried out, but some of its actions were refused for now.
    InPart,
    /// There was no connection or no reply in time, or the server is not ready.
    Unavailable,
    /// The connection broke.
    Interrupted,
    /// The index behind a name has changed.
    Moved,
    /// The credentials or a privilege were refused. After an outage that may be temporary.
    Unauthenticated,
    /// The request was too large; it is sent in halves.
    TooLarge,
    /// The request was refused because of its content; it is sent in halves to find the cause.
    Divided,
}

impl Again {
    /// All reasons in the order of their discriminants, with their names in metrics.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::PushedBack, "pushed_back"),
        (Self::InPart, "in_part"),
        (Self::Unavailable, "unavailable"),
        (Self::Interrupted, "interrupted"),
        (Self::Moved, "moved"),
        (Self::Unauthenticated, "unauthenticated"),
        (Self::TooLarge, "too_large"),
        (Self::Divided, "divided"),
    ];
}

/// Counts of requests, which the senders update.
#[derive(Debug, Default)]
pub struct Traffic(Mutex<TrafficFigures>);

/// The counts at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrafficFigures {
    again: [u64; Again::ALL.len()],
    took: [Durations; Request::ALL.len()],
}

/// Durations of the requests of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// Number of requests per bucket: longer than the previous bound of [`BOUNDS`], up to this one. The last bucket has no
    /// bound.
    pub classes: [u64; CLASSES],
    /// Sum of all durations.
    pub sum: Duration,
}

impl Traffic {
    /// Records a request that got its reply or failed after `time`.
    pub fn took(&self, request: Request, time: Duration) {
        let class = BOUNDS.iter().position(|bound| time.as_secs_f64() <= *bound).unwrap_or(BOUNDS.len());
        let took = &mut self.0.lock().took[request as usize];
        took.classes[class] += 1;
        took.sum = took.sum.saturating_add(time);
    }

    /// Counts a retry of a request or of part of one.
    pub fn again(&self, why: Again) {
        self.0.lock().again[why as usize] += 1;
    }

    /// Returns the current counts.
    pub fn figures(&self) -> TrafficFigures {
        self.0.lock().clone()
    }
}

impl TrafficFigures {
    /// Returns the number of retries for each reason.
    pub fn again(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Again::ALL.into_iter().map(|(why, name)| (name, self.again[why as usize]))
    }

    /// Returns the durations for each kind of request.
    pub fn durations(&self) -> impl Iterator<Item = (&'static str, &Durations)> {
        Request::ALL.into_iter().map(|(request, name)| (name, &self.took[request as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let traffic = Traffic::default();
        for millis in [5, 6, 1000, 1001, 90_000, 90_001, 3_600_000] {
            traffic.took(Request::LookUp, Duration::from_millis(millis));
        }
        let figures = traffic.figures();
        let took: Vec<_> = figures.durations().collect();
        assert_eq!(took[0], ("bulk", &Durations::default()));
        assert_eq!(took[1].0, "look_up");
        assert_eq!(took[1].1.classes, [1, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 2]);
        assert_eq!(took[1].1.sum, Duration::from_millis(3_782_013));
    }

    #[test]
    fn each_reason_and_each_request_has_its_own_counter() {
        let traffic = Traffic::default();
        for (n, (why, _)) in Again::ALL.into_iter().enumerate() {
            (0..=n).for_each(|_| traffic.again(why));
        }
        let counted: Vec<u64> = traffic.figures().again().map(|(_, count)| count).collect();
        assert_eq!(counted, [1, 2, 3, 4, 5, 6, 7, 8]);
        let numbers = Request::ALL.map(|(request, _)| request as usize);
        assert_eq!(numbers, [0, 1, 2]);
    }
}
