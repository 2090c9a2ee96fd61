//! Measures whole runs by number of workers: archives in a folder, sent over HTTP to a sink that only counts.

#![expect(clippy::expect_used, reason = "a benchmark panics on errors")]

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use megastream_ingest::cli::Cli;
use megastream_ingest::common::exit::ExitCode;
use megastream_ingest::config::Config;
use megastream_ingest::process::shutdown::Stop;
use megastream_ingest::run::run;
use tempfile::TempDir;

#[path = "support/archives.rs"]
mod archives;
#[path = "support/sink.rs"]
mod sink;

/// Number of archives.
const ARCHIVES: usize = 4;
/// Number of rows per archive.
const ROWS: u32 = 500;

/// Creates a folder with the archives.
fn folder() -> Result<TempDir, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let archive = archives::archive(ROWS)?;
    for n in 0..ARCHIVES {
        fs::write(folder.path().join(format!("mega_jetstream_20251218_00{n:02}00.db.zip")), &archive)?;
    }
    Ok(folder)
}

fn ingest(
    folder: &Path,
    url: &str,
    state: &str,
    workers: usize,
    vectors: &str,
) -> Result<ExitCode, Box<dyn Error>> {
    // Each run loads all archives again.
    let _ = fs::remove_file(state);
    let cli = Cli {
        paths: vec![folder.to_string_lossy().into_owned()],
        workers: Some(workers.to_string()),
        vector_encoding: Some(vectors.into()),
        dead_letter: Some(format!("{state}.dead_letters")),
        ..Cli::default()
    };
    let environment = |name: &str| match name {
        "ELASTICSEARCH_URL" => Some(url.to_owned()),
        "ELASTICSEARCH_API_KEY" => Some("key".to_owned()),
        "SPOOL_STATE_FILE" => Some(state.to_owned()),
        _ => None,
    };
    Ok(run(&Config::resolve(cli, &environment)?, &Stop::new()))
}

fn pipeline(criterion: &mut Criterion) {
    let url = sink::start(Arc::default()).expect("a far end");
    let folder = folder().expect("a folder of archives");
    let state = folder.path().join("state.json").to_string_lossy().into_owned();
    let rows = Throughput::Elements(ARCHIVES as u64 * u64::from(ROWS));
    let files = fs::read_dir(folder.path()).expect("the folder").flatten();
    let bytes = Throughput::Bytes(files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum());
    for (unit, throughput) in [("rows", rows), ("bytes", bytes)] {
        let mut group = criterion.benchmark_group(format!("pipeline/{unit}"));
        group.throughput(throughput).sample_size(10).sampling_mode(SamplingMode::Flat);
        for vectors in ["array", "base64"] {
            for workers in [1, 2, 4] {
                group.bench_function(format!("{vectors}/{workers}"), |bencher| {
                    bencher.iter(|| {
                        let ended = ingest(folder.path(), &url, &state, workers, vectors);
                        // The time of a failed run means nothing.
                        assert!(matches!(ended, Ok(ExitCode::Done)), "{ended:?}");
                    });
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
