//! Tests of reading good, odd and hostile archives.

mod broken;
mod buffers;
pub(super) mod fixture;
mod reading;

use std::ops::ControlFlow;
use std::sync::Arc;

use self::fixture::{THREE_ROWS, database, zip};
use super::row::Field;
use super::{ALL_ROWS, ArchiveBuffers, ArchiveError, Database};

/// A row as text: its id and its four columns.
type Shown = (i64, [String; 4]);

fn open(file: &[u8]) -> Result<Database, ArchiveError> {
    Database::open(&Arc::new(ArchiveBuffers::new().unpack(file)?))
}

fn open_sql(sql: &str) -> Result<Database, ArchiveError> {
    open(&zip(&[("a.db", &database(sql))]))
}

fn show(row: &super::Row<'_>) -> Shown {
    let text = |field| match field {
        Field::Null => "NULL".to_owned(),
        Field::Text(text) => String::from_utf8_lossy(text).into_owned(),
        Field::TooLong(bytes) => format!("{bytes} BYTES"),
        Field::Other => "OTHER".to_owned(),
    };
    (row.id, [row.at_uri, row.did, row.raw_post, row.inferences].map(text))
}

fn rows(database: &Database) -> Result<Vec<Shown>, ArchiveError> {
    let mut rows = Vec::new();
    database.for_each_row(&ALL_ROWS, |row| {
        rows.push(show(row));
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}

fn ids(database: &Database) -> Result<Vec<i64>, ArchiveError> {
    let mut ids = Vec::new();
    database.for_each_id(|id, _| {
        ids.push(id);
        ControlFlow::Continue(())
    })?;
    Ok(ids)
}

fn row(id: i64, columns: [&str; 4]) -> Shown {
    (id, columns.map(str::to_owned))
}

fn three_rows() -> Vec<Shown> {
    vec![
        row(1, ["at://a", "did:a", r#"{"a":1}"#, "{}"]),
        row(2, ["at://b", "did:b", r#"{"b":1}"#, "{}"]),
        row(3, ["at://c", "did:c", r#"{"c":1}"#, "{}"]),
    ]
}

#[track_caller]
fn assert_broken<T>(result: Result<T, ArchiveError>, words: &str) {
    match result {
        Err(ArchiveError::Broken(text)) if text.contains(words) => {}
        Err(error) => panic!("not broken by {words:?}: {error:?}"),
        Ok(_) => panic!("not broken at all"),
    }
}

/// Reads everything in an archive.
fn read_all(file: &[u8]) -> Result<usize, ArchiveError> {
    let database = open(file)?;
    let ids = ids(&database)?;
    for id in &ids {
        database.with_event(*id, |_| ())?;
    }
    database.newest_created_at()?;
    Ok(rows(&database)?.len().min(ids.len()))
}
