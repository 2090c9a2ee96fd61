//! Shares `--memory` among the archives being read. Each declares what it needs and is admitted in turn.
//!
//! ```text
//! need ──acquire──▶ waits in line ──▶ Room ──▶ reading ──▶ shrink, drop ──▶ the next in line
//!                                                 └─ memory ─▶ kept, as far as nobody needs its room
//! ```
//!
//! A holder of room never waits for more, so nobody waits for ever. Memory kept for the next archive counts, too: it is
//! freed when somebody needs its room.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::memory::Mapping;
use crate::shutdown::Stop;

/// Larger pieces of memory, in bytes, are never kept.
const KEPT_BYTES: usize = 512 << 20;

/// A kept piece is reused if it is at most this many times larger than the request.
const MOST_TIMES_LARGER: usize = 4;

/// Bytes that reading takes beside the database: statements, and what is remembered of each row of ordinary size.
/// Smaller rows need more; it is requested while they are counted.
pub fn beside_database(database: u64) -> u64 {
    (1 << 20) + database / 16
}

/// Bytes that reading an archive takes, given the sizes of its file and its database.
pub fn bytes_to_read(file: u64, database: u64) -> u64 {
    file.saturating_add(database).saturating_add(beside_database(database))
}

/// Room for archives, shared by all readers.
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

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// There never will be: the request is larger than all memory.
    TooLarge,
    /// The run is to stop.
    Stopping,
}

impl Rooms {
    /// Room for `total` bytes in all. At most `most_kept` pieces of memory are kept for reuse.
    pub fn new(total: u64, most_kept: usize) -> Self {
        Self(Arc::new(Shared { total, most_kept, state: Mutex::default() }))
    }

    /// Room without a limit.
    pub fn unlimited() -> Self {
        Self::new(u64::MAX, 2)
    }

    /// The limit in bytes.
    pub fn total(&self) -> u64 {
        self.0.total
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.state().used
    }

    /// Waits for room, in order of arrival.
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
        // If the run is to stop, room granted meanwhile is given back here.
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
        // Those behind may have waited only for this one.
        self.settle();
        was_in_line
    }

    /// Admits all readers that there is room for. Frees kept memory where they need its room.
    fn settle(&self) {
        let mut state = self.state();
        let mut let_in = Vec::new();
        while let Some(first) = state.waiting.front()
            && state.used.saturating_add(first.bytes) <= self.0.total
        {
            let Some(first) = state.waiting.pop_front() else { break };
            state.used = state.used.saturating_add(first.bytes);
            let_in.push(first.granted);
        }
        let mut spent = Vec::new();
        while state.used.saturating_add(state.kept_bytes) > self.0.total
            && let Some(oldest) = state.kept.pop_front()
        {
            state.kept_bytes = state.kept_bytes.saturating_sub(oldest.len() as u64);
            spent.push(oldest);
        }
        drop(state);
        // Freed before anybody takes new memory.
        drop(spent);
        for granted in let_in {
            // A reader that has left the line meanwhile sees that it was admitted, and gives the room back.
            let _ = granted.send(());
        }
    }

    /// Keeps memory for reuse. Must be called before its room is given back.
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

    /// The smallest kept piece that fits a request of `bytes`.
    pub(super) fn take_kept(&self, bytes: usize) -> Option<Mapping> {
        let mut state = self.state();
        let fits =
            |memory: &Mapping| (bytes..=bytes.saturating_mul(MOST_TIMES_LARGER)).contains(&memory.len());
        let fitting = state.kept.iter().enumerate().filter(|(_, memory)| fits(memory));
        let (place, _) = fitting.min_by_key(|(_, memory)| memory.len())?;
        let memory = state.kept.remove(place)?;
        state.kept_bytes -= memory.len() as u64;
        Some(memory)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Rooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rooms({} bytes)", self.0.total)
    }
}

/// Room for one archive. Given back on drop.
#[derive(Debug)]
pub struct Room {
    bytes: u64,
    rooms: Rooms,
}

