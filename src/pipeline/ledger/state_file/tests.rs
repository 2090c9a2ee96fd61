//! Tests of the state file: what is read, kept, refused and replaced.

use super::*;
use crate::common::exit::ExitCode;
use crate::common::timestamp::{now_millis, rfc3339_millis};
use std::fs;

mod journals;

fn archive(name: &str) -> Archive {
    Archive { name: name.into(), path: name.into(), seconds: None, bytes: 7, modified_ns: 9_000, etag: None }
}

fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn a_file_of_the_established_tool_is_read_and_its_entries_are_kept_to_the_byte() {
    let old =
        r#"{ "filename":"a.db.zip","status":"processed","timestamp":"2025-09-25T01:10:00Z","host":"x" }"#;
    let (_folder, path) = written(&format!(
        r#"[{old}, {{"filename":"in/b.db.zip","status":"failed","timestamp":"","error":"broken"}}]"#
    ));
    let mut state = StateFile::load(&path).unwrap();
    assert_eq!(state.get("a.db.zip"), Some(&Mark::Processed));
    assert!(matches!(state.get("b.db.zip"), Some(Mark::Failed { error, .. }) if error == "broken"));
    state.mark_processed(&archive("c.db.zip"), 3);
    state.save().unwrap();
    assert!(fs::read_to_string(&path).unwrap().contains(old));
    assert_eq!(StateFile::load(&path).unwrap().get("c.db.zip"), Some(&Mark::Processed));
}

#[test]
fn an_archive_has_one_entry_however_often_it_is_marked() {
    let (_folder, path) = written("[]");
    let mut state = StateFile::load(&path).unwrap();
    state.mark_failed(&archive("a"), "broken");
    state.mark_processed(&archive("b"), 1);
    state.mark_processed(&archive("a"), 2);
    state.save().unwrap();
    let again = StateFile::load(&path).unwrap();
    assert_eq!(again.known.len(), 2);
    assert_eq!(again.get("a"), Some(&Mark::Processed));
}

#[test]
fn a_change_of_a_failed_archive_is_detected() {
    let (_folder, path) = written("[]");
    let mut state = StateFile::load(&path).unwrap();
    state.mark_failed(&archive("a"), "broken");
    state.save().unwrap();
    let state = StateFile::load(&path).unwrap();
    assert!(!state.has_changed(&archive("a")));
    assert!(state.has_changed(&Archive { bytes: 8, ..archive("a") }));
    assert!(state.has_changed(&Archive { modified_ns: 10_000, ..archive("a") }));
}

