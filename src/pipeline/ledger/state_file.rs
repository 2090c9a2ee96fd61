//! The state file: which archives are done.
//!
//! It is a JSON array of `{"filename", "status": "processed"|"failed", "timestamp", "error"?}`, as the established tool
//! writes it. This program adds the fields `rows`, `size`, `modified_ns` and `etag`. Entries that it does not change are
//! kept byte for byte.
//!
//! Later versions of that tool write an object: `{"files": […], "cursor": {"last_time_us": …}}`, or only the cursor. A
//! cursor marks every archive up to its time as done. The first save turns such a file into an array with an entry for
//! the cursor.
//!
//! The text stays on disk; memory only holds each archive's name and mark. A small file is rewritten at each save. A
//! large file is rewritten at a limited rate, so that the cost is negligible. In between, new entries go to a journal
//! beside it. Whoever reads the file also reads the journal.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::entry::{ArchiveState, CURSOR, NO_TIME, StateEntry, Sums, WithCursor, entry_of};
use self::journal::Journal;
use self::text::{Place, Places, Text};
use crate::common::exit::Failure;
use crate::files::{self, real_path};
use crate::model::{Archive, Done};

mod entry;
mod journal;
mod lock;
mod scan;
mod stamp;
mod text;

pub use entry::Mark;
pub use lock::Lock;
pub use stamp::Stamp;

/// The largest file that is rewritten at each save, in bytes.
const SMALL_BYTES: u64 = 1 << 20;

/// Average rate limit for rewriting a larger file, in bytes per second.
const BYTES_PER_SECOND: u64 = 1 << 20;

/// Number of bytes per read.
const READ_BYTES: usize = 64 << 10;

/// The state file in memory.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    text: Text,
    /// The archives with an entry, by name.
    known: HashMap<Box<str>, ArchiveState>,
    /// Entries since the last save, one per line.
    unsaved: Vec<u8>,
    /// The archives that this run has marked as failed.
    failed_now: HashSet<Box<str>>,
    sums: Sums,
    journal: Journal,
    /// Whether a journal, of this run or an earlier one, has entries that are not in the file.
    has_journal: bool,
    /// When the file was last read or written.
    written: Instant,
}

