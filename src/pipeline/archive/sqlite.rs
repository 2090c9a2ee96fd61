//! Reads the rows of an archive's database in memory.

use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OptionalExtension, Params};

use super::ArchiveError;
use super::image::Image;
use super::row::{Field, Row};
use super::schema::{Queries, SCHEMA_OPERATIONS, Table, harden, limit_operations};
use crate::common::text::on_one_line;

/// Limit of SQLite operations for reading rows, per byte of the database. The smallest row has about 9 bytes, and calling
/// each method once takes about 50 operations per row.
const OPERATIONS_PER_BYTE: u64 = 8;

/// Maximum length of SQLite's description of a defect, in characters.
const MAX_DEFECT_CHARS: usize = 300;

/// All row ids that a table can have.
pub const ALL_ROWS: RangeInclusive<i64> = i64::MIN..=i64::MAX;

/// The database of one archive, opened in place for reading. Several may read the same image at once.
#[derive(Debug)]
pub struct Database {
    // Declared before the image that it reads, so that it is dropped and closed first.
    connection: Connection,
    queries: Queries,
    _image: Arc<Image>,
}

impl Database {
    /// Opens the database in an image.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Broken`] if it has no usable table.
    pub fn open(image: &Arc<Image>) -> Result<Self, ArchiveError> {
        let mut connection = Connection::open_in_memory()?;
        connection.deserialize_bytes(MAIN_DB, outlive_connection(image))?;
        harden(&connection)?;
        // Lets SQLite read pages in place instead of copying them.
        connection.pragma_update(None, "mmap_size", i64::MAX)?;
        limit_operations(&mut connection, SCHEMA_OPERATIONS)?;
        let queries = Queries::of(&Table::find(&connection)?);
        limit_operations(
            &mut connection,
            (image.len() as u64).saturating_mul(OPERATIONS_PER_BYTE).max(SCHEMA_OPERATIONS),
        )?;
        Ok(Self { connection, queries, _image: image.clone() })
    }

    /// Calls `f` with the row id and `at_uri` of every row, in order of row ids, until `f` breaks.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`], after `f` has been called for the rows before the defect.
    pub fn for_each_id(
        &self,
        mut f: impl FnMut(i64, Field<'_>) -> ControlFlow<()>,
    ) -> Result<(), ArchiveError> {
        self.scan(&self.queries.ids, [], |id, row| Ok(f(id, field(row, 1)?)))
    }

    /// Calls `f` with every row whose id is in the range, in order of row ids, until `f` breaks.
    ///
    /// # Errors
    ///
    /// See [`Database::for_each_id`].
    pub fn for_each_row(
        &self,
        ids: &RangeInclusive<i64>,
        mut f: impl FnMut(&Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), ArchiveError> {
        self.scan(&self.queries.rows, [ids.start(), ids.end()], |id, row| Ok(f(&whole_row(id, row)?)))
    }

    /// Calls `f` with the row of this id, without its inferences, which are half of its bytes. Returns None if there is
    /// no such row.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`] if the row cannot be read. `f` is not called then.
    pub fn with_event<T>(&self, id: i64, f: impl FnOnce(&Row<'_>) -> T) -> Result<Option<T>, ArchiveError> {
        let mut statement = self.connection.prepare_cached(&self.queries.event)?;
        Ok(statement.query_row([id], |row| Ok(f(&whole_row(id, row)?))).optional()?)
    }

    /// Returns the newest `created_at` of all rows, in seconds since 1970: when SQLite wrote the row (UTC).
    ///
    /// None if the table has no such column, or if no value is a time for SQLite.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`] if the rows cannot be read.
    pub fn newest_created_at(&self) -> Result<Option<i64>, ArchiveError> {
        match &self.queries.newest_created_at {
            Some(sql) => Ok(self.connection.query_row(sql, [], |row| row.get(0))?),
            None => Ok(None),
        }
    }

    /// Runs a query whose first column is the row id. Refuses row ids that are not in order: in a crafted database, pages
    /// may refer to each other, so that its rows never end.
    fn scan(
        &self,
        sql: &str,
        params: impl Params,
        mut f: impl FnMut(i64, &rusqlite::Row<'_>) -> rusqlite::Result<ControlFlow<()>>,
    ) -> Result<(), ArchiveError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            if last.is_some_and(|last| id <= last) {
                return Err(ArchiveError::broken("the table is corrupt: its row ids are not in order"));
            }
            last = Some(id);
            if f(id, row)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Returns the bytes of an image for a connection that is closed before the image is dropped.
///
/// Safe Rust cannot express that a field borrows from its neighbour. The alternative is memory owned by SQLite. Then each
/// archive would take new memory (page faults take 22 % of a run's CPU time), and only one thread could read it, so a
/// single large archive would keep only one core busy.
#[allow(unsafe_code)]
fn outlive_connection(image: &Arc<Image>) -> &'static [u8] {
    let bytes: &[u8] = image;
    // SAFETY: the memory of an image never moves and is not written to once the image is created. The connection that
    // gets this slice is a field of `Database` before the field that holds the image. Fields are dropped in order, so the
    // connection is closed while the image still exists. It opens the slice read-only.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) }
}

fn whole_row<'a>(id: i64, row: &'a rusqlite::Row<'_>) -> rusqlite::Result<Row<'a>> {
    Ok(Row {
        id,
        at_uri: field(row, 1)?,
        did: field(row, 3)?,
        raw_post: field(row, 5)?,
        inferences: field(row, 7)?,
    })
}

/// Reads a column, whose length is in the next column.
fn field<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Field<'a>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null => Field::Null,
        ValueRef::Text(text) => Field::Text(text),
        ValueRef::Blob([]) => match row.get::<_, i64>(column + 1)?.unsigned_abs() {
            0 => Field::Other,
            bytes => Field::TooLong(bytes),
        },
        ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Blob(_) => Field::Other,
    })
}

impl From<rusqlite::Error> for ArchiveError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::OutOfMemory) => Self::out_of_memory(),
            Some(ErrorCode::OperationInterrupted) => {
                Self::broken("reading the database takes more operations than its size accounts for")
            }
            // It may quote names of the schema, which may be anything.
            _ => Self::Broken(on_one_line(&error.to_string(), MAX_DEFECT_CHARS)),
        }
    }
}
