//! Decides how long to retry an object, and when S3 as a whole is unavailable.
//!
//! An object that S3 cannot serve must not block others. A run with a budget spends it on such an object, gives it up and
//! tries the next ones. S3 counts as unavailable only if these fail as well. A run without a budget leaves the object for
//! the next look, provided that S3 answers at all.

use std::time::{Duration, Instant};

use super::client::{GetError, MAX_DOWNLOADS};
use super::{Bucket, Object};
use crate::common::mutex::Mutex;
use crate::retry::shared_health::SharedHealth;

/// Number of objects given up in a row, with nothing served in between, after which the run gives up: all current
/// downloads and as many others. The budget is spent by then, so each of the others is requested only once.
const GIVEN_UP_IN_A_ROW: usize = 2 * MAX_DOWNLOADS;

/// Maximum time that a run without a budget retries one object. The back-off has reached half a minute by then, so longer
/// retries would hardly differ from the next look.
const MAX_PATIENCE: Duration = Duration::from_secs(60);

/// The state of S3 that all downloads share.
pub(super) struct Service<'r> {
    pub(super) bucket: &'r Bucket,
    /// How long to retry a single object if there is no budget.
    patience: Duration,
    outage: Mutex<Outage>,
}

/// A period in which requests fail and no bytes of any object arrive.
#[derive(Default)]
struct Outage {
    /// The start of the outage. None if there is none.
    since: Option<Instant>,
    /// Number of objects given up since then.
    given_up: usize,
}

impl Outage {
    fn gives_up(&mut self) -> bool {
        self.given_up = self.given_up.saturating_add(1);
        self.given_up <= GIVEN_UP_IN_A_ROW
    }
}

impl<'r> Service<'r> {
    /// Creates the state of the S3 that holds a bucket. Without a budget, the next look comes after `next_look`.
    pub(super) fn new(bucket: &'r Bucket, next_look: Duration) -> Self {
        Self { bucket, patience: next_look.min(MAX_PATIENCE), outage: Mutex::default() }
    }

    /// Records progress of any object.
    pub(super) fn served(&self) {
        *self.outage.lock() = Outage::default();
    }

    /// Records a failed request for an object.
    pub(super) fn failed(&self) {
        self.outage.lock().since.get_or_insert_with(Instant::now);
    }

    /// Records that the budget is spent on an object. Returns whether to try others.
    pub(super) fn gives_up(&self) -> bool {
        self.outage.lock().gives_up()
    }

    /// Whether to leave an object that has failed for this long, after one more request. Without an answer from S3 no
    /// object is left, since no other could be downloaded instead.
    pub(super) fn is_out_of_patience(&self, failing: Duration) -> bool {
        self.bucket.budget.is_none() && failing >= self.patience && self.answers()
    }

    /// Leaves an object for a later look.
    pub(super) fn leave(&self, object: &Object) {
        self.bucket.left.lock().insert(object.key.clone());
    }

    /// Returns whether an object was left at its last try, and forgets that. Such an object is requested only once, so
    /// that many of them do not delay new ones at every look.
    pub(super) fn was_left(&self, object: &Object) -> bool {
        self.bucket.left.lock().remove(&object.key)
    }

    /// Whether S3 answers a minimal listing. Refused credentials do not count as an answer.
    fn answers(&self) -> bool {
        let client = &self.bucket.client;
        let query = vec![("max-keys", "1".to_owned()), ("prefix", client.settings().prefix.clone())];
        let answer = client.get("", query, Vec::new());
        !matches!(answer, Err(GetError::Unavailable { .. } | GetError::Refused(_) | GetError::Credentials(_)))
    }
}

impl SharedHealth for Service<'_> {
    fn failing_for(&self) -> Duration {
        self.outage.lock().since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_many_objects_in_a_row_the_run_gives_up() {
        let mut outage = Outage::default();
        assert!((0..GIVEN_UP_IN_A_ROW).all(|_| outage.gives_up()));
        assert!(!outage.gives_up());
    }
}
