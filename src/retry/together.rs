//! What requests of several threads to one server have in common.

use std::time::Duration;

use super::back_off::back_off;

/// What all requests have met together. A server that carries out none of them is given no more time than the budget by
/// all of them, however few attempts each has had at its own.
pub trait Together: Sync {
    /// For how long the server has carried out nothing of what it was asked to, by anybody.
    fn failing_for(&self) -> Duration;

    /// Whether the server was away when it was last asked, or has carried out nothing since.
    fn was_away(&self) -> bool {
        false
    }

    /// How long who has met `failures` earlier ones in a row waits by itself. `random` is drawn evenly from 0 to 1.
    fn own_pause(&self, failures: u32, random: f64) -> Duration {
        back_off(failures, random)
    }

    /// For how long nobody may ask, if so.
    fn pause(&self) -> Option<Duration> {
        None
    }
}
