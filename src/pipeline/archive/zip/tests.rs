//! Zips that are whole, and zips that lie, are cut off or ask for too much.

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
    assert_broken(unpack_within(&bomb, &Limits { any_ratio_bytes: 1 << 20, ..Limits::DEFAULT }), "200 times");
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
