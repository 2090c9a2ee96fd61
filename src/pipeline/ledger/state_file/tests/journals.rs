//! Tests of the journal beside a large state file.

use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use super::*;

#[test]
fn new_entries_of_a_large_file_go_to_its_journal_first() {
    let text = large(3 << 20);
    let (folder, path) = written(&text);
    let mut state = StateFile::load(&path).unwrap();
    let failed = archive("broken");
    state.mark_failed(&failed, "no table");
    state.mark_processed(&archive("a"), 1);
    state.save().unwrap();
    state.mark_failed(&failed, "no table at all");
    state.mark_processed(&archive("b"), 1);
    state.save().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "not yet");
    for state in [&state, &StateFile::load(&path).unwrap()] {
        assert_eq!(
            (state.get("a"), state.get("x/7"), state.get("7")),
            (Some(&Mark::Processed), None, Some(&Mark::Processed))
        );
        assert!(
            matches!(state.get("broken"), Some(Mark::Failed { error, .. }) if error == "no table at all")
        );
    }
    state.finish().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the journal is gone");
    let now = fs::read_to_string(&path).unwrap();
    assert!(now.starts_with(text.trim_end_matches(']')), "entries are kept to the byte");
    assert_eq!(
        serde_json::from_str::<Vec<StateEntry>>(&now).unwrap().len(),
        StateFile::load(&path).unwrap().known.len()
    );
    // The entry in the file is replaced in place.
    state.mark_processed(&failed, 5);
    state.save().unwrap();
    state.finish().unwrap();
    let entries: Vec<StateEntry> = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let end: Vec<_> = entries.iter().rev().take(3).map(|entry| (&*entry.filename, &*entry.status)).collect();
    assert_eq!(end, [("b", "processed"), ("a", "processed"), ("broken", "processed")]);
}

#[test]
fn a_journal_left_by_a_killed_run_counts_and_is_merged_with_the_next_mark() {
    let (folder, path) = written(&large(3 << 20));
    let journal = folder.path().join("state.json.journal");
    let line = |name: &str, status: &str| format!("{{\"filename\":\"{name}\",\"status\":\"{status}\"}}\n");
    let left = [line("new", "processed"), line("7", "failed"), "{\"filename\":\"cut".to_owned()].concat();
    fs::write(&journal, left).unwrap();
    let mut state = StateFile::load(&path).unwrap();
    assert_eq!(state.get("new"), Some(&Mark::Processed));
    assert_eq!(state.get("7"), Some(&Mark::Processed), "what is processed stays so");
    assert_eq!(state.get("cut"), None);
    state.mark_processed(&archive("newer"), 1);
    state.save().unwrap();
    assert!(!journal.exists());
    let state = StateFile::load(&path).unwrap();
    assert_eq!((state.get("new"), state.get("newer")), (Some(&Mark::Processed), Some(&Mark::Processed)));

    fs::write(&journal, "no entry\n").unwrap();
    assert_eq!(StateFile::load(&path).unwrap_err().code, ExitCode::Usage);
}

/// Waits until the clock of the file system has moved on since the file at `path` was changed.
fn wait_for_clock(path: &Path) {
    let changed = |path: &Path| fs::metadata(path).map(|file| (file.ctime(), file.ctime_nsec())).unwrap();
    let clock = path.with_extension("clock");
    fs::write(&clock, "").unwrap();
    while changed(&clock) <= changed(path) {
        fs::write(&clock, "").unwrap();
    }
    fs::remove_file(clock).unwrap();
}

#[test]
fn a_journal_does_not_count_once_the_file_is_restored_after_it_with_its_old_time() {
    let (folder, path) = written(&large(3 << 20));
    let [journal, backup] = ["state.json.journal", "backup"].map(|name| folder.path().join(name));
    let copy_with_old_time = |from: &Path, to: &Path| {
        fs::copy(from, to).unwrap();
        File::options().write(true).open(to).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    };
    // `cp -p` and `mv`.
    let restores: [&dyn Fn(); 2] =
        [&|| copy_with_old_time(&backup, &path), &|| fs::rename(&backup, &path).unwrap()];
    for restore in restores {
        copy_with_old_time(&path, &backup);
        fs::write(&journal, "{\"filename\":\"new\",\"status\":\"processed\"}\n").unwrap();
        assert_eq!(StateFile::load(&path).unwrap().get("new"), Some(&Mark::Processed));
        wait_for_clock(&journal);
        restore();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), SystemTime::UNIX_EPOCH);
        let state = StateFile::load(&path).unwrap();
        assert_eq!((state.get("new"), state.get("8")), (None, Some(&Mark::Processed)));
    }
}

#[test]
fn a_journal_does_not_count_once_the_file_is_edited_or_removed_after_it() {
    let (folder, path) = written(&large(3 << 20));
    let journal = folder.path().join("state.json.journal");
    let lines = "{\"filename\":\"new\",\"status\":\"processed\",\"rows\":5}\n{\"filename\":\"7\",\"status\":\"failed\"}\n";
    fs::write(&journal, lines).unwrap();
    assert_eq!(StateFile::load(&path).unwrap().get("new"), Some(&Mark::Processed));
    // Without `7`, as `jq` removes it.
    wait_for_clock(&journal);
    fs::write(&path, large(3 << 20).replace("x/7\"", "x/other\"")).unwrap();
    let mut state = StateFile::load(&path).unwrap();
    assert_eq!((state.get("new"), state.get("7"), state.get("8")), (None, None, Some(&Mark::Processed)));
    assert_eq!(state.done().0.rows, 0);
    state.mark_processed(&archive("newer"), 1);
    state.save().unwrap();
    assert!(!journal.exists());

    fs::write(&journal, lines).unwrap();
    fs::remove_file(&path).unwrap();
    let mut state = StateFile::load(&path).unwrap();
    assert_eq!((state.get("new"), state.get("8")), (None, None));
    state.finish().unwrap();
    assert!(!journal.exists() && StateFile::load(&path).unwrap().get("new").is_none());
}
