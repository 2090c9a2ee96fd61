//! From a file to its rows: unzip, open, scan. Throughput is in bytes of the database.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a bench has nobody to hand an error to")]

use std::error::Error;
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::{Cursor, Write as _};
use std::ops::ControlFlow;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use libdeflater::Decompressor;
use megastream_ingest::pipeline::archive::{ALL_ROWS, ArchiveError, Buffers, Database, Limits, Packed};
use megastream_ingest::pipeline::decode::{Field, Row};
use rusqlite::{Connection, MAIN_DB};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const ROWS: u32 = 1_500;

/// The alphabet of RFC 1924, in which archives hold their vectors.
const BASE85: &[u8] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

/// An archive of the size and entropy of real ones: 30 KB a row, which deflate to a quarter.
fn archive() -> Result<Vec<u8>, Box<dyn Error>> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut database = Connection::open_in_memory()?;
    database.execute_batch(
        "CREATE TABLE enriched_posts (id INTEGER PRIMARY KEY AUTOINCREMENT, at_uri TEXT, did TEXT,
            raw_post TEXT, inferences TEXT, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
         CREATE INDEX idx_at_uri ON enriched_posts(at_uri);
         BEGIN",
    )?;
    for row in 0..ROWS {
        let at_uri = format!("at://did:plc:{row:024}/app.bsky.feed.post/{row:013}");
        let mut inferences = r#"{"text_embeddings": {"all-MiniLM-L6-v2": ""#.to_owned();
        inferences.extend((0..4_500).map(|_| char::from(BASE85[random.usize(..BASE85.len())])));
        inferences.push_str(r#""}, "topic": {"#);
        for label in 0..260 {
            write!(inferences, r#""Arbitrary class {label}": {:.8}, "#, random.f64())?;
        }
        inferences.push_str(r#""other": 0}}"#);
        let raw_post = format!(
            r#"{{"message": {{"kind": "commit"}}, "at_uri": "{at_uri}", "inferences": {inferences}}}"#
        );
        database.execute(
            "INSERT INTO enriched_posts (at_uri, did, raw_post, inferences) VALUES (?1, 'did:plc:x', ?2, ?3)",
            (&at_uri, &raw_post, &inferences),
        )?;
    }
    database.execute_batch("COMMIT")?;
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file("bench.db", SimpleFileOptions::default())?;
    writer.write_all(&database.serialize(MAIN_DB)?)?;
    Ok(writer.finish()?.into_inner())
}

fn length(field: Field<'_>) -> usize {
    if let Field::Text(text) = field { text.len() } else { 0 }
}

/// Bytes of all four columns of all rows.
fn scan(database: &Database) -> Result<usize, ArchiveError> {
    let mut bytes = 0;
    database.for_each_row(&ALL_ROWS, |row: &Row<'_>| {
        bytes += [row.at_uri, row.did, row.raw_post, row.inferences].map(length).iter().sum::<usize>();
        ControlFlow::Continue(())
    })?;
    Ok(bytes)
}

fn open(file: &[u8], buffers: &mut Buffers) -> Result<Database, ArchiveError> {
    Database::open(&Arc::new(buffers.unpack(file)?))
}

fn ids(database: &Database) -> Result<i64, ArchiveError> {
    let mut sum = 0;
    database.for_each_id(|id, _| sum += id)?;
    Ok(sum)
}

fn benches(criterion: &mut Criterion) {
    let file = archive().expect("an archive");
    let mut inflater = Decompressor::new();
    let mut buffers = Buffers::new();
    let packed = Packed::find(&file, &Limits::DEFAULT).expect("a database");
    println!("{ROWS} rows, {} bytes zipped, {} bytes inflated", file.len(), packed.len());

    let mut group = criterion.benchmark_group("archive");
    group.throughput(Throughput::Bytes(packed.len() as u64)).sample_size(30);
    let mut out = vec![0; packed.len()];
    group.bench_function("inflate_only", |bencher| {
        bencher.iter(|| packed.unpack_into(&mut inflater, black_box(&mut out)));
    });
    group.bench_function("unzip_and_open", |bencher| {
        bencher.iter(|| open(black_box(&file), &mut buffers).map(drop));
    });
    let database = open(&file, &mut buffers).expect("a database");
    group.bench_function("scan_rows", |bencher| bencher.iter(|| scan(&database)));
    group.bench_function("scan_ids", |bencher| bencher.iter(|| ids(&database)));
    group.bench_function("unzip_open_scan", |bencher| {
        bencher.iter(|| open(black_box(&file), &mut buffers).and_then(|database| scan(&database)));
    });
    group.finish();
}

criterion_group!(archive_benches, benches);
criterion_main!(archive_benches);
