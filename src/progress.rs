//! What is known of a run at any time, in one place.
//!
//! The ledger adds to the figures once for each event (a batch judged, an archive read), never once for each row.
//! The summary is taken from the same place, so that what is told on the way and what is told at the end cannot
//! differ.

mod at_hand;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub use self::at_hand::AtHand;
use crate::pipeline::sender::bulk::RequestCounters;
use crate::pipeline::sender::throttle::{Health, Throttle};
use crate::pipeline::{Archive, Reasons, Tally, Totals};
use crate::report::{Archives, Requests};
use crate::selection::Selection;
use crate::timestamp::{now_millis, write_rfc3339_millis};

/// The figures of a run, shared by its threads.
pub struct Progress {
    clock: Instant,
    started: i64,
    /// Whether what is taken up are archives.
    counts_archives: bool,
    /// Requests made; the senders count them.
    pub requests: RequestCounters,
    throttle: OnceLock<Arc<Throttle>>,
    known: Mutex<Known>,
}

/// What changes with an event.
#[derive(Default)]
struct Known {
    archives: Archives,
    totals: Totals,
    newest_archive: Option<i64>,
    last_success: Option<i64>,
    at_hand: Option<AtHand>,
}

/// The figures at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// When they were taken, milliseconds since 1970.
    pub now: i64,
    /// When the run started, milliseconds since 1970.
    pub started: i64,
    /// How long the run had taken by then.
    pub elapsed: Duration,
    /// Archives by what has become of them.
    pub archives: Archives,
    /// Rows by what has become of them. Rows are counted as read only once their archive is read to its end, so
    /// that during a run more rows may be settled than read.
    pub totals: Totals,
    /// Requests made.
    pub requests: Requests,
    /// Time of the newest archive that is done, by this run or an earlier one, seconds since 1970.
    pub newest_archive: Option<i64>,
    /// When this run last had nothing left to do, milliseconds since 1970.
    pub last_success: Option<i64>,
    /// What is being taken up now, if anything.
    pub at_hand: Option<AtHand>,
    /// What is known of Elasticsearch. None before it has passed preflight, and in a dry run.
    pub server: Option<ServerFigures>,
}

