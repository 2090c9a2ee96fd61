//! The whole path of a run, by number of workers: archives in a folder, HTTP, and a far end that answers at once.

use std::error::Error;
use std::fs;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use megastream_ingest::cli::Cli;
use megastream_ingest::config::Config;
use megastream_ingest::exit::ExitCode;
use megastream_ingest::run::run;
use megastream_ingest::shutdown::Stop;

#[path = "support/sink.rs"]
mod sink;

fn ingest(url: &str, state: &str, workers: usize, vectors: &str) -> Result<ExitCode, Box<dyn Error>> {
    // A run starts anew, without what the one before has marked.
    let _ = fs::remove_file(state);
    let cli = Cli {
        paths: vec![concat!(env!("CARGO_MANIFEST_DIR"), "/test_data/archives").into()],
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
    let url = sink::start(Arc::default()).unwrap_or_default();
    let Ok(folder) = tempfile::tempdir() else { return };
    let state = folder.path().join("state.json").to_string_lossy().into_owned();
    let mut group = criterion.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(59)).sample_size(20);
    for vectors in ["array", "base64"] {
        for workers in [1, 2] {
            group.bench_function(format!("{vectors}, {workers} workers/rows"), |bencher| {
                bencher.iter(|| {
                    let ended = ingest(&url, &state, workers, vectors);
                    // One of the two archives has odd rows. Anything else would not be the run to measure.
                    assert!(matches!(ended, Ok(ExitCode::DoneWithRejects)), "{ended:?}");
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