impl StateFile {
    /// Reads the file. A missing file counts as empty.
    ///
    /// # Errors
    ///
    /// Fails with exit code 2 if the file is anything but a state file. An unreadable file never counts as empty.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let path = resolve_links(path)?;
        let state = match Self::read(&path, &path) {
            Ok(state) => state,
            Err(error) => {
                Self::read_copy(&path, &error).ok_or_else(|| unreadable(&path, &error, &error.to_string()))?
            }
        };
        state.with_journal()
    }

    /// Creates a state in which nothing is done, for runs that read all archives. Must never be saved.
    pub fn empty(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            text: Text::new(),
            known: HashMap::new(),
            unsaved: Vec::new(),
            failed_now: HashSet::new(),
            sums: Sums::new(),
            journal: Journal::of(path),
            has_journal: false,
            written: Instant::now(),
        }
    }

    /// Reads the text at `from` as the state file at `path`.
    fn read(path: &Path, from: &Path) -> io::Result<Self> {
        let mut state = Self::empty(path);
        let Some(mut file) = files::if_exists(files::open(from))? else { return Ok(state) };
        if is_object(&mut file)? {
            return state.read_object(file);
        }
        // If an archive has several entries, the last one counts.
        let shape = scan::objects(BufReader::with_capacity(READ_BYTES, &file), |at, entry| {
            let (name, mark, stamp) = StateEntry::read(entry, &mut state.sums)?;
            let place = Place { at, length: entry.len() as u64 };
            state.known.insert(name.into_boxed_str(), ArchiveState::new(mark, stamp, place));
            Ok(())
        })?;
        state.text = Text::of(file, shape)?;
        Ok(state)
    }

    /// Reads the formats with a cursor. Such a file is small, so it is read as a whole.
    fn read_object(mut self, mut file: File) -> io::Result<Self> {
        let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let WithCursor { files, cursor, last_time_us } =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let cursor = cursor.map(|cursor| cursor.last_time_us).or(last_time_us);
        if files.is_none() && cursor.is_none() {
            return Err(wrong("it is an object with neither files nor a cursor".to_owned()));
        }
        for entry in files.unwrap_or_default() {
            let entry = entry.get().as_bytes();
            let (name, mark, stamp) = StateEntry::read(entry, &mut self.sums).map_err(wrong)?;
            self.put(&name, entry, mark, stamp);
        }
        if let Some(cursor) = cursor {
            let entry = format!(
                r#"{{"filename":"{CURSOR}","status":"processed","timestamp":"{NO_TIME}","last_time_us":{cursor}}}"#
            );
            self.sums.cursor_us = Some(cursor);
            self.put(CURSOR, entry.as_bytes(), Mark::Processed, None);
        }
        Ok(self)
    }

    /// Reads the copy beside a file that can only be written in place and that a crash has torn. None if there is no
    /// copy, or if it is not complete.
    fn read_copy(path: &Path, error: &io::Error) -> Option<Self> {
        let copy = files::copy_of(path);
        // No crash empties a file that is written in place, so somebody has, perhaps to load everything again.
        let is_emptied = std::fs::metadata(path).is_ok_and(|file| file.len() == 0);
        if is_emptied || !files::is_mount_point(path) || !copy.is_file() {
            return None;
        }
        let mut state = Self::read(path, &copy).ok()?;
        log::warn!(
            "the state file {} is damaged ({error}): its copy {} is used",
            path.display(),
            copy.display()
        );
        state.text.replacement(path).ok()?;
        Some(state)
    }

    /// Adds the entries of the journal, which an earlier run, or one that is still running, has not written to the file.
    ///
    /// A killed run may leave its journal. If somebody edits, restores or removes the state file after that, the journal
    /// does not count: its marks may be the very ones to be removed.
    fn with_journal(mut self) -> Result<Self, Failure> {
        let is_outdated = self.journal.is_outdated();
        let mut ignored = 0;
        let left = self.journal.left().map_err(|error| {
            unreadable(&self.path, &error, &format!("its journal, beside it, cannot be read: {error}"))
        })?;
        for line in left.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let sums = if is_outdated { &mut Sums::new() } else { &mut self.sums };
            let (name, mark, stamp) = StateEntry::read(line, sums).map_err(|why| {
                unusable(
                    &self.path,
                    &format!("its journal, beside it, has a line that is not an entry: {why}"),
                )
            })?;
            // The journal may repeat the file, and processed archives stay processed.
            let is_known = |known: &ArchiveState| match known.mark() {
                Mark::Processed => true,
                failed => *failed == mark && known.stamp == stamp,
            };
            if self.known.get(&*name).is_some_and(is_known) {
                continue;
            }
            self.has_journal = true;
            if is_outdated {
                ignored += 1;
            } else {
                self.put(&name, line, mark, stamp);
            }
        }
        if ignored > 0 {
            log::warn!(
                "{ignored} marks in the journal of the state file {} are not used: the file was edited, restored or \
                 removed after a killed run had left them",
                self.path.display()
            );
        }
        Ok(self)
    }

    /// Returns the mark of the archive with this name.
    pub fn get(&self, name: &str) -> Option<&Mark> {
        self.known.get(name).map(ArchiveState::mark)
    }

    /// Whether an archive has changed since it was marked: the size or time of a file, the size or ETag of an object.
    pub fn has_changed(&self, archive: &Archive) -> bool {
        let stamp = self.known.get(&*archive.name).and_then(|known| known.stamp);
        stamp.is_some_and(|stamp| stamp.differs(archive))
    }

    /// Returns totals over the archives that were processed when the file was read: all of them, and those marked some
    /// minutes before, whose documents an index shows by now.
    pub fn done(&self) -> (Done, Done) {
        (self.sums.all, self.sums.earlier)
    }

    /// Whether the archive's time is at or before the file's cursor.
    pub fn is_before_cursor(&self, archive: &Archive) -> bool {
        let micros = archive.seconds.and_then(|seconds| seconds.checked_mul(1_000_000));
        micros.zip(self.sums.cursor_us).is_some_and(|(micros, cursor)| micros <= cursor)
    }

    /// Whether this run has marked the archive as failed.
    pub fn has_failed_now(&self, name: &str) -> bool {
        self.failed_now.contains(name)
    }

    /// Marks an archive as processed, with its number of rows.
    pub fn mark_processed(&mut self, archive: &Archive, rows: u64) {
        let entry = StateEntry { rows: Some(rows), ..entry_of(archive, "processed") };
        self.mark(&entry, Mark::Processed, Stamp::of(archive));
    }

    /// Marks an archive as failed, with the error.
    pub fn mark_failed(&mut self, archive: &Archive, error: &str) {
        let entry = StateEntry { error: Some(error.to_owned()), ..entry_of(archive, "failed") };
        self.failed_now.insert(archive.name.as_str().into());
        self.mark(&entry, Mark::Failed { error: error.to_owned() }, Stamp::of(archive));
    }

    fn mark(&mut self, entry: &StateEntry, mark: Mark, stamp: Option<Stamp>) {
        // An entry holds only text and numbers, so this cannot fail.
        let text = serde_json::to_vec(entry).unwrap_or_default();
        self.unsaved.extend_from_slice(&text);
        self.unsaved.push(b'\n');
        self.put(&entry.filename, &text, mark, stamp);
    }

    /// Replaces the entry of an archive, or appends one.
    fn put(&mut self, name: &str, text: &[u8], mark: Mark, stamp: Option<Stamp>) {
        let old = self.known.get_mut(name).and_then(ArchiveState::place).copied();
        let place = match old {
            None => self.text.append(text),
            Some(old) => {
                let places = self.text.replace(old, text);
                self.move_entries(&places);
                places.of(old)
            }
        };
        self.known.insert(name.into(), ArchiveState::new(mark, stamp, place));
    }

    fn move_entries(&mut self, places: &Places) {
        if !places.are_kept() {
            let known = self.known.values_mut().filter_map(ArchiveState::place);
            known.for_each(|place| *place = places.of(*place));
        }
    }

    /// Returns the file's path, with all links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Saves all marks durably, by replacing the file or by appending to its journal.
    ///
    /// # Errors
    ///
    /// Fails if the marks may not be on disk.
    pub fn save(&mut self) -> io::Result<()> {
        if self.is_due() || self.journal.append(&self.unsaved).is_err() {
            return self.write();
        }
        self.has_journal = true;
        self.unsaved.clear();
        Ok(())
    }

    /// Writes all marks to the file itself, at the end of a run.
    ///
    /// # Errors
    ///
    /// Fails if the marks may not be in the file.
    pub fn finish(&mut self) -> io::Result<()> {
        if self.has_journal { self.write() } else { Ok(()) }
    }

    /// Whether to rewrite the file now: it is small, it was written long enough ago, or an earlier run has left a journal.
    fn is_due(&self) -> bool {
        let pause = Duration::from_secs(self.text.len() / BYTES_PER_SECOND);
        let is_left = self.has_journal && !self.journal.is_open();
        is_left || self.text.len() <= SMALL_BYTES || self.written.elapsed() >= pause
    }

    fn write(&mut self) -> io::Result<()> {
        let places = self.text.write(&self.path)?;
        self.move_entries(&places);
        // If writing the journal failed, it may end in half a line.
        if std::mem::take(&mut self.has_journal) || self.journal.is_open() {
            self.journal.clear();
        }
        self.unsaved.clear();
        self.written = Instant::now();
        Ok(())
    }
}

