//! What is known of a run at any time, in one place.
//!
//! The ledger adds to the figures once for each event (a batch judged, an archive read), never once for each row.
//! The summary is taken from the same place, so that what is told on the way and what is told at the end cannot
//! differ.

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
    /// Whether what is taken up are archives.
    counts_archives: bool,
    /// Requests made; the senders count them.
    pub requests: RequestCounters,
    server: OnceLock<ServerSource>,
    memory: OnceLock<MemorySource>,
    counts: Mutex<Counts>,
}

/// Tells how the server does whenever it is asked.
type ServerSource = Box<dyn Fn() -> ServerFigures + Send + Sync>;

/// Tells how much memory archives take whenever it is asked.
type MemorySource = Box<dyn Fn() -> MemoryFigures + Send + Sync>;

/// What changes with an event.
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
    /// How long requests took, and what was sent again.
    pub traffic: TrafficFigures,
    /// Time of the newest archive that is done, by this run or an earlier one, seconds since 1970.
    pub newest_archive: Option<i64>,
    /// When this run last had nothing left to do, milliseconds since 1970.
    pub last_success: Option<i64>,
    /// What is being taken up now, if anything.
    pub at_hand: Option<AtHand>,
    /// What is known of Elasticsearch. None before it has passed preflight, and in a dry run.
    pub server: Option<ServerFigures>,
    /// Which threads have given no sign of life for longer than they may, and for how long. Filled in by whoever knows
    /// the run's threads.
    pub stuck: Vec<(Stage, Duration)>,
    /// What archives take of the memory. None before any could be let in, and in a replay.
    pub memory: Option<MemoryFigures>,
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
            server: OnceLock::new(),
            memory: OnceLock::new(),
            counts: Mutex::default(),
        }
    }

    /// As [`Self::new`], for a run that takes no archives up but a dead-letter file.
    pub fn of_replay() -> Self {
        let counts = Counts { at_hand: Some(AtHand::default()), ..Counts::default() };
        Self { counts_archives: false, counts: Mutex::new(counts), ..Self::new() }
    }

    /// The server has passed preflight; `figures` tells how it does.
    pub fn connected(&self, figures: impl Fn() -> ServerFigures + Send + Sync + 'static) {
        // A run connects once; were there a second time, the first source would stay.
        let _ = self.server.set(Box::new(figures));
    }

    /// Archives are let in from now on; `figures` tells how much memory they take.
    pub fn lets_in(&self, figures: impl Fn() -> MemoryFigures + Send + Sync + 'static) {
        // As for the server.
        let _ = self.memory.set(Box::new(figures));
    }

    /// There has been a look for archives. Until they are done they count as pending.
    pub fn looked(&self, selection: &Selection) {
        let mut counts = self.counts();
        let Archives { already_done, processed, .. } = counts.archives;
        counts.archives = Archives {
            // What is done may be moved away between two looks, and stays done.
            already_done: selection.already_done.saturating_sub(processed).max(already_done),
            processed,
            failed: selection.failed,
            pending: selection.take.len() as u64 + selection.settling + selection.too_large,
            discovered: 0,
        };
        counts.archives.count_discovered();
        counts.newest_archive = counts.newest_archive.max(selection.newest_done);
        counts.at_hand = (!selection.take.is_empty()).then(|| AtHand {
            archives: selection.take.len() as u64,
            bytes: selection.take.iter().map(|archive| archive.bytes).sum(),
            settled_before: counts.totals.rows.settled(),
            since: self.clock.elapsed(),
            ..AtHand::default()
        });
    }

    /// Adds outcomes of rows.
    pub fn count_rows(&self, tally: &Tally, reasons: Reasons) {
        let Totals { rows, reasons: all } = &mut self.counts().totals;
        *rows += tally;
        *all += reasons;
    }

    /// An archive has been opened; it has so many rows.
    pub fn opened(&self, archive: &Archive, rows: u64) {
        if let Some(at_hand) = &mut self.counts().at_hand {
            at_hand.opened_bytes += archive.bytes;
            at_hand.opened_rows += rows;
        }
    }

    /// A pending archive is done.
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

    /// A pending archive has turned out to be broken.
    pub fn failed(&self, archive: &Archive) {
        let mut counts = self.counts();
        counts.archives.failed += 1;
        counts.archives.pending = counts.archives.pending.saturating_sub(1);
        counts.finished(archive);
    }

    /// All archives that were found have been taken up. A success is that none of them stays pending, and that the index
    /// is as it should be where that was looked at.
    pub fn passed(&self) {
        let mut counts = self.counts();
        counts.at_hand = None;
        if counts.archives.pending == 0 && counts.totals.rows.findings.total_differences() == 0 {
            counts.last_success = Some(now_millis());
        }
    }

    /// The figures now.
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

    /// What is known of Elasticsearch now. None before it has passed preflight.
    pub fn server(&self) -> Option<ServerFigures> {
        self.server.get().map(|figures| figures())
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
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
        if let Some(ServerFigures { health, limit, .. }) = self.server {
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
mod tests;
