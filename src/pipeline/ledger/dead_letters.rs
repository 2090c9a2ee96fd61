//! The dead-letter file: rejected rows, one JSON object per line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::files;
use crate::model::DeadLetter;

/// Appends dead letters to a file, which the first one creates. If somebody moves or removes the file during the run,
/// the next dead letter creates it again.
pub struct DeadLetterFile {
    path: PathBuf,
    file: Option<File>,
    unsynced: bool,
}

impl DeadLetterFile {
    /// Creates a writer for the file at `path`, which need not exist.
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None, unsynced: false }
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends dead letters. They are on disk only after the next [`Self::sync`].
    pub fn append(&mut self, letters: &[DeadLetter]) -> io::Result<()> {
        let mut lines = Vec::new();
        for letter in letters {
            serde_json::to_writer(&mut lines, letter)?;
            lines.push(b'\n');
        }
        self.append_lines(&lines)
    }

    /// Appends whole lines unchanged, each with its line end. They are on disk only after the next [`Self::sync`].
    pub fn append_lines(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        if !self.is_in_place() {
            // Its last lines may belong to archives that are marked next.
            self.sync()?;
            self.file = Some(self.open()?);
        }
        self.unsynced = true;
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(lines))
    }

    /// Syncs everything appended to disk.
    pub fn sync(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.as_ref().filter(|_| self.unsynced) {
            file.sync_data()?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Whether the file is open, and still the one at its path.
    fn is_in_place(&self) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let opened = self.file.as_ref().and_then(|file| file.metadata().ok()).map(identity);
        opened.is_some() && opened == fs::metadata(&self.path).ok().map(identity)
    }

    /// Opens the file for appending. Adds a missing line end, in case a crash has cut the last line off.
    fn open(&self) -> io::Result<File> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&self.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            // A pipe or device would not keep the rows, and may block the run for ever.
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        if metadata.len() > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        files::sync_folder(&self.path)?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(row_id: i64) -> DeadLetter {
        DeadLetter {
            archive: "a".into(),
            row_id,
            at_uri: "at://x\n".into(),
            stage: "decode".into(),
            error_type: "invalid_json".into(),
            reason: "since".into(),
            action: None,
            document: None,
        }
    }

    #[test]
    fn letters_are_whole_lines_even_after_a_torn_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead");
        fs::write(&path, "{\"half").unwrap();
        let mut file = DeadLetterFile::new(path.clone());
        file.append(&[letter(1), letter(2)]).unwrap();
        file.append(&[letter(3)]).unwrap();
        file.append_lines(b"{}\n").unwrap();
        file.sync().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        for line in &lines[1..] {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }

    #[test]
    fn a_file_that_is_moved_or_removed_is_created_again() {
        let folder = tempfile::tempdir().unwrap();
        let [path, moved] = ["dead", "moved"].map(|name| folder.path().join(name));
        let mut file = DeadLetterFile::new(path.clone());
        let lines = |path: &Path| fs::read_to_string(path).unwrap().lines().count();
        file.append(&[letter(1)]).unwrap();
        file.append(&[letter(2)]).unwrap();
        fs::rename(&path, &moved).unwrap();
        file.append(&[letter(3)]).unwrap();
        assert_eq!((lines(&moved), lines(&path)), (2, 1));
        fs::remove_file(&path).unwrap();
        file.append(&[letter(4)]).unwrap();
        assert_eq!(lines(&path), 1);
        // As `logrotate` does with `create`.
        fs::rename(&path, &moved).unwrap();
        fs::write(&path, "").unwrap();
        file.append(&[letter(5)]).unwrap();
        file.sync().unwrap();
        assert_eq!((lines(&moved), lines(&path)), (1, 1));
    }

    #[test]
    fn without_letters_there_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead");
        let mut file = DeadLetterFile::new(path.clone());
        file.append(&[]).unwrap();
        file.append_lines(&[]).unwrap();
        file.sync().unwrap();
        assert!(!path.exists());
    }
}