#[test]
fn a_change_of_a_processed_archive_is_detected_after_reading_the_file_again() {
    let (_folder, path) = written(r#"[{"filename":"old","status":"processed"}]"#);
    let object = |etag: &str| Archive { etag: Some(etag.into()), ..archive("object") };
    let mut state = StateFile::load(&path).unwrap();
    state.mark_processed(&archive("file"), 1);
    state.mark_processed(&object("\"e\""), 1);
    state.save().unwrap();
    for state in [&state, &StateFile::load(&path).unwrap()] {
        for unchanged in [archive("file"), object("\"e\""), archive("old"), archive("new")] {
            assert!(!state.has_changed(&unchanged), "{unchanged:?}");
        }
        assert!(state.has_changed(&Archive { bytes: 8, ..archive("file") }));
        assert!(state.has_changed(&object("\"f\"")));
    }
    let entries: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!((&entries[1]["size"], &entries[1]["modified_ns"]), (&7.into(), &9_000.into()));
    assert_eq!((&entries[2]["size"], &entries[2]["etag"]), (&7.into(), &"\"e\"".into()));
}

#[test]
fn a_file_of_something_else_never_counts_as_empty() {
    for text in ["", "{}", "null", "[1]", "[{}]", "[{\"filename\":\"a\",\"status\":\"done\"}]", "[", "[] x"] {
        let (_folder, path) = written(text);
        let failure = StateFile::load(&path).unwrap_err();
        assert_eq!(failure.code, ExitCode::Usage, "{text}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn a_file_whose_disk_does_not_answer_is_no_wrong_setting() {
    // Its first bytes are at no address of this process, so reading them is an error of the system (EIO).
    let error = StateFile::load(Path::new("/proc/self/mem")).unwrap_err();
    assert_eq!(error.code, ExitCode::Failed, "{error}");
    assert!(error.message.contains("run again once"), "{error}");
}

#[test]
fn an_unreadable_file_never_counts_as_empty() {
    use std::os::unix::fs::PermissionsExt;

    let (folder, unreadable) = written("[]");
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o000)).unwrap();
    let a_folder = folder.path().join("folder");
    fs::create_dir(&a_folder).unwrap();
    let no_utf_8 = folder.path().join("no_utf_8");
    fs::write(&no_utf_8, b"[{\"filename\":\"\xff\",\"status\":\"processed\"}]").unwrap();
    let in_a_file = no_utf_8.join("state.json");
    // Root may read anything.
    let permissions_count = fs::read(&unreadable).is_err();
    let paths = [a_folder, no_utf_8, in_a_file].into_iter().chain(permissions_count.then_some(unreadable));
    for path in paths {
        let failure = StateFile::load(&path).unwrap_err();
        assert_eq!(failure.code, ExitCode::Usage, "{}", path.display());
        assert!(failure.message.contains("cannot be used"), "{failure}");
    }
}

#[test]
fn a_missing_file_is_empty_and_a_save_creates_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let mut state = StateFile::load(&path).unwrap();
    state.save().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(StateFile::load(&path).is_ok());
}

#[test]
fn only_one_at_a_time_has_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let lock = StateFile::lock(&path).unwrap();
    assert_eq!(StateFile::lock(&path).unwrap_err().code, ExitCode::Locked);
    assert!(StateFile::is_locked(&path).unwrap());
    drop(lock);
    assert!(!StateFile::is_locked(&path).unwrap());
    StateFile::lock(&path).unwrap();
}

#[test]
fn the_lock_does_not_depend_on_the_name_used() {
    let folder = tempfile::tempdir().unwrap();
    let [path, link] = ["state.json", "link"].map(|name| folder.path().join(name));
    fs::write(&path, "[]").unwrap();
    std::os::unix::fs::symlink("state.json", &link).unwrap();
    let lock = StateFile::lock(&link).unwrap();
    assert_eq!(StateFile::lock(&path).unwrap_err().code, ExitCode::Locked);
    assert!(StateFile::is_locked(&path).unwrap() && StateFile::is_locked(&link).unwrap());
    drop(lock);
    StateFile::lock(&path).unwrap();
}

