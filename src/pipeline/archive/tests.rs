//! Reads good, odd and hostile archives.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::fixture::{THREE_ROWS, database, zip};
use super::row::Field;
use super::schema::limit_operations;
use super::{ALL_ROWS, ArchiveBuffers, ArchiveError, Database, MAX_FIELD_BYTES};

/// A row as `with_event` and `for_each_row` show it: the id and the four columns.
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

/// Reads everything there is to read, whatever it holds.
fn read_all(file: &[u8]) -> Result<usize, ArchiveError> {
    let database = open(file)?;
    let ids = ids(&database)?;
    for id in &ids {
        database.with_event(*id, |_| ())?;
    }
    database.newest_created_at()?;
    Ok(rows(&database)?.len().min(ids.len()))
}

#[test]
fn rows_come_in_the_order_of_their_ids_with_all_columns() {
    let database = open_sql(THREE_ROWS).unwrap();
    assert_eq!(rows(&database).unwrap(), three_rows());
}

#[test]
fn ids_come_with_their_at_uri() {
    let database = open_sql(THREE_ROWS).unwrap();
    let mut seen = Vec::new();
    database
        .for_each_id(|id, at_uri| {
            seen.push((id, at_uri == Field::Text(b"at://b")));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen, [(1, false), (2, true), (3, false)]);
}

#[test]
fn reading_rows_ends_when_the_reader_breaks() {
    let database = open_sql(THREE_ROWS).unwrap();
    let mut seen = 0;
    database
        .for_each_row(&ALL_ROWS, |row| {
            seen = row.id;
            if row.id == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(seen, 2);
}

#[test]
fn an_event_is_found_by_its_id() {
    let database = open_sql(THREE_ROWS).unwrap();
    let (id, mut columns) = three_rows().swap_remove(1);
    columns[3] = "NULL".to_owned();
    assert_eq!(database.with_event(2, show).unwrap(), Some((id, columns)));
    assert_eq!(database.with_event(4, show).unwrap(), None);
}

#[test]
fn an_older_table_without_id_column_has_row_ids_all_the_same() {
    let database = open_sql(
        "CREATE TABLE posts (at_uri TEXT, did TEXT, raw_post TEXT, inferences TEXT);
         INSERT INTO posts VALUES ('at://a', 'did:a', 'r', 'i'), ('', NULL, x'00', 1.5)",
    )
    .unwrap();
    assert_eq!(
        rows(&database).unwrap(),
        [row(1, ["at://a", "did:a", "r", "i"]), row(2, ["", "NULL", "OTHER", "1.5"])]
    );
    assert_eq!(database.newest_created_at().unwrap(), None);
}

#[test]
fn enriched_posts_is_taken_where_there_are_both_tables() {
    let database =
        open_sql(&format!("CREATE TABLE posts (at_uri, did, raw_post, inferences); {THREE_ROWS}")).unwrap();
    assert_eq!(ids(&database).unwrap(), [1, 2, 3]);
}

#[test]
fn of_both_tables_the_one_with_rows_is_taken() {
    let enriched = "CREATE TABLE enriched_posts (at_uri, did, raw_post, inferences);";
    let older = "CREATE TABLE posts (at_uri, did, raw_post, inferences);";
    let row = "INSERT INTO posts VALUES ('a', 'b', 'c', 'd')";
    assert_eq!(ids(&open_sql(&format!("{enriched} {older} {row}")).unwrap()).unwrap(), [1]);
    // What has no rows, or is no table of posts, is not read in place of an empty one.
    for other in [older, "CREATE TABLE posts (x)", "CREATE VIEW posts AS SELECT 1"] {
        assert!(ids(&open_sql(&format!("{enriched} {other}")).unwrap()).unwrap().is_empty(), "{other}");
    }
}

#[test]
fn null_blob_and_number_are_told_from_text() {
    let database = open_sql(
        "CREATE TABLE posts (at_uri, did, raw_post, inferences);
         INSERT INTO posts VALUES (NULL, 7, x'7b7d', 1.5)",
    )
    .unwrap();
    assert_eq!(rows(&database).unwrap(), [row(1, ["NULL", "OTHER", "OTHER", "OTHER"])]);
}

#[test]
fn negative_and_sparse_row_ids_are_kept_and_in_order() {
    let database = open_sql(
        "CREATE TABLE posts (id INTEGER PRIMARY KEY, at_uri, did, raw_post, inferences);
         INSERT INTO posts (id) VALUES (9223372036854775807), (5), (-9223372036854775808)",
    )
    .unwrap();
    assert_eq!(ids(&database).unwrap(), [i64::MIN, 5, i64::MAX]);
}

#[test]
fn a_column_called_rowid_does_not_hide_the_row_id() {
    let database = open_sql(
        "CREATE TABLE posts (RowId TEXT, oid TEXT, at_uri, did, raw_post, inferences);
         INSERT INTO posts (RowId, oid) VALUES ('x', 'y')",
    )
    .unwrap();
    assert_eq!(ids(&database).unwrap(), [1]);
}

#[test]
fn a_database_in_utf_16_reads_as_utf_8() {
    let database = open_sql(&format!("PRAGMA encoding = 'UTF-16le'; {THREE_ROWS}")).unwrap();
    assert_eq!(rows(&database).unwrap(), three_rows());
}

#[test]
fn text_that_is_no_utf_8_and_text_with_nul_come_as_their_bytes() {
    let database = open_sql(
        "CREATE TABLE posts (at_uri, did, raw_post, inferences);
         INSERT INTO posts VALUES (CAST(x'ff00fe' AS TEXT), NULL, NULL, NULL)",
    )
    .unwrap();
    let at_uri = database.with_event(1, |row| row.at_uri == Field::Text(&[0xff, 0, 0xfe])).unwrap();
    assert_eq!(at_uri, Some(true));
}

#[test]
fn a_field_that_is_too_long_costs_neither_its_row_nor_the_others() {
    let database = open(&database(&format!(
        "CREATE TABLE posts (at_uri, did, raw_post, inferences);
         INSERT INTO posts VALUES ('at://a', 'did:a', CAST(zeroblob({MAX_FIELD_BYTES} + 1) AS TEXT), '{{}}'),
                                  ('at://b', 'did:b', 'r', 'i')"
    )))
    .unwrap();
    assert_eq!(
        rows(&database).unwrap(),
        [row(1, ["at://a", "did:a", "67108865 BYTES", "{}"]), row(2, ["at://b", "did:b", "r", "i"])]
    );
}

#[test]
fn every_field_that_is_too_long_tells_its_length_and_what_is_no_text_does_not() {
    let long = MAX_FIELD_BYTES + 1;
    let database = open(&database(&format!(
        "CREATE TABLE posts (at_uri, did, raw_post, inferences);
         INSERT INTO posts VALUES (zeroblob({long}), x'', {long}, CAST(zeroblob({MAX_FIELD_BYTES}) AS TEXT)),
                                  ('', x'', zeroblob({MAX_FIELD_BYTES}), zeroblob({long} + 1))"
    )))
    .unwrap();
    let mut seen = Vec::new();
    database
        .for_each_row(&ALL_ROWS, |row| {
            seen.push([row.at_uri, row.did, row.raw_post, row.inferences].map(|field| match field {
                Field::Text(text) => Err(text.len()),
                other => Ok(show_kind(other)),
            }));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(
        seen,
        [
            [Ok("too long"), Ok("other"), Ok("other"), Err(MAX_FIELD_BYTES as usize)],
            [Err(0), Ok("other"), Ok("other"), Ok("too long")]
        ]
    );
    let of_event = database.with_event(1, |row| show_kind(row.at_uri));
    assert_eq!(of_event.unwrap(), Some("too long"));
    let mut of_ids = Vec::new();
    database
        .for_each_id(|_, at_uri| {
            of_ids.push(show_kind(at_uri));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(of_ids, ["too long", "text"]);
}

fn show_kind(field: Field<'_>) -> &'static str {
    match field {
        Field::Null => "NULL",
        Field::Text(_) => "text",
        Field::TooLong(_) => "too long",
        Field::Other => "other",
    }
}

#[test]
fn a_database_in_wal_mode_that_was_closed_cleanly_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.execute_batch(THREE_ROWS).unwrap();
    connection.close().unwrap();
    let file = fs::read(path).unwrap();
    assert_eq!(&file[18..20], [2, 2], "not in WAL mode");
    assert_eq!(rows(&open(&file).unwrap()).unwrap(), three_rows());
}

#[test]
fn a_bare_database_beside_which_there_is_a_log_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db.zip");
    fs::write(&path, database(THREE_ROWS)).unwrap();
    for name in ["a.db.zip-wal", "a.db-wal", "a.db.zip-journal", "a.db-journal"] {
        let log = folder.path().join(name);
        fs::write(&log, "").unwrap();
        assert!(ArchiveBuffers::new().read(&path).is_ok(), "an empty {name}");
        fs::write(&log, "x").unwrap();
        assert_broken(ArchiveBuffers::new().read(&path), &format!("beside it lies {name:?}"));
        fs::remove_file(log).unwrap();
    }
    // This log belongs to no database here: that of a zip is inside of it.
    fs::write(folder.path().join("a.db-wal"), "x").unwrap();
    fs::write(&path, zip(&[("a.db", &database(THREE_ROWS))])).unwrap();
    assert!(ArchiveBuffers::new().read(&path).is_ok());
}

#[test]
fn the_newest_created_at_is_in_seconds_and_only_of_what_is_a_time() {
    let database = open_sql(&format!(
        "{THREE_ROWS}
         INSERT INTO enriched_posts (created_at) VALUES
            (NULL), (9e18), (x'ff'), ('tomorrow'), ('9999-99-99 99:99:99'), ('2999-01-01')"
    ))
    .unwrap();
    assert_eq!(database.newest_created_at().unwrap(), Some(1_761_827_698));
}

#[test]
fn an_index_that_differs_from_its_table_is_not_used() {
    let mut file =
        database(&format!("{THREE_ROWS} CREATE INDEX idx_created_at ON enriched_posts(created_at)"));
    let newest = b"12:34:58";
    let places: Vec<_> = (0..file.len()).filter(|at| file[*at..].starts_with(newest)).collect();
    assert_eq!(places.len(), 2, "once in the table, once in the index");
    // The index was made last, so its page comes last. It stays sorted, so it is well-formed but wrong.
    file[places[1]..places[1] + newest.len()].copy_from_slice(b"12:34:59");
    assert_eq!(open(&file).unwrap().newest_created_at().unwrap(), Some(1_761_827_698));
}

#[test]
fn a_database_without_the_table_or_one_of_its_columns_is_broken() {
    assert_broken(open_sql("CREATE TABLE other (a)"), "no table enriched_posts or posts");
    assert_broken(open_sql("CREATE TABLE posts (at_uri, did, raw_post)"), "no column inferences");
}

#[test]
fn other_columns_of_a_table_and_the_case_of_its_name_do_not_matter() {
    for sql in [
        "CREATE TABLE posts (at_uri, did, raw_post, inferences, virtual_clicks INT)",
        "CREATE TABLE posts (at_uri, did, raw_post, inferences, day AS (substr(at_uri, 1, 3)) VIRTUAL)",
        "create  table /* virtual */ Enriched_Posts (AT_URI, did, raw_post, inferences)",
        "CREATE TABLE IF NOT EXISTS \"posts\"(at_uri, did, raw_post, inferences)",
    ] {
        assert!(open_sql(sql).is_ok(), "{sql}");
    }
}

#[test]
fn a_view_or_a_virtual_table_that_poses_as_the_table_is_broken() {
    let view = "CREATE TABLE t (at_uri, did, raw_post, inferences); CREATE VIEW posts AS SELECT * FROM t";
    assert_broken(open_sql(view), "view or a virtual table");
    let fts = "CREATE VIRTUAL TABLE posts USING fts5(at_uri, did, raw_post, inferences)";
    assert_broken(open_sql(fts), "view or a virtual table");
    let behind = format!(
        "{THREE_ROWS} ALTER TABLE enriched_posts RENAME TO posts; CREATE VIEW enriched_posts AS SELECT 1"
    );
    assert_broken(open_sql(&behind), "view or a virtual table");
}

#[test]
fn a_view_whose_schema_row_calls_it_a_table_is_broken() {
    let sql = "CREATE TABLE t (at_uri, did, raw_post, inferences);
         CREATE VIEW posts AS SELECT rowid, * FROM t;
         PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET type = 'table', rootpage = 2 WHERE name = 'posts'";
    assert_broken(open_sql(sql), "malformed");
}

#[test]
fn a_table_without_row_ids_is_broken() {
    let sql = "CREATE TABLE posts (at_uri PRIMARY KEY, did, raw_post, inferences) WITHOUT ROWID";
    assert_broken(open_sql(sql), "no row ids");
}

#[test]
fn a_generated_column_is_broken() {
    let sql = "CREATE TABLE posts (at_uri, did, raw_post AS (did || did) STORED, inferences)";
    assert_broken(open_sql(sql), "raw_post of posts is generated");
}

#[test]
fn a_schema_of_too_many_objects_is_broken() {
    let tables: String = (0..300).map(|n| format!("CREATE TABLE t{n} (a);")).collect();
    assert_broken(open_sql(&format!("{tables}{THREE_ROWS}")), "too many schema objects");
}

#[test]
fn a_truncated_database_is_broken() {
    let whole = database(
        "CREATE TABLE posts (at_uri, did, raw_post, inferences);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20)
         INSERT INTO posts SELECT 'at://' || i, 'did', hex(zeroblob(3000)), '{}' FROM n",
    );
    assert_eq!(read_all(&zip(&[("a.db", &whole)])).unwrap(), 20);
    for length in (0..whole.len()).step_by(509) {
        let result = read_all(&zip(&[("a.db", &whole[..length])]));
        assert!(matches!(result, Err(ArchiveError::Broken(_))), "length {length}: {result:?}");
    }
}

#[test]
fn a_table_whose_pages_repeat_is_broken_and_does_not_go_on_for_ever() {
    let mut file = database(
        "PRAGMA page_size = 512;
         CREATE TABLE posts (at_uri, did, raw_post, inferences);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
         INSERT INTO posts SELECT 'at://' || i, 'did:plc:' || i, hex(zeroblob(20)), '{}' FROM n",
    );
    // The root of the table is page 2. Source: "Database File Format", section 1.6: type 5 is an interior
    // table page, the number of cells is at 3, their offsets begin at 12, and each begins with its child's number.
    let root = &mut file[512..1024];
    assert_eq!(root[0], 5);
    let cells = usize::from(u16::from_be_bytes([root[3], root[4]]));
    assert!(cells > 3);
    let offsets: Vec<usize> =
        (0..cells).map(|n| usize::from(u16::from_be_bytes([root[12 + 2 * n], root[13 + 2 * n]]))).collect();
    let first: [u8; 4] = root[offsets[0]..offsets[0] + 4].try_into().unwrap();
    offsets.iter().for_each(|at| root[*at..at + 4].copy_from_slice(&first));

    let database = open(&file).unwrap();
    assert_broken(ids(&database), "not in order");
    assert_broken(rows(&database), "not in order");
}

#[test]
fn a_query_that_takes_too_many_operations_is_broken() {
    let mut connection = rusqlite::Connection::open_in_memory().unwrap();
    limit_operations(&mut connection, 100_000).unwrap();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let result = connection.query_row(endless, [], |row| row.get::<_, i64>(0)).map_err(ArchiveError::from);
    assert_broken(result, "more operations");
}

#[test]
fn the_smallest_rows_do_not_exceed_the_operations_of_their_size() {
    let file = database(
        "CREATE TABLE posts (at_uri, did, raw_post, inferences, created_at);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
         INSERT INTO posts SELECT NULL, NULL, NULL, NULL, NULL FROM n",
    );
    assert_eq!(read_all(&file).unwrap(), 50_000);
}

#[test]
fn a_file_that_cannot_be_read_is_unavailable_and_not_broken() {
    let folder = tempfile::tempdir().unwrap();
    for path in
        [folder.path().join("missing.db.zip"), folder.path().to_owned(), Path::new("/dev/zero").to_owned()]
    {
        let result = ArchiveBuffers::new().read(&path);
        assert!(matches!(result, Err(ArchiveError::Unavailable(_))), "{path:?}");
    }
}

#[test]
fn buffers_serve_one_archive_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db.zip");
    let mut buffers = ArchiveBuffers::new();
    for (file, readable) in [
        (zip(&[("a.db", &database(THREE_ROWS))]), true),
        (b"broken".to_vec(), false),
        (database(THREE_ROWS), true),
    ] {
        fs::write(&path, file).unwrap();
        assert_eq!(buffers.read(&path).is_ok(), readable);
    }
}

#[test]
fn a_smaller_archive_read_after_a_larger_one_is_read_as_it_is() {
    let mut buffers = ArchiveBuffers::new();
    let large = format!("{THREE_ROWS} CREATE TABLE large AS SELECT zeroblob(5000000)");
    for sql in [&large, THREE_ROWS, &large, THREE_ROWS] {
        let image = Arc::new(buffers.unpack(&zip(&[("a.db", &database(sql))])).unwrap());
        assert_eq!(image[..], database(sql)[..]);
        assert_eq!(rows(&Database::open(&image).unwrap()).unwrap(), three_rows());
    }
}

#[test]
fn an_image_is_read_by_several_at_once_and_as_long_as_any_of_them_is_there() {
    let mut buffers = ArchiveBuffers::new();
    let image = Arc::new(buffers.unpack(&database(THREE_ROWS)).unwrap());
    let databases: Vec<Database> = (0..4).map(|_| Database::open(&image).unwrap()).collect();
    drop(image);
    // Overwrites the memory if it was given back.
    drop(buffers.unpack(&database("CREATE TABLE other (x)")));
    std::thread::scope(|scope| {
        for database in databases {
            scope.spawn(move || assert_eq!(rows(&database).unwrap(), three_rows()));
        }
    });
}

#[test]
fn a_range_of_ids_has_the_rows_in_it() {
    let database = open_sql(THREE_ROWS).unwrap();
    for (range, expected) in
        [(1..=1, 0..1), (2..=9, 1..3), (i64::MIN..=0, 0..0), (4..=9, 0..0), (1..=3, 0..3)]
    {
        let mut found = Vec::new();
        database
            .for_each_row(&range, |row| {
                found.push(show(row));
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(found, three_rows()[expected], "{range:?}");
    }
}

#[test]
fn an_empty_table_has_no_rows() {
    let database = open_sql("CREATE TABLE posts (at_uri, did, raw_post, inferences, created_at)").unwrap();
    assert_eq!(rows(&database).unwrap(), []);
    assert_eq!(database.newest_created_at().unwrap(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn bytes_changed_in_a_zip_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut file = zip(&[("a.db", &database(THREE_ROWS))]);
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let _ = read_all(&file);
    }

    #[test]
    fn bytes_changed_in_a_database_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24)) {
        // Small pages, so that most changes hit something.
        let mut file = database(&format!("PRAGMA page_size = 512; {THREE_ROWS}"));
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let _ = read_all(&file);
    }
}
