//! Checks whether the files of a run can be written, and how much disk space is free. Leaves nothing behind.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use crate::config::{Load, Output, Reports};
use crate::files::{self, folder_of};
use crate::observe::finding::{Check, Status};

/// Free space below which the check warns, in bytes. It is enough for some 20,000 dead letters with their documents, and
/// for two state files of millions of archives, as needed while one replaces the other.
const LITTLE_SPACE: u64 = 1 << 30;

/// How a file is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::run) enum Written {
    /// It is written in place, and created if missing.
    InPlace,
    /// It is replaced by a new file.
    Replaced,
}

/// Returns every file that a run writes: its setting, its path, and how it is written.
fn written_files(load: &Load) -> Vec<(&'static str, &Path, Written)> {
    let Reports { dead_letters, metrics_file, summary, .. } = &load.reports;
    let mut files = vec![("SPOOL_STATE_FILE", load.archives.state_file.as_path(), Written::Replaced)];
    files.extend(dead_letters.as_deref().map(|path| ("--dead-letter", path, Written::InPlace)));
    files.extend(metrics_file.as_deref().map(|path| ("--metrics-file", path, Written::Replaced)));
    let summary = summary.as_ref().and_then(Output::file);
    files.extend(summary.map(|path| ("--summary-json", path, Written::InPlace)));
    files
}

/// Checks whether the files of a run can be written, and how much space is free for them.
pub(super) fn check_disk(load: &Load) -> Vec<Check> {
    let files = written_files(load);
    let names: Vec<_> = files.iter().map(|(setting, ..)| *setting).collect();
    let checks: Vec<_> =
        files.iter().filter_map(|(setting, path, written)| check_file(setting, path, *written)).collect();
    if checks.iter().any(|check| check.status == Status::Failed) {
        return checks;
    }
    let written = Check::ok("disk", format!("the files of {} can be written", names.join(", ")));
    let space = check_space(files.iter().map(|(_, path, _)| *path));
    [written].into_iter().chain(checks).chain(space).collect()
}

/// Checks one file; returns None if there is nothing to report.
fn check_file(setting: &str, path: &Path, written: Written) -> Option<Check> {
    match try_to_write(path, written) {
        Err(error) => {
            let text = format!(
                "{setting}: {path:?} cannot be written: {error}: make it writable, or name another one"
            );
            Some(Check::failed("disk", text))
        }
        Ok(Some(why)) => {
            Some(Check::warning("disk", format!("{setting}: {}", files::unsynced(folder_of(path), &why))))
        }
        Ok(None) if written == Written::Replaced && files::is_mount_point(path) => {
            let text = format!(
                "{setting}: {path:?} is itself a mount point, so it is written in place: mount its folder, \
                 so that it can be replaced as a whole"
            );
            Some(Check::warning("disk", text))
        }
        Ok(None) => None,
    }
}

/// Reports the free space of each file system that files are written to.
fn check_space<'p>(files: impl Iterator<Item = &'p Path>) -> Vec<Check> {
    let mut seen = BTreeSet::new();
    let mut checks = Vec::new();
    for folder in files.map(folder_of) {
        let Ok(space) = rustix::fs::statvfs(folder) else { continue };
        // Virtual file systems such as /proc have no size.
        if space.f_blocks > 0 && seen.insert(space.f_fsid) {
            checks.push(judge_space(folder, space.f_bavail.saturating_mul(space.f_frsize)));
        }
    }
    checks
}

fn judge_space(folder: &Path, free: u64) -> Check {
    let text = format!("{:.1} GB free in {folder:?}", free as f64 / 1e9);
    if free >= LITTLE_SPACE {
        return Check::ok("disk", text);
    }
    Check::warning(
        "disk",
        format!(
            "{text}: a run stops, and marks nothing more, if the state file or the dead-letter file cannot \
             be written; free some disk space"
        ),
    )
}

/// Tries to write as a run does, in the same place, and leaves nothing behind. Returns the error if the folder cannot be
/// synced, which does not prevent writing.
pub(in crate::run) fn try_to_write(path: &Path, written: Written) -> io::Result<Option<io::Error>> {
    let path = &files::real_path(path);
    if written == Written::Replaced || !path.exists() {
        return files::try_to_replace(path);
    }
    // Opening a pipe would wait for its reader.
    if path.is_file() {
        OpenOptions::new().append(true).open(path)?.sync_all()?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn trying_to_write_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (there, new) = (folder.path().join("there"), folder.path().join("new"));
        fs::write(&there, "kept").unwrap();
        let before = fs::metadata(&there).unwrap().modified().unwrap();
        for written in [Written::InPlace, Written::Replaced] {
            try_to_write(&there, written).unwrap();
            try_to_write(&new, written).unwrap();
        }
        assert_eq!(fs::read_to_string(&there).unwrap(), "kept");
        assert_eq!(fs::metadata(&there).unwrap().modified().unwrap(), before);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_takes_no_files_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        assert!(try_to_write(&folder.path().join("missing/file"), Written::InPlace).is_err());
        assert!(try_to_write(&folder.path().join("missing/file"), Written::Replaced).is_err());
    }

    #[test]
    fn little_space_is_a_warning_and_each_file_system_is_reported_once() {
        let folder = Path::new("/x");
        assert_eq!(judge_space(folder, LITTLE_SPACE).status, Status::Ok);
        let little = judge_space(folder, LITTLE_SPACE - 1);
        assert!(
            little.status == Status::Warning && little.text.starts_with("1.1 GB free in \"/x\""),
            "{little}"
        );
        let here = [Path::new("a"), Path::new("./b"), Path::new("/proc/c")];
        assert_eq!(check_space(here.into_iter()).len(), 1);
    }
}
