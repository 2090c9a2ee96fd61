//! Computes the pause between two attempts. Pure: the caller passes in the random number.

use std::time::Duration;

/// Upper limit of the first back-off, before jitter.
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);

/// Upper limit of any back-off.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);

/// Upper limit of `Retry-After`. A header must not stop the run for a day.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Returns the pause after `failures` earlier failures in a row. It grows exponentially, with full jitter, so that
/// senders and hosts do not all return at once. `random` is uniformly distributed between 0 and 1.
pub fn back_off(failures: u32, random: f64) -> Duration {
    let longest = FIRST_BACK_OFF.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
    longest.min(LONGEST_BACK_OFF).mul_f64(random.clamp(0.0, 1.0))
}

/// Returns the longer of `pause` and `Retry-After`, which counts up to its limit.
pub fn at_least(pause: Duration, retry_after: Option<Duration>) -> Duration {
    pause.max(retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER))
}

/// Returns the longer of the back-off and `Retry-After`, which counts up to its limit.
pub fn pause_after(failures: u32, retry_after: Option<Duration>, random: f64) -> Duration {
    at_least(back_off(failures, random), retry_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_up_to_its_limit_with_full_jitter() {
        let longest: Vec<u128> = (0..12).map(|n| back_off(n, 1.0).as_millis()).collect();
        assert_eq!(longest[..4], [100, 200, 400, 800]);
        assert_eq!(longest[9..], [30_000; 3]);
        assert_eq!(back_off(40, 1.0), LONGEST_BACK_OFF);
        assert_eq!(back_off(5, 0.0), Duration::ZERO);
    }

    #[test]
    fn retry_after_is_honoured_up_to_its_limit() {
        let seconds = Duration::from_secs;
        assert_eq!(pause_after(0, Some(seconds(7)), 1.0), seconds(7));
        assert_eq!(pause_after(40, Some(seconds(7)), 1.0), LONGEST_BACK_OFF);
        assert_eq!(pause_after(0, Some(seconds(86_400)), 1.0), LONGEST_RETRY_AFTER);
        assert_eq!(pause_after(3, None, 0.0), Duration::ZERO);
    }
}
