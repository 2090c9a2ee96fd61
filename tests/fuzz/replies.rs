//! Bodies of Elasticsearch replies.

use std::path::Path;

use megastream_ingest::sink::elasticsearch::bulk::reply::{
    Operation, judge_answer, judge_items, judge_look_up, judge_search, judge_shards,
};
use megastream_ingest::sink::elasticsearch::client::Reply;

use super::harness::fuzz;
use super::mutation::{Format, no_fields, words};

#[test]
fn replies() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("test_data/replies");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut bases: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    bases.push(br#"{"_shards":{"total":2,"successful":2,"failed":0}}"#.to_vec());
    bases.push(
        br#"{"_shards":{"failed":0},"timed_out":false,"hits":{"total":{"value":1},"hits":[{"_id":"x"}]}}"#
            .to_vec(),
    );
    let format = Format {
        bases,
        words: words(&[
            "{",
            "}",
            "[",
            "]",
            "\"",
            ",",
            ":",
            "null",
            "true",
            "-1",
            "1e999",
            "9223372036854775808",
            "\\ud800",
            "\"items\"",
            "\"index\"",
            "\"delete\"",
            "\"status\":",
            "\"error\":",
            "\"_id\"",
            "{\"index\":{}}",
            "\0",
        ]),
        fields: no_fields,
    };
    fuzz("replies", &format, |bytes| {
        let mut taken = false;
        for operation in [Operation::Index, Operation::Delete, Operation::DeleteFound] {
            for actions in [0, 1, 2, 3] {
                if let Ok(items) =
                    judge_items(bytes, operation, &["x"; 3][..actions], &[1; 3], &|_, index| index == "posts")
                {
                    assert_eq!(items.len(), actions);
                    taken = true;
                }
            }
        }
        if let Ok(found) = judge_look_up(bytes, &["x", "y"]) {
            assert_eq!(found.len(), 2);
            taken = true;
        }
        taken |= judge_shards(bytes).is_ok() || judge_search(bytes).is_ok();
        let may_be_object = bytes.trim_ascii_start().first().is_none_or(|first| *first == b'{');
        for status in [200, 301, 400, 401, 403, 404, 413, 429, 503] {
            let reply = Reply { status, retry_after: None, body: bytes.to_vec() };
            assert_eq!(judge_answer(&reply).is_none(), status == 200 && may_be_object);
            assert!(!reply.reason().chars().any(char::is_control));
        }
        taken
    });
}
