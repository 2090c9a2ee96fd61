//! State files.

use megastream_ingest::model::Archive;
use megastream_ingest::pipeline::ledger::state_file::{Mark, StateFile};

use super::harness::fuzz;
use super::mutation::{Format, no_fields, words};

#[test]
fn state_files() {
    let format = Format {
        bases: [
            "[]",
            "[\n]\n",
            r#"[{"filename":"a.db.zip","status":"processed","timestamp":"2025-10-30T12:34:56Z"}]"#,
            r#"[{"filename":"x/b.db.zip","status":"failed","timestamp":"","error":"no table","size":5,"modified_ns":-1},
                {"status":"processed","filename":"a.db.zip","unknown":{"deep":[1,2,{"x":null}]},"rows":18446744073709551615},
                {"filename":"b.db.zip","status":"processed"}]"#,
        ]
        .map(|text| text.as_bytes().to_vec())
        .to_vec(),
        words: words(&[
            "[", "]", "{", "}", ",", ":", "\"", "\\", "\\ud800", "null", "1e999", "/", "\u{feff}", "\0",
            "\"filename\":", "\"status\":", "\"processed\"", "\"failed\"", "\"size\":", "\"a.db.zip\"",
        ]),
        fields: no_fields,
    };
    // Every save is synced, so a folder in memory is faster.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = folder.path().join("state.json");
    fuzz("state", &format, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        let Ok(mut state) = StateFile::load(&path) else { return false };
        let names = ["a.db.zip", "b.db.zip", "", "\u{feff}", "\n\"\\"];
        let before: Vec<Option<Mark>> = names.iter().map(|name| state.get(name).cloned()).collect();
        // Existing entries are kept, and the new one is added.
        let new = Archive {
            name: "new.db.zip".into(),
            path: "".into(),
            seconds: None,
            bytes: 1,
            modified_ns: 2,
            etag: None,
        };
        state.mark_failed(&new, "why \" \\ \u{1}");
        state.mark_processed(&new, 7);
        assert_eq!(state.get("new.db.zip"), Some(&Mark::Processed));
        let after: Vec<Option<Mark>> = names.iter().map(|name| state.get(name).cloned()).collect();
        assert_eq!(before, after);
        state.save().unwrap();
        let again = StateFile::load(&path).expect("what was saved is a state file");
        assert_eq!(again.get("new.db.zip"), Some(&Mark::Processed));
        let again: Vec<Option<Mark>> = names.iter().map(|name| again.get(name).cloned()).collect();
        assert_eq!(before, again);
        true
    });
}
