//! Finds the database in a zip, its only `.db` entry, without trusting the zip, and inflates it into memory.
//!
//! The `zip` crate reads the central directory entry by entry, so its memory does not grow with their number. libdeflate
//! inflates. Source: PKWARE's APPNOTE.TXT 6.3.10 (central directory 4.3.12, zip64 4.3.14).

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};

use ::zip::read::{ArchiveOffset, Config, ZipFileEntry};
use ::zip::unstable::read::ZipIterable;
use ::zip::{CompressionMethod, HasZipMetadata};
use libdeflater::{DecompressionError, Decompressor};

use self::invalid::{FIRST_ENTRY, QUOTED_BYTES, by_beginning, invalid};
use self::start::{begins_with, start};
use super::ArchiveError;
use crate::model::is_metadata_file;

mod invalid;
mod start;

/// The first bytes of every SQLite database. Source: SQLite, "Database File Format", section 1.3.1.
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// Length of an SQLite database header, in bytes. Anything shorter is not a database.
const SQLITE_HEADER_BYTES: u64 = 100;

/// Size of a buffer, in bytes, that can always hold the inflated [`SQLITE_MAGIC`]: the longest stored block of a deflate
/// stream has 65,535 bytes.
const BEGINNING_BYTES: usize = (64 << 10) + SQLITE_MAGIC.len();

/// Maximum length of an entry's name in messages, in characters.
const MAX_NAME_CHARS: usize = 200;

/// The limits of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// The largest file, in bytes.
    pub file_bytes: u64,
    /// The largest database, in bytes.
    pub database_bytes: u64,
    /// The largest ratio of the database to its compressed form.
    pub ratio: u64,
    /// The largest database that may have any ratio, in bytes.
    pub any_ratio_bytes: u64,
    /// The largest number of entries in the zip, of any kind.
    pub entries: usize,
}

impl ArchiveLimits {
    /// The limits that the program uses, far above what real archives need: 10 to 80 MB, inflated about 4-fold.
    pub const DEFAULT: Self = Self {
        file_bytes: 1 << 30,
        database_bytes: 2 << 30,
        ratio: 200,
        any_ratio_bytes: 64 << 20,
        entries: 1_000,
    };
}

/// A packed database in a file. Its declared length has been checked against the limits, its content has not.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    /// The stored bytes.
    bytes: &'a [u8],
    /// Whether they are deflated. If not, they are stored uncompressed.
    deflated: bool,
    /// The declared length of the database.
    len: usize,
    /// The declared CRC-32 of the database, if there is one.
    crc32: Option<u32>,
}

impl<'a> Packed<'a> {
    /// Finds the database in `file`: the `.db` entry of a zip, or the file itself. If there are several `.db` entries, only
    /// one may begin like an SQLite database.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Broken`] if there is no database or more than one, if a log holds changes that are not in the
    /// database, or if an entry is encrypted, cut off, compressed by anything but deflate, or beyond `limits`.
    pub fn find(file: &'a [u8], limits: &ArchiveLimits) -> Result<Self, ArchiveError> {
        if file.len() as u64 > limits.file_bytes {
            return Err(broken(format!("the file has more than {} bytes", limits.file_bytes)));
        }
        let packed = if is_bare(file) {
            Self { bytes: file, deflated: false, len: file.len(), crc32: None }
        } else {
            Self::in_zip(file, limits)?
        };
        check_declared_length(packed.bytes.len() as u64, packed.len as u64, limits)?;
        Ok(packed)
    }

    fn in_zip(file: &'a [u8], limits: &ArchiveLimits) -> Result<Self, ArchiveError> {
        let entries = Entries::of(Cursor::new(file), limits);
        let Entries { mut databases, logs, other } = entries.map_err(|error| by_beginning(error, file))?;
        if databases.len() > 1 {
            databases = databases_among(file, databases)?;
        }
        let Some(entry) = databases.first() else {
            let other = other.map(|name| format!(", but {:?}", shown(&name))).unwrap_or_default();
            return Err(broken(format!("the zip has no .db entry{other}")));
        };
        if let Some(log) = logs.first() {
            return Err(changes_beside("the zip holds", &shown(log)));
        }
        Self::of_entry(file, entry)
    }

