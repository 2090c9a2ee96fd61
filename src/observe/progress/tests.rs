//! Tests of the figures, and of the line in the log.

use std::sync::Arc;

use super::*;
use crate::model::{Health, UnderWay};

fn archive(seconds: Option<i64>) -> Arc<Archive> {
    Arc::new(Archive { name: "a".into(), path: "a".into(), seconds, bytes: 0, modified_ns: 0, etag: None })
}

fn selection(take: usize, already_done: u64, failed: u64) -> Selection {
    let take = vec![archive(None); take];
    Selection { take, already_done, failed, ..Selection::default() }
}

#[test]
fn archives_add_up_at_any_time() {
    let progress = Progress::new();
    progress.looked(&selection(3, 5, 1));
    let discovered = progress.figures().archives.discovered;
    assert_eq!(discovered, 9);
    progress.processed(&archive(None));
    progress.failed(&archive(None));
    let Archives { discovered, already_done, processed, failed, pending } = progress.figures().archives;
    assert_eq!((already_done, processed, failed, pending), (5, 1, 2, 1));
    assert_eq!(discovered, already_done + processed + failed + pending);
    // The next look finds the archives in the state file that this run has marked.
    progress.looked(&selection(1, 6, 2));
    let again = progress.figures().archives;
    assert_eq!((again.already_done, again.processed, again.failed, again.pending), (5, 1, 2, 1));
}

#[test]
fn archives_that_leave_the_folder_stay_done() {
    let progress = Progress::new();
    let seen = |take, already_done| {
        progress.looked(&selection(take, already_done, 0));
        let Archives { discovered, already_done, processed, failed, pending } = progress.figures().archives;
        assert_eq!(discovered, already_done + processed + failed + pending);
        (already_done, processed)
    };
    assert_eq!(seen(3, 5), (5, 0));
    (0..3).for_each(|_| progress.processed(&archive(None)));
    assert_eq!(seen(0, 8), (5, 3));
    // First the archives that this run has done are moved away, then the rest.
    assert_eq!(seen(0, 5), (5, 3));
    assert_eq!(seen(1, 0), (5, 3));
}

#[test]
fn current_archives_are_known_from_a_look_until_they_are_done() {
    let archive = |bytes| Arc::new(Archive { bytes, ..(*archive(None)).clone() });
    let progress = Progress::new();
    progress.looked(&Selection { take: vec![archive(30), archive(70)], ..Selection::default() });
    progress.failed(&archive(30));
    let backlog = progress.figures().backlog.unwrap();
    assert_eq!((backlog.archives, backlog.bytes, backlog.done, backlog.done_bytes), (2, 100, 1, 30));
    assert_eq!(backlog.share(), 0.3);
    progress.processed(&archive(70));
    progress.passed();
    assert_eq!(progress.figures().backlog, None);
    progress.looked(&Selection::default());
    assert_eq!(progress.figures().backlog, None);
}

#[test]
fn archives_of_earlier_looks_that_are_under_way_are_pending_and_stay_at_hand() {
    let archive = |bytes| Arc::new(Archive { bytes, ..(*archive(None)).clone() });
    let progress = Progress::new();
    progress.looked(&Selection { take: vec![archive(30), archive(70)], ..Selection::default() });
    progress.processed(&archive(30));
    let since = progress.figures().backlog.unwrap().since;
    let under_way = UnderWay { archives: 1, bytes: 70 };
    progress.looked(&Selection {
        take: vec![archive(5)],
        already_done: 1,
        under_way,
        ..Selection::default()
    });
    let figures = progress.figures();
    let Archives { discovered, already_done, processed, pending, .. } = figures.archives;
    assert_eq!((discovered, already_done, processed, pending), (3, 0, 1, 2));
    let backlog = figures.backlog.unwrap();
    assert_eq!((backlog.archives, backlog.bytes, backlog.done_bytes, backlog.since), (3, 105, 30, since));
    progress.passed();
    assert_eq!(progress.figures().last_success, None);
}

#[test]
fn an_archive_that_is_open_counts_by_its_rows() {
    let archive = Archive { bytes: 1000, ..(*archive(None)).clone() };
    let rows = |indexed| Tally { indexed, ..Tally::default() };
    let progress = Progress::new();
    let share = || progress.figures().backlog.unwrap().share();
    progress.count_rows(&rows(77), Reasons::default());
    progress.looked(&Selection {
        take: vec![Arc::new(archive.clone()), Arc::new(archive.clone())],
        ..Selection::default()
    });
    assert_eq!(share(), 0.0);
    progress.opened(&archive, 40);
    progress.count_rows(&rows(10), Reasons::default());
    assert_eq!(share(), 0.125);
    progress.count_rows(&rows(40), Reasons::default());
    assert_eq!(share(), 0.5);
    progress.processed(&archive);
    progress.failed(&archive);
    assert_eq!(share(), 1.0);
}

#[test]
fn the_newest_archive_is_the_newest_of_all_that_are_done() {
    let progress = Progress::new();
    let newest = || progress.figures().newest_archive;
    assert_eq!(newest(), None);
    progress.looked(&Selection { newest_done: Some(50), ..selection(3, 1, 0) });
    assert_eq!(newest(), Some(50));
    for (seconds, expected) in [(Some(70), 70), (Some(60), 70), (None, 70)] {
        progress.processed(&archive(seconds));
        assert_eq!(newest(), Some(expected));
    }
}

#[test]
fn a_pass_that_leaves_archives_pending_is_not_a_success() {
    let progress = Progress::new();
    progress.looked(&selection(2, 0, 0));
    progress.processed(&archive(None));
    progress.passed();
    assert_eq!(progress.figures().last_success, None);
    progress.failed(&archive(None));
    progress.passed();
    assert!(progress.figures().last_success.is_some());
}

#[test]
fn a_line_has_the_rate_of_the_interval_the_age_and_the_server() {
    let rows = |indexed| Tally { indexed, rejected: 1, ..Tally::default() };
    let figures = |seconds, indexed| Figures {
        now: 1_766_016_300_500,
        elapsed: Duration::from_secs(seconds),
        totals: Totals { rows: rows(indexed), ..Totals::default() },
        newest_archive: Some(1_766_016_000),
        ..Figures::default()
    };
    let before = figures(10, 999);
    let now = Figures {
        server: Some(ServerFigures { health: Health::PushingBack, limit: 2, since_confirmed: None }),
        ..figures(20, 1_499)
    };
    let line = now.line(&before);
    for part in [
        "1500 done, 1 rejected, 50 rows/s, 75 rows/s since the start",
        "newest archive: 2025-12-18T00:00:00.000Z, 5 min old",
        "Elasticsearch is pushing back, 2 requests at once",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let server = now.server.map(|server| ServerFigures { limit: 1, ..server });
    assert!(Figures { server, ..now }.line(&before).ends_with("pushing back, 1 request at once"));
    let line = Figures::default().line(&Figures::default());
    assert!(line.contains("0 rows/s") && !line.contains("newest") && !line.contains("Elasticsearch"));
}

#[test]
fn the_server_is_unknown_until_it_is_connected() {
    let progress = Progress::new();
    assert_eq!(progress.figures().server, None);
    let server = ServerFigures { health: Health::PushingBack, limit: 3, since_confirmed: None };
    progress.set_server_source(move || server);
    assert_eq!(progress.figures().server, Some(server));
}

#[test]
fn times_are_shown_in_the_largest_unit_that_fits_twice() {
    let shown = [-1, 119, 120, 7_199, 7_200, 172_800].map(format_seconds);
    assert_eq!(shown, ["-1 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
}
