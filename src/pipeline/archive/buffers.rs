//! From a file to the image of its database, with memory that is used again.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use libdeflater::Decompressor;

use super::image::Image;
use super::memory::{Memory, Spare};
use super::zip::{self, LOG_SUFFIXES};
use super::{ArchiveError, Limits, Packed};
use crate::files;

/// Memory for a file that is kept from one archive to the next, in bytes at most.
const KEPT_FILE_BYTES: usize = 256 << 20;

/// Memory for a database that is kept, likewise.
const KEPT_DATABASE_BYTES: usize = 512 << 20;

/// What a worker keeps from one archive to the next.
pub struct Buffers {
    files: Spare,
    databases: Spare,
    inflater: Decompressor,
}

impl Buffers {
    /// Empty buffers.
    pub fn new() -> Self {
        Self {
            files: Spare::new(KEPT_FILE_BYTES),
            databases: Spare::new(KEPT_DATABASE_BYTES),
            inflater: Decompressor::new(),
        }
    }

    /// Reads and unzips the archive at `path`.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Unavailable`] where the file cannot be read or there is no memory for it,
    /// [`ArchiveError::Broken`] where it holds no database.
    pub fn read(&mut self, path: &Path) -> Result<Image, ArchiveError> {
        let file = read_file(path, Limits::DEFAULT.file_bytes, &self.files)?;
        if zip::is_bare(&file) {
            check_beside(path)?;
        }
        self.unpack(&file)
    }

    /// Unzips an archive whose `file` is in memory already.
    ///
    /// # Errors
    ///
    /// As [`Buffers::read`].
    pub fn unpack(&mut self, file: &[u8]) -> Result<Image, ArchiveError> {
        Image::unpack(&Packed::find(file, &Limits::DEFAULT)?, &mut self.inflater, &self.databases)
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

/// Refuses a bare database beside which there are changes that are not in it. They have its name, or that which it had
/// before it was called an archive.
fn check_beside(path: &Path) -> Result<(), ArchiveError> {
    for database in [path.to_owned(), path.with_extension("")] {
        for suffix in LOG_SUFFIXES {
            let log = files::beside(&database, suffix);
            if fs::metadata(&log).is_ok_and(|log| log.is_file() && log.len() > 0) {
                let name = log.file_name().unwrap_or_default().to_string_lossy();
                return Err(zip::changes_beside("beside it lies", &name));
            }
        }
    }
    Ok(())
}

/// Reads a file, but no more of it than one byte beyond `limit`: enough to see that it is too large.
fn read_file(path: &Path, limit: u64, spare: &Spare) -> Result<Memory, ArchiveError> {
    let unavailable = |error: io::Error| ArchiveError::Unavailable(format!("cannot be read: {error}"));
    // Asked before it is opened, since opening a FIFO would wait for its writer.
    let metadata = fs::metadata(path).map_err(unavailable)?;
    if !metadata.is_file() {
        return Err(ArchiveError::Unavailable("cannot be read: not a regular file".to_owned()));
    }
    let file = File::open(path).map_err(unavailable)?;
    // A byte more than there is: a file that fills the memory has grown since.
    let expected = metadata.len().min(limit).saturating_add(1);
    let expected = usize::try_from(expected).map_err(|_| ArchiveError::out_of_memory())?;
    let mut memory = spare.take(expected)?;
    let read = memory.fill(|memory| read_all(&file, memory)).map_err(unavailable)?;
    if read == expected && metadata.len() <= limit {
        return Err(ArchiveError::Unavailable("cannot be read: it grows while it is read".to_owned()));
    }
    memory.truncate(read);
    Ok(memory)
}

/// Reads to the end of a file, or until the memory is full.
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
