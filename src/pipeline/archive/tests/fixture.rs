//! Creates valid and damaged archives in memory, for the tests of this stage.

use std::io::{Cursor, Write};

use ::zip::write::SimpleFileOptions;
use ::zip::{CompressionMethod, ZipWriter};
use rusqlite::{Connection, MAIN_DB};

/// A table as in real archives, with three rows.
pub(in crate::pipeline::archive) const THREE_ROWS: &str = "
    CREATE TABLE enriched_posts (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at_uri TEXT, did TEXT, time_us INTEGER, raw_post TEXT, inferences TEXT,
        created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
    CREATE INDEX idx_at_uri ON enriched_posts(at_uri);
    INSERT INTO enriched_posts (at_uri, did, raw_post, inferences, created_at) VALUES
        ('at://a', 'did:a', '{\"a\":1}', '{}', '2025-10-30 12:34:56'),
        ('at://b', 'did:b', '{\"b\":1}', '{}', '2025-10-30 12:34:58'),
        ('at://c', 'did:c', '{\"c\":1}', '{}', '2025-10-30 12:34:57');";

/// Returns the bytes of a database created by `sql`.
pub(in crate::pipeline::archive) fn database(sql: &str) -> Vec<u8> {
    let mut connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(sql).unwrap();
    connection.serialize(MAIN_DB).unwrap().to_vec()
}

/// Creates a zip with these entries, deflated.
pub(in crate::pipeline::archive) fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    zip_by(CompressionMethod::Deflated, entries)
}

/// Creates a zip with these entries, compressed by `method`.
pub(in crate::pipeline::archive) fn zip_by(method: CompressionMethod, entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        writer.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Overwrites bytes of the first header in the central directory, `at` bytes after its start.
pub(in crate::pipeline::archive) fn patch_central_header(zip: &mut [u8], at: usize, bytes: &[u8]) {
    let header = zip.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    zip[header + at..header + at + bytes.len()].copy_from_slice(bytes);
}
