//! Bytes of SQLite databases.

use std::ops::ControlFlow;
use std::sync::Arc;

use megastream_ingest::pipeline::archive::{ArchiveBuffers, ArchiveError, Database};
use megastream_ingest::pipeline::decode::{EmbeddingDecoder, classify};
use megastream_ingest::pipeline::worker::superseded::{RowEvent, Superseded};
use rusqlite::{Connection, MAIN_DB};

use super::harness::fuzz;
use super::mutation::{Format, words};

const OLD: &str = "CREATE TABLE posts (at_uri TEXT, did TEXT, raw_post TEXT, inferences TEXT)";
const NEW: &str = "CREATE TABLE enriched_posts (id INTEGER PRIMARY KEY AUTOINCREMENT, at_uri TEXT, did TEXT,
    time_us INTEGER, raw_post TEXT, inferences TEXT, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
    CREATE INDEX idx_at_uri ON enriched_posts(at_uri)";

#[test]
fn databases() {
    let wal = {
        let mut wal = database(512, NEW, 5);
        wal[18..20].fill(2);
        wal
    };
    let format = Format {
        bases: vec![
            database(512, OLD, 3),
            database(512, NEW, 40),
            database(1024, &format!("{NEW}; CREATE VIEW v AS SELECT * FROM enriched_posts"), 12),
            database(512, &format!("PRAGMA encoding = 'UTF-16le'; {NEW}"), 4),
            database(
                512,
                "CREATE TABLE posts (at_uri PRIMARY KEY, did, raw_post, inferences) WITHOUT ROWID",
                6,
            ),
            database(
                512,
                "CREATE TABLE posts (at_uri, did, raw_post, inferences, g AS (did || did));
                 CREATE TRIGGER t AFTER INSERT ON posts BEGIN SELECT 1; END",
                3,
            ),
            database(4096, OLD, 30),
            wal,
        ],
        words: words(&[
            "enriched_posts",
            "posts",
            "table",
            "view",
            "VIRTUAL",
            "fts5(",
            "CREATE TABLE posts(",
            "CREATE VIEW posts AS SELECT ",
            "AS (randomblob(1e9))",
            "WITHOUT ROWID",
            "rowid",
            "\0\0\0\x02",
            "\u{d}\0\0",
            "\u{5}\0\0",
        ]),
        fields,
    };
    fuzz("sqlite", &format, is_readable);
}

/// Reads a file as workers do. Returns whether every row is readable.
pub(crate) fn is_readable(file: &[u8]) -> bool {
    read_all(file).is_ok()
}

fn read_all(file: &[u8]) -> Result<(), ArchiveError> {
    let image = Arc::new(ArchiveBuffers::new().unpack(file)?);
    let database = Database::open(&image)?;
    let mut embeddings = EmbeddingDecoder::new();
    database.newest_created_at()?;
    let (mut first, mut last) = (i64::MAX, i64::MIN);
    let superseded = Superseded::find(&database, |row_id| {
        (first, last) = (first.min(row_id), row_id);
        Ok(())
    })?;
    // A helping worker has its own connection, and reads a range of row ids.
    let database = Database::open(&image)?;
    let mut end = Ok(());
    database.for_each_row(&(first..=last), |row| {
        embeddings.decode(row.inferences, "");
        let event = RowEvent::of(&classify(row));
        end = event.map_or(Ok(false), |event| superseded.contains(&database, row.id, event)).map(drop);
        if end.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    end
}

/// A database with this page size and number of rows; some rows are long, and some ids repeat.
pub(crate) fn database(page_size: u32, schema: &str, rows: usize) -> Vec<u8> {
    let mut connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(&format!("PRAGMA page_size = {page_size}; {schema}")).unwrap();
    let table = if schema.contains("enriched_posts") { "enriched_posts" } else { "posts" };
    let insert =
        format!("INSERT OR IGNORE INTO {table} (at_uri, did, raw_post, inferences) VALUES (?, ?, ?, ?)");
    for row in 0..rows {
        let length = if row % 5 == 4 { 900 } else { 20 };
        let raw = format!(
            r#"{{"message":{{"kind":"commit","commit":{{"operation":"{}","record":{{"text":"{}"}}}}}}}}"#,
            ["create", "update", "delete"][row % 3],
            "x".repeat(length)
        );
        connection.execute(&insert, (format!("at://{}", row % 7), "did:plc:a", raw, "{}")).unwrap();
    }
    connection.serialize(MAIN_DB).unwrap().to_vec()
}

/// The offsets of cells: the header of the file, the headers of its pages, and what follows them.
/// Source: SQLite, "Database File Format", sections 1.3 and 1.6.
fn fields(bytes: &[u8]) -> Vec<usize> {
    let page_size = match bytes.get(16..18) {
        Some([0, 1]) => 65_536,
        Some([high, low]) => usize::from(u16::from_be_bytes([*high, *low])).max(512),
        _ => 512,
    };
    let pages = (0..bytes.len()).step_by(page_size).flat_map(|page| page..page + 32);
    (0..132).chain(pages).collect()
}
