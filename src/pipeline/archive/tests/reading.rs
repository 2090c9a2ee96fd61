//! Good and odd archives, and what is read from them.

use std::fs;

use super::*;
use crate::pipeline::archive::MAX_FIELD_BYTES;

#[test]
fn rows_are_read_in_order_of_their_ids_with_all_columns() {
    let database = open_sql(THREE_ROWS).unwrap();
    assert_eq!(rows(&database).unwrap(), three_rows());
}

#[test]
fn ids_are_read_with_their_at_uri() {
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
fn an_older_table_without_an_id_column_has_row_ids() {
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
fn of_two_tables_the_one_with_rows_is_read() {
    let enriched = "CREATE TABLE enriched_posts (at_uri, did, raw_post, inferences);";
    let older = "CREATE TABLE posts (at_uri, did, raw_post, inferences);";
    let row = "INSERT INTO posts VALUES ('a', 'b', 'c', 'd')";
    assert_eq!(ids(&open_sql(&format!("{enriched} {older} {row}")).unwrap()).unwrap(), [1]);
    // A table without rows, or one that is not a table of posts, is not read in place of an empty one.
    for other in [older, "CREATE TABLE posts (x)", "CREATE VIEW posts AS SELECT 1"] {
        assert!(ids(&open_sql(&format!("{enriched} {other}")).unwrap()).unwrap().is_empty(), "{other}");
    }
}

#[test]
fn enriched_posts_is_read_if_there_are_both_tables() {
    let database =
        open_sql(&format!("CREATE TABLE posts (at_uri, did, raw_post, inferences); {THREE_ROWS}")).unwrap();
    assert_eq!(ids(&database).unwrap(), [1, 2, 3]);
}

#[test]
fn null_blob_and_number_are_not_text() {
    let database = open_sql(
        "CREATE TABLE posts (at_uri, did, raw_post, inferences);
         INSERT INTO posts VALUES (NULL, 7, x'7b7d', 1.5)",
    )
    .unwrap();
    assert_eq!(rows(&database).unwrap(), [row(1, ["NULL", "OTHER", "OTHER", "OTHER"])]);
}

#[test]
fn negative_and_sparse_row_ids_are_kept_in_order() {
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
fn text_that_is_not_utf_8_and_text_with_nul_are_read_as_bytes() {
    let database = open_sql(
        "CREATE TABLE posts (at_uri, did, raw_post, inferences);
         INSERT INTO posts VALUES (CAST(x'ff00fe' AS TEXT), NULL, NULL, NULL)",
    )
    .unwrap();
    let at_uri = database.with_event(1, |row| row.at_uri == Field::Text(&[0xff, 0, 0xfe])).unwrap();
    assert_eq!(at_uri, Some(true));
}

#[test]
fn a_field_that_is_too_long_affects_neither_its_row_nor_others() {
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
fn every_field_that_is_too_long_has_its_length() {
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
fn the_newest_created_at_is_in_seconds_and_ignores_other_values() {
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
    // The index was created last, so its page is the last one. It stays sorted, so it is well-formed but wrong.
    file[places[1]..places[1] + newest.len()].copy_from_slice(b"12:34:59");
    assert_eq!(open(&file).unwrap().newest_created_at().unwrap(), Some(1_761_827_698));
}

#[test]
fn extra_columns_and_the_case_of_the_table_name_do_not_matter() {
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
