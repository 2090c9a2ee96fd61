//! Heartbeats of the threads that a run needs: the look for archives, the senders and the ledger.
//!
//! A thread sends a heartbeat at the start of every attempt and every pause ([`crate::retry::patience`],
//! [`crate::process::shutdown::Stop::wait`]), so waiting for hours for an unavailable server counts as healthy. While a thread
//! waits for another thread, only the other one is watched. This leaves the threads that hang: in an unresponsive file
//! system, in a request that outlasts its time-outs, or in a lock.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::common::mutex::Mutex;

/// Time without a heartbeat after which a working thread counts as stuck. A request takes at most 100 s per node, a page
/// of a listing less, and a disk that needs longer than this for a few writes is broken.
const LONGEST_SILENCE: Duration = Duration::from_secs(600);

/// The kinds of threads that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A look for archives.
    Look,
    /// A sender, while it delivers a batch.
    Sender,
    /// The ledger, while it writes and marks.
    Ledger,
}

impl Stage {
    /// All stages.
    pub const ALL: [Self; 3] = [Self::Look, Self::Sender, Self::Ledger];

    /// Returns the name used in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Sender => "sender",
            Self::Ledger => "ledger",
        }
    }
}

/// The watched threads, each with its last heartbeat.
#[derive(Debug)]
pub struct Pulse {
    longest: Duration,
    threads: Mutex<HashMap<ThreadId, Watched>>,
    /// The files being read or written.
    used: Mutex<HashMap<ThreadId, PathBuf>>,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    stage: Stage,
    /// When the current silence starts. None while the thread waits for another one.
    since: Option<Instant>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { longest: longest_silence(), threads: Mutex::default(), used: Mutex::default() }
    }
}

/// Returns the limit on silence. Debug builds can lower it, see `tests/integration/listen.rs`.
fn longest_silence() -> Duration {
    #[cfg(debug_assertions)]
    if let Some(millis) =
        std::env::var("MEGASTREAM_INGEST_STUCK_AFTER_MS").ok().and_then(|text| text.parse().ok())
    {
        return Duration::from_millis(millis);
    }
    LONGEST_SILENCE
}

impl Pulse {
    /// Watches this thread until the returned guard is dropped.
    pub fn watch(&self, stage: Stage) -> Watch<'_> {
        self.threads.lock().insert(thread::current().id(), Watched { stage, since: Some(Instant::now()) });
        Watch { pulse: self }
    }

    /// Sends a heartbeat. The thread may be silent for another `quiet`. Does nothing if the thread is not watched.
    pub fn beat(&self, quiet: Duration) {
        // None, which pauses the watch, stands for an end beyond the range of the clock.
        self.note(Instant::now().checked_add(quiet));
    }

    /// Pauses the watch until the next heartbeat, while this thread waits for another one.
    pub fn pause(&self) {
        self.note(None);
    }

    fn note(&self, since: Option<Instant>) {
        if let Some(thread) = self.threads.lock().get_mut(&thread::current().id()) {
            thread.since = since;
        }
    }

    /// Returns the longest silence of a stage's threads if it exceeds the limit.
    pub fn stuck(&self, stage: Stage, now: Instant) -> Option<Duration> {
        let threads = self.threads.lock();
        let of_stage =
            threads.values().filter(|thread| thread.stage == stage).filter_map(|thread| thread.since);
        let silence = of_stage.map(|since| now.saturating_duration_since(since)).max()?;
        (silence > self.longest).then_some(silence)
    }

    /// Returns all stuck stages, each with its longest silence.
    pub fn all_stuck(&self, now: Instant) -> Vec<(Stage, Duration)> {
        Stage::ALL.into_iter().filter_map(|stage| Some((stage, self.stuck(stage, now)?))).collect()
    }

    /// Records that this thread reads or writes a file, while it does. That cannot be cancelled if the file server is
    /// away.
    pub fn while_using<T>(&self, path: &Path, work: impl FnOnce() -> T) -> T {
        let id = thread::current().id();
        self.used.lock().insert(id, path.to_owned());
        let done = work();
        self.used.lock().remove(&id);
        done
    }

    /// Returns the number of files being read or written, and one of them.
    pub fn in_use(&self) -> Option<(usize, PathBuf)> {
        let used = self.used.lock();
        Some((used.len(), used.values().min()?.clone()))
    }
}

/// Guard of a watched thread; ends the watch on drop.
#[must_use]
#[derive(Debug)]
pub struct Watch<'p> {
    pulse: &'p Pulse,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.pulse.threads.lock().remove(&thread::current().id());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn stuck(pulse: &Pulse, after: Duration) -> Vec<Stage> {
        let now = Instant::now() + after;
        Stage::ALL.into_iter().filter(|stage| pulse.stuck(*stage, now).is_some()).collect()
    }

    #[test]
    fn a_thread_that_works_is_stuck_once_it_has_been_silent_for_too_long() {
        let pulse = Pulse::default();
        let watch = pulse.watch(Stage::Ledger);
        assert_eq!(stuck(&pulse, LONGEST_SILENCE - SECOND), []);
        assert_eq!(stuck(&pulse, LONGEST_SILENCE + SECOND), [Stage::Ledger]);
        drop(watch);
        assert_eq!(stuck(&pulse, 2 * LONGEST_SILENCE), []);
    }

    #[test]
    fn announced_pauses_and_waits_for_other_threads_do_not_count_as_silence() {
        let pulse = Pulse::default();
        let _watch = pulse.watch(Stage::Sender);
        pulse.beat(300 * SECOND);
        assert_eq!(stuck(&pulse, LONGEST_SILENCE + 299 * SECOND), []);
        assert_eq!(stuck(&pulse, LONGEST_SILENCE + 301 * SECOND), [Stage::Sender]);
        pulse.pause();
        assert_eq!(stuck(&pulse, 100 * LONGEST_SILENCE), []);
        pulse.beat(Duration::ZERO);
        assert_eq!(stuck(&pulse, LONGEST_SILENCE + SECOND), [Stage::Sender]);
        pulse.beat(Duration::MAX);
        assert_eq!(stuck(&pulse, 100 * LONGEST_SILENCE), []);
    }

    #[test]
    fn a_sender_that_works_does_not_hide_one_that_hangs() {
        let pulse = Pulse::default();
        let _hangs = pulse.watch(Stage::Sender);
        thread::scope(|scope| {
            scope.spawn(|| {
                let _works = pulse.watch(Stage::Sender);
                pulse.beat(2 * LONGEST_SILENCE);
                assert_eq!(stuck(&pulse, LONGEST_SILENCE + SECOND), [Stage::Sender]);
            });
        });
    }

    #[test]
    fn a_heartbeat_of_an_unwatched_thread_is_ignored() {
        let pulse = Pulse::default();
        pulse.beat(Duration::ZERO);
        assert_eq!(stuck(&pulse, 2 * LONGEST_SILENCE), []);
    }
}
