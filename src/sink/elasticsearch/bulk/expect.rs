//! Decides whether bulk requests first ask whether their body is wanted (`Expect: 100-continue`). They do while the
//! server refuses whole requests, so that a refusal costs no body. All senders share what one learns. Pure except for
//! the lock; the caller passes in the time.
//!
//! A proxy's rate limit refuses a request by its head. Elasticsearch itself accepts every body and refuses afterwards.
//! In that case asking saves nothing, and stops. It also stops if the server does not answer `Expect`.

use std::time::{Duration, Instant};

use crate::common::mutex::Mutex;
use crate::sink::elasticsearch::client::ExpectAnswer;

/// How long requests ask first after a refusal.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// Refusals in a row in spite of an accepted body after which asking stops.
const MAX_USELESS: u32 = 3;

/// Decides whether requests ask first, from refusals of whole requests.
#[derive(Debug, Default)]
pub struct ExpectContinue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Time of the last refusal.
    refused: Option<Instant>,
    /// Refusals in a row that came after the body, although the request had asked first.
    useless: u32,
}

impl State {
    fn is_recent(&self, now: Instant) -> bool {
        self.refused.is_some_and(|refused| now.saturating_duration_since(refused) < REMEMBERED_FOR)
    }
}

impl ExpectContinue {
    /// Returns whether the next request asks first.
    pub(super) fn applies(&self, now: Instant) -> bool {
        let state = self.0.lock();
        state.useless < MAX_USELESS && state.is_recent(now)
    }

    /// Learns from a request: how the server answered `Expect`, and whether it then refused the whole request.
    pub(super) fn learn(&self, expect_answer: ExpectAnswer, is_refused: bool, now: Instant) {
        let mut state = self.0.lock();
        if is_refused {
            if !state.is_recent(now) {
                state.useless = 0;
            }
            state.refused = Some(now);
        }
        state.useless = match (expect_answer, is_refused) {
            (ExpectAnswer::Refused, true) => 0,
            (ExpectAnswer::Accepted, true) => state.useless.saturating_add(1),
            (ExpectAnswer::NoAnswer, _) => MAX_USELESS,
            _ => state.useless,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_expect_continue_for_a_while_after_a_refusal() {
        let (expect, now) = (ExpectContinue::default(), Instant::now());
        assert!(!expect.applies(now));
        expect.learn(ExpectAnswer::NotAsked, false, now);
        assert!(!expect.applies(now), "nothing is refused");
        expect.learn(ExpectAnswer::NotAsked, true, now);
        assert!(expect.applies(now) && expect.applies(now + REMEMBERED_FOR - Duration::from_millis(1)));
        assert!(!expect.applies(now + REMEMBERED_FOR));
    }

    #[test]
    fn a_server_that_accepts_the_body_and_then_refuses_is_soon_no_longer_asked() {
        let (expect, now) = (ExpectContinue::default(), Instant::now());
        expect.learn(ExpectAnswer::NotAsked, true, now);
        for _ in 1..MAX_USELESS {
            expect.learn(ExpectAnswer::Accepted, true, now);
            expect.learn(ExpectAnswer::Accepted, false, now);
            assert!(expect.applies(now));
        }
        expect.learn(ExpectAnswer::Refused, true, now);
        for _ in 0..MAX_USELESS {
            assert!(expect.applies(now));
            expect.learn(ExpectAnswer::Accepted, true, now);
        }
        assert!(!expect.applies(now));
        expect.learn(ExpectAnswer::NotAsked, true, now);
        assert!(!expect.applies(now), "a refusal does not make it another server");
        // After a while, asking may help again.
        expect.learn(ExpectAnswer::NotAsked, true, now + REMEMBERED_FOR);
        assert!(expect.applies(now + REMEMBERED_FOR));
    }

    #[test]
    fn a_server_that_does_not_answer_expect_is_not_asked_again() {
        let (expect, now) = (ExpectContinue::default(), Instant::now());
        expect.learn(ExpectAnswer::NotAsked, true, now);
        expect.learn(ExpectAnswer::NoAnswer, false, now);
        assert!(!expect.applies(now));
    }
}
