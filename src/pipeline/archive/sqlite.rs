//! The rows of an archive's database, which is held in memory as a whole.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;

use libdeflater::Decompressor;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OptionalExtension};

use super::schema::{Queries, SCHEMA_OPERATIONS, Table, harden, limit_operations};
use super::{ArchiveError, Limits, Packed};
use crate::pipeline::decode::{Field, Row};

/// Operations that reading the rows may take, per byte of the database: the smallest row has some 9 bytes
/// and takes some 50 operations if each method is called once.
const OPERATIONS_A_BYTE: u64 = 8;

/// Capacity that [`Buffers`] keep from one archive to the next, in bytes.
const KEPT_BYTES: usize = 64 << 20;

/// What a worker keeps from one archive to the next.
pub struct Buffers {
    file: Vec<u8>,
    inflater: Decompressor,
}

impl Buffers {
    /// Empty buffers.
    pub fn new() -> Self {
        Self { file: Vec::new(), inflater: Decompressor::new() }
    }

    /// What [`Database::from_bytes`] unzips with.
    pub fn inflater(&mut self) -> &mut Decompressor {
        &mut self.inflater
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

/// The database of one archive, open for reading, as a whole in memory.
///
/// While it is opened, the compressed file and the inflated database are in memory, once each: the database is
/// inflated straight into the memory that SQLite reads it from. Later it is the database alone, plus SQLite's
/// page cache (2 MB), one row, and what [`Buffers`] keep (64 MiB at most).
#[derive(Debug)]
pub struct Database {
    connection: Connection,
    queries: Queries,
}

impl Database {
    /// Reads, unzips and opens the archive at `path`.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Unavailable`] where the file cannot be read or there is no memory for it,
    /// [`ArchiveError::Broken`] where it holds no database with a usable table.
    pub fn open(path: &Path, buffers: &mut Buffers) -> Result<Self, ArchiveError> {
        let database = read_file(path, Limits::DEFAULT.file_bytes, &mut buffers.file)
            .and_then(|()| Self::from_bytes(&buffers.file, &mut buffers.inflater));
        buffers.file.clear();
        buffers.file.shrink_to(KEPT_BYTES);
        database
    }

    /// Unzips and opens an archive whose `file` is in memory already.
    ///
    /// # Errors
    ///
    /// As [`Database::open`].
    pub fn from_bytes(file: &[u8], inflater: &mut Decompressor) -> Result<Self, ArchiveError> {
        let packed = Packed::find(file, &Limits::DEFAULT)?;
        let mut connection = Connection::open_in_memory()?;
        connection.deserialize_read_exact(MAIN_DB, Unpacking { packed, inflater }, packed.len(), true)?;
        harden(&connection)?;
        limit_operations(&mut connection, SCHEMA_OPERATIONS)?;
        let queries = Queries::of(&Table::find(&connection)?);
        limit_operations(
            &mut connection,
            (packed.len() as u64).saturating_mul(OPERATIONS_A_BYTE).max(SCHEMA_OPERATIONS),
        )?;
        Ok(Self { connection, queries })
    }

    /// Calls `f` with the row id and `at_uri` of every row, in the order of row ids.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`]; `f` has then been called for the rows before the defect.
    pub fn for_each_id(&self, mut f: impl FnMut(i64, Field<'_>)) -> Result<(), ArchiveError> {
        self.scan(&self.queries.ids, |id, row| {
            f(id, field(row, 1)?);
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Calls `f` with every row, in the order of row ids, until it breaks. Texts are borrowed from SQLite.
    ///
    /// # Errors
    ///
    /// As [`Database::for_each_id`].
    pub fn for_each_row(&self, mut f: impl FnMut(&Row<'_>) -> ControlFlow<()>) -> Result<(), ArchiveError> {
        self.scan(&self.queries.rows, |id, row| Ok(f(&whole_row(id, row)?)))
    }

    /// Calls `f` with the row of the given id; None where there is no such row.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`]; `f` has then not been called.
    pub fn with_row<T>(&self, id: i64, f: impl FnOnce(&Row<'_>) -> T) -> Result<Option<T>, ArchiveError> {
        let mut statement = self.connection.prepare_cached(&self.queries.row)?;
        Ok(statement.query_row([id], |row| Ok(f(&whole_row(id, row)?))).optional()?)
    }

    /// The newest `created_at` of all rows, which SQLite set (UTC) when they were written, in seconds since 1970.
    ///
    /// None where the table has no such column, or nothing in it that SQLite takes for a time.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`] where the rows cannot be read.
    pub fn newest_created_at(&self) -> Result<Option<i64>, ArchiveError> {
        match &self.queries.newest_created_at {
            Some(sql) => Ok(self.connection.query_row(sql, [], |row| row.get(0))?),
            None => Ok(None),
        }
    }

    /// Runs a query whose first column is the row id.
    ///
    /// Pages that are their own siblings can make a small database hold more rows than there are atoms; but as
    /// row ids then repeat, that ends here.
    fn scan(
        &self,
        sql: &str,
        mut f: impl FnMut(i64, &rusqlite::Row<'_>) -> rusqlite::Result<ControlFlow<()>>,
    ) -> Result<(), ArchiveError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
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

/// Reads a file, but no more of it than one byte beyond `limit`: enough to see that it is too large.
fn read_file(path: &Path, limit: u64, out: &mut Vec<u8>) -> Result<(), ArchiveError> {
    let unavailable = |error: io::Error| ArchiveError::Unavailable(format!("cannot be read: {error}"));
    // Asked before it is opened, since opening a FIFO would wait for its writer.
    let metadata = fs::metadata(path).map_err(unavailable)?;
    if !metadata.is_file() {
        return Err(ArchiveError::Unavailable("cannot be read: not a regular file".to_owned()));
    }
    out.clear();
    let expected = usize::try_from(metadata.len().min(limit)).unwrap_or(usize::MAX);
    out.try_reserve(expected).map_err(|_| out_of_memory())?;
    File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(out))
        .map(drop)
        .map_err(unavailable)
}

/// Hands the unpacked database to SQLite: in one piece, since it is inflated in one piece.
struct Unpacking<'a> {
    packed: Packed<'a>,
    inflater: &'a mut Decompressor,
}

impl Read for Unpacking<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.packed.unpack_into(self.inflater, out).map_err(io::Error::other)?;
        check_last_page(out).map_err(io::Error::other)?;
        forget_wal_mode(out);
        Ok(out.len())
    }
}

/// Refuses a database that ends within a page: SQLite would read zeros for what is missing, and say nothing.
///
/// Source: SQLite, "Database File Format", section 1.3.2: bytes 16 and 17 are the page size, 1 means 65,536.
fn check_last_page(database: &[u8]) -> Result<(), ArchiveError> {
    let page_size = match database.get(16..18) {
        Some([0, 1]) => 65_536,
        Some([high, low]) => usize::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    };
    match database.len().checked_rem(page_size) {
        Some(0) => Ok(()),
        _ => Err(ArchiveError::broken("the database is cut off, or its page size is wrong")),
    }
}

/// Marks a database in WAL mode as one with a rollback journal.
///
/// SQLite refuses to open a database in WAL mode from memory. One that was closed cleanly has nothing in its WAL,
/// and of any other one the last checkpoint is all that an archive holds. Source: SQLite, "Database File Format",
/// section 1.3.3, and `sqlite3_deserialize()`, which tells to do just this.
fn forget_wal_mode(database: &mut [u8]) {
    if let Some([2, 2]) = database.get(18..20)
        && let Some(versions) = database.get_mut(18..20)
    {
        versions.fill(1);
    }
}

fn whole_row<'a>(id: i64, row: &'a rusqlite::Row<'_>) -> rusqlite::Result<Row<'a>> {
    Ok(Row {
        id,
        at_uri: field(row, 1)?,
        did: field(row, 2)?,
        raw_post: field(row, 3)?,
        inferences: field(row, 4)?,
    })
}

fn field<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Field<'a>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null => Field::Null,
        ValueRef::Text(text) => Field::Text(text),
        ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Blob(_) => Field::Other,
    })
}

impl From<rusqlite::Error> for ArchiveError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::OutOfMemory) => out_of_memory(),
            Some(ErrorCode::OperationInterrupted) => {
                Self::broken("reading the database takes more operations than its size accounts for")
            }
            _ => Self::Broken(error.to_string()),
        }
    }
}

fn out_of_memory() -> ArchiveError {
    ArchiveError::Unavailable("there is no memory for it".to_owned())
}