#[test]
fn a_dangling_link_does_not_count_as_empty() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    for target in ["not_there", "not/mounted"] {
        std::os::unix::fs::symlink(target, &link).unwrap();
        for failure in [StateFile::load(&link).unwrap_err(), StateFile::lock(&link).unwrap_err()] {
            assert_eq!(failure.code, ExitCode::Usage);
            assert!(failure.message.contains("link"), "{failure}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::remove_file(&link).unwrap();
    }
}

#[test]
fn an_entry_that_changes_its_length_moves_those_after_it() {
    let (_folder, path) = written("[]");
    let mut state = StateFile::load(&path).unwrap();
    for name in ["a", "b", "c"] {
        state.mark_failed(&archive(name), "broken");
    }
    for (name, error) in
        [("b", "far more to say"), ("a", ""), ("c", "x"), ("b", "x"), ("c", "changed once more")]
    {
        state.mark_failed(&archive(name), error);
        state.save().unwrap();
        let state = StateFile::load(&path).unwrap();
        assert!(matches!(state.get(name), Some(Mark::Failed { error: read, .. }) if read == error), "{name}");
    }
    let names: Vec<String> = serde_json::from_str::<Vec<StateEntry>>(&fs::read_to_string(&path).unwrap())
        .unwrap()
        .into_iter()
        .map(|entry| entry.filename)
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn of_several_entries_of_an_archive_the_last_one_counts() {
    let entry = |name: &str, status: &str| format!(r#"{{"filename":"{name}","status":"{status}"}}"#);
    let (_folder, path) = written(&format!(
        "[{},{},{}]",
        entry("a", "failed"),
        entry("b", "processed"),
        entry("in/a", "processed")
    ));
    let mut state = StateFile::load(&path).unwrap();
    assert_eq!(state.get("a"), Some(&Mark::Processed));
    state.save().unwrap();
    assert_eq!(StateFile::load(&path).unwrap().known.len(), 2);
}

/// Returns the text of a state file of at least `bytes` bytes.
fn large(bytes: usize) -> String {
    let entry =
        |n: usize| format!(r#"{{"filename":"x/{n}","status":"processed","note":"{}"}}"#, "x".repeat(1_000));
    format!("[{}]", (0..=bytes / 1_000).map(entry).collect::<Vec<_>>().join(","))
}

#[test]
fn a_file_that_another_program_changes_meanwhile_is_not_overwritten() {
    let (_folder, path) = written("[]");
    let mut state = StateFile::load(&path).unwrap();
    fs::write(&path, r#"[{"filename":"a","status":"processed"}]"#).unwrap();
    state.mark_processed(&archive("b"), 1);
    assert!(state.save().unwrap_err().to_string().contains("another program"));
    // A missing file is created again.
    fs::remove_file(&path).unwrap();
    state.save().unwrap();
    assert_eq!(StateFile::load(&path).unwrap().get("b"), Some(&Mark::Processed));
}

/// Returns the CPU time of this thread so far, from the kernel's accounting. None if it is not available.
fn cpu_time() -> Option<std::time::Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(std::time::Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
}

#[test]
fn saves_of_a_hundred_thousand_entries_take_less_than_a_hundredth_of_the_time() {
    const SAVES: u32 = 15;
    let (_folder, path) = written("[]");
    let mut state = StateFile::load(&path).unwrap();
    for n in 0..100_000 {
        state.mark_processed(&archive(&format!("mega_jetstream_2025_{n:06}.db.zip")), 1500);
    }
    let Some(before) = cpu_time() else { return };
    for n in 0..SAVES {
        state.mark_processed(&archive(&format!("another_{n}.db.zip")), 1500);
        state.save().unwrap();
    }
    let each = cpu_time().unwrap().saturating_sub(before) / SAVES;
    println!("{each:?} of CPU time for each save of {} bytes", fs::metadata(&path).unwrap().len());
    // Relative to two cores, the least that a run has.
    assert!(each < 2 * super::super::MARK_WITHIN / 100, "{each:?}");
    // From time to time the file itself is rewritten.
    let pause = Duration::from_secs(state.text.len() / BYTES_PER_SECOND);
    let before = cpu_time().unwrap();
    state.finish().unwrap();
    let whole = cpu_time().unwrap().saturating_sub(before);
    println!("{whole:?} of CPU time to write {} bytes, every {pause:?}", fs::metadata(&path).unwrap().len());
    assert!(whole < 2 * pause / 100, "{whole:?}");
}

#[test]
fn entries_that_all_change_take_time_in_proportion_to_their_number() {
    const ENTRIES: usize = 20_000;
    let (_folder, path) = written("[]");
    let mut state = StateFile::load(&path).unwrap();
    let name = |n: usize| format!("{n:06}.db.zip");
    (0..ENTRIES).for_each(|n| state.mark_failed(&archive(&name(n)), "not a valid zip"));
    state.write().unwrap();
    let mut state = StateFile::load(&path).unwrap();
    let Some(before) = cpu_time() else { return };
    (0..ENTRIES).for_each(|n| state.mark_failed(&archive(&name(n)), "still not a valid zip"));
    state.write().unwrap();
    let spent = cpu_time().unwrap().saturating_sub(before);
    println!("{spent:?} of CPU time for {ENTRIES} changed entries");
    assert!(spent < Duration::from_secs(4), "{spent:?}");
    // The places are right, so that an entry can change again.
    state.mark_processed(&archive(&name(ENTRIES / 2)), 1500);
    state.write().unwrap();
    let state = StateFile::load(&path).unwrap();
    let processed = (0..ENTRIES).filter(|n| state.get(&name(*n)) == Some(&Mark::Processed));
    assert_eq!((state.known.len(), processed.collect::<Vec<_>>()), (ENTRIES, vec![ENTRIES / 2]));
}

#[test]
fn the_later_forms_of_the_established_tool_are_read_and_their_cursor_is_kept() {
    let entry = r#"{"filename":"late.db.zip","status":"failed","timestamp":"","error":"broken"}"#;
    let cursor = r#"{"last_time_us": 1758762590000000, "updated_at": "2025-09-25T01:09:51Z"}"#;
    for text in [
        cursor.to_owned(),
        format!(r#"{{"cursor": {cursor}}}"#),
        format!(r#"{{"files": [{entry}], "cursor": {cursor}}}"#),
        format!(r#"{{"files": null, "cursor": {cursor}}}"#),
    ] {
        let (_folder, path) = written(&text);
        let at = |seconds| Archive { seconds: Some(seconds), ..archive("x") };
        let mut state = StateFile::load(&path).unwrap();
        for _ in 0..2 {
            assert!(state.is_before_cursor(&at(1_758_762_590)) && state.is_before_cursor(&at(0)), "{text}");
            assert!(!state.is_before_cursor(&at(1_758_762_591)) && !state.is_before_cursor(&archive("x")));
            assert_eq!(state.get("late.db.zip").is_some(), text.contains("files\": ["), "{text}");
            state.mark_processed(&archive("new.db.zip"), 1);
            state.save().unwrap();
            state = StateFile::load(&path).unwrap();
            assert_eq!(state.get("new.db.zip"), Some(&Mark::Processed));
        }
        let saved: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert!(
            saved.as_array().unwrap().iter().any(|e| e["last_time_us"] == 1_758_762_590_000_000_u64),
            "{text}"
        );
        // The established tool refuses a file with an invalid timestamp.
        let cursor = saved.as_array().unwrap().iter().find(|entry| entry["filename"] == CURSOR).unwrap();
        assert_eq!(cursor["timestamp"], "1970-01-01T00:00:00Z");
    }
    for text in ["{}", r#"{"file": []}"#, r#"{"cursor": "yesterday"}"#, r#"{"files": {}}"#] {
        let (_folder, path) = written(text);
        assert_eq!(StateFile::load(&path).unwrap_err().code, ExitCode::Usage, "{text}");
    }
}

#[test]
fn what_earlier_runs_have_done_is_summed_up_and_apart_what_an_index_shows_by_now() {
    let entry = |name: &str, status: &str, minutes_ago: i64, rows: u64| {
        let timestamp = rfc3339_millis(now_millis() - minutes_ago * 60_000);
        format!(r#"{{"filename":"{name}","status":"{status}","timestamp":"{timestamp}","rows":{rows}}}"#)
    };
    let (_folder, path) = written(&format!(
        r#"[{},{},{},{},{},{{"filename":"old","status":"processed","timestamp":"2025-09-25T01:10:00Z"}}]"#,
        entry("a", "processed", 11, 5),
        entry("b", "processed", 12, 6),
        entry("c", "processed", 5, 7),
        entry("d", "failed", 11, 100),
        entry(CURSOR, "processed", 11, 1_000),
    ));
    let mut state = StateFile::load(&path).unwrap();
    let done = |archives, rows| Done { archives, rows };
    assert_eq!(state.done(), (done(4, 18), done(3, 11)));
    state.mark_processed(&archive("e"), 8);
    state.save().unwrap();
    assert_eq!(StateFile::load(&path).unwrap().done(), (done(5, 26), done(3, 11)), "rows are recorded");
}

#[test]
fn an_entry_of_the_very_second_from_which_on_it_may_not_be_shown_is_not_earlier() {
    let mut sums = Sums::new();
    let timestamp = sums.since.clone();
    sums.add(&StateEntry { timestamp, ..entry_of(&archive("a"), "processed") });
    assert_eq!((sums.all.archives, sums.earlier.archives), (1, 0));
}

#[test]
fn a_torn_file_that_is_no_mount_point_is_refused_even_with_a_copy_beside_it() {
    let (_folder, path) = written(r#"[{"filename":"a","#);
    fs::write(files::copy_of(&path), "[]").unwrap();
    assert_eq!(StateFile::load(&path).unwrap_err().code, ExitCode::Usage);
}

/// Runs a test of this module again, with the file at `path` as a mount point. Prints a message and returns false if
/// mounting is not allowed.
fn passes_with_mount(test: &str, path: &Path) -> bool {
    let in_namespace = |script: &str| {
        let mut command = std::process::Command::new("unshare");
        command.args(["-Urm", "sh", "-euc", script]).arg(std::env::current_exe().unwrap());
        command.env("MOUNTED_STATE", path).arg(format!("pipeline::ledger::state_file::tests::{test}"));
        command.output()
    };
    let mount = r#"mount --bind "$MOUNTED_STATE" "$MOUNTED_STATE""#;
    let may = in_namespace(mount);
    if !may.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped, since nothing can be mounted here: {may:?}");
        return false;
    }
    let output = in_namespace(&format!(r#"{mount}; exec "$0" --exact "$1""#)).unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains(" 1 passed"), "{told}");
    true
}

#[test]
fn a_torn_file_that_is_a_mount_point_is_read_from_its_copy() {
    const WHOLE: &str = r#"[{"filename":"a","status":"processed"}]"#;
    if let Some(path) = std::env::var_os("MOUNTED_STATE").map(PathBuf::from) {
        assert_eq!(StateFile::load(&path).unwrap().get("a"), Some(&Mark::Processed));
        fs::write(&path, "").unwrap();
        let error = StateFile::load(&path).unwrap_err();
        assert!(error.message.contains("write [] into it"), "somebody has emptied it: {error}");
        fs::write(&path, &WHOLE[..20]).unwrap();
        fs::write(files::copy_of(&path), &WHOLE[..20]).unwrap();
        assert_eq!(StateFile::load(&path).unwrap_err().code, ExitCode::Usage, "the copy is torn, too");
        fs::remove_file(files::copy_of(&path)).unwrap();
        assert_eq!(StateFile::load(&path).unwrap_err().code, ExitCode::Usage, "there is no copy");
        return;
    }
    let (_folder, path) = written(&WHOLE[..20]);
    fs::write(files::copy_of(&path), WHOLE).unwrap();
    if passes_with_mount("a_torn_file_that_is_a_mount_point_is_read_from_its_copy", &path) {
        assert!(!files::copy_of(&path).exists(), "the test ran to its end");
    }
}

#[test]
fn a_file_of_one_mebibyte_is_still_rewritten_at_each_save() {
    let (_folder, path) = written("[]");
    let mut state = StateFile::load(&path).unwrap();
    state.mark_failed(&archive("a"), "");
    let missing = usize::try_from(SMALL_BYTES - state.text.len()).unwrap();
    state.mark_failed(&archive("a"), &"x".repeat(missing));
    assert_eq!(state.text.len(), SMALL_BYTES);
    assert!(state.is_due());
}

#[test]
fn a_large_file_is_rewritten_once_in_as_many_seconds_as_it_has_mebibytes() {
    let (_folder, path) = written(&large(3 << 20));
    let mut state = StateFile::load(&path).unwrap();
    let mut is_due_after = |seconds| {
        state.written = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        state.is_due()
    };
    assert!(is_due_after(3) && !is_due_after(1));
}
