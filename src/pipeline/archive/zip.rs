//! The one `.db` entry of a zip: found without trusting the zip, inflated as a whole into memory
//! that the caller provides.
//!
//! Source: PKWARE's APPNOTE.TXT 6.3.10 (central directory 4.3.12, zip64 4.3.14). The `zip` crate reads
//! the central directory entry by entry, so that its memory does not grow with their number;
//! libdeflate inflates.

use std::io::Cursor;

use ::zip::read::{ArchiveOffset, Config, ZipFileEntry};
use ::zip::unstable::read::ZipIterable;
use ::zip::{CompressionMethod, HasZipMetadata};
use libdeflater::{DecompressionError, Decompressor};

use super::ArchiveError;

/// What every SQLite database begins with. Source: SQLite, "Database File Format", section 1.3.1.
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// Length of the header of an SQLite database: nothing shorter is one.
const SQLITE_HEADER_BYTES: u64 = 100;

/// How much an archive may ask for. The defaults are far above what real archives need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file as it is on disk.
    pub file_bytes: u64,
    /// Bytes of the database in it.
    pub database_bytes: u64,
    /// Bytes of the database per byte of its compressed form.
    pub ratio: u64,
    /// A database of up to this many bytes may have any ratio.
    pub any_ratio_bytes: u64,
    /// Entries of the zip, whatever they are.
    pub entries: usize,
}

impl Limits {
    /// The limits that the program works with.
    ///
    /// Real archives have some 10 to 80 MB, and inflate about 4-fold, into memory.
    pub const DEFAULT: Self = Self {
        file_bytes: 1 << 30,
        database_bytes: 2 << 30,
        ratio: 200,
        any_ratio_bytes: 64 << 20,
        entries: 1_000,
    };
}

/// A database as it lies in a file, its declared length checked against the limits, its content not yet.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    /// The bytes in the file.
    bytes: &'a [u8],
    /// Deflated, or stored as they are.
    deflated: bool,
    /// Declared length of the database.
    len: usize,
    /// Declared CRC-32 of the database, where the file declares one.
    crc32: Option<u32>,
}

impl<'a> Packed<'a> {
    /// Finds the database in `file`: the only `.db` entry of a zip, or the file itself.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Broken`] where there is no such entry, or several, or one that is encrypted, cut off,
    /// compressed by anything but deflate, or beyond `limits`.
    pub fn find(file: &'a [u8], limits: &Limits) -> Result<Self, ArchiveError> {
        if file.len() as u64 > limits.file_bytes {
            return Err(broken(format!("the file has more than {} bytes", limits.file_bytes)));
        }
        let (packed, declared) = if file.starts_with(SQLITE_MAGIC) {
            (Self { bytes: file, deflated: false, len: file.len(), crc32: None }, file.len() as u64)
        } else {
            let entry = database_entry(file, limits)?;
            (Self::of_entry(file, &entry)?, entry.size())
        };
        packed.check_declared_length(declared, limits)?;
        Ok(packed)
    }

    fn of_entry(file: &'a [u8], entry: &ZipFileEntry<'_>) -> Result<Self, ArchiveError> {
        if entry.encrypted() {
            return Err(broken("the .db entry is encrypted"));
        }
        let deflated = match entry.compression() {
            CompressionMethod::Stored => false,
            // Of the `zip` crate built without decompressors, the number is all there is of a method.
            method if method == CompressionMethod::DEFLATE => true,
            method => {
                return Err(broken(format!("the .db entry has the unsupported compression method {method}")));
            }
        };
        let start = entry.get_metadata().data_start(&mut Cursor::new(file)).map_err(invalid)?;
        let bytes = start
            .checked_add(entry.compressed_size())
            .and_then(|end| file.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?))
            .ok_or_else(|| broken("the .db entry is cut off"))?;
        let len =
            usize::try_from(entry.size()).map_err(|_| broken("the .db entry has an impossible size"))?;
        Ok(Self { bytes, deflated, len, crc32: Some(entry.crc32()) })
    }

    fn check_declared_length(&self, declared: u64, limits: &Limits) -> Result<(), ArchiveError> {
        let ratio_limit = (self.bytes.len() as u64).saturating_mul(limits.ratio).max(limits.any_ratio_bytes);
        if declared < SQLITE_HEADER_BYTES {
            Err(broken("the database is too short to be one of SQLite"))
        } else if declared > limits.database_bytes {
            Err(broken(format!("the database has {declared} bytes, more than {}", limits.database_bytes)))
        } else if declared > ratio_limit {
            Err(broken(format!("the database is more than {} times its compressed size", limits.ratio)))
        } else {
            Ok(())
        }
    }

    /// Length of the database in bytes, as declared: what [`Packed::unpack_into`] wants.
    ///
    /// Never 0, since nothing without a header is a database.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Writes the database into `out`, which must have [`Packed::len`] bytes.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Broken`] where the content is not of the declared length or CRC-32, or no SQLite
    /// database. What is in `out` then is of no use.
    pub fn unpack_into(&self, inflater: &mut Decompressor, out: &mut [u8]) -> Result<(), ArchiveError> {
        let length = if self.deflated {
            inflater.deflate_decompress(self.bytes, out).map_err(|error| match error {
                DecompressionError::InsufficientSpace => broken("the .db entry is longer than it declares"),
                DecompressionError::BadData => broken("the .db entry is no valid deflate stream"),
            })?
        } else if self.bytes.len() == out.len() {
            out.copy_from_slice(self.bytes);
            out.len()
        } else {
            self.bytes.len()
        };
        if length != self.len || out.len() != self.len {
            return Err(broken("the .db entry is not as long as it declares"));
        }
        if self.crc32.is_some_and(|declared| declared != libdeflater::crc32(out)) {
            return Err(broken("the CRC-32 of the .db entry is wrong"));
        }
        if !out.starts_with(SQLITE_MAGIC) {
            return Err(broken("the .db entry is no SQLite database"));
        }
        Ok(())
    }
}

/// The only entry whose name ends in `.db`. Other entries are of no interest, and names of no other use.
fn database_entry(file: &[u8], limits: &Limits) -> Result<ZipFileEntry<'static>, ArchiveError> {
    // A known offset keeps the crate from searching the file for the start of the archive.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut zip = ZipIterable::try_new(Cursor::new(file), config).map_err(invalid)?;
    if zip.len() > limits.entries {
        return Err(broken(format!("the zip has {} entries, more than {}", zip.len(), limits.entries)));
    }
    let mut found = None;
    for entry in zip.files().map_err(invalid)? {
        let entry = entry.map_err(invalid)?;
        if entry.name_raw().ends_with(b".db") && found.replace(entry).is_some() {
            return Err(broken("the zip has several .db entries"));
        }
    }
    found.ok_or_else(|| broken("the zip has no .db entry"))
}

fn broken(defect: impl Into<String>) -> ArchiveError {
    ArchiveError::broken(defect)
}

fn invalid(error: ::zip::result::ZipError) -> ArchiveError {
    broken(format!("not a valid zip: {error}"))
}

#[cfg(test)]
mod tests;
