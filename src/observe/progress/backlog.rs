//! Progress of the archives being processed.

use std::time::Duration;

/// The archives taken since there was last nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Number of archives; 0 in a replay.
    pub archives: u64,
    /// Size of all archives (bytes).
    pub bytes: u64,
    /// Number of archives that are done or broken.
    pub done: u64,
    /// Size of the archives that are done or broken (bytes).
    pub done_bytes: u64,
    /// Size of the archives that have been opened, done or not (bytes).
    pub opened_bytes: u64,
    /// Rows of the opened archives.
    pub opened_rows: u64,
    /// Rows settled since the archives were found.
    pub settled: u64,
    /// Rows settled before that.
    pub settled_before: u64,
    /// Duration of the run when the archives were found.
    pub since: Duration,
}

impl Backlog {
    pub(super) fn with_settled(self, all: u64) -> Self {
        Self { settled: all.saturating_sub(self.settled_before), ..self }
    }

    /// Returns the bytes processed: all of finished archives, and of open ones in proportion to their settled rows.
    pub fn settled_bytes(&self) -> u64 {
        let share = if self.opened_rows == 0 { 0.0 } else { self.settled as f64 / self.opened_rows as f64 };
        let of_opened = self.opened_bytes as f64 * share.min(1.0);
        (of_opened as u64).max(self.done_bytes).min(self.bytes)
    }

    /// Returns the share of bytes processed, from 0 to 1.
    pub fn share(&self) -> f64 {
        if self.bytes == 0 { 0.0 } else { self.settled_bytes() as f64 / self.bytes as f64 }
    }

    /// Returns the bytes processed per second; `elapsed` is the duration of the run.
    pub fn bytes_per_second(&self, elapsed: Duration) -> f64 {
        let time = elapsed.saturating_sub(self.since).as_secs_f64();
        if time > 0.0 { self.settled_bytes() as f64 / time } else { 0.0 }
    }

    /// Estimates the remaining time from the speed so far; None before anything is done.
    pub fn left(&self, elapsed: Duration) -> Option<Duration> {
        let speed = self.bytes_per_second(elapsed);
        let left = self.bytes.saturating_sub(self.settled_bytes()) as f64;
        (speed > 0.0).then(|| Duration::try_from_secs_f64(left / speed).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remaining_time_follows_from_the_speed_so_far() {
        let since = Duration::from_secs(100);
        let backlog =
            Backlog { archives: 4, bytes: 400, done: 1, done_bytes: 100, since, ..Backlog::default() };
        assert_eq!(backlog.left(since + Duration::from_secs(10)), Some(Duration::from_secs(30)));
        assert_eq!(Backlog { done_bytes: 0, ..backlog }.left(2 * since), None);
        assert_eq!(backlog.left(since), None);
    }
}
