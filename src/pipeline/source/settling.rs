//! Detects local files that are still being written, by their size and modification time. Pure.
//!
//! A spool run takes a file once it has settled: its last change is a while ago, or a second look finds it unchanged. The
//! second criterion is for clocks that differ, such as a file server's. Neither is proof, since copying may pause. So a
//! file is compared again after it has been read, and a damaged one is marked as failed only after a minute without a
//! change (see `worker`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Archive, FileState};

/// Age of the last change at which a file counts as settled. Also the maximum pause before the next look while a file
/// has not settled.
pub const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// The files of the last look that had not settled.
#[derive(Debug, Default)]
pub struct UnsettledFiles {
    seen: HashMap<String, FileState>,
}

impl UnsettledFiles {
    /// Removes the archives that have not settled at `now` (milliseconds since 1970), and returns their number. Must be
    /// called once for each look, with all archives that it selects.
    pub fn hold_back(&mut self, archives: &mut Vec<Arc<Archive>>, now: i64) -> u64 {
        let before = std::mem::take(&mut self.seen);
        archives.retain(|archive| {
            let state = archive.state();
            let settled = is_settled(archive, now) || before.get(&archive.name) == Some(&state);
            if !settled {
                self.seen.insert(archive.name.clone(), state);
            }
            settled
        });
        self.seen.len() as u64
    }

    /// Returns the pause before the next look: `interval`, or less while files have not settled.
    pub fn pause(&self, interval: Duration) -> Duration {
        if self.seen.is_empty() { interval } else { interval.min(SETTLED_AFTER) }
    }
}

/// Whether a file's last change is long enough ago. False for a time in the future, which comes from another clock.
pub fn is_settled(archive: &Archive, now: i64) -> bool {
    let age = i128::from(now) - archive.modified_ns / 1_000_000;
    age >= SETTLED_AFTER.as_millis() as i128
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_766_016_000_000;

    fn changed(name: &str, seconds_ago: i64, bytes: u64) -> Archive {
        let modified_ns = i128::from(NOW - seconds_ago * 1_000) * 1_000_000;
        Archive { name: name.into(), path: name.into(), seconds: None, bytes, modified_ns, etag: None }
    }

    /// Returns the names of the archives that are not held back.
    fn taken(settling: &mut UnsettledFiles, archives: &[Archive]) -> Vec<String> {
        let mut all: Vec<_> = archives.iter().cloned().map(Arc::new).collect();
        let held = settling.hold_back(&mut all, NOW);
        assert_eq!(all.len() + held as usize, archives.len());
        all.iter().map(|archive| archive.name.clone()).collect()
    }

    #[test]
    fn a_file_that_has_not_changed_for_a_while_is_taken_at_once() {
        let found = [changed("old", 10, 1), changed("new", 9, 1), changed("to come", -3_600, 1)];
        assert_eq!(taken(&mut UnsettledFiles::default(), &found), ["old"]);
    }

    #[test]
    fn a_file_that_is_unchanged_since_the_last_look_is_taken_whatever_its_time() {
        let mut settling = UnsettledFiles::default();
        let found = [changed("a", 0, 1), changed("b", -3_600, 1), changed("c", 0, 1)];
        assert!(taken(&mut settling, &found).is_empty());
        let grown = [changed("a", 0, 1), changed("b", -3_600, 1), changed("c", 0, 2), changed("d", 0, 1)];
        assert_eq!(taken(&mut settling, &grown), ["a", "b"]);
        let touched = [changed("c", 0, 2), changed("d", -1, 1)];
        assert_eq!(taken(&mut settling, &touched), ["c"]);
    }

    #[test]
    fn only_the_last_look_is_remembered() {
        let mut settling = UnsettledFiles::default();
        assert!(taken(&mut settling, &[changed("a", 0, 1)]).is_empty());
        assert!(taken(&mut settling, &[]).is_empty());
        assert!(taken(&mut settling, &[changed("a", 0, 1)]).is_empty());
    }

    #[test]
    fn the_next_look_comes_sooner_if_a_file_is_held_back() {
        let (hour, second) = (Duration::from_secs(3_600), Duration::from_secs(1));
        let mut settling = UnsettledFiles::default();
        assert_eq!(settling.pause(hour), hour);
        assert!(taken(&mut settling, &[changed("a", 0, 1)]).is_empty());
        assert_eq!((settling.pause(hour), settling.pause(second)), (SETTLED_AFTER, second));
    }
}
