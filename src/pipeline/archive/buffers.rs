//! From a file to the image of its database, with memory that is used again.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use libdeflater::Decompressor;

use super::image::{Image, Spare};
use super::{ArchiveError, Limits, Packed};

/// Capacity that [`Buffers`] keep for the compressed file from one archive to the next, in bytes.
const KEPT_BYTES: usize = 64 << 20;

/// What a worker keeps from one archive to the next.
pub struct Buffers {
    file: Vec<u8>,
    inflater: Decompressor,
    spare: Spare,
}

impl Buffers {
    /// Empty buffers.
    pub fn new() -> Self {
        Self { file: Vec::new(), inflater: Decompressor::new(), spare: Spare::new() }
    }

    /// Reads and unzips the archive at `path`.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Unavailable`] where the file cannot be read or there is no memory for it,
    /// [`ArchiveError::Broken`] where it holds no database.
    pub fn read(&mut self, path: &Path) -> Result<Image, ArchiveError> {
        let Self { file, inflater, spare } = self;
        let image = read_file(path, Limits::DEFAULT.file_bytes, file)
            .and_then(|()| Packed::find(file, &Limits::DEFAULT))
            .and_then(|packed| Image::unpack(&packed, inflater, spare));
        file.clear();
        file.shrink_to(KEPT_BYTES);
        image
    }

    /// Unzips an archive whose `file` is in memory already.
    ///
    /// # Errors
    ///
    /// As [`Buffers::read`].
    pub fn unpack(&mut self, file: &[u8]) -> Result<Image, ArchiveError> {
        Image::unpack(&Packed::find(file, &Limits::DEFAULT)?, &mut self.inflater, &self.spare)
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads a file, but no more of it than one byte beyond `limit`: enough to see that it is too large.
fn read_file(path: &Path, limit: u64, out: &mut Vec<u8>) -> Result<(), ArchiveError> {
    let unavailable = |error: io::Error| ArchiveError::Unavailable(format!("cannot be read: {error}"));
    // Asked before it is opened, since opening a FIFO would wait for its writer.
    let metadata = fs::metadata(path).map_err(unavailable)?;
    if !metadata.is_file() {
        return Err(ArchiveError::Unavailable("cannot be read: not a regular file".to_owned()));
    }
    out.clear();
    let expected = usize::try_from(metadata.len().min(limit)).unwrap_or(usize::MAX);
    out.try_reserve(expected).map_err(|_| ArchiveError::out_of_memory())?;
    File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(out))
        .map(drop)
        .map_err(unavailable)
}
