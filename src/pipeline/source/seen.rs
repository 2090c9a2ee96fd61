//! Collects what is in folders without archives, for the message to a user who expects some.

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};

use crate::model::{ARCHIVE_SUFFIX, has_archive_suffix, is_metadata_file};

/// Maximum number of subfolders that are searched.
const MAX_FOLDERS: usize = 100;

/// The entries that are not archives.
#[derive(Debug, Default)]
pub(super) struct Seen {
    entries: u64,
    /// Number of files named `*.zip`, and the first of them.
    zips: u64,
    zip: Option<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Seen {
    /// Records an entry that is not named like an archive.
    pub(super) fn add(&mut self, entry: &DirEntry) {
        self.entries += 1;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if self.folders.len() < MAX_FOLDERS {
                self.folders.push(entry.path());
            }
        } else if entry.file_name().as_encoded_bytes().to_ascii_lowercase().ends_with(b".zip")
            && !is_metadata_file(entry.file_name().as_encoded_bytes())
        {
            self.zips += 1;
            self.zip.get_or_insert_with(|| entry.path());
        }
    }

    /// Adds what another folder has.
    pub(super) fn add_all(&mut self, mut other: Self) {
        self.entries += other.entries;
        self.zips += other.zips;
        self.zip = self.zip.take().or(other.zip);
        self.folders.append(&mut other.folders);
    }

    /// Formats the message: the places, the names looked for, and what is there instead.
    pub(super) fn message(&self, paths: &[&PathBuf]) -> String {
        let paths: Vec<String> = paths.iter().map(|path| format!("{path:?}")).collect();
        let entries = match self.entries {
            0 => "nothing is there".to_owned(),
            1 => "one other entry is there".to_owned(),
            count => format!("{count} other entries are there"),
        };
        let zips = self.zip.iter().map(|zip| {
            format!(
                "; {} of them are named *.zip without .db, such as {zip:?}: name them *{ARCHIVE_SUFFIX}",
                self.zips
            )
        });
        let deeper = self.folders.iter().find_map(|folder| Some((folder, archives_in(folder)?)));
        let deeper = deeper.map(|(folder, count)| {
            format!(
                "; {count} archives are a level deeper, in {folder:?}: name that folder, because \
            folders are not searched any deeper"
            )
        });
        format!(
            "no archive was found in {}: the program looked for files named *{ARCHIVE_SUFFIX}; {entries}{}",
            paths.join(", "),
            zips.chain(deeper).collect::<String>()
        )
    }
}

/// Returns the number of archives directly in a folder. None if there are none, or if it cannot be read.
fn archives_in(folder: &Path) -> Option<usize> {
    let names = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.file_name());
    let count =
        names.filter(|name| has_archive_suffix(name) && !is_metadata_file(name.as_encoded_bytes())).count();
    (count > 0).then_some(count)
}
