//! Decides whether bulk requests first ask whether their body is wanted (`Expect: 100-continue`). They do while the
//! server refuses whole requests, so that a refusal costs no body. All senders share what one learns. Pure except for
//! the lock; the caller passes in the time.
//!
//! A proxy's rate limit refuses a request by its head. Elasticsearch itself accepts every body and refuses afterwards.
//! In that case asking saves nothing, and stops. It also stops if the server does not answer `Expect`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::sink::elasticsearch::client::Asked;

/// How long requests ask first after a refusal.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// Refusals in a row in spite of an accepted body after which asking stops.
const IN_VAIN: u32 = 3;

/// Decides whether requests ask first, from refusals of whole requests.
#[derive(Debug, Default)]
pub struct Asking(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Time of the last refusal.
    refused: Option<Instant>,
    /// Refusals in a row that asking did not save the body of.
    in_vain: u32,
}

impl State {
    fn is_recent(&self, now: Instant) -> bool {
        self.refused.is_some_and(|refused| now.saturating_duration_since(refused) < REMEMBERED_FOR)
    }
}

impl Asking {
    /// Returns whether the next request asks first.
    pub(super) fn asks(&self, now: Instant) -> bool {
        let state = self.state();
        state.in_vain < IN_VAIN && state.is_recent(now)
    }

    /// Learns from a request: how the server answered `Expect`, and whether it then refused the whole request.
    pub(super) fn learn(&self, asked: Asked, is_refused: bool, now: Instant) {
        let mut state = self.state();
        if is_refused {
            if !state.is_recent(now) {
                state.in_vain = 0;
            }
            state.refused = Some(now);
        }
        state.in_vain = match (asked, is_refused) {
            (Asked::Refused, true) => 0,
            (Asked::Agreed, true) => state.in_vain.saturating_add(1),
            (Asked::ToldNothing, _) => IN_VAIN,
            _ => state.in_vain,
        };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_ask_first_for_a_while_after_a_refusal() {
        let (asking, now) = (Asking::default(), Instant::now());
        assert!(!asking.asks(now));
        asking.learn(Asked::No, false, now);
        assert!(!asking.asks(now), "nothing is refused");
        asking.learn(Asked::No, true, now);
        assert!(asking.asks(now) && asking.asks(now + REMEMBERED_FOR - Duration::from_millis(1)));
        assert!(!asking.asks(now + REMEMBERED_FOR));
    }

    #[test]
    fn who_agrees_and_refuses_all_the_same_is_not_asked_for_long() {
        let (asking, now) = (Asking::default(), Instant::now());
        asking.learn(Asked::No, true, now);
        for _ in 1..IN_VAIN {
            asking.learn(Asked::Agreed, true, now);
            asking.learn(Asked::Agreed, false, now);
            assert!(asking.asks(now));
        }
        asking.learn(Asked::Refused, true, now);
        for _ in 0..IN_VAIN {
            assert!(asking.asks(now));
            asking.learn(Asked::Agreed, true, now);
        }
        assert!(!asking.asks(now));
        asking.learn(Asked::No, true, now);
        assert!(!asking.asks(now), "it is no other server for that");
        // After a while it may be.
        asking.learn(Asked::No, true, now + REMEMBERED_FOR);
        assert!(asking.asks(now + REMEMBERED_FOR));
    }

    #[test]
    fn who_says_nothing_is_not_asked_again() {
        let (asking, now) = (Asking::default(), Instant::now());
        asking.learn(Asked::No, true, now);
        asking.learn(Asked::ToldNothing, false, now);
        assert!(!asking.asks(now));
    }
}
