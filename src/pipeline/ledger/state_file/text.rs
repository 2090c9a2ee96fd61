//! The text of a state file. Text on disk stays there; new text is kept in memory until the next write.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::scan::Shape;
use crate::files::{self, copy_bytes};

/// The text after the last entry.
const END: &[u8] = b"\n]\n";

/// The place of an entry, in the file or in the added text after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: u64,
    pub(super) length: u64,
}

/// The text of a state file as the next write will write it.
#[derive(Debug)]
pub(super) struct Text {
    /// The file as it was read or last written. None if it does not exist yet.
    file: Option<File>,
    /// Its length, in bytes.
    length: u64,
    /// Offset of the end of its last entry.
    body: u64,
    is_empty: bool,
    /// New entries, each after its separator.
    added: Vec<u8>,
    /// Replaced entries of the file, by offset: old length and new text.
    edits: BTreeMap<u64, (u64, Vec<u8>)>,
}

impl Text {
    /// Creates the text of a file that does not exist yet.
    pub(super) fn new() -> Self {
        // `body` counts the opening bracket, which the first write adds.
        Self { file: None, length: 0, body: 1, is_empty: true, added: Vec::new(), edits: BTreeMap::new() }
    }

    /// Creates the text of a file that has been read.
    pub(super) fn of(file: File, shape: Shape) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file: Some(file), length, body: shape.end, is_empty: shape.count == 0, ..Self::new() })
    }

    /// Returns the length up to the end of the last entry, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.body + self.added.len() as u64
    }

    /// Prepares the text for writing to `path`, which is not the file that it was read from.
    pub(super) fn replacement(&mut self, path: &Path) -> io::Result<()> {
        self.length = std::fs::metadata(path)?.len();
        Ok(())
    }

    /// Appends an entry.
    pub(super) fn append(&mut self, entry: &[u8]) -> Place {
        self.added.extend_from_slice(if self.is_empty { b"\n  " } else { b",\n  " });
        self.is_empty = false;
        let place = Place { at: self.len(), length: entry.len() as u64 };
        self.added.extend_from_slice(entry);
        place
    }

    /// Replaces the text of an entry. Returns the new places of entries.
    pub(super) fn replace(&mut self, place: Place, entry: &[u8]) -> Places {
        let Some(start) = place.at.checked_sub(self.body).and_then(|start| usize::try_from(start).ok())
        else {
            self.edits.insert(place.at, (place.length, entry.to_vec()));
            // Entries of the file move when it is written.
            return Places::default();
        };
        let end = start + usize::try_from(place.length).unwrap_or_default();
        self.added.splice(start..end, entry.iter().copied());
        let length = entry.len() as u64;
        Places(BTreeMap::from([(place.at, (length as i64 - place.length as i64, length))]))
    }

    /// Rewrites the file durably. Returns the new places of its entries.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written, or if another process has changed it.
    pub(super) fn write(&mut self, path: &Path) -> io::Result<Places> {
        let changed = || io::Error::other("another program has changed it during the run");
        if self.file.is_some() && std::fs::metadata(path).is_ok_and(|now| now.len() != self.length) {
            return Err(changed());
        }
        files::replace_with(path, &|out| self.write_to(out))?;
        let body = self.len().saturating_add_signed(self.edits.values().map(growth).sum());
        let length = body + END.len() as u64;
        let file = files::open(path)?;
        // Another program may have written to the new file already.
        if file.metadata()?.len() != length {
            return Err(changed());
        }
        (self.length, self.body) = (length, body);
        self.file = Some(file);
        self.added.clear();
        Ok(Places::after(&std::mem::take(&mut self.edits)))
    }

    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut at = 0;
        match &self.file {
            None => out.write_all(b"[")?,
            Some(file) => {
                for (place, (length, entry)) in &self.edits {
                    copy_bytes(file, at..*place, out)?;
                    out.write_all(entry)?;
                    at = place + length;
                }
                copy_bytes(file, at..self.body, out)?;
            }
        }
        out.write_all(&self.added)?;
        out.write_all(END)
    }
}

/// Returns by how many bytes an edit lengthens the file.
fn growth((length, entry): &(u64, Vec<u8>)) -> i64 {
    entry.len() as i64 - *length as i64
}

/// The places of entries after edits: for each edit, by its old offset, the number of bytes by which entries after it have
/// moved, and the new length.
#[derive(Default)]
pub(super) struct Places(BTreeMap<u64, (i64, u64)>);

impl Places {
    fn after(edits: &BTreeMap<u64, (u64, Vec<u8>)>) -> Self {
        let mut moved = 0;
        let one = |(at, edit): (&u64, &(u64, Vec<u8>))| {
            moved += growth(edit);
            (*at, (moved, edit.1.len() as u64))
        };
        Self(edits.iter().map(one).collect())
    }

    /// Whether no entry has moved.
    pub(super) fn are_kept(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the new place of an entry.
    pub(super) fn of(&self, old: Place) -> Place {
        let moved = self.0.range(..old.at).next_back().map_or(0, |(_, (moved, _))| *moved);
        let length = self.0.get(&old.at).map_or(old.length, |(_, length)| *length);
        Place { at: old.at.saturating_add_signed(moved), length }
    }
}
