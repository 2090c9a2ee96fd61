//! Archives in the local file system.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::{ARCHIVE_SUFFIX, has_archive_suffix, order};
use crate::pipeline::Archive;
use crate::timestamp::archive_seconds;

/// What was found under the paths asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// The archives, in the order in which they are to be taken up: by time, then by name.
    pub archives: Vec<Archive>,
    /// What has the name of an archive, but is none that could be read. In no particular order.
    pub left_out: Vec<LeftOut>,
}

/// Something that has the name of an archive, but is left alone.
#[derive(Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it is; for what is in a bucket, `s3://bucket/key`, to be read by people alone.
    pub path: PathBuf,
    /// Why it is left alone, in words.
    pub reason: String,
}

/// Why the archives cannot be listed.
#[derive(Debug)]
pub enum SourceError {
    /// A path or folder that was asked for does not exist or cannot be read.
    Unreadable {
        /// What was asked for.
        path: PathBuf,
        /// Why it cannot be read.
        error: io::Error,
    },
    /// A file that was asked for by name is no archive.
    NotAnArchive {
        /// What was asked for.
        path: PathBuf,
        /// Why it is none, in words.
        reason: String,
    },
    /// Two different files have the same name, by which archives are told apart.
    SameName {
        /// The first of the two.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
    },
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => write!(f, "{} cannot be read: {error}", path.display()),
            Self::NotAnArchive { path, reason } => write!(f, "{} is no archive: {reason}", path.display()),
            Self::SameName { first, second } => write!(
                f,
                "{first:?} and {second:?} are different files of the same name, by which archives are told apart: \
                 rename one"
            ),
        }
    }
}

impl std::error::Error for SourceError {}

/// Finds the archives among `paths`: files, and folders with files directly in them, named `*.db.zip`.
///
/// Nothing is opened. Symbolic links to files are followed. An archive without a time in its name has its
/// place by the time of its last modification. A file that is reached several times is one archive.
///
/// # Errors
///
/// [`SourceError`]: for what was asked for by its own path, and for names that are not unique. What else cannot
/// be an archive is left out, with the reason.
pub fn discover(paths: &[PathBuf]) -> Result<Discovery, SourceError> {
    let mut found = Vec::new();
    let mut left_out = Vec::new();
    for path in paths {
        let unreadable = |error| SourceError::Unreadable { path: path.clone(), error };
        if fs::metadata(path).map_err(unreadable)?.is_dir() {
            list_folder(path, &mut found, &mut left_out).map_err(unreadable)?;
        } else {
            let real = fs::canonicalize(path).map_err(unreadable)?;
            let not_an_archive = |reason| SourceError::NotAnArchive { path: path.clone(), reason };
            found.push(Found { archive: inspect(path).map_err(not_an_archive)?, real });
        }
    }
    found.sort_by(|a, b| order(&a.archive).cmp(&order(&b.archive)));
    let archives = without_repetitions(found, &mut left_out)?;
    Ok(Discovery { archives, left_out })
}

/// An archive, and the path of its file without any symbolic link.
struct Found {
    archive: Archive,
    real: PathBuf,
}

fn list_folder(folder: &Path, found: &mut Vec<Found>, left_out: &mut Vec<LeftOut>) -> io::Result<()> {
    let real_folder = fs::canonicalize(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !has_archive_suffix(&entry.file_name()) {
            continue;
        }
        let path = entry.path();
        match inspect(&path) {
            // Resolving a path costs many system calls; only links need it.
            Ok(archive) => match real_path(&real_folder, &entry) {
                Ok(real) => found.push(Found { archive, real }),
                Err(error) => left_out.push(LeftOut { path, reason: error.to_string() }),
            },
            Err(reason) => left_out.push(LeftOut { path, reason }),
        }
    }
    Ok(())
}

fn real_path(real_folder: &Path, entry: &fs::DirEntry) -> io::Result<PathBuf> {
    if entry.file_type()?.is_symlink() {
        fs::canonicalize(entry.path())
    } else {
        Ok(real_folder.join(entry.file_name()))
    }
}

/// Whether the file of an archive is not as it was when it was found.
pub fn has_changed(archive: &Archive) -> bool {
    inspect(&archive.path)
        .is_ok_and(|now| (now.bytes, now.modified_ns) != (archive.bytes, archive.modified_ns))
}

