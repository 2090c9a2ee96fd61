//! The journal beside a large state file: new entries, one per line, until the file itself is rewritten.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::files;

/// The journal of a state file.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    state_file: PathBuf,
    file: Option<File>,
}

impl Journal {
    /// Returns the journal of the state file at `path`, which need not exist.
    pub(super) fn of(path: &Path) -> Self {
        Self { path: files::beside(path, files::JOURNAL), state_file: path.to_owned(), file: None }
    }

    /// Whether this run has written to it.
    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Reads the lines that an earlier run has left, except for a last line that a crash has cut off.
    ///
    /// # Errors
    ///
    /// Fails if the journal exists but cannot be read.
    pub(super) fn left(&self) -> io::Result<Vec<u8>> {
        let Some(mut lines) = files::if_exists(files::read(&self.path))? else { return Ok(Vec::new()) };
        let whole = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        lines.truncate(whole);
        Ok(lines)
    }

    /// Whether the state file is gone, or was changed after the journal. After a crash in a rewrite of the file, it is newer
    /// as well, but holds all entries of the journal.
    ///
    /// Compares the times at which the inodes last changed. A restored file often has its old modification time (`cp -p`,
    /// `mv`, `tar x`), but no program can set these times. `chmod` also changes them; then archives are only loaded again.
    pub(super) fn is_outdated(&self) -> bool {
        let changed = |path: &Path| fs::metadata(path).map(|file| (file.ctime(), file.ctime_nsec()));
        match (changed(&self.state_file), changed(&self.path)) {
            (Ok(state_file), Ok(journal)) => journal < state_file,
            (Err(error), _) => error.kind() == io::ErrorKind::NotFound,
            (Ok(_), Err(_)) => false,
        }
    }

    /// Appends lines durably.
    ///
    /// # Errors
    ///
    /// Fails if the lines may not be on disk.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            // Starts a new journal, since the state file has the entries of an earlier one by now.
            self.file = Some(files::create_temporary(&self.path, &self.state_file)?);
            files::sync_folder(&self.path)?;
        }
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(lines).and_then(|()| file.sync_data()))
    }

    /// Removes the journal. All its entries must be in the state file.
    pub(super) fn clear(&mut self) {
        self.file = None;
        // If that fails, the journal only repeats entries of the state file.
        let _ = fs::remove_file(&self.path);
    }
}
