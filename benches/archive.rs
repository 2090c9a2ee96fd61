//! Reads an archive: unzip, open, scan. Throughput is in bytes of the database.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark panics on errors")]

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use libdeflater::Decompressor;
use megastream_ingest::pipeline::archive::{
    ALL_ROWS, ArchiveBuffers, ArchiveError, ArchiveLimits, Database, Packed,
};
use megastream_ingest::pipeline::archive::{Field, Row};

#[path = "support/archives.rs"]
mod archives;

const ROWS: u32 = 1_500;

fn length(field: Field<'_>) -> usize {
    if let Field::Text(text) = field { text.len() } else { 0 }
}

/// Returns the number of bytes in all four columns of all rows.
fn scan(database: &Database) -> Result<usize, ArchiveError> {
    let mut bytes = 0;
    database.for_each_row(&ALL_ROWS, |row: &Row<'_>| {
        bytes += [row.at_uri, row.did, row.raw_post, row.inferences].map(length).iter().sum::<usize>();
        ControlFlow::Continue(())
    })?;
    Ok(bytes)
}

fn open(file: &[u8], buffers: &mut ArchiveBuffers) -> Result<Database, ArchiveError> {
    Database::open(&Arc::new(buffers.unpack(file)?))
}

fn ids(database: &Database) -> Result<i64, ArchiveError> {
    let mut sum = 0;
    database.for_each_id(|id, _| {
        sum += id;
        ControlFlow::Continue(())
    })?;
    Ok(sum)
}

fn benches(criterion: &mut Criterion) {
    let file = archives::archive(ROWS).expect("an archive");
    let mut inflater = Decompressor::new();
    let mut buffers = ArchiveBuffers::new();
    let packed = Packed::find(&file, &ArchiveLimits::DEFAULT).expect("a database");
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