impl Room {
    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives back all but `bytes` bytes.
    pub fn shrink_to(&mut self, bytes: u64) {
        let given_back = self.bytes.saturating_sub(bytes);
        self.bytes -= given_back;
        self.rooms.state().used -= given_back;
        self.rooms.settle();
    }

    /// Takes more room if there is some now, ahead of all who wait. Returns whether there was.
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
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::super::memory::Memory;
    use super::*;
    use crate::shutdown::StopReason;

    const MIB: usize = 1 << 20;

    #[test]
    fn room_is_given_in_turn_and_never_more_than_there_is() {
        let (rooms, stop) = (Rooms::new(100, 0), Stop::new());
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for n in 0..16 {
                let (rooms, stop, now, most) = (&rooms, &stop, &now, &most);
                scope.spawn(move || {
                    for step in 0..200 {
                        let bytes = 1 + (n * 31 + step * 17) % 100;
                        let mut room = rooms.acquire(bytes, stop).unwrap();
                        let taken = now.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        most.fetch_max(taken, Ordering::SeqCst);
                        now.fetch_sub(bytes - bytes / 2, Ordering::SeqCst);
                        room.shrink_to(bytes / 2);
                        now.fetch_sub(bytes / 2, Ordering::SeqCst);
                    }
                });
            }
        });
        let most = most.into_inner();
        assert!((50..=100).contains(&most), "{most}");
        assert_eq!(rooms.state().used, 0);
    }

    #[test]
    fn what_needs_more_than_all_never_gets_in() {
        let rooms = Rooms::new(100, 0);
        assert_eq!(rooms.acquire(101, &Stop::new()).unwrap_err(), NoRoom::TooLarge);
        assert!(rooms.acquire(100, &Stop::new()).is_ok());
    }

    #[test]
    fn a_small_one_does_not_pass_a_large_one_in_line() {
        let (rooms, stop) = (Rooms::new(100, 0), Stop::new());
        let first = rooms.acquire(60, &stop).unwrap();
        let (large, granted) = rooms.stand_in_line(80);
        let (_, small) = rooms.stand_in_line(10);
        rooms.settle();
        assert!(granted.try_recv().is_err() && small.try_recv().is_err());
        assert!(rooms.leave_line(large));
        assert!(small.try_recv().is_ok(), "it waited for the large one alone");
        drop(first);
    }

    #[test]
    fn a_stop_ends_the_waiting_and_leaves_nothing_taken() {
        let (rooms, stop) = (Rooms::new(100, 0), Stop::new());
        let held = rooms.acquire(100, &stop).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| rooms.acquire(1, &stop).map(drop));
            stop.request(StopReason::Interrupt);
            assert_eq!(waiting.join().unwrap(), Err(NoRoom::Stopping));
        });
        drop(held);
        assert_eq!(rooms.state().used, 0);
    }

    #[test]
    fn room_grows_if_there_is_some() {
        let (rooms, stop) = (Rooms::new(100, 0), Stop::new());
        let mut one = rooms.acquire(60, &stop).unwrap();
        let other = rooms.acquire(30, &stop).unwrap();
        assert!(one.try_grow(10) && !one.try_grow(1));
        assert_eq!(one.bytes(), 70);
        drop(other);
        assert!(one.try_grow(30));
    }

    #[test]
    fn memory_is_kept_only_while_nobody_needs_its_room() {
        let (rooms, stop) = (Rooms::new(10 * MIB as u64, 4), Stop::new());
        let room = rooms.acquire(8 * MIB as u64, &stop).unwrap();
        drop(Memory::take(&rooms, 3 * MIB).unwrap());
        drop(Memory::take(&rooms, MIB / 2).unwrap());
        assert_eq!(rooms.state().kept.len(), 2);
        drop(room);
        let room = rooms.acquire(2 * MIB as u64, &stop).unwrap();
        assert_eq!(rooms.state().kept.len(), 2);
        let other = rooms.acquire(7 * MIB as u64, &stop).unwrap();
        assert_eq!(rooms.state().kept.len(), 1, "the oldest goes first");
        drop((room, other));
        (0..9).for_each(|_| rooms.keep(Mapping::new(MIB).unwrap()));
        assert_eq!(rooms.state().kept.len(), 4);
    }
}
