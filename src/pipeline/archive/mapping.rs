//! Mappings of memory. A second thread populates large ones ahead of their first use, and helps to release them.
//!
//! Huge pages save a few per cent on a machine with enough free memory. They cost half of a run if the system has to make
//! room for them, so they are not requested.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use memmap2::MmapMut;
#[cfg(target_os = "linux")]
use rustix::mm::Advice;

use super::ArchiveError;

/// The smallest mapping that gets a second thread, in bytes. Archives are smaller if there are many, and then all cores
/// are busy anyway.
pub(super) const AHEAD_BYTES: usize = 64 << 20;

/// Number of bytes to populate at once, a multiple of the page size. If an archive declares a wrong size, hardly more
/// than this is populated in vain.
const ADVISED_BYTES: usize = 4 << 20;

/// An anonymous memory mapping.
#[derive(Debug)]
pub(super) struct Mapping(MmapMut);

impl Mapping {
    /// Maps `bytes` bytes of new memory.
    pub(super) fn new(bytes: usize) -> Result<Self, ArchiveError> {
        MmapMut::map_anon(bytes).map(Self).map_err(|_| ArchiveError::out_of_memory())
    }

    /// Releases the pages after the first `bytes` bytes, since the next user has not reserved them.
    pub(super) fn release_after(&mut self, bytes: usize) {
        let kept = bytes.next_multiple_of(ADVISED_BYTES);
        let (start, len) = (self.0.as_mut_ptr().expose_provenance(), self.0.len());
        if kept < len {
            release(start + kept, len - kept);
        }
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Mapping {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Mapping {
    /// Releases the pages; those of a large mapping on two threads, since this is the last step of a run with one large
    /// archive. Measured on two cores with an archive of 360 MB: saves 3 % of the wall-clock time of the run.
    fn drop(&mut self) {
        let (start, len) = (self.0.as_mut_ptr().expose_provenance(), self.0.len());
        if len < AHEAD_BYTES {
            return;
        }
        let middle = len / 2 / ADVISED_BYTES * ADVISED_BYTES;
        thread::scope(|scope| {
            let release = move || release(start + middle, len - middle);
            let _ = thread::Builder::new().name("memory".into()).spawn_scoped(scope, release);
            self::release(start, middle);
        });
    }
}

/// Lets `fill` write to new memory from front to back. The memory is populated before that, all at once, which takes less
/// time than one page fault for each page.
///
/// Large memory is populated by another thread, ahead of the writing, since other cores are idle while a single archive
/// is read and unzipped. Measured on two cores with an archive of 360 MB: a whole run takes 0.50 s instead of 0.61 s
/// (0.75 s on one core).
pub(super) fn fill_fresh<T>(memory: &mut [u8], fill: impl FnOnce(&mut [u8]) -> T) -> T {
    let start = memory.as_mut_ptr().expose_provenance();
    if memory.len() < AHEAD_BYTES {
        provide(start, memory.len());
        return fill(memory);
    }
    while_providing(memory.len(), |at, len| provide(start + at, len), || fill(memory))
}

/// Runs `fill` while another thread populates `len` bytes from front to back. `provide` gets the offset and length of
/// each piece. The thread ends when `fill` does, or when `provide` returns false.
fn while_providing<T>(
    len: usize,
    provide: impl Fn(usize, usize) -> bool + Sync,
    fill: impl FnOnce() -> T,
) -> T {
    let is_filled = AtomicBool::new(false);
    let provide_all = || {
        let mut at = 0;
        while at < len && !is_filled.load(Ordering::Relaxed) {
            if !provide(at, ADVISED_BYTES.min(len - at)) {
                return;
            }
            at += ADVISED_BYTES;
        }
    };
    thread::scope(|scope| {
        // If the thread cannot be started, filling only takes longer.
        let _ = thread::Builder::new().name("memory".into()).spawn_scoped(scope, provide_all);
        let filled = fill();
        is_filled.store(true, Ordering::Relaxed);
        filled
    })
}

/// Populates the pages of a range. Returns whether the system did so.
#[cfg(target_os = "linux")]
fn provide(start: usize, len: usize) -> bool {
    advise(start, len, Advice::LinuxPopulateWrite)
}

/// Releases the pages of a range. Their content is lost, but the mapping stays.
#[cfg(target_os = "linux")]
fn release(start: usize, len: usize) {
    // If it is refused, the pages are released with the mapping.
    let _ = advise(start, len, Advice::LinuxDontNeed);
}

/// Calls `madvise` on a range, which must begin at a page. Returns whether that succeeded.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn advise(start: usize, len: usize, advice: Advice) -> bool {
    let start = std::ptr::with_exposed_provenance_mut(start);
    // SAFETY: the memory stays mapped until the caller's scope ends. Populating changes no byte of it, and released bytes
    // are not read any more.
    unsafe { rustix::mm::madvise(start, len, advice) }.is_ok()
}

#[cfg(not(target_os = "linux"))]
fn provide(_: usize, _: usize) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn release(_: usize, _: usize) {}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::{Duration, Instant};

    use crossbeam_channel::bounded;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn all_memory_is_populated_piece_by_piece() {
        for len in [1, ADVISED_BYTES, 3 * ADVISED_BYTES + 7] {
            let (all, provided) = bounded(1);
            let end = AtomicUsize::new(0);
            let provide = |at, bytes| {
                assert_eq!(end.fetch_add(bytes, Ordering::Relaxed), at);
                if at + bytes == len {
                    all.send(()).unwrap();
                }
                true
            };
            while_providing(len, provide, || provided.recv_timeout(PATIENCE).unwrap());
            assert_eq!(end.into_inner(), len);
        }
    }

    #[test]
    fn populating_ends_once_the_memory_is_filled_or_the_system_refuses() {
        let until = Instant::now() + PATIENCE;
        let (begins, has_begun) = bounded(1);
        let provide = |_, _| {
            let _ = begins.try_send(());
            assert!(Instant::now() < until, "what is filled is still being provided");
            true
        };
        // More pieces than could ever be populated.
        while_providing(usize::MAX / 2, provide, || has_begun.recv_timeout(PATIENCE).unwrap());
        let (asks, asked) = bounded(2);
        let refuse = |_, _| asks.try_send(()).is_err();
        while_providing(usize::MAX / 2, refuse, || {
            asked.recv_timeout(PATIENCE).unwrap();
            assert!(asked.recv_timeout(Duration::from_millis(50)).is_err(), "the system is asked once more");
        });
    }

    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[test]
    fn populated_pages_are_present_before_they_are_written_to() {
        use std::io::{Read, Seek, SeekFrom};

        const PAGE: usize = 4 << 10;
        let memory = Mapping::new(16 * PAGE).unwrap();
        let start = memory.as_ptr().expose_provenance();
        let present = || {
            // Source: Linux, "pagemap": 8 bytes per page, whose highest bit says that the page is present.
            let mut map = std::fs::File::open("/proc/self/pagemap").unwrap();
            map.seek(SeekFrom::Start((start / PAGE * 8) as u64)).unwrap();
            let mut pages = [0; 16 * 8];
            map.read_exact(&mut pages).unwrap();
            pages.chunks(8).filter(|page| page[7] & 0x80 != 0).count()
        };
        assert_eq!(present(), 0);
        assert!(provide(start, 4 * PAGE));
        assert_eq!(present(), 4);
    }
}
