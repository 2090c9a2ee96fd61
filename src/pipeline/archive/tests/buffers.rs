//! Buffers and images that are used several times.

use std::fs;

use super::*;

#[test]
fn buffers_are_reused_for_the_next_archive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db.zip");
    let mut buffers = ArchiveBuffers::new();
    for (file, readable) in [
        (zip(&[("a.db", &database(THREE_ROWS))]), true),
        (b"broken".to_vec(), false),
        (database(THREE_ROWS), true),
    ] {
        fs::write(&path, file).unwrap();
        assert_eq!(buffers.read_within(&path, u64::MAX).is_ok(), readable);
    }
}

#[test]
fn a_smaller_archive_after_a_larger_one_is_read_correctly() {
    let mut buffers = ArchiveBuffers::new();
    let large = format!("{THREE_ROWS} CREATE TABLE large AS SELECT zeroblob(5000000)");
    for sql in [&large, THREE_ROWS, &large, THREE_ROWS] {
        let image = Arc::new(buffers.unpack(&zip(&[("a.db", &database(sql))])).unwrap());
        assert_eq!(image[..], database(sql)[..]);
        assert_eq!(rows(&Database::open(&image).unwrap()).unwrap(), three_rows());
    }
}

#[test]
fn several_can_read_an_image_and_it_lives_as_long_as_the_last() {
    let mut buffers = ArchiveBuffers::new();
    let image = Arc::new(buffers.unpack(&database(THREE_ROWS)).unwrap());
    let databases: Vec<Database> = (0..4).map(|_| Database::open(&image).unwrap()).collect();
    drop(image);
    // Overwrites the memory if it has been released.
    drop(buffers.unpack(&database("CREATE TABLE other (x)")));
    std::thread::scope(|scope| {
        for database in databases {
            scope.spawn(move || assert_eq!(rows(&database).unwrap(), three_rows()));
        }
    });
}
