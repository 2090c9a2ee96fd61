//! Tests how archives are found in folders and by name, and which files are left out.

use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::time::Duration;

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn put(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, name).unwrap();
    path
}

fn found_in(paths: &[&Path]) -> Discovery {
    discover(&paths.iter().map(|path| path.to_path_buf()).collect::<Vec<_>>(), false).unwrap()
}

fn names(discovery: &Discovery) -> Vec<&str> {
    discovery.archives.iter().map(|archive| archive.name.as_str()).collect()
}

fn error_of(paths: &[&Path]) -> String {
    discover(&paths.iter().map(|path| path.to_path_buf()).collect::<Vec<_>>(), false).unwrap_err().to_string()
}

#[test]
fn archives_are_sorted_by_time_then_name() {
    let folder = folder();
    for name in ["z_20250101_000000.db.zip", "b_20250102_000000.db.zip", "a_20250102_000000.db.zip"] {
        put(folder.path(), name);
    }
    assert_eq!(
        names(&found_in(&[folder.path()])),
        ["z_20250101_000000.db.zip", "a_20250102_000000.db.zip", "b_20250102_000000.db.zip"]
    );
}

#[test]
fn an_archive_without_a_time_is_sorted_by_modification_time() {
    let folder = folder();
    put(folder.path(), "a_20250101_000000.db.zip");
    put(folder.path(), "b_20250103_000000.db.zip");
    let path = put(folder.path(), "c.db.zip");
    let time = UNIX_EPOCH + Duration::new(1_735_776_000, 5);
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();

    let discovery = found_in(&[folder.path()]);
    assert_eq!(names(&discovery), ["a_20250101_000000.db.zip", "c.db.zip", "b_20250103_000000.db.zip"]);
    let archive = &discovery.archives[1];
    assert_eq!(archive.seconds, None);
    assert_eq!(archive.modified_ns, 1_735_776_000_000_000_005);
    assert_eq!(archive.bytes, 8);
    assert_eq!(archive.path, folder.path().join("c.db.zip"));
    assert_eq!(discovery.archives[0].seconds, Some(1_735_689_600));
}

#[test]
fn other_names_and_deeper_folders_are_ignored() {
    let folder = folder();
    put(folder.path(), "a.db");
    put(folder.path(), "a.zip");
    put(folder.path(), "a.db.zip.part");
    fs::create_dir(folder.path().join("deeper")).unwrap();
    put(&folder.path().join("deeper"), "b.db.zip");
    let found = found_in(&[folder.path()]);
    assert_eq!((found.archives, found.left_out), (vec![], vec![]));
}

#[test]
fn if_nothing_is_found_the_message_says_what_is_there_instead() {
    let empty = folder();
    let message_of = |paths: &[&Path]| found_in(paths).nothing.unwrap();
    let text = message_of(&[empty.path()]);
    assert!(text.contains(empty.path().to_str().unwrap()) && text.contains("*.db.zip"), "{text}");
    assert!(text.contains("nothing is there"), "{text}");

    let other = folder();
    for name in ["a.zip", "B.ZIP", "c.db", "._d.zip"] {
        put(other.path(), name);
    }
    let deeper = other.path().join("deeper");
    fs::create_dir(&deeper).unwrap();
    let text = message_of(&[other.path()]);
    assert!(
        text.contains("5 other entries") && text.contains("2 of them are named *.zip without .db"),
        "{text}"
    );
    assert!(!text.contains("level deeper"), "{text}");
    put(&deeper, "e.db.zip");
    put(&deeper, "f.db.zip");
    let text = message_of(&[empty.path(), other.path()]);
    assert!(
        text.contains("2 archives are a level deeper") && text.contains(deeper.to_str().unwrap()),
        "{text}"
    );
    put(other.path(), "g.db.zip");
    assert_eq!(found_in(&[other.path()]).nothing, None);
}

#[test]
fn anything_but_a_regular_file_is_left_out_with_a_reason_and_never_opened() {
    let folder = folder();
    fs::create_dir(folder.path().join("folder.db.zip")).unwrap();
    symlink("nowhere", folder.path().join("dangling.db.zip")).unwrap();
    symlink("/dev/zero", folder.path().join("device.db.zip")).unwrap();
    let fifo = folder.path().join("fifo.db.zip");
    assert!(std::process::Command::new("mkfifo").arg(fifo).status().unwrap().success());
    let latin1 = std::ffi::OsString::from_vec(b"f\xfcr.db.zip".to_vec());
    fs::write(folder.path().join(latin1), "").unwrap();

    let mut discovery = found_in(&[folder.path()]);
    assert_eq!(discovery.archives, []);
    discovery.left_out.sort_by(|a, b| a.path.cmp(&b.path));
    let reasons: Vec<_> = discovery.left_out.iter().map(|left_out| left_out.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "it is a link to a missing file, or has just been deleted",
            "it is not a regular file",
            "it is not a regular file",
            "it is not a regular file",
            "its name is not UTF-8",
        ]
    );
}

#[test]
fn links_to_files_are_followed() {
    let (folder, elsewhere) = (folder(), folder());
    let path = put(elsewhere.path(), "data");
    symlink(path, folder.path().join("a.db.zip")).unwrap();
    let discovery = found_in(&[folder.path()]);
    assert_eq!(names(&discovery), ["a.db.zip"]);
    assert_eq!(discovery.archives[0].bytes, 4);
}

