//! State that requests of several threads to one server share.

use std::time::Duration;

use super::back_off::back_off;

/// The shared state of all requests to a server. A server that carries out none of them gets no more than one budget of
/// all together, however few attempts each has made.
pub trait Together: Sync {
    /// Returns how long the server has carried out no request of anybody.
    fn failing_for(&self) -> Duration;

    /// Whether the server was away at the last request, or has carried out nothing since.
    fn was_away(&self) -> bool {
        false
    }

    /// Returns how long a sender that has met `failures` earlier ones in a row waits on its own. `random` is drawn
    /// evenly from 0 to 1.
    fn own_pause(&self, failures: u32, random: f64) -> Duration {
        back_off(failures, random)
    }

    /// Returns how long no request may start, if there is a pause.
    fn pause(&self) -> Option<Duration> {
        None
    }
}
