//! The books of a load: which archives are done, and which are under way.
//!
//! A spool run looks for archives while others are under way. The looks and the ledger share the books under one lock, so
//! that every archive is in exactly one state: not taken, under way, or done. No look takes an archive twice.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::state_file::StateFile;
use crate::common::mutex::Mutex;
use crate::model::{Archive, UnderWay};

/// The books, shared by the looks and the ledger.
pub struct Books {
    state: Mutex<Open>,
    /// Carries a message whenever the last archive under way is done.
    settled: (Sender<()>, Receiver<()>),
    /// Maximum number of times that an archive is repeated because the indices behind the names have changed. None: no
    /// limit.
    most_rounds: Option<u32>,
}

/// The content of the books, while one thread holds their lock.
pub struct Open {
    /// The marks of archives.
    pub state: StateFile,
    /// The archives under way by name, each with the number of its repetitions.
    under_way: HashMap<String, (Arc<Archive>, u32)>,
    /// Total size of the archives under way, in bytes.
    bytes: u64,
    /// The queue of the workers. None once the books are closed.
    queue: Option<Sender<Arc<Archive>>>,
}

impl Books {
    /// Creates books in which nothing is under way. Also returns the receiving end of their queue of archives.
    pub fn new(state: StateFile, most_rounds: Option<u32>) -> (Self, Receiver<Arc<Archive>>) {
        let (queue, archives) = unbounded();
        let open = Open { state, under_way: HashMap::new(), bytes: 0, queue: Some(queue) };
        (Self { state: Mutex::new(open), settled: bounded(1), most_rounds }, archives)
    }

    /// Locks the books.
    pub fn open(&self) -> MutexGuard<'_, Open> {
        self.state.lock()
    }

    /// Returns a channel that carries a message whenever the last archive under way is done.
    pub fn settled(&self) -> &Receiver<()> {
        &self.settled.1
    }

    /// Reports that the last archive under way is done.
    pub(super) fn notify_settled(&self) {
        // If the channel is full, a message is already waiting.
        let _ = self.settled.0.try_send(());
    }

    /// Whether an archive may be repeated for the `rounds`th time.
    pub(super) fn allows(&self, rounds: u32) -> bool {
        self.most_rounds.is_none_or(|most| rounds <= most)
    }

    /// Returns the state file, at the end of a run.
    pub fn into_state(self) -> StateFile {
        self.state.into_inner().state
    }
}

impl Open {
    /// Enters archives as under way. None of them may already be.
    pub fn enter(&mut self, archives: &[Arc<Archive>]) {
        for archive in archives {
            self.bytes += archive.bytes;
            self.under_way.insert(archive.name.clone(), (archive.clone(), 0));
        }
    }

    /// Queues archives that have been entered.
    pub fn enqueue(&self, archives: impl IntoIterator<Item = Arc<Archive>>) {
        let Some(queue) = &self.queue else { return };
        for archive in archives {
            // Fails only if the workers are gone, and then the run ends.
            let _ = queue.send(archive);
        }
    }

    /// Closes the queue. Archives already in it are still received.
    pub fn close(&mut self) {
        self.queue = None;
    }

    /// Whether the archive of this name is under way.
    pub fn has(&self, name: &str) -> bool {
        self.under_way.contains_key(name)
    }

    /// Returns the number and size of the archives under way.
    pub fn under_way(&self) -> UnderWay {
        UnderWay { archives: self.under_way.len() as u64, bytes: self.bytes }
    }

    /// Removes an archive from those under way.
    pub(super) fn leave(&mut self, archive: &Archive) {
        if let Some((entered, _)) = self.under_way.remove(&archive.name) {
            self.bytes -= entered.bytes;
        }
    }

    /// Queues an archive again. Returns the number of its repetitions.
    pub(super) fn enqueue_again(&mut self, archive: &Archive) -> u32 {
        let Some((entered, rounds)) = self.under_way.get_mut(&archive.name) else { return 0 };
        *rounds += 1;
        let (entered, rounds) = (entered.clone(), *rounds);
        self.enqueue([entered]);
        rounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(name: &str, bytes: u64) -> Arc<Archive> {
        Arc::new(Archive { name: name.into(), bytes, ..Archive::default() })
    }

    fn books() -> (Books, Receiver<Arc<Archive>>) {
        Books::new(StateFile::empty("state".as_ref()), Some(2))
    }

    #[test]
    fn an_archive_is_under_way_from_its_entry_until_it_leaves() {
        let (books, archives) = books();
        let (a, b) = (archive("a", 3), archive("b", 4));
        let mut open = books.open();
        open.enter(&[a.clone(), b.clone()]);
        assert_eq!(open.under_way(), UnderWay { archives: 2, bytes: 7 });
        assert!(archives.is_empty(), "nothing is handed out yet");
        open.enqueue([a.clone(), b]);
        assert_eq!(archives.try_iter().map(|archive| archive.name.clone()).collect::<String>(), "ab");
        open.leave(&a);
        open.leave(&a);
        assert_eq!((open.has("a"), open.has("b")), (false, true));
        assert_eq!(open.under_way(), UnderWay { archives: 1, bytes: 4 });
    }

    #[test]
    fn an_archive_is_queued_again_up_to_the_limit_and_until_the_books_are_closed() {
        let (books, archives) = books();
        let a = archive("a", 3);
        let mut open = books.open();
        open.enter(std::slice::from_ref(&a));
        let allowed: Vec<bool> = (0..3).map(|_| books.allows(open.enqueue_again(&a))).collect();
        assert_eq!((allowed, archives.try_iter().count()), (vec![true, true, false], 3));
        open.close();
        open.enqueue_again(&a);
        assert!(archives.recv().is_err());
        assert!(open.has("a"), "it stays under way: it is not done");
    }
}
