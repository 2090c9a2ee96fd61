//! Finds the table in an archive's database, and sets SQLite up for untrusted databases.
//!
//! Source: SQLite, "Defense Against The Dark Arts" (sqlite.org/security.html), as far as it applies to a database that
//! nobody else can change while it is read.

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OptionalExtension};

use super::ArchiveError;

/// The longest text that is read, in bytes. A longer one becomes [`Field::TooLong`](super::Field::TooLong). Real texts
/// have about 30 KB.
pub const MAX_FIELD_BYTES: i32 = 64 << 20;

/// Number of SQLite operations between two checks of their limit.
const OPERATIONS_PER_CHECK: i32 = 1_000;

/// Limit of SQLite operations for reading the schema. Real archives take about 200.
pub(super) const SCHEMA_OPERATIONS: u64 = 20_000;

/// Disables all SQLite features that reading one plain table does not need. Must be called before the schema is read.
pub(super) fn harden(connection: &Connection) -> Result<(), ArchiveError> {
    for (option, value) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
    ] {
        connection.set_db_config(option, value)?;
    }
    for (limit, value) in [
        // Applies to each field, including the SQL in the schema.
        (Limit::SQLITE_LIMIT_LENGTH, MAX_FIELD_BYTES),
        // The SQL of a real table has 500 bytes. Parsing takes many times as much memory.
        (Limit::SQLITE_LIMIT_SQL_LENGTH, 16 << 10),
        (Limit::SQLITE_LIMIT_SCHEMA, 200),
        (Limit::SQLITE_LIMIT_COLUMN, 200),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 50),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 2),
        (Limit::SQLITE_LIMIT_VDBE_OP, 10_000),
        (Limit::SQLITE_LIMIT_FUNCTION_ARG, 8),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 100),
        (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 8),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 1),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        connection.set_limit(limit, value)?;
    }
    connection.execute_batch("PRAGMA cell_size_check = ON; PRAGMA query_only = ON")?;
    Ok(())
}

/// Interrupts SQLite after about this many of its operations, counted from now.
///
/// A time limit would fail good archives on a busy machine or behind slow senders.
pub(super) fn limit_operations(connection: &mut Connection, operations: u64) -> Result<(), ArchiveError> {
    let mut checks_left = operations / OPERATIONS_PER_CHECK.unsigned_abs() as u64;
    let spent = move || {
        checks_left = checks_left.saturating_sub(1);
        checks_left == 0
    };
    Ok(connection.progress_handler(OPERATIONS_PER_CHECK, Some(spent))?)
}

/// The table that holds the rows.
pub(super) struct Table {
    name: &'static str,
    /// A name of the row id that no column has.
    row_id: &'static str,
    /// Whether there is a column `created_at`.
    created_at: bool,
}

impl Table {
    /// Finds the table. Refuses a view or a virtual table of its name.
    ///
    /// A newer program may have created `enriched_posts` in a database whose rows are still in `posts`. So an empty
    /// table counts only if the other one has no rows to read either.
    pub(super) fn find(connection: &Connection) -> Result<Self, ArchiveError> {
        let [enriched, older] = ["enriched_posts", "posts"].map(|name| move || Self::named(connection, name));
        match enriched()? {
            Some(table) if table.is_empty(connection)? => match older() {
                Ok(Some(older)) if !older.is_empty(connection)? => Ok(older),
                _ => Ok(table),
            },
            Some(table) => Ok(table),
            None => older()?
                .ok_or_else(|| ArchiveError::broken("the database has no table enriched_posts or posts")),
        }
    }

    fn is_empty(&self, connection: &Connection) -> Result<bool, ArchiveError> {
        let any = format!("SELECT NOT EXISTS (SELECT 1 FROM {} NOT INDEXED)", self.name);
        Ok(connection.query_row(&any, [], |row| row.get(0))?)
    }

    /// The table of this name, if there is one. A view or virtual table is an error.
    ///
    /// SQLite checks `type` and `name` against `sql` when it reads the schema. A virtual table also has the type `table`,
    /// but only the SQL of a plain table begins with `CREATE TABLE `, since SQLite normalizes it.
    fn named(connection: &Connection, name: &'static str) -> Result<Option<Self>, ArchiveError> {
        let plain = connection
            .query_row(
                "SELECT type = 'table' AND sql LIKE 'CREATE TABLE %' FROM sqlite_schema
                 WHERE name = ?1 COLLATE NOCASE AND type IN ('table', 'view')",
                [name],
                |row| row.get(0),
            )
            .optional()?;
        match plain {
            None => Ok(None),
            Some(true) => Self::check_columns(connection, name).map(Some),
            Some(false) => {
                Err(ArchiveError::broken(format!("{name} is a view or a virtual table, not a plain table")))
            }
        }
    }

    fn check_columns(connection: &Connection, name: &'static str) -> Result<Self, ArchiveError> {
        let mut statement = connection.prepare("SELECT lower(name), hidden FROM pragma_table_xinfo(?1)")?;
        let columns = statement
            .query_map([name], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<Vec<(String, i64)>>>()?;
        let hidden =
            |wanted: &str| columns.iter().find(|(name, _)| name == wanted).map(|(_, hidden)| *hidden);
        for wanted in ["at_uri", "did", "raw_post", "inferences"] {
            match hidden(wanted) {
                Some(0) => {}
                Some(_) => {
                    return Err(ArchiveError::broken(format!("column {wanted} of {name} is generated")));
                }
                None => return Err(ArchiveError::broken(format!("table {name} has no column {wanted}"))),
            }
        }
        let row_id = ["rowid", "_rowid_", "oid"]
            .into_iter()
            .find(|row_id| {
                hidden(row_id).is_none()
                    && connection.prepare(&format!("SELECT {row_id} FROM {name}")).is_ok()
            })
            .ok_or_else(|| ArchiveError::broken(format!("table {name} has no row ids")))?;
        Ok(Self { name, row_id, created_at: hidden("created_at") == Some(0) })
    }
}

/// The queries on the table. They never use an index, which may not match the table in a crafted database.
#[derive(Debug)]
pub(super) struct Queries {
    pub(super) ids: String,
    pub(super) rows: String,
    pub(super) event: String,
    pub(super) newest_created_at: Option<String>,
}

impl Queries {
    pub(super) fn of(table: &Table) -> Self {
        let Table { name, row_id, created_at } = table;
        let [at_uri, did, raw_post, inferences] =
            ["at_uri", "did", "raw_post", "inferences"].map(unless_too_long);
        let from = format!("FROM {name} NOT INDEXED");
        Self {
            ids: format!("SELECT {row_id}, {at_uri} {from} ORDER BY {row_id}"),
            rows: format!(
                "SELECT {row_id}, {at_uri}, {did}, {raw_post}, {inferences} {from}
                 WHERE {row_id} BETWEEN ?1 AND ?2 ORDER BY {row_id}"
            ),
            event: format!(
                "SELECT {row_id}, {at_uri}, {did}, {raw_post}, NULL, NULL {from} WHERE {row_id} = ?1"
            ),
            newest_created_at: created_at.then(|| {
                format!(
                    "SELECT max(unixepoch(created_at)) FROM {name} NOT INDEXED
                     WHERE created_at GLOB '????-??-?? ??:??:??*'"
                )
            }),
        }
    }
}

/// Formats two expressions for a column: its value, and its length in bytes. A value that is too long becomes an empty
/// blob, so that it does not end the query. SQLite takes the length from the row's header, without reading the field.
fn unless_too_long(column: &str) -> String {
    format!("iif(octet_length({column}) > {MAX_FIELD_BYTES}, x'', {column}), octet_length({column})")
}
