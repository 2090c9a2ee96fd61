//! Decodes rows: JSON, embeddings, and both together. Throughput is in bytes of column text.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fastrand::Rng;
use libdeflater::{CompressionLvl, Compressor};
use megastream_ingest::common::timestamp;
use megastream_ingest::pipeline::archive::{Field, Row};
use megastream_ingest::pipeline::decode::json::Cursor;
use megastream_ingest::pipeline::decode::{EmbeddingDecoder, Verdict, classify};
use serde::de::IgnoredAny;

/// Number of rows: more than fit into a core's caches.
const ROWS: usize = 200;

/// The texts of a row, similar to real ones: ASCII-escaped JSON as Python writes it, about 20 KB and 14 KB.
struct Texts {
    raw_post: String,
    inferences: String,
}

impl Texts {
    fn row(&self) -> Row<'_> {
        Row {
            id: 1,
            at_uri: Field::Text(b"at://did:plc:abcdefghijklmnopqrstuvwx/app.bsky.feed.post/3m4abcdefgh2a"),
            did: Field::Text(b"did:plc:abcdefghijklmnopqrstuvwx"),
            raw_post: Field::Text(self.raw_post.as_bytes()),
            inferences: Field::Text(self.inferences.as_bytes()),
        }
    }
}

fn make_rows() -> Vec<Texts> {
    let rng = &mut Rng::with_seed(1);
    (0..ROWS).map(|_| make_row(rng)).collect()
}

fn make_row(rng: &mut Rng) -> Texts {
    let inferences = format!(
        r#""text": {{"message.commit.record.text": {{"language_detection": {}, "topic": {}, "emotion_sentiment": {}, "text_arbitrary": {}}}}}, "text_embeddings": {{"all-mpnet-base-v2": "{}", "all-MiniLM-L6-v2": "{}", "all-MiniLM-L12-v2": "{}"}}, "images": [], "full_text_embeddings": {{"google/embeddinggemma-300m": "{}"}}"#,
        scores(rng, 20),
        scores(rng, 19),
        scores(rng, 28),
        scores(rng, 25),
        embedding(rng, 768),
        embedding(rng, 384),
        embedding(rng, 384),
        embedding(rng, 768),
    );
    let raw_post = format!(
        r#"{{"at_uri": "at://did:plc:abcdefghijklmnopqrstuvwx/app.bsky.feed.post/3m4abcdefgh2a", "did": "did:plc:abcdefghijklmnopqrstuvwx", "time_us": null, "message": {{"did": "did:plc:abcdefghijklmnopqrstuvwx", "kind": "commit", "time_us": 1761827696789000, "commit": {{"rev": "3m4abcdefgh2a", "operation": "create", "collection": "app.bsky.feed.post", "rkey": "3m4abcdefgh2a", "record": {{"createdAt": "2025-10-30T12:34:56.789Z", "text": "{}", "$type": "app.bsky.feed.post", "langs": ["en"]}}, "cid": "bafyrei"}}}}, "hydrated_metadata": {{"user": {}, "mentions": {{}}, "parent_post": {{"uri": "at://parent", "author": {}, "record": {{"text": "{}"}}}}, "reply_post": {{"uri": "at://root", "author": {}, "record": {{"text": "{}"}}}}, "quote_post": null}}, "inferences": {{{inferences}, "success": true}}}}"#,
        text(rng),
        user(rng),
        user(rng),
        text(rng),
        user(rng),
        text(rng),
    );
    Texts { raw_post, inferences: format!("{{{inferences}}}") }
}

fn text(rng: &mut Rng) -> String {
    const WORDS: [&str; 8] = [
        "solar",
        "wind",
        "harvest",
        "\\u5199\\u771f",
        "\\u00e9t\\u00e9",
        "\\ud83c\\udf31",
        "\\\"quoted\\\"",
        "line\\n",
    ];
    let count = rng.usize(5..40);
    (0..count).map(|_| WORDS[rng.usize(..WORDS.len())]).collect::<Vec<_>>().join(" ")
}

