//! Tests of the cursor: by examples, and against serde_json.

use std::borrow::Cow;

use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::*;

fn check(text: &str) -> Result<(), JsonError> {
    let mut cursor = Cursor::new(text);
    cursor.skip()?;
    cursor.end()
}

fn serde_accepts(text: &str) -> bool {
    // `IgnoredAny` validates everything, but has no depth limit and accepts lone surrogates.
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn unescaped(text: &str) -> String {
    let mut cursor = Cursor::new(text);
    let string = cursor.string().unwrap();
    cursor.end().unwrap();
    string.unescape().into_owned()
}

#[test]
fn every_kind_of_value_is_json() {
    for text in [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-0.0e-0",
        "1E+9",
        "12345678901234567890.12345678901234567890e1234567890",
        r#""""#,
        r#""é\"\\\/\b\f\n\r\t\u0000\uD83D\ud83d""#,
        "[]",
        "{}",
        " [ ] ",
        "\t\r\n {\"a\" : [1 , {\"b\":[]}] , \"a\" : null } \n",
    ] {
        assert_eq!(check(text), Ok(()), "{text}");
        assert!(serde_accepts(text), "{text}");
    }
}

#[test]
fn anything_but_json_is_refused() {
    for text in [
        "",
        " ",
        "nul",
        "nulL",
        "truefalse",
        "NaN",
        "Infinity",
        "-",
        "-a",
        "+1",
        "01",
        "1.",
        ".5",
        "1e",
        "1e+",
        "0x10",
        "1 2",
        "'a'",
        "\"",
        "\"a",
        r#""\"#,
        r#""\""#,
        r#""\x""#,
        r#""\u12""#,
        r#""\u12g4""#,
        r#""\u+123""#,
        "\"\n\"",
        "\"0123456789012345678901234567890123456789\u{1f}\"",
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1}",
        "{",
        "{]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1]",
        "{a:1}",
        "{1:1}",
        "{} {}",
        "\u{feff}{}",
        "\u{a0}1",
        "// comment\n1",
    ] {
        assert!(check(text).is_err(), "{text}");
        assert!(!serde_accepts(text), "{text}");
    }
}

#[test]
fn an_error_says_where_and_what() {
    assert_eq!(check("[1, x]"), Err(JsonError::Syntax { at: 4, expected: "a value" }));
    assert_eq!(check("[1, x]").unwrap_err().to_string(), "expected a value at byte 4");
    assert_eq!(check("{} x").unwrap_err().to_string(), "expected the end of the document at byte 3");
}

#[test]
fn a_special_byte_is_found_at_every_place_of_a_string() {
    for length in 0..100 {
        let plain = "é".repeat(length / 2) + &"a".repeat(length % 2);
        assert_eq!(unescaped(&format!("\"{plain}\"")), plain);
        assert_eq!(unescaped(&format!("\"{plain}\\n{plain}\"")), format!("{plain}\n{plain}"));
        assert!(check(&format!("\"{plain}\u{1}{plain}\"")).is_err());
    }
}

