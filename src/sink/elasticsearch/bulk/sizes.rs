//! Learns the request size that the server, or a proxy in front of it, accepts. All senders share what one learns. Pure
//! except for the lock; the caller passes in the time.

use std::time::{Duration, Instant};

use crate::common::mutex::Mutex;

/// Age at which a limit is raised again. A temporary slowness must not keep requests small.
const TRUSTED_FOR: Duration = Duration::from_secs(3600);

/// Broken connections in a row, while the server answers other requests, after which a request of several parts is sent
/// in halves. It may be too large.
pub(super) const INTERRUPTIONS_BEFORE_DIVIDING: u32 = 3;

/// Largest bulk request, in bytes, and largest look-up, in ids.
#[derive(Debug, Default)]
pub struct Sizes {
    pub(super) bulk: SizeLimit,
    pub(super) look_up: SizeLimit,
}

/// A limit, and when it was learnt; None: no limit is known.
#[derive(Debug, Default)]
pub(super) struct SizeLimit(Mutex<Option<(usize, Instant)>>);

impl SizeLimit {
    /// Returns the largest size to send now. A limit that has become too old is doubled.
    pub(super) fn current(&self, now: Instant) -> usize {
        let mut limit = self.0.lock();
        if let Some((current, since)) = &mut *limit
            && now.saturating_duration_since(*since) >= TRUSTED_FOR
        {
            (*current, *since) = (current.saturating_mul(2), now);
        }
        limit.map_or(usize::MAX, |(current, _)| current)
    }

    /// Records that a request of this size was divided: from now on none is larger than half of it. Returns whether the
    /// limit is new.
    pub(super) fn divided(&self, size: usize, now: Instant) -> bool {
        let mut limit = self.0.lock();
        let half = (size / 2).max(1);
        let is_news = limit.is_none_or(|(current, _)| half < current);
        if is_news {
            *limit = Some((half, now));
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_half_counts_and_is_doubled_when_it_has_grown_old() {
        let (size, now) = (SizeLimit::default(), Instant::now());
        assert_eq!(size.current(now), usize::MAX);
        assert!(size.divided(100, now) && !size.divided(100, now) && !size.divided(300, now));
        assert_eq!(size.current(now), 50);
        assert!(size.divided(50, now));
        assert_eq!(size.current(now + TRUSTED_FOR - Duration::from_millis(1)), 25);
        assert_eq!(size.current(now + TRUSTED_FOR), 50);
        assert_eq!(size.current(now + TRUSTED_FOR + Duration::from_secs(1)), 50);
        assert!(size.divided(1, now));
        assert_eq!(size.current(now), 1);
    }
}
