//! Opens archives: waits for memory, unzips, counts the rows, and finds the time that orders them.

use std::sync::Arc;

use super::shared::Shared;
use super::{Workers, end_by, reading};
use crate::model::{Archive, ArchiveEnd, MAX_ARCHIVE_SECONDS};
use crate::pipeline::archive::{
    ArchiveBuffers, ArchiveError, Database, Image, Room, bytes_declared, bytes_declared_in, bytes_to_read,
};
use crate::pipeline::source::{Content, Download, has_changed};

impl Workers<'_> {
    /// Unzips an archive and scans it.
    pub(super) fn open(
        &self,
        archive: &Arc<Archive>,
        content: Content,
        buffers: &mut ArchiveBuffers,
    ) -> Result<(Shared, Database), ArchiveEnd> {
        if self.stop.is_requested() {
            return Err(reading::stopping());
        }
        let opened = match content {
            Content::AtPath => self.read_file(archive, buffers),
            Content::Downloaded(download) => download.and_then(|download| {
                let may_be_mixed = download.may_be_mixed;
                self.unpack(archive, download, buffers).map_err(|error| match error {
                    ArchiveError::Broken(why) if may_be_mixed => ArchiveError::Unavailable(format!(
                        "its download was interrupted, and what arrived is damaged ({why}): the next look downloads it \
                         again"
                    )),
                    error => error,
                })
            }),
        };
        let (shared, database) = opened.map_err(|error| match error {
            ArchiveError::NoRoom(needed) => {
                ArchiveEnd::Abandoned(self.admission.mark_too_large(archive, needed))
            }
            error => end_by(error),
        })?;
        self.progress.opened(archive, shared.rows());
        Ok((shared, database))
    }

    /// Reads and unzips a file once it is admitted. If it turns out to need more memory, waits for that, or for all there
    /// is, and starts again.
    fn read_file(
        &self,
        archive: &Arc<Archive>,
        buffers: &mut ArchiveBuffers,
    ) -> Result<(Shared, Database), ArchiveError> {
        let mut needed =
            self.reading(archive, || self.unless_changed(archive, bytes_declared(&archive.path)))?;
        // The memory needed after unzipping, in bytes, if it turns out to be more than usual.
        let mut beside = 0;
        let total = self.admission.rooms().total();
        loop {
            let mut room = self.admission.admit(needed, self.stop)?;
            let image = self.reading(archive, || {
                self.unless_changed(archive, buffers.read_within(&archive.path, room.bytes()))
            })?;
            // The file is no longer in memory, and the size of the database is known now.
            room.shrink_to(beside.max(bytes_to_read(0, image.len() as u64)));
            match self.scan(archive, image, room) {
                Err(ArchiveError::NoRoom(more)) if beside < total => {
                    beside = more.min(total);
                    needed = needed.max(beside);
                }
                scanned => return scanned,
            }
        }
    }

    /// Unzips a download once it is admitted. If it turns out to need more memory, waits for that, or for all there is,
    /// and starts again.
    fn unpack(
        &self,
        archive: &Arc<Archive>,
        mut download: Download,
        buffers: &mut ArchiveBuffers,
    ) -> Result<(Shared, Database), ArchiveError> {
        let mut needed = bytes_declared_in(&download.bytes)?;
        if let Some(room) = download.alone.take() {
            return self.unpack_alone(archive, download, needed, room, buffers);
        }
        let total = self.admission.rooms().total();
        loop {
            let room = self.admission.admit(needed, self.stop)?;
            let image = buffers.unpack(&download.bytes)?;
            match self.scan(archive, image, room) {
                Err(ArchiveError::NoRoom(more)) if needed < total => needed = more.min(total),
                scanned => return scanned,
            }
        }
    }

    /// Unzips a download for which all memory was reserved. Drops the file then, so that others can be downloaded. They can
    /// be read once the rows are counted and the memory that this takes is known.
    fn unpack_alone(
        &self,
        archive: &Arc<Archive>,
        download: Download,
        needed: u64,
        room: Room,
        buffers: &mut ArchiveBuffers,
    ) -> Result<(Shared, Database), ArchiveError> {
        self.admission.check_alone(archive.bytes, needed)?;
        let image = buffers.unpack(&download.bytes)?;
        drop(download);
        self.scan(archive, image, room)
    }

    /// Scans an archive and divides it into ranges.
    fn scan(
        &self,
        archive: &Arc<Archive>,
        image: Image,
        room: Room,
    ) -> Result<(Shared, Database), ArchiveError> {
        let image = Arc::new(image);
        let database = Database::open(&image)?;
        let seconds = archive_seconds(archive, &database)?;
        let shared = Shared::new(archive.clone(), image, &database, seconds, room)?;
        Ok((shared, database))
    }

    /// Calls a function that waits for the disk or file server of an archive.
    pub(super) fn reading<T>(&self, archive: &Archive, read: impl FnOnce() -> T) -> T {
        self.stop.pulse().while_using(&archive.path, read)
    }

    /// Returns the result of reading, unless the file has changed since it was found. A changed file may have been
    /// incomplete, even if it was read without an error.
    fn unless_changed<T>(&self, archive: &Archive, read: Result<T, ArchiveError>) -> Result<T, ArchiveError> {
        if self.unchanged.is_some() && has_changed(archive) {
            let why = "it is still being written; the next look checks it again";
            return Err(ArchiveError::Unavailable(why.to_owned()));
        }
        read
    }
}

/// Returns the archive's time, in seconds since 1970: from its name, else the newest `created_at` of its rows, else the
/// modification time of the file.
fn archive_seconds(archive: &Archive, database: &Database) -> Result<i64, ArchiveError> {
    if let Some(seconds) = archive.seconds {
        return Ok(seconds);
    }
    let in_range = |seconds: &i64| (0..MAX_ARCHIVE_SECONDS).contains(seconds);
    let name = &archive.name;
    if let Some(seconds) = database.newest_created_at()?.filter(in_range) {
        log::warn!("{name:?} has no time in its name: the time of its newest row orders its events");
        return Ok(seconds);
    }
    log::warn!("{name:?} has no time in its name or rows: the time of the file orders its events");
    i64::try_from(archive.modified_ns / 1_000_000_000).ok().filter(in_range).ok_or_else(|| {
        ArchiveError::Broken("neither its name nor its rows nor the file has a usable time".into())
    })
}
