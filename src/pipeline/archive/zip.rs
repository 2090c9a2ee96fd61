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
mod tests {
    use super::super::fixture::{THREE_ROWS, database, patch_central_header, zip, zip_by};
    use super::*;

    /// Offsets of fields in a header of the central directory. Source: APPNOTE, section 4.3.12.
    const FLAGS: usize = 8;
    const METHOD: usize = 10;
    const CRC: usize = 16;
    const COMPRESSED_SIZE: usize = 20;
    const SIZE: usize = 24;
    const HEADER_OFFSET: usize = 42;

    fn unpack(file: &[u8]) -> Result<Vec<u8>, ArchiveError> {
        unpack_within(file, &Limits::DEFAULT)
    }

    fn unpack_within(file: &[u8], limits: &Limits) -> Result<Vec<u8>, ArchiveError> {
        let packed = Packed::find(file, limits)?;
        let mut out = vec![0; packed.len()];
        packed.unpack_into(&mut Decompressor::new(), &mut out)?;
        Ok(out)
    }

    #[track_caller]
    fn assert_broken(result: Result<Vec<u8>, ArchiveError>, words: &str) {
        match result {
            Err(ArchiveError::Broken(text)) if text.contains(words) => {}
            other => panic!("not broken by {words:?}: {:?}", other.map(|database| database.len())),
        }
    }

    /// A zip of a small database, with bytes of the entry's central header overwritten.
    fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut file = zip(&[("a.db", &database(THREE_ROWS))]);
        patch_central_header(&mut file, at, bytes);
        file
    }

    #[test]
    fn a_deflated_a_stored_and_a_bare_database_unpack_to_the_same() {
        let database = database(THREE_ROWS);
        for file in [
            zip(&[("a.db", &database)]),
            zip_by(CompressionMethod::Stored, &[("a.db", &database)]),
            database.clone(),
        ] {
            assert!(unpack(&file).unwrap() == database);
        }
    }

    #[test]
    fn entries_that_are_no_database_and_folders_in_names_do_not_matter() {
        let database = database(THREE_ROWS);
        let file = zip(&[("README.txt", b"hello"), ("../../etc/a.db", &database), ("a.db-wal", b"")]);
        assert!(unpack(&file).unwrap() == database);
    }

    #[test]
    fn a_zip_without_a_db_entry_and_one_with_several_are_broken() {
        let database = database(THREE_ROWS);
        assert_broken(unpack(&zip(&[])), "no .db entry");
        assert_broken(unpack(&zip(&[("a.txt", &database)])), "no .db entry");
        assert_broken(unpack(&zip(&[("a.db", &database), ("b.db", &database)])), "several .db entries");
    }

    #[test]
    fn a_file_that_is_no_zip_is_broken() {
        assert_broken(unpack(b""), "not a valid zip");
        assert_broken(unpack(&[0; 5_000]), "not a valid zip");
        assert_broken(unpack(b"<html>503 Service Unavailable</html>"), "not a valid zip");
    }

    #[test]
    fn a_zip_truncated_anywhere_is_broken() {
        let file = zip(&[("a.db", &database(THREE_ROWS))]);
        for length in 0..file.len() {
            assert!(matches!(unpack(&file[..length]), Err(ArchiveError::Broken(_))), "length {length}");
        }
    }

    #[test]
    fn an_encrypted_entry_is_broken() {
        assert_broken(unpack(&patched(FLAGS, &[1])), "encrypted");
    }

    #[test]
    fn an_entry_of_another_compression_method_is_broken() {
        assert_broken(unpack(&patched(METHOD, &[93])), "unsupported compression method");
    }

    #[test]
    fn a_size_that_lies_is_broken() {
        let size = database(THREE_ROWS).len() as u32;
        assert_broken(unpack(&patched(SIZE, &(size - 1).to_le_bytes())), "longer than it declares");
        assert_broken(unpack(&patched(SIZE, &(size + 1).to_le_bytes())), "not as long as it declares");
        assert_broken(unpack(&patched(COMPRESSED_SIZE, &5u32.to_le_bytes())), "no valid deflate stream");
        assert_broken(unpack(&patched(COMPRESSED_SIZE, &(1u32 << 30).to_le_bytes())), "cut off");

        let mut stored = zip_by(CompressionMethod::Stored, &[("a.db", &database(THREE_ROWS))]);
        patch_central_header(&mut stored, SIZE, &(size - 1).to_le_bytes());
        assert_broken(unpack(&stored), "not as long as it declares");
    }

    #[test]
    fn a_wrong_crc_is_broken() {
        assert_broken(unpack(&patched(CRC, &[0; 4])), "CRC-32");
    }

    #[test]
    fn a_header_offset_outside_of_the_file_is_broken() {
        assert_broken(unpack(&patched(HEADER_OFFSET, &[0xfe, 0xff, 0xff, 0xff])), "not a valid zip");
    }

    #[test]
    fn an_entry_that_is_no_database_is_broken() {
        assert_broken(unpack(&zip(&[("a.db", b"")])), "too short");
        assert_broken(unpack(&zip(&[("a.db", &[0; 4_096])])), "no SQLite database");
    }

    #[test]
    fn a_declared_size_beyond_the_limit_is_refused_before_anything_is_allocated() {
        assert_broken(unpack(&patched(SIZE, &0xffff_fffeu32.to_le_bytes())), "more than 2147483648");
    }

    #[test]
    fn a_bomb_is_refused_by_its_ratio_unless_it_is_small() {
        let bomb = zip(&[("a.db", &vec![0; 4 << 20])]);
        assert_broken(
            unpack_within(&bomb, &Limits { any_ratio_bytes: 1 << 20, ..Limits::DEFAULT }),
            "200 times",
        );
        assert_broken(unpack(&bomb), "no SQLite database");
    }

    #[test]
    fn a_file_beyond_the_limit_is_broken() {
        let limits = Limits { file_bytes: 100, ..Limits::DEFAULT };
        assert_broken(unpack_within(&[0; 101], &limits), "more than 100 bytes");
    }

    #[test]
    fn too_many_entries_are_refused_by_their_declared_number() {
        let names: Vec<_> = (0..30_000).map(|n| n.to_string()).collect();
        let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"".as_slice())).collect();
        let file = zip_by(CompressionMethod::Stored, &entries);
        assert_broken(unpack(&file), "30000 entries");
    }

    #[test]
    fn many_false_ends_of_the_central_directory_cost_no_time() {
        let mut file = vec![0; 16 << 20];
        let end = b"PK\x05\x06\0\0\0\0\x01\0\x01\0\xff\xff\0\0\x00\0\0\0\0\0";
        let start = file.len() - 65_000;
        file[start..].chunks_exact_mut(end.len()).for_each(|place| place.copy_from_slice(end));
        let begin = std::time::Instant::now();
        assert_broken(unpack(&file), "not a valid zip");
        assert!(begin.elapsed().as_secs() < 5);
    }
}
