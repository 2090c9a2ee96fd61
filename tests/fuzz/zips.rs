//! Bytes of zip files, around the database.

use std::io::{Cursor, Write};

use megastream_ingest::pipeline::archive::{ArchiveLimits, Packed};
use zip::CompressionMethod::{Deflated, Stored};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::databases::{database, is_readable};
use super::harness::fuzz;
use super::mutation::{Format, words};

/// The signatures of zip structures. Source: APPNOTE.TXT 6.3.10, section 4.3.
const SIGNATURES: [&[u8; 4]; 6] =
    [b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x07\x08"];

#[test]
fn zips() {
    let database = database(512, "CREATE TABLE posts (at_uri, did, raw_post, inferences)", 3);
    let plain = SimpleFileOptions::default();
    let zip = |entries: &[(&str, SimpleFileOptions, &[u8])]| {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, options, content) in entries {
            writer.start_file(*name, *options).unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    };
    let deflated = plain.compression_method(Deflated);
    let stored = plain.compression_method(Stored);
    let mut streamed = ZipWriter::new_stream(Vec::new());
    streamed.start_file("s.db", deflated).unwrap();
    streamed.write_all(&database).unwrap();
    let format = Format {
        bases: vec![
            zip(&[("a.db", deflated, &database)]),
            zip(&[("a.db", stored, &database)]),
            zip(&[("a.db", deflated.large_file(true), &database)]),
            zip(&[("README", stored, b"hello"), ("dir/a.db", deflated, &database), ("b", deflated, b"")]),
            zip(&[("a.db", deflated, &database), ("b.db", deflated, &database)]),
            zip(&[("a.db", deflated, b""), ("b.db", stored, b"no database"), ("c.db", deflated, &database)]),
            zip(&[
                ("__MACOSX/._a.db", deflated, &database),
                ("Thumbs.db", stored, b"x"),
                ("a.db", deflated, &database),
            ]),
            zip(&[
                ("a.db", deflated, &database),
                ("a.db-wal", deflated, b"x"),
                ("a.db-journal", stored, b""),
            ]),
            zip(&[("a.db", deflated, &vec![0; 1 << 20])]),
            zip(&[]),
            streamed.finish().unwrap().into_inner(),
            database.clone(),
        ],
        words: [
            SIGNATURES.map(|signature| signature.to_vec()).to_vec(),
            words(&["a.db", "-wal", "-journal", "__MACOSX/", "._", "\0", "../", "\x01\0"]),
        ]
        .concat(),
        fields,
    };
    fuzz("zip", &format, |bytes| {
        if let Ok(packed) = Packed::find(bytes, &ArchiveLimits::DEFAULT) {
            let most = (bytes.len() as u64 * ArchiveLimits::DEFAULT.ratio)
                .max(ArchiveLimits::DEFAULT.any_ratio_bytes);
            assert!(packed.len() as u64 <= most);
        }
        is_readable(bytes)
    });
}

/// The first bytes of every structure; its fields are within 56 bytes.
fn fields(bytes: &[u8]) -> Vec<usize> {
    let starts = bytes.windows(4).enumerate().filter(|(_, window)| SIGNATURES.iter().any(|s| window == s));
    starts.flat_map(|(at, _)| at + 4..at + 56).collect()
}
