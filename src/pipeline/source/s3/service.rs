//! How long single objects are insisted on, and when it is S3 as a whole that serves nothing.
//!
//! An object that S3 cannot serve must not keep others from being served. A run that ends some time spends its budget
//! on such an object, leaves it, and tries the next ones; only where these get nothing either is S3 taken for
//! unavailable. A spooler leaves it for the next look, provided that S3 answers at all.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Object;
use super::client::{Client, GetError, MOST_DOWNLOADS};
use crate::retry::together::Together;

/// Objects that are given up one after the other, with nothing served in between, before the run is: those that are
/// being downloaded, and as many others. The budget of these is spent already, so that each is asked for once only.
const GIVEN_UP_IN_A_ROW: usize = 2 * MOST_DOWNLOADS;

/// A spooler insists on one object for no longer than this. Back-off has come to half a minute by then, so that
/// waiting for longer would be hardly another thing than trying again at the next look.
const LONGEST_PATIENCE: Duration = Duration::from_secs(60);

/// What all downloads of a pass know of S3.
pub(super) struct Service<'r> {
    /// How long an unavailable S3 is waited for; None: for ever, and single objects for `patience`.
    pub(super) budget: Option<Duration>,
    patience: Duration,
    client: &'r Client,
    prefix: &'r str,
    outage: Mutex<Outage>,
    /// Keys that were left at the last look, and those that are left now.
    left_before: HashSet<String>,
    left: &'r Mutex<HashSet<String>>,
}

/// Requests fail, and nothing of any object comes.
#[derive(Default)]
struct Outage {
    /// None: there is no outage.
    since: Option<Instant>,
    /// Objects given up since then.
    given_up: usize,
}

impl Outage {
    fn gives_up(&mut self) -> bool {
        self.given_up = self.given_up.saturating_add(1);
        self.given_up <= GIVEN_UP_IN_A_ROW
    }
}

impl<'r> Service<'r> {
    /// S3 as it is reached by `client`, where there will be another look after `next_look` if there is no budget. Keys
    /// that are left are remembered in `left` from one look to the next.
    pub(super) fn new(
        client: &'r Client,
        prefix: &'r str,
        budget: Option<Duration>,
        next_look: Duration,
        left: &'r Mutex<HashSet<String>>,
    ) -> Self {
        Self {
            budget,
            patience: next_look.min(LONGEST_PATIENCE),
            client,
            prefix,
            outage: Mutex::default(),
            left_before: std::mem::take(&mut lock(left)),
            left,
        }
    }

    /// More of some object has come than ever before.
    pub(super) fn served(&self) {
        *lock(&self.outage) = Outage::default();
    }

    /// A request for an object has failed.
    pub(super) fn failed(&self) {
        lock(&self.outage).since.get_or_insert_with(Instant::now);
    }

    /// The budget is spent on an object. Whether others are to be tried.
    pub(super) fn gives_up(&self) -> bool {
        lock(&self.outage).gives_up()
    }

    /// Whether an object that has failed for so long is asked for only once more before it is left. While S3 does not
    /// answer at all none is: that is waited for, and costs no archive its turn.
    pub(super) fn is_out_of_patience(&self, failing: Duration) -> bool {
        self.budget.is_none() && failing >= self.patience && self.answers()
    }

    /// An object is left for the next look.
    pub(super) fn leave(&self, object: &Object) {
        lock(self.left).insert(object.key.clone());
    }

    /// Whether an object was left at the last look: there was patience with it then, and many such objects must not
    /// keep new ones waiting at every look.
    pub(super) fn was_left(&self, object: &Object) -> bool {
        self.left_before.contains(&object.key)
    }

    /// Whether S3 has an answer to the shortest of listings. Credentials that are refused have none to anything.
    fn answers(&self) -> bool {
        let query = [("list-type", "2"), ("max-keys", "1"), ("prefix", self.prefix)];
        let answer = self.client.get("", &query, &[]);
        !matches!(answer, Err(GetError::Unavailable { .. } | GetError::Refused(_) | GetError::Credentials(_)))
    }
}

impl Together for Service<'_> {
    fn failing_for(&self) -> Duration {
        lock(&self.outage).since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_given_up_in_a_row_until_it_is_s3_that_is() {
        let mut outage = Outage::default();
        assert!((0..GIVEN_UP_IN_A_ROW).all(|_| outage.gives_up()));
        assert!(!outage.gives_up());
    }
}