/// The archive at `path`, or why there is none.
fn inspect(path: &Path) -> Result<Archive, String> {
    let name = path.file_name().unwrap_or_default();
    if !has_archive_suffix(name) {
        return Err(format!("its name does not end in {ARCHIVE_SUFFIX}"));
    }
    let name = name.to_str().ok_or("its name is not UTF-8")?.to_owned();
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "it is a link to nothing, or has just been deleted".to_owned(),
        _ => error.to_string(),
    })?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let modified = metadata.modified().map_err(|error| error.to_string())?;
    let modified_ns = match modified.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    };
    let seconds = archive_seconds(&name);
    Ok(Archive { name, path: path.to_owned(), seconds, bytes: metadata.len(), modified_ns })
}

/// One archive for each file, each of its own name.
fn without_repetitions(found: Vec<Found>, left_out: &mut Vec<LeftOut>) -> Result<Vec<Archive>, SourceError> {
    // As text: a `Path` is hashed component by component, which takes several times as long.
    let mut by_file: HashMap<OsString, usize> = HashMap::with_capacity(found.len());
    let mut by_name: HashMap<String, usize> = HashMap::with_capacity(found.len());
    let mut archives: Vec<Archive> = Vec::with_capacity(found.len());
    for Found { archive, real } in found {
        let real = real.into_os_string();
        if let Some(first) = by_file.get(&real).and_then(|n| archives.get(*n)) {
            if first.name != archive.name {
                let reason = format!("it is the same file as {}", first.path.display());
                left_out.push(LeftOut { path: archive.path, reason });
            }
            continue;
        }
        if let Some(first) = by_name.get(&archive.name).and_then(|n| archives.get(*n)) {
            return Err(SourceError::SameName { first: first.path.clone(), second: archive.path });
        }
        by_file.insert(real, archives.len());
        by_name.insert(archive.name.clone(), archives.len());
        archives.push(archive);
    }
    Ok(archives)
}

#[cfg(test)]
mod tests {
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
        discover(&paths.iter().map(|path| path.to_path_buf()).collect::<Vec<_>>()).unwrap()
    }

    fn names(discovery: &Discovery) -> Vec<&str> {
        discovery.archives.iter().map(|archive| archive.name.as_str()).collect()
    }

    fn error_of(paths: &[&Path]) -> String {
        discover(&paths.iter().map(|path| path.to_path_buf()).collect::<Vec<_>>()).unwrap_err().to_string()
    }

    #[test]
    fn archives_come_in_the_order_of_time_then_name() {
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
    fn an_archive_without_a_time_has_its_place_by_modification() {
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
    fn other_names_and_deeper_folders_are_not_looked_at() {
        let folder = folder();
        put(folder.path(), "a.db");
        put(folder.path(), "a.zip");
        put(folder.path(), "a.db.zip.part");
        fs::create_dir(folder.path().join("deeper")).unwrap();
        put(&folder.path().join("deeper"), "b.db.zip");
        assert_eq!(found_in(&[folder.path()]), Discovery::default());
    }

    #[test]
    fn what_is_no_regular_file_is_left_out_with_the_reason_and_never_opened() {
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
                "it is a link to nothing, or has just been deleted",
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
    fn two_files_of_the_same_name_are_an_error_that_names_both() {
        let (one, other) = (folder(), folder());
        let first = put(one.path(), "a.db.zip");
        let second = put(other.path(), "a.db.zip");
        let text = error_of(&[one.path(), other.path()]);
        assert!(text.contains(first.to_str().unwrap()) && text.contains(second.to_str().unwrap()), "{text}");
    }

    #[test]
    fn what_was_asked_for_by_its_path_must_be_an_archive() {
        let folder = folder();
        let text = error_of(&[&put(folder.path(), "a.zip")]);
        assert!(text.contains("a.zip is no archive: its name does not end in .db.zip"), "{text}");
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
    fn a_folder_of_many_thousand_archives_is_listed_whole() {
        let folder = folder();
        for n in 0..5_000 {
            File::create(folder.path().join(format!("a_20250101_{n:06}.db.zip"))).unwrap();
        }
        assert_eq!(found_in(&[folder.path()]).archives.len(), 5_000);
    }
}