fn user(rng: &mut Rng) -> String {
    format!(
        r#"{{"did": "did:plc:abcdefghijklmnopqrstuvwx", "handle": "user{}.example", "avatar": "https://cdn.example/img/did:plc:abcdefghijklmnopqrstuvwx", "description": "{}", "followers_count": {}, "labels": [], "pinned_post": null, "viewer": {{"blocked_by": false, "blocking": null, "muted": false}}}}"#,
        rng.u32(..1_000_000),
        text(rng),
        rng.u32(..5000)
    )
}

/// Formats scores by class, as the shortest texts of f16 values widened to f64.
fn scores(rng: &mut Rng, classes: usize) -> String {
    let scores: Vec<_> =
        (0..classes).map(|n| format!(r#""Topic {n} & Interest": {}"#, f64::from(half(rng)) * 5.0)).collect();
    format!("{{{}}}", scores.join(", "))
}

/// Returns a small random value with the 11 significant bits of an f16.
fn half(rng: &mut Rng) -> f32 {
    let sum: f32 = (0..12).map(|_| rng.f32()).sum();
    f32::from_bits(((sum - 6.0) * 0.06).to_bits() & 0xFFFF_E000)
}

fn embedding(rng: &mut Rng, dimensions: usize) -> String {
    let bytes: Vec<u8> = (0..dimensions).flat_map(|_| half(rng).to_le_bytes()).collect();
    let mut compressor = Compressor::new(CompressionLvl::default());
    let mut deflated = vec![0; compressor.zlib_compress_bound(bytes.len())];
    let length = compressor.zlib_compress(&bytes, &mut deflated).unwrap_or_default();
    base85(&deflated[..length])
}

fn base85(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] =
        b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";
    let mut text = String::new();
    for chunk in bytes.chunks(4) {
        let number = (0..4).fold(0, |number, n| number << 8 | u32::from(chunk.get(n).copied().unwrap_or(0)));
        let digits = [4, 3, 2, 1, 0].map(|power| (number / 85_u32.pow(power) % 85) as usize);
        text.extend(digits.iter().take(chunk.len() + 1).map(|&digit| char::from(ALPHABET[digit])));
    }
    text
}

fn bytes(texts: &[Texts], of: impl Fn(&Texts) -> usize) -> Throughput {
    Throughput::Bytes(texts.iter().map(of).sum::<usize>() as u64)
}

fn json(criterion: &mut Criterion) {
    let rows = make_rows();
    let mut group = criterion.benchmark_group("json");
    group.throughput(bytes(&rows, |row| row.raw_post.len()));
    group.bench_function("skip", |bencher| {
        bencher
            .iter(|| rows.iter().filter(|row| Cursor::new(black_box(&row.raw_post)).skip().is_ok()).count());
    });
    // For comparison: the usual library on the same texts.
    group.bench_function("serde_json", |bencher| {
        bencher.iter(|| {
            rows.iter()
                .filter(|row| serde_json::from_str::<IgnoredAny>(black_box(&row.raw_post)).is_ok())
                .count()
        });
    });
    group.finish();
}

fn rows(criterion: &mut Criterion) {
    let rows = make_rows();
    let mut group = criterion.benchmark_group("rows");
    group.throughput(bytes(&rows, |row| row.raw_post.len()));
    group.bench_function("classify", |bencher| {
        bencher.iter(|| {
            rows.iter().filter(|row| matches!(classify(black_box(&row.row())), Verdict::Post(_))).count()
        });
    });
    group.throughput(bytes(&rows, |row| row.inferences.len()));
    group.bench_function("embeddings", |bencher| {
        let mut decoder = EmbeddingDecoder::new();
        bencher.iter(|| {
            let both = rows.iter().filter(|row| {
                let embeddings = decoder.decode(black_box(&row.row()).inferences, "");
                embeddings.all_minilm_l12_v2.is_some() && embeddings.all_minilm_l6_v2.is_some()
            });
            both.count()
        });
    });
    group.finish();
}

fn times(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("times");
    group.bench_function("parse", |bencher| {
        bencher.iter(|| timestamp::parse_rfc3339_millis(black_box("2025-10-30T12:34:56.789Z")));
    });
    group.bench_function("write", |bencher| {
        bencher.iter_batched_ref(
            || Vec::with_capacity(24),
            |out| timestamp::write_rfc3339_millis(out, black_box(1_761_827_696_789)),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, json, rows, times);
criterion_main!(benches);
