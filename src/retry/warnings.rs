//! Limits log lines on failed attempts: one at once, then one per interval. An hour of outage must not fill the log.

use std::time::{Duration, Instant};

use crate::common::mutex::Mutex;

/// Shared by all requests to the same server.
pub(super) struct Warnings(Mutex<Due>);

impl Warnings {
    pub(super) fn new(interval: Duration) -> Self {
        Self(Mutex::new(Due { interval, last: None, unlogged: 0 }))
    }

    /// Logs a failed attempt at a request to `server`. The next attempt follows after `pause`.
    pub(super) fn failed(&self, server: &str, reason: &str, pause: Duration) {
        let due = self.0.lock().after(Instant::now());
        let seconds = pause.as_secs_f64();
        match due {
            Some(0) => log::warn!("{server}: {reason}; next attempt in {seconds:.1} s"),
            Some(unlogged) => log::warn!(
                "{server}: {reason}; next attempt in {seconds:.1} s; {unlogged} more attempts have failed \
                 since the last message"
            ),
            None => log::debug!("{server}: {reason}; next attempt in {seconds:.1} s"),
        }
    }
}

struct Due {
    interval: Duration,
    last: Option<Instant>,
    /// Failed attempts since the last line.
    unlogged: u64,
}

impl Due {
    /// Counts a failed attempt. Returns how many before it had no log line; None: no line is due.
    fn after(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < self.interval) {
            self.unlogged += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_warning_is_immediate_and_later_ones_have_a_count() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut due = Due { interval: 10 * second, last: None, unlogged: 0 };
        let said: Vec<Option<u64>> = (0..25).map(|n| due.after(start + n * second)).collect();
        let lines: Vec<(usize, u64)> =
            said.into_iter().enumerate().filter_map(|(n, unlogged)| Some((n, unlogged?))).collect();
        assert_eq!(lines, [(0, 0), (10, 9), (20, 9)]);
    }
}
