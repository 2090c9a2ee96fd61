//! Damaged and hostile archives, and files that cannot be read.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::pipeline::archive::schema::limit_operations;

#[test]
fn a_bare_database_with_a_log_beside_it_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db.zip");
    fs::write(&path, database(THREE_ROWS)).unwrap();
    for name in ["a.db.zip-wal", "a.db-wal", "a.db.zip-journal", "a.db-journal"] {
        let log = folder.path().join(name);
        fs::write(&log, "").unwrap();
        assert!(ArchiveBuffers::new().read_within(&path, u64::MAX).is_ok(), "an empty {name}");
        fs::write(&log, "x").unwrap();
        assert_broken(ArchiveBuffers::new().read_within(&path, u64::MAX), &format!("there is also {name:?}"));
        fs::remove_file(log).unwrap();
    }
    // Not a log of this archive: the log of a zipped database would be in the zip.
    fs::write(folder.path().join("a.db-wal"), "x").unwrap();
    fs::write(&path, zip(&[("a.db", &database(THREE_ROWS))])).unwrap();
    assert!(ArchiveBuffers::new().read_within(&path, u64::MAX).is_ok());
}

#[test]
fn a_link_to_a_database_with_a_log_beside_it_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let [real, log] = ["live/a.db", "live/a.db-wal"].map(|name| folder.path().join(name));
    let path = folder.path().join("a.db.zip");
    fs::create_dir(folder.path().join("live")).unwrap();
    fs::write(&real, database(THREE_ROWS)).unwrap();
    symlink(&real, &path).unwrap();
    // The journal of a database `a`, which is another file.
    fs::write(folder.path().join("live/a-journal"), "x").unwrap();
    assert!(ArchiveBuffers::new().read_within(&path, u64::MAX).is_ok());
    fs::write(&log, "x").unwrap();
    assert_broken(ArchiveBuffers::new().read_within(&path, u64::MAX), "there is also \"a.db-wal\"");
}

#[test]
fn a_database_without_the_table_or_one_of_its_columns_is_broken() {
    assert_broken(open_sql("CREATE TABLE other (a)"), "no table enriched_posts or posts");
    assert_broken(open_sql("CREATE TABLE posts (at_uri, did, raw_post)"), "no column inferences");
}

#[test]
fn a_view_or_virtual_table_of_the_name_is_broken() {
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
fn a_schema_with_too_many_objects_is_broken() {
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
fn a_table_whose_pages_repeat_is_broken_and_the_scan_ends() {
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
fn the_smallest_rows_stay_within_the_limit_of_operations() {
    let file = database(
        "CREATE TABLE posts (at_uri, did, raw_post, inferences, created_at);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
         INSERT INTO posts SELECT NULL, NULL, NULL, NULL, NULL FROM n",
    );
    assert_eq!(read_all(&file).unwrap(), 50_000);
}

#[test]
fn an_unreadable_file_is_unavailable_not_broken() {
    let folder = tempfile::tempdir().unwrap();
    for path in
        [folder.path().join("missing.db.zip"), folder.path().to_owned(), Path::new("/dev/zero").to_owned()]
    {
        let result = ArchiveBuffers::new().read_within(&path, u64::MAX);
        assert!(matches!(result, Err(ArchiveError::Unavailable(_))), "{path:?}");
    }
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
        // Small pages, so that most changes hit content.
        let mut file = database(&format!("PRAGMA page_size = 512; {THREE_ROWS}"));
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let _ = read_all(&file);
    }
}
