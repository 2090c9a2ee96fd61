//! Encodes posts as batches of bulk NDJSON, with vectors as arrays and as base64.

use std::borrow::Cow;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use megastream_ingest::config::BatchLimits;
use megastream_ingest::model::Names;
use megastream_ingest::model::{
    Action, ActionKind, Added, Archive, DIMENSIONS, Document, Dropped, Embeddings, Post, Vector, Version,
};
use megastream_ingest::sink::batch::Batcher;
use megastream_ingest::sink::elasticsearch::encode::VectorEncoding;
use megastream_ingest::sink::elasticsearch::encode::document::write_action;

const POSTS: usize = 1000;

/// Returns a random vector with values as in archives: small f16 widened to f32.
fn vector(rng: &mut fastrand::Rng) -> Vector {
    std::array::from_fn::<_, DIMENSIONS, _>(|_| {
        let value = (rng.f32() - 0.5) * 0.2;
        // An f16 has ten bits of fraction.
        f32::from_bits(value.to_bits() & !0x1fff)
    })
}

fn post(rng: &mut fastrand::Rng) -> Post<'static> {
    let text: String =
        (0..rng.usize(5..40)).map(|_| ["climate ", "写真 ", "\"quoted\" ", "🌱 "][rng.usize(..4)]).collect();
    Post {
        at_uri: "at://did:plc:abcdefghijklmnopqrstuvwx/app.bsky.feed.post/3lzmpbgksi22y",
        author_did: Cow::Borrowed("did:plc:abcdefghijklmnopqrstuvwx"),
        content: Cow::Owned(text),
        created_at: Some(1_766_016_000_123),
        thread_root_post: Some(Cow::Borrowed(
            "at://did:plc:abcdefghijklmnopqrstuvwx/app.bsky.feed.post/3lzmpaqh5x22y",
        )),
        thread_parent_post: None,
        quote_post: None,
        dropped: Dropped::default(),
        record: "",
        scores: "",
        added: Added::default(),
    }
}

fn encode(criterion: &mut Criterion) {
    let mut rng = fastrand::Rng::with_seed(11);
    let posts: Vec<(Post<'_>, Vector, Vector)> =
        (0..POSTS).map(|_| (post(&mut rng), vector(&mut rng), vector(&mut rng))).collect();
    let archive = Arc::new(Archive {
        name: "bench".into(),
        path: PathBuf::new(),
        seconds: Some(1_766_016_000),
        ..Archive::default()
    });
    let run = |vectors: VectorEncoding, docs: usize| -> usize {
        let limits = BatchLimits { docs, bytes: 8 << 20 };
        let mut batcher = Batcher::new(archive.clone(), limits, Vec::new());
        let (mut bytes, mut spare) = (0, Vec::new());
        for (row_id, (post, l12, l6)) in posts.iter().enumerate() {
            let embeddings = Embeddings {
                all_minilm_l12_v2: Some(l12),
                all_minilm_l6_v2: Some(l6),
                others: &[],
                dropped: Dropped::default(),
                dropped_others: &[],
                video: "",
            };
            let Some(version) = Version::new(1_766_016_000, row_id as i64) else { continue };
            let document = Document::Post { post, embeddings: &embeddings };
            let write = |body: &mut Vec<u8>, action: &Action| {
                write_action(body, Names::default(), action, &document, vectors, 1_766_016_000_000);
            };
            let next = || std::mem::take(&mut spare);
            if let Some(batch) =
                batcher.push(Action::new(ActionKind::Post, version, post.at_uri), write, next)
            {
                bytes += batch.body.len();
                spare = batch.body;
            }
        }
        bytes + batcher.finish().map_or(0, |batch| batch.body.len())
    };
    let mut group = criterion.benchmark_group("encode");
    for (name, vectors) in [("array", VectorEncoding::Array), ("base64", VectorEncoding::Base64)] {
        group.throughput(Throughput::Elements(POSTS as u64));
        group.bench_function(format!("{name}/rows"), |bencher| bencher.iter(|| black_box(run(vectors, 100))));
        group.throughput(Throughput::Bytes(run(vectors, 100) as u64));
        for docs in [10, 100, 1000] {
            group.bench_function(format!("{name}/bytes, {docs} a batch"), |bencher| {
                bencher.iter(|| black_box(run(vectors, docs)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
