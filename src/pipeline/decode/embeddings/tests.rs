//! Tests of decoding the embeddings of a row.

use super::super::vector::tests::embedding;
use super::*;

/// Returns the first values of the L12 and the L6 embedding, and the names of the fields left out.
fn decoded(inferences: Field<'_>) -> (Option<f32>, Option<f32>, Vec<&'static str>) {
    let mut decoder = EmbeddingDecoder::new();
    let embeddings = decoder.decode(inferences, "");
    let first = |vector: Option<&Vector>| vector.map(|values| values[0]);
    let dropped = embeddings.dropped.fields().collect();
    (first(embeddings.all_minilm_l12_v2), first(embeddings.all_minilm_l6_v2), dropped)
}

fn decoded_text(inferences: &str) -> (Option<f32>, Option<f32>, Vec<&'static str>) {
    decoded(Field::Text(inferences.as_bytes()))
}

fn half() -> String {
    embedding(&[0.5; DIMENSIONS])
}

fn quarter() -> String {
    embedding(&[0.25; DIMENSIONS])
}

#[test]
fn both_embeddings_are_decoded_among_others() {
    let (half, quarter) = (half(), quarter());
    let text = format!(
        r#"{{"text": {{"a": [1]}}, "text_embeddings": {{"all-mpnet-base-v2": "x",
                "all-MiniLM-L6-v2": "{half}", "all-MiniLM-L12-v2": "{quarter}"}}, "success": true}}"#
    );
    assert_eq!(decoded_text(&text), (Some(0.25), Some(0.5), vec![]));
}

#[test]
fn one_embedding_may_be_missing() {
    let half = half();
    let text = format!(r#"{{"text_embeddings": {{"all-MiniLM-L12-v2": "{half}"}}}}"#);
    assert_eq!(decoded_text(&text), (Some(0.5), None, vec![]));
    let text =
        format!(r#"{{"text_embeddings": {{"all-MiniLM-L12-v2": null, "all-MiniLM-L6-v2": "{half}"}}}}"#);
    assert_eq!(decoded_text(&text), (None, Some(0.5), vec![]));
}

#[test]
fn scores_already_seen_in_raw_post_do_not_matter() {
    let text =
        format!(r#"{{"text": {{"a": [1]}}, "text_embeddings": {{"all-MiniLM-L12-v2": "{}"}}}}"#, half());
    let broken = text.replace("[1]", "[1");
    for scores in ["", r#"{"a": [1]}"#, r#"{"a": [2]}"#, r#"{"b": 1}"#] {
        let mut decoder = EmbeddingDecoder::new();
        let embeddings = decoder.decode(Field::Text(text.as_bytes()), scores);
        assert!(embeddings.all_minilm_l12_v2.is_some(), "{scores}");
        let embeddings = decoder.decode(Field::Text(broken.as_bytes()), scores);
        assert_eq!(embeddings.dropped.inferences, 1, "{scores}");
    }
}

#[test]
fn missing_embeddings_are_not_counted() {
    assert_eq!(decoded(Field::Null), (None, None, vec![]));
    for text in ["{}", "[]", "null", "17", r#"{"text_embeddings": null}"#, r#"{"text_embeddings": "x"}"#] {
        assert_eq!(decoded_text(text), (None, None, vec![]), "{text}");
    }
}

#[test]
fn inferences_that_are_not_json_are_counted_once() {
    let nothing = (None, None, vec!["inferences"]);
    assert_eq!(decoded(Field::Other), nothing);
    assert_eq!(decoded(Field::TooLong(1 << 30)), nothing);
    assert_eq!(decoded(Field::Text(b"{\"\xff\": 1}")), nothing);
    let cut = format!(r#"{{"text_embeddings": {{"all-MiniLM-L12-v2": "{}"}}"#, half());
    for text in ["", "nope", "{} {}", &cut, &"[".repeat(1_000_000)] {
        assert_eq!(decoded_text(text), nothing);
    }
}

#[test]
fn every_embedding_that_cannot_be_decoded_is_counted() {
    let half = half();
    let mut not_finite = [0.5; DIMENSIONS];
    not_finite[0] = f32::NAN;
    for bad in [
        format!("\"{}\"", embedding(&[0.5; 383])),
        format!("\"{}\"", embedding(&not_finite)),
        format!("\"{}\"", embedding(&[0.0; DIMENSIONS])),
        r#""not base85 \u00e9""#.to_owned(),
        r#""""#.to_owned(),
        "17".to_owned(),
        "[0.5]".to_owned(),
    ] {
        let text =
            format!(r#"{{"text_embeddings": {{"all-MiniLM-L6-v2": {bad}, "all-MiniLM-L12-v2": "{half}"}}}}"#);
        assert_eq!(decoded_text(&text), (Some(0.5), None, vec!["embedding"]), "{bad}");
        let text =
            format!(r#"{{"text_embeddings": {{"all-MiniLM-L6-v2": {bad}, "all-MiniLM-L12-v2": {bad}}}}}"#);
        assert_eq!(decoded_text(&text), (None, None, vec!["embedding", "embedding"]), "{bad}");
    }
}

#[test]
fn the_last_of_duplicate_keys_wins() {
    let (half, quarter) = (half(), quarter());
    let text = format!(
        r#"{{"text_embeddings": {{"all-MiniLM-L6-v2": "{half}", "all-MiniLM-L12-v2": "{half}"}},
                "text_embeddings": {{"all-MiniLM-L6-v2": 1, "all-MiniLM-L6-v2": "{quarter}"}}}}"#
    );
    assert_eq!(decoded_text(&text), (None, Some(0.25), vec![]));
}
