//! The size of a request that the server, or what stands before it, has been seen to take: what one sender learns, all keep
//! to. Pure but for the lock; its time is handed in.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A limit that is so old is tried anew: what was slow for a while must not make requests small for ever.
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
    /// Bytes of a bulk request.
    pub(super) fn bulk(&self) -> &Size {
        &self.bulk
    }

    /// Ids of a look-up.
    pub(super) fn look_up(&self) -> &Size {
        &self.look_up
    }
}

impl Size {
    /// What is sent at most now. A limit is doubled each time that it has grown old.
    pub(super) fn most(&self, now: Instant) -> usize {
        let mut limit = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((most, since)) = &mut *limit
            && now.saturating_duration_since(*since) >= TRUSTED_FOR
        {
            (*most, *since) = (most.saturating_mul(2), now);
        }
        limit.map_or(usize::MAX, |(most, _)| most)
    }

    /// One of this size is divided: from now on none is larger than its halves. Whether that is news.
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