#[test]
fn a_lone_surrogate_becomes_u_fffd() {
    for (text, expected) in [
        (r#""\ud83d""#, "\u{fffd}"),
        (r#""\ude00""#, "\u{fffd}"),
        (r#""\ud83d x""#, "\u{fffd} x"),
        (r#""\ud83dx\ude00""#, "\u{fffd}x\u{fffd}"),
        (r#""\ud83d\n""#, "\u{fffd}\n"),
        (r#""\ud83d\u0041""#, "\u{fffd}A"),
        (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
        (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
    ] {
        assert_eq!(unescaped(text), expected, "{text}");
    }
}

#[test]
fn a_surrogate_pair_becomes_its_character() {
    assert_eq!(
        unescaped(r#""\ud83d\ude00 \uD83D\uDE00 \ud800\udc00 \udbff\udfff""#),
        "😀 😀 \u{10000} \u{10ffff}"
    );
}

#[test]
fn a_string_without_escapes_is_borrowed() {
    let string = Cursor::new("\"plain é\"").string().unwrap();
    assert!(matches!(string.unescape(), Cow::Borrowed("plain é")));
}

#[test]
fn depth_is_bounded_at_128_levels() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |levels: usize| open.repeat(levels) + "1" + &close.repeat(levels);
        assert_eq!(check(&nested(MAX_DEPTH)), Ok(()));
        let at = open.len() * MAX_DEPTH;
        assert_eq!(check(&nested(MAX_DEPTH + 1)), Err(JsonError::TooDeep { at }));
        assert_eq!(check(&open.repeat(1_000_000)), Err(JsonError::TooDeep { at }));
    }
    // The number of siblings has no limit.
    assert_eq!(check(&format!("[{}[]]", "[[]],".repeat(10_000))), Ok(()));
}

#[test]
fn walked_levels_count_like_skipped_ones() {
    let inside = |levels: usize| {
        let text = format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        Cursor::new(&text).object(|_, cursor| cursor.skip())
    };
    assert_eq!(inside(MAX_DEPTH - 1), Ok(()));
    assert!(matches!(inside(MAX_DEPTH), Err(JsonError::TooDeep { .. })));
}

#[test]
fn keys_are_compared_after_unescaping() {
    let mut found = None;
    let mut cursor = Cursor::new(r#"{"\u006bey": 7}"#);
    cursor
        .object(|key, cursor| {
            assert_eq!(key.unescape(), "key");
            found = cursor.integer_or_skip()?;
            Ok(())
        })
        .unwrap();
    assert_eq!(found, Some(7));
}

#[test]
fn lenient_readers_skip_values_of_other_types() {
    for text in ["null", "true", "1", "1.5", "\"text\"", "[1, {}]", "{\"a\": [2]}", "\"5\""] {
        let mut cursor = Cursor::new(text);
        assert_eq!(cursor.object_or_skip(|_, cursor| cursor.skip()), Ok(text.starts_with('{')));
        assert_eq!(cursor.end(), Ok(()), "{text}");

        let mut cursor = Cursor::new(text);
        let string = cursor.string_or_skip().unwrap();
        assert_eq!(string.string().is_some(), text.starts_with('"'), "{text}");
        assert_eq!(string == MaybeString::Null, text == "null", "{text}");
        assert_eq!(cursor.end(), Ok(()), "{text}");

        let mut cursor = Cursor::new(text);
        assert_eq!(cursor.integer_or_skip().unwrap(), (text == "1").then_some(1));
        assert_eq!(cursor.end(), Ok(()), "{text}");
    }
}

#[test]
fn a_repeated_object_is_skipped_as_a_whole() {
    let earlier = r#"{"a": [1, "}"]}"#;
    let mut cursor = Cursor::new(r#" {"a": [1, "}"]} , 2"#);
    assert_eq!(cursor.skip_repeated(earlier), Ok(()));
    assert_eq!(cursor.place(), earlier.len() + 1);
}

#[test]
fn a_value_that_only_begins_like_an_earlier_one_is_validated() {
    for (text, earlier) in [("123x", "12"), (r#"{"a": x}"#, r#"{"a": 1}"#), ("[1, x]", "[1, "), ("x", "")] {
        let mut cursor = Cursor::new(text);
        assert!(cursor.skip_repeated(earlier).and_then(|()| cursor.end()).is_err(), "{text}");
    }
    for (text, earlier) in [(r#"{"a": 2}"#, r#"{"a": 1}"#), ("12", "1"), ("null", "{}")] {
        let mut cursor = Cursor::new(text);
        assert_eq!(cursor.skip_repeated(earlier).and_then(|()| cursor.end()), Ok(()), "{text}");
    }
}

#[test]
fn integers_that_do_not_fit_are_none() {
    assert_eq!(Cursor::new("9223372036854775807").integer_or_skip(), Ok(Some(i64::MAX)));
    assert_eq!(Cursor::new("-9223372036854775808").integer_or_skip(), Ok(Some(i64::MIN)));
    assert_eq!(Cursor::new("9223372036854775808").integer_or_skip(), Ok(None));
    assert_eq!(Cursor::new(&"9".repeat(100_000)).integer_or_skip(), Ok(None));
}

/// Generates any JSON document, with and without white space.
fn documents() -> impl Strategy<Value = String> {
    let text = prop_oneof![any::<String>(), "[a-z\"\\\\\n\u{1}]{0,60}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(text.clone(), inner, 0..6)
                .prop_map(|members| Value::Object(Map::from_iter(members))),
        ]
    });
    (value, any::<bool>()).prop_map(|(value, pretty)| {
        if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap()
    })
}

/// Generates sequences of JSON tokens, mostly invalid.
fn soup() -> impl Strategy<Value = String> {
    const PIECES: [&str; 34] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"a\"",
        "\"a\":",
        "{\"a\":1",
        "[1",
        ",2",
        "\\",
        "\\u12aF",
        "\\ud83d",
        "\\n",
        "\\x",
        "0",
        "1",
        "-",
        "+",
        ".",
        "e",
        "1.5e3",
        "0123456789",
        "true",
        "nul",
        "null",
        " ",
        "\n",
        "\u{1}",
        "é",
        "\u{7f}",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ];
    prop::collection::vec(prop::sample::select(&PIECES[..]), 0..12).prop_map(|pieces| pieces.concat())
}

/// Generates documents with one to three places overwritten.
fn mutated_documents() -> impl Strategy<Value = String> {
    let cut = (any::<prop::sample::Index>(), 0..4_usize, soup());
    (documents(), prop::collection::vec(cut, 1..4)).prop_map(|(mut text, cuts)| {
        for (at, removed, inserted) in cuts {
            let mut ends = [at.index(text.len() + 1), 0];
            ends[1] = (ends[0] + removed).min(text.len());
            let [start, end] =
                ends.map(|end| (0..=end).rev().find(|&end| text.is_char_boundary(end)).unwrap());
            text.replace_range(start..end, &inserted);
        }
        text
    })
}

proptest! {
    #[test]
    fn every_document_is_accepted(text in documents()) {
        prop_assert_eq!(check(&text), Ok(()));
    }

    #[test]
    fn broken_documents_are_judged_like_serde_json(text in mutated_documents()) {
        prop_assert_eq!(check(&text).is_ok(), serde_accepts(&text));
    }

    #[test]
    fn pieces_of_json_are_judged_like_serde_json(text in soup()) {
        prop_assert_eq!(check(&text).is_ok(), serde_accepts(&text));
    }

    #[test]
    fn arbitrary_bytes_are_judged_like_serde_json(bytes in any::<Vec<u8>>()) {
        let text = String::from_utf8_lossy(&bytes);
        prop_assert_eq!(check(&text).is_ok(), serde_accepts(&text));
    }

    #[test]
    fn strings_are_unescaped_like_serde_json(pieces in prop::collection::vec(
        prop_oneof![any::<String>(), "\\\\u(0[0-9a-f]{3}|[0-9A-C][0-9A-F]{3}|d83d\\\\ude0[0-9a-f])", "\\\\[\"\\\\/bfnrt]"], 0..8,
    )) {
        let text = format!("\"{}\"", pieces.concat());
        match serde_json::from_str::<String>(&text) {
            Ok(expected) => prop_assert_eq!(unescaped(&text), expected),
            // serde_json refuses lone surrogates.
            Err(_) if serde_accepts(&text) => prop_assert!(unescaped(&text).contains(char::REPLACEMENT_CHARACTER)),
            Err(_) => prop_assert!(check(&text).is_err()),
        }
    }

    #[test]
    fn objects_are_walked_like_serde_json(text in documents()) {
        let expected = serde_json::from_str::<Map<String, Value>>(&text).ok();
        let mut members = Map::new();
        let mut cursor = Cursor::new(&text);
        let is_object = cursor.object_or_skip(|key, cursor| {
            let start = cursor.at;
            cursor.skip()?;
            members.insert(key.unescape().into_owned(), serde_json::from_str(&text[start..cursor.at]).unwrap());
            Ok(())
        });
        prop_assert_eq!(is_object, Ok(expected.is_some()));
        prop_assert_eq!(cursor.end(), Ok(()));
        prop_assert_eq!(members, expected.unwrap_or_default());
    }
}
