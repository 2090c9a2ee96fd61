//! Tests of an archive that several workers read.

use super::*;
use crate::model::{DeadLetter, Tally};
use crate::pipeline::archive::Rooms;
use crate::process::shutdown::Stop;

/// Creates an archive of `rows` rows that this many readers have joined.
fn shared(rows: u64, readers: usize) -> Shared {
    let image = crate::pipeline::archive::ArchiveBuffers::new().unpack(&table(rows)).unwrap();
    let archive = Archive { name: "a".into(), path: "a".into(), seconds: Some(1), ..Archive::default() };
    let image = Arc::new(image);
    let database = Database::open(&image).unwrap();
    let room = Rooms::unlimited().acquire(0, &Stop::new()).unwrap();
    let shared = Shared::new(Arc::new(archive), image, &database, 1, room).unwrap();
    (1..readers).for_each(|_| assert!(shared.join()));
    shared
}

fn table(rows: u64) -> Vec<u8> {
    let mut connection = rusqlite::Connection::open_in_memory().unwrap();
    let sql = format!(
        "CREATE TABLE posts (at_uri, did, raw_post, inferences);
             WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 3 FROM n LIMIT {rows})
             INSERT INTO posts (rowid, at_uri) SELECT i, i FROM n WHERE {rows} > 0"
    );
    connection.execute_batch(&sql).unwrap();
    connection.serialize(rusqlite::MAIN_DB).unwrap().to_vec()
}

fn version(row_id: i64) -> Version {
    Version::new(1, row_id).unwrap()
}

fn found(read: u64, end: Option<ArchiveEnd>) -> ReadRows {
    let outcomes = Outcomes { tally: Tally { read, ..Tally::default() }, ..Outcomes::default() };
    ReadRows { outcomes, end, ..ReadRows::default() }
}

#[test]
fn the_ranges_hold_every_row_once() {
    for rows in [0, 1, RANGE_ROWS, RANGE_ROWS + 1, 3 * RANGE_ROWS - 1] {
        let shared = shared(rows, 1);
        let database = Database::open(&shared.image).unwrap();
        let mut ids = Vec::new();
        while let Some(range) = shared.next_range() {
            database
                .for_each_row(&range, |row| {
                    ids.push(row.id);
                    std::ops::ControlFlow::Continue(())
                })
                .unwrap();
        }
        assert_eq!(ids, (0..rows as i64).map(|n| 10 + 3 * n).collect::<Vec<_>>());
    }
}

#[test]
fn an_archive_with_more_than_one_range_wants_help() {
    for (rows, wants_help) in [(0, false), (1, false), (RANGE_ROWS, false), (RANGE_ROWS + 1, true)] {
        let shared = shared(rows, 1);
        assert_eq!((shared.rows(), shared.wants_help()), (rows, wants_help));
    }
}

#[test]
fn the_last_reader_to_leave_gets_the_results_of_all() {
    let shared = shared(2 * RANGE_ROWS, 2);
    while shared.next_range().is_some() {}
    assert!(!shared.join());
    let mut one = found(RANGE_ROWS, None);
    one.accounts.insert("did:a".into(), (version(9), 90));
    let mut other = found(RANGE_ROWS, None);
    other.accounts.insert("did:a".into(), (version(3), 30));
    assert!(shared.leave(one).is_none());
    let all = shared.leave(other).unwrap();
    assert_eq!(all.end, None);
    assert_eq!((all.outcomes.tally.read, all.outcomes.tally.superseded), (2 * RANGE_ROWS, 1));
    assert_eq!(all.accounts["did:a"], (version(9), 90));
}

#[test]
fn rows_that_are_not_found_by_their_ids_break_the_archive() {
    let shared = shared(5, 1);
    while shared.next_range().is_some() {}
    let all = shared.leave(found(4, None)).unwrap();
    assert!(matches!(all.end, Some(ArchiveEnd::Broken(reason)) if reason.contains("4 of its 5 rows")));
}

#[test]
fn an_archive_that_is_abandoned_does_not_count_as_corrupt() {
    let stopping = super::super::reading::stopping;
    let alone = shared(9 * RANGE_ROWS, 1);
    assert_eq!(alone.leave(found(0, Some(stopping()))).unwrap().end, Some(stopping()));
    // Whichever of its readers is the last.
    for ends in [[Some(stopping()), None], [None, Some(stopping())]] {
        let shared = shared(9 * RANGE_ROWS, 2);
        let all = ends.map(|end| shared.leave(found(RANGE_ROWS, end)));
        assert_eq!(all.into_iter().flatten().next().unwrap().end, Some(stopping()));
    }
}

#[test]
fn dead_letters_of_all_readers_are_sorted_by_row() {
    let shared = shared(2 * RANGE_ROWS, 2);
    let with_letter = |row_id: i64| {
        let mut found = found(RANGE_ROWS, None);
        let letter = DeadLetter {
            archive: "a".into(),
            row_id,
            at_uri: String::new(),
            stage: "decode".into(),
            error_type: String::new(),
            reason: String::new(),
            action: None,
            document: None,
        };
        found.outcomes.dead_letters.push(letter);
        found
    };
    assert!(shared.leave(with_letter(9)).is_none());
    let all = shared.leave(with_letter(3)).unwrap();
    let rows: Vec<i64> = all.outcomes.dead_letters.iter().map(|letter| letter.row_id).collect();
    assert_eq!(rows, [3, 9]);
}

#[test]
fn an_archive_that_has_been_read_is_removed_from_the_board() {
    let board = super::super::board::Board::new(1);
    let archive = Arc::new(shared(2 * RANGE_ROWS, 1));
    board.put(&archive);
    assert_eq!(Arc::strong_count(&archive), 2);
    board.remove(&archive);
    assert_eq!(Arc::strong_count(&archive), 1, "its database would stay in memory");
}

#[test]
fn a_reader_that_fails_ends_the_others_and_damage_counts_first() {
    let shared = shared(9 * RANGE_ROWS, 3);
    assert!(shared.leave(found(0, Some(super::super::reading::stopping()))).is_none());
    assert!(shared.next_range().is_none());
    let broken = ArchiveEnd::Broken("a corrupt page".into());
    assert!(shared.leave(found(0, Some(broken.clone()))).is_none());
    assert_eq!(shared.leave(found(RANGE_ROWS, None)).unwrap().end, Some(broken));
}
