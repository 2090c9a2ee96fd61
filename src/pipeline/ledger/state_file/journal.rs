//! What a run adds to a large state file, until the file itself is written anew: one entry a line, beside it.

use std::fs::{self, File};
use std::io::{self, Write};
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
    /// That of the state file at `path`; there need not be one.
    pub(super) fn of(path: &Path) -> Self {
        Self { path: files::beside(path, files::JOURNAL), state_file: path.to_owned(), file: None }
    }

    /// Whether it is this run's.
    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// The whole lines of what an earlier run has left. A crash may have cut off the last one.
    ///
    /// # Errors
    ///
    /// Where there is one that cannot be read.
    pub(super) fn left(&self) -> io::Result<Vec<u8>> {
        let mut lines = match files::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            lines => lines?,
        };
        let whole = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        lines.truncate(whole);
        Ok(lines)
    }

    /// Appends lines, durably.
    ///
    /// # Errors
    ///
    /// Where they are not on disk.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            // A new one: what an earlier run has left is in the file itself by now.
            self.file = Some(files::create_temporary(&self.path, &self.state_file)?);
            files::sync_folder(&self.path)?;
        }
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(lines).and_then(|()| file.sync_data()))
    }

    /// All of it is in the file itself.
    pub(super) fn clear(&mut self) {
        self.file = None;
        // Where it stays, what is in it is known already to whoever reads it.
        let _ = fs::remove_file(&self.path);
    }
}
