//! The archives being read, for workers that have none to open and can help.

use std::sync::{Arc, Condvar, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::shared::Shared;

use crate::common::mutex::Mutex;

/// The board, shared by all workers.
pub(super) struct Board {
    state: Mutex<State>,
    changed: Condvar,
    /// A channel for each worker, which has a message after an archive has been put on the board.
    news: Vec<(Sender<()>, Receiver<()>)>,
}

struct State {
    archives: Vec<Arc<Shared>>,
    /// Number of workers that may still open an archive.
    openers: usize,
}

impl State {
    /// Makes the calling worker a reader of an archive, if one needs help.
    fn joined(&self) -> Option<Arc<Shared>> {
        self.archives.iter().find(|archive| archive.join()).cloned()
    }
}

/// The guard of a worker that may still open archives.
pub(super) struct Opener<'b>(&'b Board);

impl Drop for Opener<'_> {
    fn drop(&mut self) {
        self.0.state.lock().openers -= 1;
        self.0.changed.notify_all();
    }
}

impl Board {
    /// Creates a board for this many workers, each of which takes an [`Opener`].
    pub(super) fn new(workers: usize) -> Self {
        let state = Mutex::new(State { archives: Vec::new(), openers: workers });
        Self { state, changed: Condvar::new(), news: (0..workers).map(|_| bounded(1)).collect() }
    }

    /// Puts an archive on the board, for others to help with.
    pub(super) fn put(&self, archive: &Arc<Shared>) {
        self.state.lock().archives.push(archive.clone());
        self.changed.notify_all();
        for (sender, _) in &self.news {
            // If the channel is full, a message is already waiting.
            let _ = sender.try_send(());
        }
    }

    /// Returns a worker's channel, which has a message after an archive has been put on the board.
    pub(super) fn news(&self, worker: usize) -> Option<&Receiver<()>> {
        self.news.get(worker).map(|(_, news)| news)
    }

    /// Joins an archive that needs help, if there is one.
    pub(super) fn try_take(&self) -> Option<Arc<Shared>> {
        self.state.lock().joined()
    }

    /// Removes an archive, after all its ranges are taken.
    pub(super) fn remove(&self, archive: &Arc<Shared>) {
        self.state.lock().archives.retain(|other| !Arc::ptr_eq(other, archive));
    }

    /// Returns the guard of a worker that may still open archives. The other workers wait until it is dropped, so a panic
    /// drops it as well.
    pub(super) fn opener(&self) -> Opener<'_> {
        Opener(self)
    }

    /// Waits for an archive to help with, and joins it. None if there will be no more.
    pub(super) fn take(&self) -> Option<Arc<Shared>> {
        let mut state = self.state.lock();
        loop {
            if let Some(archive) = state.joined() {
                return Some(archive);
            }
            if state.openers == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
