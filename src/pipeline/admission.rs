//! Admits archives for reading, so that all of them together stay within `--memory`.

use std::collections::HashMap;

use super::archive::{ArchiveError, NoRoom, Room, Rooms, bytes_to_read};
use crate::common::mutex::Mutex;
use crate::common::text::format_bytes;
use crate::model::{Archive, FileState, MemoryFigures};
use crate::process::shutdown::Stop;

/// Limit of downloads that wait to be unzipped, in bytes. A quarter of the memory is a further limit.
const DOWNLOADED_BYTES: u64 = 512 << 20;

/// Number of buffers kept for each worker: one for a file, one for its database.
const KEPT_PER_WORKER: usize = 2;

/// The memory for archives, and the archives that are too large for it.
#[derive(Debug)]
pub struct Admission {
    memory: u64,
    /// The part of it reserved for downloaded files.
    downloads: Rooms,
    rooms: Rooms,
    /// The archives that can never be admitted, by name.
    too_large: Mutex<HashMap<String, FileState>>,
}

impl Admission {
    /// Divides `memory` bytes among `workers` workers. If archives are `downloaded`, a part is reserved for files that wait
    /// to be read.
    pub fn new(memory: u64, workers: usize, downloaded: bool) -> Self {
        let downloads = if downloaded { DOWNLOADED_BYTES.min(memory / 4) } else { 0 };
        let rooms = Rooms::new(memory - downloads, KEPT_PER_WORKER * workers);
        Self { memory, downloads: Rooms::new(downloads, 0), rooms, too_large: Mutex::default() }
    }

    /// Returns the memory for archives being read: databases, and files unless these are downloaded.
    pub fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// Returns the memory for downloaded files.
    pub fn downloads(&self) -> &Rooms {
        &self.downloads
    }

    /// Returns a function that reports the memory in use. It outlives `self`.
    pub fn figures(&self) -> impl Fn() -> MemoryFigures + Send + Sync + 'static {
        let (limit, rooms, downloads) = (self.memory, self.rooms.clone(), self.downloads.clone());
        move || MemoryFigures { limit, admitted: rooms.used() + downloads.used() }
    }

    /// Whether a file of this size needs more memory than there is, even without its database.
    pub fn excludes_file(&self, bytes: u64) -> bool {
        bytes_to_read(bytes, 0) > self.memory
    }

    /// Waits for `bytes` of memory for an archive. A downloaded file is already counted elsewhere.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::NoRoom`] if there never will be room, [`ArchiveError::Unavailable`] if the run is to stop.
    pub fn admit(&self, bytes: u64, stop: &Stop) -> Result<Room, ArchiveError> {
        self.rooms.acquire(bytes, stop).map_err(|why| match why {
            NoRoom::TooLarge => ArchiveError::NoRoom(self.memory_with(bytes)),
            NoRoom::Stopping => ArchiveError::Unavailable("the run was stopped".to_owned()),
        })
    }

    /// Returns the memory that leaves `bytes` for archives being read, besides the part for downloaded files.
    fn memory_with(&self, bytes: u64) -> u64 {
        let downloads = if self.downloads.total() > 0 { DOWNLOADED_BYTES.min(bytes / 3 + 1) } else { 0 };
        bytes.saturating_add(downloads)
    }

    /// Waits until nothing else is being read, for a file larger than the memory for downloads. None if the run is to
    /// stop.
    pub fn admit_alone(&self, stop: &Stop) -> Option<Room> {
        self.rooms.acquire(self.rooms.total(), stop).ok()
    }

    /// Checks the memory of an archive that was admitted alone, together with its file.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::NoRoom`] if it needs more memory than there is.
    pub fn check_alone(&self, file: u64, bytes: u64) -> Result<(), ArchiveError> {
        let needed = file.saturating_add(bytes);
        if needed > self.memory { Err(ArchiveError::NoRoom(needed)) } else { Ok(()) }
    }

    /// Remembers an archive that can never be admitted. Returns the message to report.
    pub fn mark_too_large(&self, archive: &Archive, needed: u64) -> String {
        self.too_large.lock().insert(archive.name.clone(), archive.state());
        too_large(needed, self.memory)
    }

    /// Whether an archive is known to be too large and has not changed since.
    pub fn is_too_large(&self, archive: &Archive) -> bool {
        self.too_large.lock().get(&archive.name) == Some(&archive.state())
    }
}

/// Returns the message for an archive that needs more memory than there is.
pub fn too_large(needed: u64, memory: u64) -> String {
    format!(
        "reading it takes {} of memory, but all archives together may take {}: set --memory (MEMORY_LIMIT) \
         higher, if the machine has enough memory",
        format_bytes(needed),
        format_bytes(memory)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn downloads_have_a_share_of_the_memory() {
        let local = Admission::new(GIB, 4, false);
        assert_eq!((local.downloads().total(), local.rooms().total()), (0, GIB));
        let small = Admission::new(GIB, 4, true);
        assert_eq!((small.downloads().total(), small.rooms().total()), (GIB / 4, 3 * GIB / 4));
        let large = Admission::new(8 * GIB, 4, true);
        assert_eq!((large.downloads().total(), large.rooms().total()), (GIB / 2, 15 * GIB / 2));
    }

    #[test]
    fn the_memory_that_is_reported_as_needed_is_enough() {
        for bytes in [GIB, 5 * GIB / 4, 8 * GIB + 1] {
            for downloaded in [false, true] {
                let admission = Admission::new(bytes - 1, 4, downloaded);
                let error = admission.admit(bytes, &Stop::new()).unwrap_err();
                let ArchiveError::NoRoom(needed) = error else { panic!("{error}") };
                assert!(needed > bytes - 1, "more than there is");
                assert!(Admission::new(needed, 4, downloaded).admit(bytes, &Stop::new()).is_ok(), "{needed}");
                assert!(needed <= bytes + bytes / 3 + 1);
            }
        }
    }

    #[test]
    fn the_figures_add_databases_and_downloads() {
        let admission = Admission::new(GIB, 4, true);
        let figures = admission.figures();
        let room = admission.admit(700, &Stop::new()).unwrap();
        let _download = admission.downloads().acquire(50, &Stop::new()).unwrap();
        assert_eq!(figures(), MemoryFigures { limit: GIB, admitted: 750 });
        drop(room);
        assert_eq!(figures().admitted, 50);
    }

    #[test]
    fn an_archive_that_is_too_large_is_remembered_until_it_changes() {
        let admission = Admission::new(GIB, 1, false);
        let archive = Archive {
            name: "a".into(),
            path: "a".into(),
            seconds: None,
            bytes: 7,
            modified_ns: 9,
            etag: None,
        };
        assert!(!admission.is_too_large(&archive));
        let error = admission.admit(2 * GIB, &Stop::new()).unwrap_err();
        assert_eq!(error, ArchiveError::NoRoom(2 * GIB));
        let text = admission.mark_too_large(&archive, 2 * GIB);
        assert!(text.contains("takes 2.0 GiB of memory") && text.contains("may take 1.0 GiB"), "{text}");
        assert!(admission.is_too_large(&archive));
        assert!(!admission.is_too_large(&Archive { bytes: 8, ..archive }));
    }
}
