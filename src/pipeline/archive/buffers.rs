//! Reads and unpacks archives, and reuses the memory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use libdeflater::Decompressor;

use super::image::Image;
use super::memory::Memory;
use super::room::{Rooms, bytes_to_read};
use super::zip::{self, LOG_SUFFIXES};
use super::{ArchiveError, ArchiveLimits, Packed};
use crate::files;

/// The state that a worker keeps between archives, and the pool of its memory.
pub struct ArchiveBuffers {
    rooms: Rooms,
    inflater: Decompressor,
}

impl ArchiveBuffers {
    /// Creates buffers without a memory limit.
    pub fn new() -> Self {
        Self::within(&Rooms::unlimited())
    }

    /// Creates buffers that share a memory limit. The caller must reserve the memory before it reads.
    pub fn within(rooms: &Rooms) -> Self {
        Self { rooms: rooms.clone(), inflater: Decompressor::new() }
    }

    /// Reads and unzips the archive at `path`, with at most `room` bytes of memory.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Unavailable`] if the file cannot be read or there is no memory for it, [`ArchiveError::Broken`] if
    /// it holds no database, [`ArchiveError::NoRoom`] if it takes more memory.
    pub fn read_within(&mut self, path: &Path, room: u64) -> Result<Image, ArchiveError> {
        let file = read_file(path, ArchiveLimits::DEFAULT.file_bytes.min(room), &self.rooms)?;
        if file.len() as u64 > room {
            return Err(ArchiveError::NoRoom(file.len() as u64));
        }
        if zip::is_bare(&file) {
            check_beside(path)?;
        }
        let packed = Packed::find(&file, &ArchiveLimits::DEFAULT)?;
        let needed = bytes_to_read(file.len() as u64, packed.len() as u64);
        if needed > room {
            return Err(ArchiveError::NoRoom(needed));
        }
        Image::unpack(&packed, &mut self.inflater, &self.rooms)
    }

    /// Unzips an archive whose `file` is already in memory.
    ///
    /// # Errors
    ///
    /// See [`ArchiveBuffers::read_within`].
    pub fn unpack(&mut self, file: &[u8]) -> Result<Image, ArchiveError> {
        let packed = Packed::find(file, &ArchiveLimits::DEFAULT)?;
        Image::unpack(&packed, &mut self.inflater, &self.rooms)
    }
}

/// Returns the memory, in bytes, that an archive declares to need besides its `file`, which is already in memory.
///
/// # Errors
///
/// See [`ArchiveBuffers::unpack`].
pub fn bytes_declared_in(file: &[u8]) -> Result<u64, ArchiveError> {
    Ok(bytes_to_read(0, Packed::find(file, &ArchiveLimits::DEFAULT)?.len() as u64))
}

/// Returns the memory, in bytes, that the archive at `path` declares to need. Reads only a small part of the file.
///
/// # Errors
///
/// See [`ArchiveBuffers::read_within`].
pub fn bytes_declared(path: &Path) -> Result<u64, ArchiveError> {
    let (file, length) = open(path)?;
    let declared = zip::declared(&file, length, &ArchiveLimits::DEFAULT)?;
    Ok(bytes_to_read(length, declared))
}

impl Default for ArchiveBuffers {
    fn default() -> Self {
        Self::new()
    }
}

/// Refuses a bare database with a log beside it, which holds changes that are not in the database. The log's name begins
/// with the archive's name, with or without `.zip`. If the archive is a link, SQLite writes the log beside the real file.
fn check_beside(path: &Path) -> Result<(), ArchiveError> {
    // A set, since most archives are not links.
    let mut databases = BTreeSet::from([path.to_owned(), files::real_path(path)]);
    let zips = databases.iter().filter(|path| path.extension().is_some_and(|extension| extension == "zip"));
    let without_zip: Vec<_> = zips.map(|path| path.with_extension("")).collect();
    databases.extend(without_zip);
    for database in databases {
        for suffix in LOG_SUFFIXES {
            let log = files::beside(&database, suffix);
            if fs::metadata(&log).is_ok_and(|log| log.is_file() && log.len() > 0) {
                let name = log.file_name().unwrap_or_default().to_string_lossy();
                return Err(zip::changes_beside("there is also", &name));
            }
        }
    }
    Ok(())
}

/// Opens a regular file. Also returns its length.
fn open(path: &Path) -> Result<(File, u64), ArchiveError> {
    // Checked before opening, since opening a FIFO would wait for its writer.
    let metadata = fs::metadata(path).map_err(ArchiveError::unreadable)?;
    if !metadata.is_file() {
        return Err(ArchiveError::unreadable("not a regular file"));
    }
    Ok((File::open(path).map_err(ArchiveError::unreadable)?, metadata.len()))
}

/// Reads a file up to one byte beyond `limit`, which is enough to see that it is too large.
fn read_file(path: &Path, limit: u64, rooms: &Rooms) -> Result<Memory, ArchiveError> {
    let (file, length) = open(path)?;
    // One byte more than the length, to notice a file that has grown since.
    let expected = length.min(limit).saturating_add(1);
    let expected = usize::try_from(expected).map_err(|_| ArchiveError::out_of_memory())?;
    let mut memory = Memory::take(rooms, expected)?;
    let read = memory.fill(|memory| read_all(&file, memory)).map_err(ArchiveError::unreadable)?;
    if read == expected && length <= limit {
        return Err(ArchiveError::unreadable("it grew while it was read"));
    }
    memory.truncate(read);
    Ok(memory)
}

/// Reads to the end of a file, or until the memory is full. Returns the number of bytes read.
fn read_all(mut file: &File, mut memory: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while !memory.is_empty() {
        match file.read(memory) {
            Ok(0) => break,
            Ok(bytes) => {
                read += bytes;
                memory = memory.get_mut(bytes..).unwrap_or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
