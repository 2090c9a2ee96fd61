//! The request size that the server, or a proxy before it, is known to take. All senders share what one learns. Pure
//! except for the lock; the time is passed in.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Age after which a limit is tried again: a temporary slowness must not make requests small for ever.
const TRUSTED_FOR: Duration = Duration::from_secs(3600);

/// The largest request that is sent, in bytes, and the largest look-up, in ids.
#[derive(Debug, Default)]
pub struct Sizes {
    bulk: Size,
    look_up: Size,
}

/// A limit, and when it was learnt.
#[derive(Debug, Default)]
pub(super) struct Size(Mutex<Option<(usize, Instant)>>);

impl Sizes {
    /// The limit of a bulk request, in bytes.
    pub(super) fn bulk(&self) -> &Size {
        &self.bulk
    }

    /// The limit of a look-up, in ids.
    pub(super) fn look_up(&self) -> &Size {
        &self.look_up
    }
}

impl Size {
    /// The largest size to send now. Doubles a limit each time it has become too old.
    pub(super) fn most(&self, now: Instant) -> usize {
        let mut limit = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((most, since)) = &mut *limit
            && now.saturating_duration_since(*since) >= TRUSTED_FOR
        {
            (*most, *since) = (most.saturating_mul(2), now);
        }
        limit.map_or(usize::MAX, |(most, _)| most)
    }

    /// Notes that a request of this size was divided: from now on none is larger than its halves. Returns whether that
    /// is news.
    pub(super) fn divided(&self, size: usize, now: Instant) -> bool {
        let mut limit = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let half = (size / 2).max(1);
        let is_news = limit.is_none_or(|(most, _)| half < most);
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
        let (size, now) = (Size::default(), Instant::now());
        assert_eq!(size.most(now), usize::MAX);
        assert!(size.divided(100, now) && !size.divided(100, now) && !size.divided(300, now));
        assert_eq!(size.most(now), 50);
        assert!(size.divided(50, now));
        assert_eq!(size.most(now + TRUSTED_FOR - Duration::from_millis(1)), 25);
        assert_eq!(size.most(now + TRUSTED_FOR), 50);
        assert_eq!(size.most(now + TRUSTED_FOR + Duration::from_secs(1)), 50);
        assert!(size.divided(1, now));
        assert_eq!(size.most(now), 1);
    }
}
