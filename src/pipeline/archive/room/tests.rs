//! Tests of sharing memory among readers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::*;
use crate::pipeline::archive::memory::Memory;
use crate::process::shutdown::StopReason;

const MIB: usize = 1 << 20;

#[test]
fn no_more_is_reserved_than_there_is() {
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
fn a_request_larger_than_all_memory_fails() {
    let rooms = Rooms::new(100, 0);
    assert_eq!(rooms.acquire(101, &Stop::new()).unwrap_err(), NoRoom::TooLarge);
    assert!(rooms.acquire(100, &Stop::new()).is_ok());
}

#[test]
fn a_small_request_does_not_overtake_a_large_one() {
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
fn a_stop_ends_the_wait_and_leaves_nothing_reserved() {
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
fn a_reservation_grows_if_there_is_memory() {
    let (rooms, stop) = (Rooms::new(100, 0), Stop::new());
    let mut one = rooms.acquire(60, &stop).unwrap();
    let other = rooms.acquire(30, &stop).unwrap();
    assert!(one.try_grow(10) && !one.try_grow(1));
    assert_eq!(one.bytes(), 70);
    drop(other);
    assert!(one.try_grow(30));
}

#[test]
fn mappings_are_kept_only_while_their_bytes_are_not_reserved() {
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
