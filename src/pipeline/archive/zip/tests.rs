//! Tests of good zips, and of those with wrong sizes, torn ones and bombs.

use super::super::tests::fixture::{THREE_ROWS, database, patch_central_header, zip, zip_by};
use super::*;

/// Offsets of fields in a header of the central directory. Source: APPNOTE, section 4.3.12.
const FLAGS: usize = 8;
const METHOD: usize = 10;
const CRC: usize = 16;
const COMPRESSED_SIZE: usize = 20;
const SIZE: usize = 24;
const HEADER_OFFSET: usize = 42;

fn unpack(file: &[u8]) -> Result<Vec<u8>, ArchiveError> {
    unpack_within(file, &ArchiveLimits::DEFAULT)
}

fn unpack_within(file: &[u8], limits: &ArchiveLimits) -> Result<Vec<u8>, ArchiveError> {
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

/// Creates a zip of a small database, and overwrites bytes of the entry's header in the central directory.
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
fn other_entries_and_folders_in_names_do_not_matter() {
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

/// Appends a comment to a zip that has none.
fn with_comment(mut file: Vec<u8>, comment: &[u8]) -> Vec<u8> {
    let length = file.len() - 2;
    file[length..].copy_from_slice(&(comment.len() as u16).to_le_bytes());
    [file.as_slice(), comment].concat()
}

/// Checks that a file holds this database, and that as much is declared for the file on disk.
#[track_caller]
fn assert_holds(file: &[u8], database: &[u8]) {
    assert!(unpack(file).unwrap() == database);
    let mut on_disk = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut on_disk, file).unwrap();
    on_disk.rewind().unwrap();
    let declared = super::declared(&on_disk, file.len() as u64, &ArchiveLimits::DEFAULT).unwrap();
    assert_eq!(declared, database.len() as u64);
}

#[test]
fn a_self_extracting_zip_is_read_behind_its_program() {
    let database = database(THREE_ROWS);
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let file = zip_by(method, &[("README", b"hello"), ("a.db", &database)]);
        for program in [&b"#!/bin/sh\nexec unzip $0\n"[..], &[0x7f; 100_000], b"PK\x05\x06", b"PK\x01\x02"] {
            assert_holds(&[program, &file].concat(), &database);
            assert_holds(&[program, &with_comment(file.clone(), b"self-extracting")].concat(), &database);
        }
    }
}

#[test]
fn a_comment_that_looks_like_the_end_of_a_zip_does_not_matter() {
    let database = database(THREE_ROWS);
    let file = zip(&[("a.db", &database)]);
    let own_end = file[file.len() - 22..].to_vec();
    for end in [&own_end, b"PK\x05\x06".as_slice(), b"PK\x05\x06, as every zip has at its end"] {
        for comment in [end.to_vec(), [b"made by ".as_slice(), end, b", and so on"].concat()] {
            assert_holds(&with_comment(file.clone(), &comment), &database);
            assert_holds(&[b"#!/bin/sh", &*with_comment(file.clone(), &comment)].concat(), &database);
        }
        // Bytes after the zip that belong to nothing.
        assert_holds(&[&file, end, b"\n"].concat(), &database);
    }
}

#[test]
fn two_zips_in_one_file_are_broken() {
    let [first, second] = ["a.db", "bb.db"].map(|name| zip(&[(name, &database(THREE_ROWS))]));
    for file in [[first.clone(), second].concat(), [first.clone(), first].concat()] {
        assert_broken(unpack(&file), "two zips");
    }
}

#[test]
fn metadata_files_in_a_zip_do_not_matter() {
    let database = database(THREE_ROWS);
    let file = zip(&[
        ("__MACOSX/", b""),
        ("__MACOSX/._a.db", &database),
        ("__MACOSX/._a.db-wal", b"xattr"),
        ("._b.db", &database),
        (".DS_Store", b"Bud1"),
        ("Thumbs.db", b"\xd0\xcf\x11\xe0"),
        ("thumbs.db", &database),
        ("a.db", &database),
    ]);
    assert!(unpack(&file).unwrap() == database);
    assert_broken(unpack(&zip(&[("__MACOSX/._a.db", &database), ("Thumbs.db", &database)])), "no .db entry");
}

#[test]
fn the_only_database_among_several_db_entries_counts() {
    let large = database(&format!("{THREE_ROWS} CREATE TABLE t AS SELECT randomblob(300000)"));
    let others: [(&str, &[u8]); 4] =
        [("b.db", b""), ("c.db", b"SQLite format"), ("d.db", b"SQLite format 2\0"), ("e.db", &[7; 200_000])];
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        for at in 0..=others.len() {
            let mut entries = others.to_vec();
            entries.insert(at, ("dir/a.DB", &large));
            assert!(unpack(&zip_by(method, &entries)).unwrap() == large, "{at}");
            entries.push(("f.db", &large));
            assert_broken(unpack(&zip_by(method, &entries)), "several .db entries that are databases");
        }
        assert_broken(unpack(&zip_by(method, &others)), "none is an SQLite database");
    }
}

