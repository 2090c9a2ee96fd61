//! The archives that are being read, for workers that find no other one to open: they help with those.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::shared::Shared;

/// Shared by all workers.
pub(super) struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    archives: Vec<Arc<Shared>>,
    /// Workers that may still open an archive.
    openers: usize,
}

/// A worker that may still open an archive.
pub(super) struct Opener<'b>(&'b Board);

impl Drop for Opener<'_> {
    fn drop(&mut self) {
        self.0.state().openers -= 1;
        self.0.changed.notify_all();
    }
}

impl Board {
    /// An empty board, for so many workers, each of which takes an [`Opener`].
    pub(super) fn new(workers: usize) -> Self {
        Self { state: Mutex::new(State { archives: Vec::new(), openers: workers }), changed: Condvar::new() }
    }

    /// Asks for help with an archive.
    pub(super) fn put(&self, archive: &Arc<Shared>) {
        self.state().archives.push(archive.clone());
        self.changed.notify_all();
    }

    /// There is nothing left of the archive that somebody has not taken.
    pub(super) fn remove(&self, archive: &Arc<Shared>) {
        self.state().archives.retain(|other| !Arc::ptr_eq(other, archive));
    }

    /// The calling worker's right to open archives, until it is dropped: also by a panic, since the others wait for
    /// its end.
    pub(super) fn opener(&self) -> Opener<'_> {
        Opener(self)
    }

    /// Waits for an archive to help with; None when there will be none any more.
    pub(super) fn take(&self) -> Option<Arc<Shared>> {
        let mut state = self.state();
        loop {
            if let Some(archive) = state.archives.iter().find(|archive| archive.join()) {
                return Some(archive.clone());
            }
            if state.openers == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
