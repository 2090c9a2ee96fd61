//! The figures of a run, in one place.
//!
//! The ledger updates them once per event (a batch judged, an archive read), never once per row. The summary is taken
//! from the same place, so progress and summary cannot differ.

mod at_hand;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub use self::at_hand::AtHand;
use crate::model::{Archive, MemoryFigures, Reasons, Selection, ServerFigures, Tally, Totals};
use crate::observe::report::{Archives, RequestCounters, Requests};
use crate::observe::traffic::TrafficFigures;
use crate::pulse::Stage;
use crate::timestamp::{now_millis, write_rfc3339_millis};

/// The figures of a run, shared by its threads.
pub struct Progress {
    clock: Instant,
    started: i64,
    /// Whether archives are taken up, and not a dead-letter file.
    counts_archives: bool,
    /// Counters of requests, written by the senders.
    pub requests: RequestCounters,
    server: OnceLock<ServerSource>,
    memory: OnceLock<MemorySource>,
    counts: Mutex<Counts>,
}

/// Returns the state of the server.
type ServerSource = Box<dyn Fn() -> ServerFigures + Send + Sync>;

/// Returns the memory that archives take.
type MemorySource = Box<dyn Fn() -> MemoryFigures + Send + Sync>;

/// The figures that events change.
#[derive(Default)]
struct Counts {
    archives: Archives,
    totals: Totals,
    newest_archive: Option<i64>,
    last_success: Option<i64>,
    at_hand: Option<AtHand>,
}

