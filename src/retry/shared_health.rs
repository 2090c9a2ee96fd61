//! State shared by requests of several threads to one server.

use std::time::Duration;

use super::back_off::back_off;

/// Shared state of all requests to a server. A server that carries out none of them gets one budget for all of them,
/// however few attempts each has made.
pub trait SharedHealth: Sync {
    /// Returns how long the server has carried out no request of any thread.
    fn failing_for(&self) -> Duration;

    /// Returns whether a request has found the server away since it last carried one out.
    fn was_away(&self) -> bool {
        false
    }

    /// Returns the pause of one sender after `failures` earlier failures in a row. `random` is
    /// uniformly distributed between 0 and 1.
    fn own_pause(&self, failures: u32, random: f64) -> Duration {
        back_off(failures, random)
    }

    /// Returns how much longer no request may start; None: there is no pause.
    fn pause(&self) -> Option<Duration> {
        None
    }
}
