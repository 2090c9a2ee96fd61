//! Tests of the splitting of arrays.

use std::io::BufReader;

use proptest::prelude::*;

use super::*;

fn scanned(text: &[u8], capacity: usize) -> Result<(Vec<(u64, String)>, Shape), String> {
    let mut found = Vec::new();
    let shape = objects(BufReader::with_capacity(capacity, text), |at, object| {
        found.push((at, String::from_utf8_lossy(object).into_owned()));
        Ok(())
    });
    shape.map(|shape| (found, shape)).map_err(|error| error.to_string())
}

#[test]
fn objects_have_their_offsets_for_any_size_of_reads() {
    let text = br#" [ {"a":"]},{\"\\"} ,{"b":[{},{"c":1}]},{}]
"#;
    let objects = [(3, r#"{"a":"]},{\"\\"}"#), (21, r#"{"b":[{},{"c":1}]}"#), (40, "{}")];
    let expected = objects.map(|(at, text)| (at, text.to_owned())).to_vec();
    for capacity in [1, 2, 7, 1_000] {
        assert_eq!(scanned(text, capacity), Ok((expected.clone(), Shape { end: 42, count: 3 })));
    }
    assert_eq!(scanned(b"[ \n]", 9), Ok((Vec::new(), Shape { end: 1, count: 0 })));
}

#[test]
fn anything_but_an_array_of_objects_is_refused() {
    for text in [
        "",
        " \n",
        "[",
        "[{}",
        "[{},",
        "[{},]",
        "[{}{}]",
        "[{}]x",
        "[{}][",
        "[1]",
        "[\"{}\"]",
        "[null]",
        "{}",
        "null",
        "[,{}]",
        "[{\"a]",
        "\u{feff}[]",
        "[[]]",
    ] {
        assert!(scanned(text.as_bytes(), 8).is_err(), "{text:?}");
    }
    assert!(scanned(b"", 8).unwrap_err().contains("write [] into it"));
    assert!(scanned(b"[{}", 8).unwrap_err().contains("cut off"));
}

proptest! {
    #[test]
    fn arrays_of_objects_are_recognized_as_by_serde(
        text in r#"[\[\]{},:"\\a1 \n]{0,24}"#,
    ) {
        let parsed: Result<Vec<serde_json::Map<String, serde_json::Value>>, _> = serde_json::from_str(&text);
        // `objects` checks only brackets and strings; the rest is up to its caller.
        let whole = |objects: &[(u64, String)]| objects.iter().all(|(_, object)| {
            serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(object).is_ok()
        });
        let found = scanned(text.as_bytes(), 3);
        prop_assert_eq!(parsed.is_ok(), found.as_ref().is_ok_and(|(objects, _)| whole(objects)));
        if let (Ok(parsed), Ok((objects, shape))) = (parsed, found) {
            prop_assert_eq!((parsed.len(), parsed.len() as u64), (objects.len(), shape.count));
        }
    }
}
