//! Archives in the local file system.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rustix::io::Errno;

use super::order;
use super::seen::Seen;
use crate::common::exit::Failure;
use crate::files::{failure_that_may_pass, may_pass};
use crate::model::{ARCHIVE_SUFFIX, Archive, archive_seconds, has_archive_suffix, is_metadata_file};

/// The result of a search for archives.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// The archives in processing order: by time, then by name.
    pub archives: Vec<Archive>,
    /// Entries named like an archive that cannot be read as one, in no particular order.
    pub left_out: Vec<LeftOut>,
    /// The failure of a path that cannot be read for now. It is left out, since others can be read.
    pub away: Option<Failure>,
    /// The message if nothing was found in a path: the places, the names looked for, and what is there instead.
    pub nothing: Option<String>,
}

/// An entry that is named like an archive, but is left out.
#[derive(Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its path, or `s3://bucket/key`, for messages.
    pub path: PathBuf,
    /// Why it is left out.
    pub reason: String,
    /// Storage class of an object, if known.
    pub storage_class: Option<String>,
    /// Whether it may be an archive that can be read later, so that a run without it is not done.
    pub is_for_now: bool,
}

impl LeftOut {
    /// Creates an entry that is not an archive, without a storage class.
    pub fn new(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into(), storage_class: None, is_for_now: false }
    }

    /// Creates an entry that cannot be looked at. A link that leads nowhere is not an archive. For any other error the
    /// file may be there: this user may not look at it, or its disk or server is away.
    fn of_error(path: &Path, error: &io::Error) -> Self {
        let leads_nowhere = [Errno::NOTDIR, Errno::LOOP].map(|errno| Some(errno.raw_os_error()));
        match error.kind() {
            ErrorKind::NotFound => {
                Self::new(path, "it is a link to a missing file, or has just been deleted")
            }
            _ if leads_nowhere.contains(&error.raw_os_error()) => Self::new(path, error.to_string()),
            _ => Self { is_for_now: true, ..Self::new(path, format!("it cannot be read for now: {error}")) },
        }
    }

    /// The last segment of its path, which identifies an archive.
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

/// Finds the archives among `paths`: files, and folders with files directly in them, named `*.db.zip`.
///
/// Opens no file. Ignores metadata files of macOS (`._*`). Follows symbolic links to files. A file that is reached
/// several times is one archive. Entries that cannot be archives are left out with a reason, and so are different files
/// of the same name. A path that cannot be read for now is left out, as long as another can be read. A run that `spools` takes
/// every error of a path for one that may pass.
///
/// # Errors
///
/// Fails if one of the `paths` themselves is not an archive or cannot be read for good, or if none can be read.
pub fn discover(paths: &[PathBuf], spools: bool) -> Result<Discovery, Failure> {
    let mut found = Vec::new();
    let mut left_out = Vec::new();
    let mut seen = Seen::default();
    let mut away = Vec::new();
    // Paths without an archive, such as a folder whose disk is not mounted.
    let mut empty = Vec::new();
    for path in paths {
        let before = (found.len(), left_out.len());
        let mut others = Seen::default();
        match look_at(path, &mut found, &mut left_out, &mut others) {
            Ok(None) if before == (found.len(), left_out.len()) => {
                seen.add_all(others);
                empty.push(path);
            }
            Ok(None) => {}
            Ok(Some(LeftOut { reason, .. })) => {
                return Err(Failure::usage(format!("{} is not an archive: {reason}", path.display())));
            }
            Err(error) => {
                let failure = unreadable(path, &error);
                // The other paths do not wait for one whose disk or file server is away.
                let passes = spools || may_pass(&error);
                if !passes || away.len() + 1 == paths.len() {
                    return Err(failure);
                }
                found.truncate(before.0);
                away.push(failure);
                let reason = format!("it cannot be read for now: {error}");
                left_out.push(LeftOut { is_for_now: true, ..LeftOut::new(path, reason) });
            }
        }
    }
    found.sort_by(|a, b| order(&a.archive).cmp(&order(&b.archive)));
    let archives = without_repetitions(found, &mut left_out);
    let nothing = (!empty.is_empty()).then(|| seen.message(&empty));
    Ok(Discovery { archives, left_out, away: away.into_iter().next(), nothing })
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let text = format!("{} cannot be read: {error}", path.display());
    failure_that_may_pass(error, &text).unwrap_or_else(|| Failure::usage(text))
}

