//! Tests of the record, and of the replies that decide whether it is kept.

use std::fs;

use super::*;
use crate::auth::Auth;
use crate::common::exit::ExitCode;

fn open(state_file: &Path) -> Result<LoadSettings, Failure> {
    let settings = config::Elasticsearch::at("http://127.0.0.1:1", Auth::of_api_key("a2V5"));
    LoadSettings::open(&settings, state_file)
}

fn plan() -> Record {
    let now = Values::from([("index.number_of_replicas".into(), "2".into())]);
    tuned("posts_v1", "post_tombstones_v1")
        .map(|(index, during)| (index.to_owned(), Changes::new(&now, during)))
        .into()
}

#[test]
fn a_record_outlives_the_run_until_everything_is_restored() {
    let folder = tempfile::tempdir().unwrap();
    let state_file = folder.path().join("state.json");
    let mut first = open(&state_file).unwrap();
    assert!(!first.are_changed());
    first.record(plan()).unwrap();
    let mut next = open(&state_file).unwrap();
    assert_eq!(next.record, plan());
    next.remove_record().unwrap();
    assert!(!open(&state_file).unwrap().are_changed());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_unreadable_record_is_not_an_empty_one() {
    for text in ["", "[]", "{\"posts\":1}", "{\"posts\":{\"index.x\":{\"before\":null}}}"] {
        let folder = tempfile::tempdir().unwrap();
        let state_file = folder.path().join("state.json");
        fs::write(record::path(&state_file), text).unwrap();
        assert_eq!(open(&state_file).unwrap_err().code, ExitCode::Usage, "{text}");
    }
}

#[test]
fn nothing_is_changed_if_the_record_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut load_settings = open(&folder.path().join("missing/state.json")).unwrap();
    assert_eq!(load_settings.record(plan()).unwrap_err().code, ExitCode::Failed);
    assert!(!load_settings.are_changed());
}

#[test]
fn the_failure_lists_the_settings_to_restore_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let mut load_settings = open(&folder.path().join("state.json")).unwrap();
    load_settings.record(plan()).unwrap();
    let text = load_settings.not_restored(&NoAnswer::unavailable("HTTP 503")).message;
    let request = r#"PUT /posts_v1/_settings {"index.number_of_replicas":"2","index.refresh_interval":null}"#;
    assert!(text.contains(request) && text.contains("HTTP 503"), "{text}");
}