#[test]
fn the_beginning_of_an_entry_is_recognized_however_it_was_deflated() {
    let database = database(&format!("{THREE_ROWS} CREATE TABLE t AS SELECT randomblob(300000)"));
    for level in 0..=12 {
        let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::new(level).unwrap());
        let mut bytes = vec![0; compressor.deflate_compress_bound(database.len())];
        let length = compressor.deflate_compress(&database, &mut bytes).unwrap();
        // Also after empty blocks: stored, and with fixed codes.
        for before in [&b""[..], b"\0\0\0\xff\xff\0\0\0\xff\xff"] {
            let bytes = [before, &bytes[..length]].concat();
            let packed = Packed { bytes: &bytes, deflated: true, len: database.len(), crc32: None };
            assert!(packed.has_magic(&mut Decompressor::new()), "level {level}");
        }
    }
}

#[test]
fn an_entry_that_cannot_be_read_may_be_a_database() {
    let database = database(THREE_ROWS);
    let mut file = zip(&[("a.db", &database), ("b.db", &database)]);
    patch_central_header(&mut file, FLAGS, &[1]);
    assert_broken(unpack(&file), "encrypted");
}

#[test]
fn a_database_with_a_log_beside_it_in_the_zip_is_broken() {
    let database = database(THREE_ROWS);
    for log in ["a.db-wal", "a.db-journal", "A.DB-WAL", "dir/b.db-wal"] {
        assert_broken(unpack(&zip(&[("a.db", &database), (log, b"x")])), "incomplete");
        assert!(unpack(&zip(&[(log, b""), ("a.db", &database), ("a.db-shm", b"x")])).unwrap() == database);
    }
    for other in ["a-wal", "notes-journal", "a.db.txt", "x.sqlite-wal"] {
        assert!(unpack(&zip(&[("a.db", &database), (other, b"x")])).unwrap() == database, "{other}");
    }
}

#[test]
fn a_file_that_is_not_a_zip_is_broken() {
    assert_broken(unpack(b""), "not a valid zip");
    assert_broken(unpack(&[0; 5_000]), "not a valid zip");
    assert_broken(unpack(b"<html>503 Service Unavailable</html>"), "not a valid zip");
}

#[test]
fn an_invalid_zip_is_described_by_its_beginning() {
    let file = zip(&[("a.db", &database(THREE_ROWS))]);
    for (file, words) in [
        (&b""[..], "the file is empty"),
        (b"\x1f\x8b\x08\0 and so on", "it is a gzip file: zip the database itself"),
        (b"\x28\xb5\x2f\xfd and so on", "it is a Zstandard file"),
        (
            b"<html>\n503 Service Unavailable",
            "it is a text that begins with \"<html>\\n503 Service Unavailable\"",
        ),
        (&file[..file.len() - 30], "its end is missing"),
        (&[0; 5_000], "it begins with zeros"),
    ] {
        assert_broken(unpack(file), words);
        // As for a file on disk, of which only a part is read.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db.zip");
        std::fs::write(&path, file).unwrap();
        let declared =
            super::declared(&File::open(path).unwrap(), file.len() as u64, &ArchiveLimits::DEFAULT);
        assert!(matches!(&declared, Err(ArchiveError::Broken(why)) if why.contains(words)), "{declared:?}");
    }
}

#[test]
fn a_zip_truncated_anywhere_is_broken() {
    let file = zip(&[("a.db", &database(THREE_ROWS))]);
    for length in 0..file.len() {
        let Err(ArchiveError::Broken(why)) = unpack(&file[..length]) else { panic!("length {length}") };
        assert!(length < FIRST_ENTRY.len() || why.contains("its end is missing"), "length {length}: {why}");
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
fn a_wrong_size_is_broken() {
    let size = database(THREE_ROWS).len() as u32;
    assert_broken(unpack(&patched(SIZE, &(size - 1).to_le_bytes())), "longer than it declares");
    assert_broken(unpack(&patched(SIZE, &(size + 1).to_le_bytes())), "not as long as it declares");
    assert_broken(unpack(&patched(COMPRESSED_SIZE, &5u32.to_le_bytes())), "not a valid deflate stream");
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
fn an_entry_that_is_not_a_database_is_broken() {
    assert_broken(unpack(&zip(&[("a.db", b"")])), "too short");
    assert_broken(unpack(&zip(&[("a.db", &[0; 4_096])])), "not an SQLite database");
}

#[test]
fn a_declared_size_beyond_the_limit_is_refused_before_anything_is_allocated() {
    assert_broken(unpack(&patched(SIZE, &0xffff_fffeu32.to_le_bytes())), "more than 2147483648");
}

#[test]
fn a_bomb_is_refused_by_its_ratio_unless_it_is_small() {
    let bomb = zip(&[("a.db", &vec![0; 4 << 20])]);
    assert_broken(
        unpack_within(&bomb, &ArchiveLimits { any_ratio_bytes: 1 << 20, ..ArchiveLimits::DEFAULT }),
        "200 times",
    );
    assert_broken(unpack(&bomb), "not an SQLite database");
}

#[test]
fn a_file_beyond_the_limit_is_broken() {
    let limits = ArchiveLimits { file_bytes: 100, ..ArchiveLimits::DEFAULT };
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
fn many_false_ends_of_the_central_directory_take_no_time() {
    let mut file = vec![0; 16 << 20];
    let end = b"PK\x05\x06\0\0\0\0\x01\0\x01\0\xff\xff\0\0\x00\0\0\0\0\0";
    let start = file.len() - 65_000;
    file[start..].chunks_exact_mut(end.len()).for_each(|place| place.copy_from_slice(end));
    let begin = std::time::Instant::now();
    assert_broken(unpack(&file), "not a valid zip");
    assert!(begin.elapsed().as_secs() < 5);
}