/// Adds the archives at one of the paths. Returns why it is left out if it is a file that is not an archive.
fn look_at(
    path: &Path,
    found: &mut Vec<Candidate>,
    left_out: &mut Vec<LeftOut>,
    seen: &mut Seen,
) -> io::Result<Option<LeftOut>> {
    if fs::metadata(path)?.is_dir() {
        list_folder(path, found, left_out, seen)?;
    } else if path.file_name().is_some_and(|name| is_metadata_file(name.as_encoded_bytes())) {
        left_out
            .push(LeftOut::new(path, "macOS writes such files beside the real ones on other file systems"));
    } else {
        let real = fs::canonicalize(path)?;
        match inspect(path) {
            Ok(archive) => found.push(Candidate { archive, real }),
            Err(why) => return Ok(Some(why)),
        }
    }
    Ok(None)
}

/// An archive, and its file's path without symbolic links.
struct Candidate {
    archive: Archive,
    real: PathBuf,
}

fn list_folder(
    folder: &Path,
    found: &mut Vec<Candidate>,
    left_out: &mut Vec<LeftOut>,
    seen: &mut Seen,
) -> io::Result<()> {
    let real_folder = fs::canonicalize(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if !has_archive_suffix(&name) || is_metadata_file(name.as_encoded_bytes()) {
            seen.add(&entry);
            continue;
        }
        let path = entry.path();
        match inspect(&path) {
            // Only links are resolved: resolving a path takes many system calls.
            Ok(archive) => match real_path(&real_folder, &entry) {
                Ok(real) => found.push(Candidate { archive, real }),
                Err(error) => left_out.push(LeftOut::of_error(&path, &error)),
            },
            Err(why) => left_out.push(why),
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

/// Whether an archive's file has changed since it was found.
pub fn has_changed(archive: &Archive) -> bool {
    inspect(&archive.path).is_ok_and(|now| now.state() != archive.state())
}

/// Returns the archive with the size and time that its file has now. A mark made from it is of the content that is read.
pub fn as_it_is_now(archive: Arc<Archive>) -> Arc<Archive> {
    match inspect(&archive.path) {
        Ok(now) if now.state() != archive.state() => {
            Arc::new(Archive { bytes: now.bytes, modified_ns: now.modified_ns, ..(*archive).clone() })
        }
        _ => archive,
    }
}

/// The archive at `path`, or why there is none.
fn inspect(path: &Path) -> Result<Archive, LeftOut> {
    let name = path.file_name().unwrap_or_default();
    if !has_archive_suffix(name) {
        return Err(LeftOut::new(path, format!("its name does not end in {ARCHIVE_SUFFIX}")));
    }
    let name = name.to_str().ok_or_else(|| LeftOut::new(path, "its name is not UTF-8"))?.to_owned();
    let metadata = fs::metadata(path).map_err(|error| LeftOut::of_error(path, &error))?;
    if !metadata.is_file() {
        return Err(LeftOut::new(path, "it is not a regular file"));
    }
    let modified = metadata.modified().map_err(|error| LeftOut::new(path, error.to_string()))?;
    let modified_ns = match modified.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    };
    let seconds = archive_seconds(&name);
    Ok(Archive { name, path: path.to_owned(), seconds, bytes: metadata.len(), modified_ns, etag: None })
}

/// Keeps one archive for each file. The name identifies an archive, so of several files with the same name none is kept.
fn without_repetitions(found: Vec<Candidate>, left_out: &mut Vec<LeftOut>) -> Vec<Archive> {
    // The key is text, since hashing a `Path` component by component takes several times as long.
    let mut by_file: HashMap<OsString, usize> = HashMap::with_capacity(found.len());
    let mut by_name: HashMap<String, usize> = HashMap::with_capacity(found.len());
    // The first archive of each name, and the paths of the others.
    let mut named: Vec<(Archive, Vec<PathBuf>)> = Vec::with_capacity(found.len());
    for Candidate { archive, real } in found {
        let real = real.into_os_string();
        if let Some((first, _)) = by_file.get(&real).and_then(|n| named.get(*n)) {
            if first.name != archive.name {
                let reason = format!("it is the same file as {:?}", first.path);
                left_out.push(LeftOut::new(archive.path, reason));
            }
            continue;
        }
        let n = *by_name.entry(archive.name.clone()).or_insert(named.len());
        by_file.insert(real, n);
        match named.get_mut(n) {
            Some((_, others)) => others.push(archive.path),
            None => named.push((archive, Vec::new())),
        }
    }
    let mut archives = Vec::with_capacity(named.len());
    for (archive, others) in named {
        let Some(second) = others.first() else {
            archives.push(archive);
            continue;
        };
        left_out.push(LeftOut::new(&archive.path, same_name_as(second)));
        left_out.extend(others.iter().map(|other| LeftOut::new(other, same_name_as(&archive.path))));
    }
    archives
}

fn same_name_as(other: &Path) -> String {
    format!("{other:?} is another file of the same name, and the name identifies an archive: rename one")
}

#[cfg(test)]
mod tests;
