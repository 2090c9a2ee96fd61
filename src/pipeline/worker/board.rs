//! The archives being read. Workers without another archive to open help with them.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::shared::Shared;

/// The board, shared by all workers.
pub(super) struct Board {
    state: Mutex<State>,
    changed: Condvar,
    /// One place for each worker: full if there are archives that it does not know of yet.
    news: Vec<(Sender<()>, Receiver<()>)>,
}

struct State {
    archives: Vec<Arc<Shared>>,
    /// Number of workers that may still open an archive.
    openers: usize,
}

impl State {
    /// An archive of which the calling worker is a reader now.
    fn joined(&self) -> Option<Arc<Shared>> {
        self.archives.iter().find(|archive| archive.join()).cloned()
    }
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
    /// An empty board for this many workers, each of which takes an [`Opener`].
    pub(super) fn new(workers: usize) -> Self {
        let state = Mutex::new(State { archives: Vec::new(), openers: workers });
        Self { state, changed: Condvar::new(), news: (0..workers).map(|_| bounded(1)).collect() }
    }

    /// Puts an archive on the board, for others to help with.
    pub(super) fn put(&self, archive: &Arc<Shared>) {
        self.state().archives.push(archive.clone());
        self.changed.notify_all();
        for (tell, _) in &self.news {
            // A full place is news already.
            let _ = tell.try_send(());
        }
    }

    /// The place of a worker in which there is something once an archive has been put on the board.
    pub(super) fn news(&self, worker: usize) -> Option<&Receiver<()>> {
        self.news.get(worker).map(|(_, news)| news)
    }

    /// An archive to help with now, if there is one.
    pub(super) fn try_take(&self) -> Option<Arc<Shared>> {
        self.state().joined()
    }

    /// Removes an archive, since all its ranges are taken.
    pub(super) fn remove(&self, archive: &Arc<Shared>) {
        self.state().archives.retain(|other| !Arc::ptr_eq(other, archive));
    }

    /// The calling worker's right to open archives. It ends on drop, also in a panic, since the others wait for its
    /// end.
    pub(super) fn opener(&self) -> Opener<'_> {
        Opener(self)
    }

    /// Waits for an archive to help with. None: there will be no more.
    pub(super) fn take(&self) -> Option<Arc<Shared>> {
        let mut state = self.state();
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