    /// Whether the content begins like an SQLite database. Inflates only the beginning.
    fn has_magic(&self, inflater: &mut Decompressor) -> bool {
        if !self.deflated {
            return self.bytes.starts_with(SQLITE_MAGIC);
        }
        // Fails if the buffer is too small for the whole entry, but has written the beginning by then.
        let mut beginning = vec![0; BEGINNING_BYTES];
        let _ = inflater.deflate_decompress(self.bytes, &mut beginning);
        beginning.starts_with(SQLITE_MAGIC)
    }

    fn of_entry(file: &'a [u8], entry: &ZipFileEntry<'_>) -> Result<Self, ArchiveError> {
        if entry.encrypted() {
            return Err(broken("the .db entry is encrypted"));
        }
        let deflated = match entry.compression() {
            CompressionMethod::Stored => false,
            // The `zip` crate is built without decompressors, so it reports other methods as numbers.
            method if method == CompressionMethod::DEFLATE => true,
            method => {
                return Err(broken(format!(
                    "the .db entry has the unsupported compression method {method}: zip it again with deflate"
                )));
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

    /// Returns the declared length of the database, in bytes. Never 0, since a database has at least its header.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Unpacks the database into `out`, which must have [`Packed::len`] bytes.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Broken`] if the content does not have the declared length or CRC-32, or is not an SQLite database.
    /// The content of `out` is then undefined.
    pub fn unpack_into(&self, inflater: &mut Decompressor, out: &mut [u8]) -> Result<(), ArchiveError> {
        let length = if self.deflated {
            inflater.deflate_decompress(self.bytes, out).map_err(|error| match error {
                DecompressionError::InsufficientSpace => broken("the .db entry is longer than it declares"),
                DecompressionError::BadData => broken("the .db entry is not a valid deflate stream"),
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
            return Err(broken("the .db entry is not an SQLite database"));
        }
        Ok(())
    }
}

/// Refuses a declared length that is beyond the limits, `packed` being the compressed length.
fn check_declared_length(packed: u64, declared: u64, limits: &ArchiveLimits) -> Result<(), ArchiveError> {
    let ratio_limit = packed.saturating_mul(limits.ratio).max(limits.any_ratio_bytes);
    if declared < SQLITE_HEADER_BYTES {
        Err(broken("the database is too short for SQLite"))
    } else if declared > limits.database_bytes {
        Err(broken(format!("the database has {declared} bytes, more than {}", limits.database_bytes)))
    } else if declared > ratio_limit {
        Err(broken(format!("the database is more than {} times its compressed size", limits.ratio)))
    } else {
        Ok(())
    }
}

/// Returns the declared length of the database in a file: the largest of its `.db` entries. Reads only the zip's central
/// directory.
pub(super) fn declared(file: &File, length: u64, limits: &ArchiveLimits) -> Result<u64, ArchiveError> {
    let mut reader = BufReader::new(file);
    let mut beginning = Vec::new();
    Read::take(&mut reader, QUOTED_BYTES as u64)
        .read_to_end(&mut beginning)
        .map_err(ArchiveError::unreadable)?;
    if is_bare(&beginning) {
        return Ok(length);
    }
    let entries = Entries::of(reader, limits).map_err(|error| by_beginning(error, &beginning))?;
    // Entries beyond the limits are left out, since they are refused before anything is unpacked.
    let sizes = entries
        .databases
        .iter()
        .filter(|entry| check_declared_length(entry.compressed_size(), entry.size(), limits).is_ok());
    Ok(sizes.map(ZipFileEntry::size).max().unwrap_or(0))
}

/// Whether a file is a database itself and not a zip.
pub(super) fn is_bare(file: &[u8]) -> bool {
    file.starts_with(SQLITE_MAGIC)
}

/// Returns the error for a database with a `-wal` or `-journal` file. `beside` begins the text, and says where that is.
///
/// The changes in it cannot be read without writing to the database. Without this error, rows would be missing silently.
pub(super) fn changes_beside(beside: &str, log: &str) -> ArchiveError {
    broken(format!(
        "{beside} {log:?}, without which the database is incomplete: open it with sqlite3 in the folder of \
         both, run PRAGMA wal_checkpoint(TRUNCATE), and zip the database alone"
    ))
}

/// Refuses a downloaded bare database if there is a `log` beside it: the key of an object with changes that are not in the
/// database.
///
/// # Errors
///
/// [`ArchiveError::Broken`].
pub fn check_downloaded(file: &[u8], log: Option<&str>) -> Result<(), ArchiveError> {
    match log.filter(|_| is_bare(file)) {
        Some(log) => Err(changes_beside("there is also", log)),
        None => Ok(()),
    }
}

/// Suffixes of SQLite logs, which hold changes that are not in the database yet, or are to be undone.
pub const LOG_SUFFIXES: [&str; 2] = ["-wal", "-journal"];

/// The relevant entries of a zip.
#[derive(Default)]
struct Entries {
    /// Entries whose names end in `.db`.
    databases: Vec<ZipFileEntry<'static>>,
    /// Names of their non-empty logs.
    logs: Vec<Vec<u8>>,
    /// The name of the first other file.
    other: Option<Vec<u8>>,
}

/// Cuts the name of an entry for a message: it may have 64 KB.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(MAX_NAME_CHARS).collect()
}

impl Entries {
    fn of(mut file: impl Read + Seek, limits: &ArchiveLimits) -> Result<Self, ArchiveError> {
        let unreadable = |error: std::io::Error| invalid(error.into());
        let start = start(&mut file).map_err(unreadable)?;
        if start > 0 && begins_with(&mut file, 0, FIRST_ENTRY).map_err(unreadable)? {
            return Err(broken("the file has two zips, one after the other: divide it"));
        }
        // A known offset keeps the crate from searching the file for the start of the archive.
        let config = Config { archive_offset: ArchiveOffset::Known(start) };
        let mut zip = ZipIterable::try_new(file, config).map_err(invalid)?;
        if zip.len() > limits.entries {
            return Err(broken(format!("the zip has {} entries, more than {}", zip.len(), limits.entries)));
        }
        let mut entries = Self::default();
        for entry in zip.files().map_err(invalid)? {
            let entry = entry.map_err(invalid)?;
            if is_metadata_file(entry.name_raw()) {
                continue;
            }
            let name = entry.name_raw().to_ascii_lowercase();
            if name.ends_with(b".db") {
                entries.databases.push(entry);
            } else if entry.size() > 0 && is_log(&name) {
                entries.logs.push(entry.name_raw().to_vec());
            } else if entries.other.is_none() && !name.ends_with(b"/") {
                entries.other = Some(entry.name_raw().to_vec());
            }
        }
        Ok(entries)
    }
}

/// Whether an entry is a log of a `.db` entry, by its lower-case name.
fn is_log(name: &[u8]) -> bool {
    LOG_SUFFIXES
        .iter()
        .filter_map(|suffix| name.strip_suffix(suffix.as_bytes()))
        .any(|database| database.ends_with(b".db"))
}

/// Returns the only one of several `.db` entries that is a database.
fn databases_among(
    file: &[u8],
    entries: Vec<ZipFileEntry<'static>>,
) -> Result<Vec<ZipFileEntry<'static>>, ArchiveError> {
    let mut inflater = Decompressor::new();
    let mut databases = Vec::new();
    for entry in entries {
        // An entry that cannot be read is an error: it may be a database, whose rows would be missing silently.
        if Packed::of_entry(file, &entry)?.has_magic(&mut inflater) {
            databases.push(entry);
        }
    }
    match databases.len() {
        0 => Err(broken("the zip has several .db entries, and none is an SQLite database")),
        1 => Ok(databases),
        _ => {
            Err(broken("the zip has several .db entries that are databases: put each into a zip of its own"))
        }
    }
}

fn broken(defect: impl Into<String>) -> ArchiveError {
    ArchiveError::broken(defect)
}

#[cfg(test)]
mod tests;