#[test]
fn a_file_reached_twice_is_one_archive() {
    let folder = folder();
    let path = put(folder.path(), "a_20250101_000000.db.zip");
    symlink(&path, folder.path().join("b_20250102_000000.db.zip")).unwrap();
    let roundabout = folder.path().join(".").join("a_20250101_000000.db.zip");
    let discovery = found_in(&[folder.path(), &path, &roundabout, folder.path()]);
    assert_eq!(names(&discovery), ["a_20250101_000000.db.zip"]);
    assert!(discovery.left_out[0].reason.starts_with("it is the same file as"));
}

#[test]
fn different_files_of_the_same_name_are_all_left_out() {
    let folders = [folder(), folder(), folder()];
    let paths: Vec<PathBuf> = folders.iter().map(|folder| put(folder.path(), "a.db.zip")).collect();
    put(folders[0].path(), "b.db.zip");
    put(folders[2].path(), "c.db.zip");
    // A file that is reached again is still one file.
    let paths_given = [folders[0].path(), folders[1].path(), folders[2].path(), &paths[1], folders[0].path()];
    let mut found = found_in(&paths_given);
    assert_eq!(names(&found).len(), 2);
    assert!(names(&found).contains(&"b.db.zip") && names(&found).contains(&"c.db.zip"));
    found.left_out.sort_by(|a, b| a.path.cmp(&b.path));
    let mut left_out: Vec<&PathBuf> = found.left_out.iter().map(|left_out| &left_out.path).collect();
    left_out.dedup();
    let mut expected: Vec<&PathBuf> = paths.iter().collect();
    expected.sort();
    assert_eq!((left_out, found.left_out.len()), (expected, 3));
    for left_out in &found.left_out {
        let other = paths
            .iter()
            .any(|path| *path != left_out.path && left_out.reason.contains(path.to_str().unwrap()));
        assert!(other, "{left_out:?}");
    }
}

#[test]
fn a_file_named_by_its_path_must_be_an_archive() {
    let folder = folder();
    let text = error_of(&[&put(folder.path(), "a.zip")]);
    assert!(text.contains("a.zip is not an archive: its name does not end in .db.zip"), "{text}");
    let text = error_of(&[&folder.path().join("missing.db.zip")]);
    assert!(text.contains("missing.db.zip cannot be read"), "{text}");
    symlink("/dev/zero", folder.path().join("zero.db.zip")).unwrap();
    let text = error_of(&[&folder.path().join("zero.db.zip")]);
    assert!(text.contains("it is not a regular file"), "{text}");
}

#[test]
fn a_folder_may_be_named_like_an_archive() {
    let folder = folder();
    let inner = folder.path().join("folder.db.zip");
    fs::create_dir(&inner).unwrap();
    put(&inner, "a.db.zip");
    assert_eq!(names(&found_in(&[&inner])), ["a.db.zip"]);
}

#[test]
fn a_folder_of_many_thousand_archives_is_listed_completely() {
    let folder = folder();
    let file = folder.path().join("empty");
    File::create(&file).unwrap();
    // A link is much cheaper than a file of its own.
    for n in 0..5_000 {
        std::fs::hard_link(&file, folder.path().join(format!("a_20250101_{n:06}.db.zip"))).unwrap();
    }
    assert_eq!(found_in(&[folder.path()]).archives.len(), 5_000);
}

#[test]
fn a_folder_without_archives_is_named_although_others_have_some() {
    let (there, empty, other) = (folder(), folder(), folder());
    put(there.path(), "a_20251218_000000.db.zip");
    put(there.path(), "README");
    put(other.path(), "a.zip");
    let found = found_in(&[there.path(), empty.path(), other.path()]);
    assert_eq!(names(&found), ["a_20251218_000000.db.zip"]);
    let nothing = found.nothing.unwrap();
    assert!(!nothing.contains(there.path().to_str().unwrap()), "{nothing}");
    for folder in [empty.path(), other.path()] {
        assert!(nothing.contains(folder.to_str().unwrap()), "{nothing}");
    }
    assert!(nothing.contains("one other entry is there") && nothing.contains("without .db"), "{nothing}");
    // What is left out is named by itself.
    put(empty.path(), "b.db.zip");
    put(other.path(), "b.db.zip");
    assert_eq!(found_in(&[empty.path(), other.path()]).nothing, None);
}

#[test]
fn a_spool_run_reads_the_other_folders_if_one_is_away() {
    let (there, away) = (folder(), folder());
    put(there.path(), "a_20251218_000000.db.zip");
    let paths = [there.path().to_owned(), away.path().join("gone")];
    assert!(discover(&paths, false).is_err());
    let found = discover(&paths, true).unwrap();
    assert_eq!(names(&found), ["a_20251218_000000.db.zip"]);
    let [left_out] = &found.left_out[..] else { panic!("{:?}", found.left_out) };
    assert!(left_out.is_for_now && left_out.path == paths[1], "{left_out:?}");
    assert!(discover(&paths[1..], true).is_err(), "nothing can be read");
}
