//! Shares `--memory` among the archives being read. Each reader reserves the bytes that it needs, in order of arrival.
//!
//! ```text
//! need ──acquire──▶ waits in line ──▶ Room ──▶ reading ──▶ shrink, drop ──▶ the next in line
//!                                                 └─ memory ─▶ kept for reuse, unless others need the bytes
//! ```
//!
//! A reader that holds a reservation never waits for more, so there is no deadlock. Memory kept for reuse counts as well,
//! and is freed when its bytes are reserved.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, MutexGuard};

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::mapping::Mapping;
use crate::common::mutex::Mutex;
use crate::process::shutdown::Stop;

/// The largest mapping that is kept for reuse, in bytes.
const KEPT_BYTES: usize = 512 << 20;

/// A kept mapping is reused if it is at most this many times larger than the request.
const MAX_TIMES_LARGER: usize = 4;

/// Returns the bytes that reading takes besides the database: for statements, and for the hash of each row of usual size.
/// If rows are smaller and there are more of them, more is reserved while they are counted.
pub fn beside_database(database: u64) -> u64 {
    (1 << 20) + database / 16
}

/// Returns the bytes of memory that reading an archive takes, given the sizes of its file and database.
pub fn bytes_to_read(file: u64, database: u64) -> u64 {
    file.saturating_add(database).saturating_add(beside_database(database))
}

/// The memory for archives, shared by all readers. Clones share the same memory.
#[derive(Clone)]
pub struct Rooms(Arc<Shared>);

struct Shared {
    total: u64,
    most_kept: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: u64,
    kept: VecDeque<Mapping>,
    kept_bytes: u64,
    waiting: VecDeque<Waiting>,
    next: u64,
}

/// A reader in line.
struct Waiting {
    number: u64,
    bytes: u64,
    granted: Sender<()>,
}

/// Why memory could not be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// The request is larger than all memory.
    TooLarge,
    /// The run is to stop.
    Stopping,
}

impl Rooms {
    /// Creates memory of `total` bytes. At most `most_kept` mappings are kept for reuse.
    pub fn new(total: u64, most_kept: usize) -> Self {
        Self(Arc::new(Shared { total, most_kept, state: Mutex::default() }))
    }

    /// Creates memory without a limit.
    pub fn unlimited() -> Self {
        Self::new(u64::MAX, 2)
    }

    /// Returns the limit, in bytes.
    pub fn total(&self) -> u64 {
        self.0.total
    }

    /// Returns the number of reserved bytes.
    pub fn used(&self) -> u64 {
        self.state().used
    }

    /// Returns the number of bytes that the first reader in line waits for.
    #[cfg(test)]
    pub fn awaited(&self) -> Option<u64> {
        self.state().waiting.front().map(|first| first.bytes)
    }

    /// Reserves memory. Waits for it in order of arrival.
    ///
    /// # Errors
    ///
    /// [`NoRoom`].
    pub fn acquire(&self, bytes: u64, stop: &Stop) -> Result<Room, NoRoom> {
        if bytes > self.0.total {
            return Err(NoRoom::TooLarge);
        }
        let (number, granted) = self.stand_in_line(bytes);
        self.settle();
        let is_granted = select! {
            recv(granted) -> granted => granted.is_ok(),
            recv(stop.channel()) -> _ => !self.leave_line(number),
        };
        // If the run is to stop, memory granted meanwhile is released here.
        let room = is_granted.then(|| Room { bytes, rooms: self.clone() });
        room.filter(|_| !stop.is_requested()).ok_or(NoRoom::Stopping)
    }

    fn stand_in_line(&self, bytes: u64) -> (u64, Receiver<()>) {
        let (sender, granted) = bounded(1);
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.waiting.push_back(Waiting { number, bytes, granted: sender });
        (number, granted)
    }

    /// Leaves the line. Returns whether the reader was still in it.
    fn leave_line(&self, number: u64) -> bool {
        let mut state = self.state();
        let before = state.waiting.len();
        state.waiting.retain(|waiting| waiting.number != number);
        let was_in_line = state.waiting.len() < before;
        drop(state);
        // Readers behind may have waited only for this one.
        self.settle();
        was_in_line
    }

    /// Admits readers from the front of the line while there is memory. Frees kept mappings if that takes their bytes.
    fn settle(&self) {
        let mut state = self.state();
        let mut admitted = Vec::new();
        while let Some(first) = state.waiting.front()
            && state.used.saturating_add(first.bytes) <= self.0.total
        {
            let Some(first) = state.waiting.pop_front() else { break };
            state.used = state.used.saturating_add(first.bytes);
            admitted.push(first.granted);
        }
        let mut spent = Vec::new();
        while state.used.saturating_add(state.kept_bytes) > self.0.total
            && let Some(oldest) = state.kept.pop_front()
        {
            state.kept_bytes = state.kept_bytes.saturating_sub(oldest.len() as u64);
            spent.push(oldest);
        }
        drop(state);
        // Freed before the admitted readers take new memory.
        drop(spent);
        for granted in admitted {
            // A reader that leaves the line meanwhile notices that it was admitted, and releases the memory.
            let _ = granted.send(());
        }
    }

    /// Keeps a mapping for reuse. Must be called before its reservation is released.
    pub(super) fn keep(&self, memory: Mapping) {
        if memory.len() > KEPT_BYTES {
            return;
        }
        let mut state = self.state();
        state.kept_bytes += memory.len() as u64;
        state.kept.push_back(memory);
        let oldest = if state.kept.len() > self.0.most_kept { state.kept.pop_front() } else { None };
        state.kept_bytes -= oldest.as_ref().map_or(0, |oldest| oldest.len() as u64);
        drop(state);
    }

    /// Takes the smallest kept mapping that fits a request of `bytes`.
    pub(super) fn take_kept(&self, bytes: usize) -> Option<Mapping> {
        let mut state = self.state();
        let fits =
            |memory: &Mapping| (bytes..=bytes.saturating_mul(MAX_TIMES_LARGER)).contains(&memory.len());
        let fitting = state.kept.iter().enumerate().filter(|(_, memory)| fits(memory));
        let (place, _) = fitting.min_by_key(|(_, memory)| memory.len())?;
        let memory = state.kept.remove(place)?;
        state.kept_bytes -= memory.len() as u64;
        Some(memory)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }
}

impl fmt::Debug for Rooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rooms({} bytes)", self.0.total)
    }
}

/// A reservation of memory, released on drop.
#[derive(Debug)]
pub struct Room {
    bytes: u64,
    rooms: Rooms,
}

impl Room {
    /// Returns the number of reserved bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Releases all but `bytes` bytes.
    pub fn shrink_to(&mut self, bytes: u64) {
        let given_back = self.bytes.saturating_sub(bytes);
        self.bytes -= given_back;
        self.rooms.state().used -= given_back;
        self.rooms.settle();
    }

    /// Reserves more bytes without waiting, ahead of the line. Returns whether there were enough.
    pub fn try_grow(&mut self, bytes: u64) -> bool {
        let mut state = self.rooms.state();
        let grown = state.used.saturating_add(bytes);
        if grown > self.rooms.0.total {
            return false;
        }
        state.used = grown;
        drop(state);
        self.bytes += bytes;
        self.rooms.settle();
        true
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests;