/// The figures at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// When the figures were taken, in milliseconds since 1970.
    pub now: i64,
    /// When the run started, in milliseconds since 1970.
    pub started: i64,
    /// Duration of the run so far.
    pub elapsed: Duration,
    /// Archives by outcome.
    pub archives: Archives,
    /// Rows by outcome. An archive's rows count as read only once it is read to its end, so during a run more rows may
    /// be settled than read.
    pub totals: Totals,
    /// Counts of requests.
    pub requests: Requests,
    /// Durations of requests, and what was sent again.
    pub traffic: TrafficFigures,
    /// Time of the newest archive that is done, by this run or an earlier one, in seconds since 1970.
    pub newest_archive: Option<i64>,
    /// When this run last had nothing left to do, in milliseconds since 1970.
    pub last_success: Option<i64>,
    /// The archives being taken up now, if any.
    pub at_hand: Option<AtHand>,
    /// State of Elasticsearch. None before it has passed preflight, and in a dry run.
    pub server: Option<ServerFigures>,
    /// Threads that have given no sign of life for too long, and for how long. Filled in by the caller that knows the
    /// run's threads.
    pub stuck: Vec<(Stage, Duration)>,
    /// Memory that archives take. None before any could be admitted, and in a replay.
    pub memory: Option<MemoryFigures>,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Starts the figures of a run.
    pub fn new() -> Self {
        Self {
            clock: Instant::now(),
            started: now_millis(),
            counts_archives: true,
            requests: RequestCounters::default(),
            server: OnceLock::new(),
            memory: OnceLock::new(),
            counts: Mutex::default(),
        }
    }

    /// As [`Self::new`], for a run that takes up a dead-letter file and no archives.
    pub fn of_replay() -> Self {
        let counts = Counts { at_hand: Some(AtHand::default()), ..Counts::default() };
        Self { counts_archives: false, counts: Mutex::new(counts), ..Self::new() }
    }

    /// Records that the server has passed preflight; `figures` returns its state.
    pub fn connected(&self, figures: impl Fn() -> ServerFigures + Send + Sync + 'static) {
        // A run connects once. On a second call the first source stays.
        let _ = self.server.set(Box::new(figures));
    }

    /// Records that archives are admitted from now on; `figures` returns the memory they take.
    pub fn lets_in(&self, figures: impl Fn() -> MemoryFigures + Send + Sync + 'static) {
        // As for the server: the first source stays.
        let _ = self.memory.set(Box::new(figures));
    }

    /// Records a look for archives. Selected archives, and those still under way, count as pending until they are done.
    pub fn looked(&self, selection: &Selection) {
        let mut counts = self.counts();
        let Archives { already_done, processed, .. } = counts.archives;
        let to_do = selection.take.len() as u64 + selection.under_way.archives;
        counts.archives = Archives {
            // Done archives may be moved away between two looks; they still count as done.
            already_done: selection.already_done.saturating_sub(processed).max(already_done),
            processed,
            failed: selection.failed,
            pending: to_do + selection.settling + selection.too_large + selection.unreadable,
            discovered: 0,
        };
        counts.archives.count_discovered();
        counts.newest_archive = counts.newest_archive.max(selection.newest_done);
        if to_do == 0 {
            counts.at_hand = None;
            return;
        }
        let fresh = AtHand {
            settled_before: counts.totals.rows.settled(),
            since: self.clock.elapsed(),
            ..AtHand::default()
        };
        // Goes on while archives of earlier looks are under way.
        let at_hand = counts.at_hand.get_or_insert(fresh);
        let bytes: u64 = selection.take.iter().map(|archive| archive.bytes).sum();
        at_hand.archives = at_hand.done + to_do;
        at_hand.bytes = at_hand.done_bytes + selection.under_way.bytes + bytes;
    }

    /// Adds outcomes of rows.
    pub fn count_rows(&self, tally: &Tally, reasons: Reasons) {
        let Totals { rows, reasons: all } = &mut self.counts().totals;
        *rows += tally;
        *all += reasons;
    }

    /// Records that an archive with `rows` rows has been opened.
    pub fn opened(&self, archive: &Archive, rows: u64) {
        if let Some(at_hand) = &mut self.counts().at_hand {
            at_hand.opened_bytes += archive.bytes;
            at_hand.opened_rows += rows;
        }
    }

    /// Records that a pending archive is done.
    pub fn processed(&self, archive: &Archive) {
        if !self.counts_archives {
            return;
        }
        let mut counts = self.counts();
        counts.archives.processed += 1;
        counts.archives.pending = counts.archives.pending.saturating_sub(1);
        counts.newest_archive = counts.newest_archive.max(archive.seconds);
        counts.finished(archive);
    }

    /// Records that a pending archive is broken.
    pub fn failed(&self, archive: &Archive) {
        let mut counts = self.counts();
        counts.archives.failed += 1;
        counts.archives.pending = counts.archives.pending.saturating_sub(1);
        counts.finished(archive);
    }

    /// Records that all archives found have been taken up. It is a success if none of them stays pending, and if a
    /// verification has found the index as it should be.
    pub fn passed(&self) {
        let mut counts = self.counts();
        counts.at_hand = None;
        if counts.archives.pending == 0 && counts.totals.rows.findings.total_differences() == 0 {
            counts.last_success = Some(now_millis());
        }
    }

    /// Returns the current figures.
    pub fn figures(&self) -> Figures {
        let server = self.server();
        let memory = self.memory.get().map(|figures| figures());
        let counts = self.counts();
        Figures {
            now: now_millis(),
            started: self.started,
            elapsed: self.clock.elapsed(),
            archives: counts.archives,
            totals: counts.totals.clone(),
            requests: Requests::from(&self.requests),
            traffic: self.requests.traffic.figures(),
            newest_archive: counts.newest_archive,
            last_success: counts.last_success,
            at_hand: counts.at_hand.map(|at_hand| at_hand.with_settled(counts.totals.rows.settled())),
            server,
            stuck: Vec::new(),
            memory,
        }
    }

    /// Returns the current state of Elasticsearch. None before it has passed preflight.
    pub fn server(&self) -> Option<ServerFigures> {
        self.server.get().map(|figures| figures())
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Counts one of the current archives as done or broken.
    fn finished(&mut self, archive: &Archive) {
        if let Some(at_hand) = &mut self.at_hand {
            at_hand.done += 1;
            at_hand.done_bytes += archive.bytes;
        }
    }
}

impl Figures {
    /// Formats one line for the log. `before` are the figures of the previous line, from which the figures of the
    /// interval follow.
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
        if let Some(ServerFigures { health, limit, .. }) = self.server {
            line.push_str(&format!("; Elasticsearch is {health}, {limit} requests at once"));
        }
        line
    }
}

/// Returns rows per second.
fn rate(rows: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { rows as f64 / time.as_secs_f64() }
}

/// Formats seconds in the largest unit of which there are at least two.
pub fn in_words(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