/// Elasticsearch as the senders see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerFigures {
    /// Whether it does what it is asked to.
    pub health: Health,
    /// Requests that may be in flight at once.
    pub limit: usize,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// A run that starts now.
    pub fn new() -> Self {
        Self {
            clock: Instant::now(),
            started: now_millis(),
            counts_archives: true,
            requests: RequestCounters::default(),
            throttle: OnceLock::new(),
            known: Mutex::default(),
        }
    }

    /// As [`Self::new`], for a run that takes no archives up but a dead-letter file.
    pub fn of_replay() -> Self {
        let known = Known { at_hand: Some(AtHand::default()), ..Known::default() };
        Self { counts_archives: false, known: Mutex::new(known), ..Self::new() }
    }

    /// Elasticsearch has passed preflight; what is to be known of its health is with `throttle`.
    pub fn connected(&self, throttle: Arc<Throttle>) {
        // A run connects once; were there a second time, the first throttle would stay.
        let _ = self.throttle.set(throttle);
    }

    /// There has been a look for archives. Until they are done they count as pending.
    pub fn looked(&self, selection: &Selection) {
        let mut known = self.known();
        let Archives { processed, .. } = known.archives;
        known.archives = Archives {
            already_done: selection.already_done.saturating_sub(processed),
            processed,
            failed: selection.failed,
            pending: selection.take.len() as u64 + selection.settling,
            discovered: 0,
        };
        known.archives.count_discovered();
        known.newest_archive = known.newest_archive.max(selection.newest_done);
        known.at_hand = (!selection.take.is_empty()).then(|| AtHand {
            archives: selection.take.len() as u64,
            bytes: selection.take.iter().map(|archive| archive.bytes).sum(),
            settled_before: known.totals.rows.settled(),
            since: self.clock.elapsed(),
            ..AtHand::default()
        });
    }

    /// Adds outcomes of rows.
    pub fn count_rows(&self, tally: &Tally, reasons: Reasons) {
        let Totals { rows, reasons: all } = &mut self.known().totals;
        *rows += tally;
        *all += reasons;
    }

    /// An archive has been opened; it has so many rows.
    pub fn opened(&self, archive: &Archive, rows: u64) {
        if let Some(at_hand) = &mut self.known().at_hand {
            at_hand.opened_bytes += archive.bytes;
            at_hand.opened_rows += rows;
        }
    }

    /// A pending archive is done.
    pub fn processed(&self, archive: &Archive) {
        if !self.counts_archives {
            return;
        }
        let mut known = self.known();
        known.archives.processed += 1;
        known.archives.pending = known.archives.pending.saturating_sub(1);
        known.newest_archive = known.newest_archive.max(archive.seconds);
        known.finished(archive);
    }

    /// A pending archive has turned out to be broken.
    pub fn failed(&self, archive: &Archive) {
        let mut known = self.known();
        known.archives.failed += 1;
        known.archives.pending = known.archives.pending.saturating_sub(1);
        known.finished(archive);
    }

    /// All archives that were found have been taken up. A success is that none of them stays pending.
    pub fn passed(&self) {
        let mut known = self.known();
        known.at_hand = None;
        if known.archives.pending == 0 {
            known.last_success = Some(now_millis());
        }
    }

    /// The figures now.
    pub fn figures(&self) -> Figures {
        let server = self.throttle.get().map(|t| ServerFigures { health: t.health(), limit: t.limit() });
        let known = self.known();
        Figures {
            now: now_millis(),
            started: self.started,
            elapsed: self.clock.elapsed(),
            archives: known.archives,
            totals: known.totals.clone(),
            requests: Requests::from(&self.requests),
            newest_archive: known.newest_archive,
            last_success: known.last_success,
            at_hand: known.at_hand.map(|at_hand| at_hand.with_settled(known.totals.rows.settled())),
            server,
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// One less of those at hand.
    fn finished(&mut self, archive: &Archive) {
        if let Some(at_hand) = &mut self.at_hand {
            at_hand.done += 1;
            at_hand.done_bytes += archive.bytes;
        }
    }
}

impl Figures {
    /// One line for the log. `before` are the figures of the last one: what is told of an interval is told since
    /// then.
    pub fn line(&self, before: &Figures) -> String {
        let Archives { discovered, already_done, processed, failed, pending } = self.archives;
        let settled = self.totals.rows.settled();
        let interval = self.elapsed.saturating_sub(before.elapsed);
        let mut line = format!(
            "archives: {processed} processed, {failed} failed, {pending} pending, {already_done} already done of \
             {discovered}; rows: {settled} settled, {} rejected, {:.0} rows/s, {:.0} rows/s since the start; \
             requests: {} bulk, {} retried, {:.1} MB",
            self.totals.rows.rejected,
            rate(settled.saturating_sub(before.totals.rows.settled()), interval),
            rate(settled, self.elapsed),
            self.requests.bulk,
            self.requests.retried,
            self.requests.bytes_sent as f64 / 1e6,
        );
        if let Some(seconds) = self.newest_archive {
            let millis = seconds.saturating_mul(1000);
            let mut time = Vec::new();
            write_rfc3339_millis(&mut time, millis);
            let age = self.now.saturating_sub(millis).div_euclid(1000);
            line.push_str(&format!(
                "; newest archive: {}, {} old",
                String::from_utf8_lossy(&time),
                in_words(age)
            ));
        }
        if let Some(ServerFigures { health, limit }) = self.server {
            line.push_str(&format!("; Elasticsearch is {health}, {limit} requests at once"));
        }
        line
    }
}

/// Rows in a second.
fn rate(rows: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { rows as f64 / time.as_secs_f64() }
}

/// A time in the largest unit of which it has at least two.
pub fn in_words(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown::Stop;

    fn archive(seconds: Option<i64>) -> Arc<Archive> {
        Arc::new(Archive { name: "a".into(), path: "a".into(), seconds, bytes: 0, modified_ns: 0 })
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
        // The next look finds in the state file what this run has marked.
        progress.looked(&selection(1, 6, 2));
        let again = progress.figures().archives;
        assert_eq!((again.already_done, again.processed, again.failed, again.pending), (5, 1, 2, 1));
    }

    #[test]
    fn what_is_at_hand_is_known_from_a_look_to_the_end_of_its_archives() {
        let archive = |bytes| Arc::new(Archive { bytes, ..(*archive(None)).clone() });
        let progress = Progress::new();
        progress.looked(&Selection { take: vec![archive(30), archive(70)], ..Selection::default() });
        progress.failed(&archive(30));
        let at_hand = progress.figures().at_hand.unwrap();
        assert_eq!((at_hand.archives, at_hand.bytes, at_hand.done, at_hand.done_bytes), (2, 100, 1, 30));
        assert_eq!(at_hand.share(), 0.3);
        progress.processed(&archive(70));
        progress.passed();
        assert_eq!(progress.figures().at_hand, None);
        progress.looked(&Selection::default());
        assert_eq!(progress.figures().at_hand, None);
    }

    #[test]
    fn an_archive_that_is_open_counts_by_its_rows() {
        let archive = Archive { bytes: 1000, ..(*archive(None)).clone() };
        let rows = |indexed| Tally { indexed, ..Tally::default() };
        let progress = Progress::new();
        let share = || progress.figures().at_hand.unwrap().share();
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
    fn a_pass_that_leaves_something_pending_is_no_success() {
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
    fn a_line_tells_the_interval_the_age_and_the_server() {
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
            server: Some(ServerFigures { health: Health::PushingBack, limit: 2 }),
            ..figures(20, 1_499)
        };
        let line = now.line(&before);
        for part in [
            "1500 settled, 1 rejected, 50 rows/s, 75 rows/s since the start",
            "newest archive: 2025-12-18T00:00:00.000Z, 5 min old",
            "Elasticsearch is pushing back, 2 requests at once",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        let line = Figures::default().line(&Figures::default());
        assert!(line.contains("0 rows/s") && !line.contains("newest") && !line.contains("Elasticsearch"));
    }

    #[test]
    fn the_server_is_unknown_until_it_is_connected() {
        let progress = Progress::new();
        assert_eq!(progress.figures().server, None);
        progress.connected(Arc::new(Throttle::new(3, Stop::new(), None)));
        let expected = ServerFigures { health: Health::Available, limit: 3 };
        assert_eq!(progress.figures().server, Some(expected));
    }

    #[test]
    fn times_are_told_in_the_largest_unit_that_fits_twice() {
        let told = [-1, 119, 120, 7_199, 7_200, 172_800].map(in_words);
        assert_eq!(told, ["-1 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
    }
}