/// Resolves links to the state file, so that a save replaces the file and not the link, and the lock does not depend on
/// the name used. A dangling link is an error and not an empty file: its volume may not be mounted.
fn resolve_links(path: &Path) -> Result<PathBuf, Failure> {
    if path.is_symlink() && !path.exists() {
        let what = "it is a link to a missing file; if there has never been a state file, write [] into it";
        return Err(unusable(path, what));
    }
    Ok(real_path(path))
}

fn unusable(path: &Path, what: &str) -> Failure {
    Failure::usage(format!(
        "the state file {} cannot be used: {what}; repair it, restore a copy, or name another one in SPOOL_STATE_FILE",
        path.display()
    ))
}

/// Returns the failure of reading the state file or its journal. An error of the system may pass, and a scheduler may try
/// again then.
fn unreadable(path: &Path, error: &io::Error, why: &str) -> Failure {
    let text = format!("the state file {} cannot be read: {why}", path.display());
    files::failure_that_may_pass(error, &text).unwrap_or_else(|| unusable(path, why))
}

/// Whether a file begins like a JSON object. Rewinds the file.
fn is_object(file: &mut File) -> io::Result<bool> {
    let mut start = [0; 64];
    let length = file.read(&mut start)?;
    file.rewind()?;
    Ok(start.get(..length).unwrap_or_default().trim_ascii_start().starts_with(b"{"))
}

#[cfg(test)]
mod tests;
