//! Whether bulk requests ask first (`Expect: 100-continue`): while the server refuses whole requests, so that what it
//! refuses before it has read the body costs no body. All senders share what one learns. Pure except for the lock; the
//! time is passed in.
//!
//! A rate limit of a proxy refuses by the head of a request. Elasticsearch itself agrees to every body and refuses
//! afterwards: then asking is in vain, and stops. So it does where a server says nothing to the question.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::sink::elasticsearch::client::Asked;

/// Time after the last refusal for which requests ask first.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// Refusals in a row after the server had agreed to the body that make further questions useless.
const IN_VAIN: u32 = 3;

/// What is known about the refusals of whole requests.
#[derive(Debug, Default)]
pub struct Asking(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The last refusal.
    refused: Option<Instant>,
    /// Questions in a row that saved nothing.
    in_vain: u32,
}

impl State {
    fn is_recent(&self, now: Instant) -> bool {
        self.refused.is_some_and(|refused| now.saturating_duration_since(refused) < REMEMBERED_FOR)
    }
}

impl Asking {
    /// Whether the next request asks first.
    pub(super) fn asks(&self, now: Instant) -> bool {
        let state = self.state();
        state.in_vain < IN_VAIN && state.is_recent(now)
    }

    /// Learns from a request: what it was told, and whether it was then refused as a whole.
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
