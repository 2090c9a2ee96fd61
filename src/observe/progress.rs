//! The figures of a run, from which progress, metrics and summary are all taken.
//!
//! The ledger updates them once per event (a batch is settled, an archive is read), never once per row.

mod backlog;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde::Serialize;

pub use self::backlog::Backlog;
use crate::common::mutex::Mutex;
use crate::common::timestamp::{now_millis, rfc3339_millis};
use crate::model::{Archive, MemoryFigures, Reasons, Selection, ServerFigures, Tally, Totals};
use crate::observe::traffic::{RequestCounters, Requests, TrafficFigures};
use crate::process::pulse::Stage;

/// The figures of a run, shared by its threads.
pub struct Progress {
    clock: Instant,
    started: i64,
    /// Whether the run reads archives. False for a replay, which reads a dead-letter file.
    counts_archives: bool,
    /// Counters of requests, which the senders update.
    pub requests: RequestCounters,
    /// Returns the state of the server.
    server: Source<ServerFigures>,
    /// Returns the memory that archives take.
    memory: Source<MemoryFigures>,
    counts: Mutex<Counts>,
}

/// A function that gets figures from another part of the program; unset until that part exists.
type Source<T> = OnceLock<Box<dyn Fn() -> T + Send + Sync>>;

/// The figures that events change.
#[derive(Default)]
struct Counts {
    archives: Archives,
    totals: Totals,
    newest_archive: Option<i64>,
    last_success: Option<i64>,
    backlog: Option<Backlog>,
}

/// Archives: `discovered = already_done + processed + failed + pending`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Archives {
    /// Found in the source and belonging to this shard.
    pub discovered: u64,
    /// Marked `processed` before this run.
    pub already_done: u64,
    /// Done by this run.
    pub processed: u64,
    /// Damaged: found by this run, or skipped since an earlier one.
    pub failed: u64,
    /// Left to the next run.
    pub pending: u64,
}

impl Archives {
    /// Returns the counters other than `discovered`, with their names.
    pub fn states(&self) -> [(&'static str, u64); 4] {
        let Self { already_done, processed, failed, pending, .. } = *self;
        [("already_done", already_done), ("processed", processed), ("failed", failed), ("pending", pending)]
    }

    /// Sets `discovered` to the sum of the other counters: each archive is in exactly one of them.
    pub fn count_discovered(&mut self) {
        self.discovered = self.states().iter().map(|(_, archives)| archives).sum();
    }
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
    /// Rows by outcome. An archive's rows count as read once its end is reached, so more rows may be settled than read
    /// during a run.
    pub totals: Totals,
    /// Counts of requests.
    pub requests: Requests,
    /// Durations of requests, and what was sent again.
    pub traffic: TrafficFigures,
    /// Time of the newest archive that is done, by this run or an earlier one, in seconds since 1970.
    pub newest_archive: Option<i64>,
    /// When this run last had nothing left to do, in milliseconds since 1970.
    pub last_success: Option<i64>,
    /// The archives being processed now, if any.
    pub backlog: Option<Backlog>,
    /// State of Elasticsearch. None before it has passed preflight, and in a dry run.
    pub server: Option<ServerFigures>,
    /// Stuck stages, each with its silence. Left empty here; the caller fills it in.
    pub stuck: Vec<(Stage, Duration)>,
    /// Memory that archives take. None before archives are admitted, and in a replay.
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

    /// Starts the figures of a replay, which reads a dead-letter file and no archives.
    pub fn for_replay() -> Self {
        let counts = Counts { backlog: Some(Backlog::default()), ..Counts::default() };
        Self { counts_archives: false, counts: Mutex::new(counts), ..Self::new() }
    }

    /// Records that the server has passed preflight; `figures` returns its state.
    pub fn set_server_source(&self, figures: impl Fn() -> ServerFigures + Send + Sync + 'static) {
        // A run connects once. A second call changes nothing.
        let _ = self.server.set(Box::new(figures));
    }

    /// Records that archives are admitted from now on; `figures` returns the memory they take.
    pub fn set_memory_source(&self, figures: impl Fn() -> MemoryFigures + Send + Sync + 'static) {
        // As above, a second call changes nothing.
        let _ = self.memory.set(Box::new(figures));
    }

    /// Records a look for archives. Selected archives, and those still under way, count as pending until they are done.
    pub fn looked(&self, selection: &Selection) {
        let mut counts = self.counts.lock();
        let Archives { already_done, processed, .. } = counts.archives;
        let to_do = selection.take.len() as u64 + selection.under_way.archives;
        counts.archives = Archives {
            // Archives that are moved away between two looks still count as done.
            already_done: selection.already_done.saturating_sub(processed).max(already_done),
            processed,
            failed: selection.failed,
            pending: to_do + selection.settling + selection.too_large + selection.unreadable,
            discovered: 0,
        };
        counts.archives.count_discovered();
        counts.newest_archive = counts.newest_archive.max(selection.newest_done);
        if to_do == 0 {
            counts.backlog = None;
            return;
        }
        let fresh = Backlog {
            settled_before: counts.totals.rows.settled(),
            since: self.clock.elapsed(),
            ..Backlog::default()
        };
        // Kept while archives of earlier looks are under way.
        let backlog = counts.backlog.get_or_insert(fresh);
        let bytes: u64 = selection.take.iter().map(|archive| archive.bytes).sum();
        backlog.archives = backlog.done + to_do;
        backlog.bytes = backlog.done_bytes + selection.under_way.bytes + bytes;
    }

    /// Adds outcomes of rows.
    pub fn count_rows(&self, tally: &Tally, reasons: Reasons) {
        let Totals { rows, reasons: all } = &mut self.counts.lock().totals;
        *rows += tally;
        *all += reasons;
    }

    /// Records that an archive with `rows` rows has been opened.
    pub fn opened(&self, archive: &Archive, rows: u64) {
        if let Some(backlog) = &mut self.counts.lock().backlog {
            backlog.opened_bytes += archive.bytes;
            backlog.opened_rows += rows;
        }
    }

    /// Records that a pending archive is done.
    pub fn processed(&self, archive: &Archive) {
        if !self.counts_archives {
            return;
        }
        let mut counts = self.counts.lock();
        counts.archives.processed += 1;
        counts.archives.pending = counts.archives.pending.saturating_sub(1);
        counts.newest_archive = counts.newest_archive.max(archive.seconds);
        counts.finished(archive);
    }

    /// Records that a pending archive is broken.
    pub fn failed(&self, archive: &Archive) {
        let mut counts = self.counts.lock();
        counts.archives.failed += 1;
        counts.archives.pending = counts.archives.pending.saturating_sub(1);
        counts.finished(archive);
    }

    /// Records that a pass over all archives found has ended. It is a success if no archive stays pending and if a
    /// verification found no differences.
    pub fn passed(&self) {
        let mut counts = self.counts.lock();
        counts.backlog = None;
        if counts.archives.pending == 0 && counts.totals.rows.findings.total_differences() == 0 {
            counts.last_success = Some(now_millis());
        }
    }

    /// Returns the current figures.
    pub fn figures(&self) -> Figures {
        let server = self.server();
        let memory = self.memory.get().map(|figures| figures());
        let counts = self.counts.lock();
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
            backlog: counts.backlog.map(|backlog| backlog.with_settled(counts.totals.rows.settled())),
            server,
            stuck: Vec::new(),
            memory,
        }
    }

    /// Returns the current state of Elasticsearch. None before it has passed preflight.
    pub fn server(&self) -> Option<ServerFigures> {
        self.server.get().map(|figures| figures())
    }
}

impl Counts {
    /// Counts one of the current archives as done or broken.
    fn finished(&mut self, archive: &Archive) {
        if let Some(backlog) = &mut self.backlog {
            backlog.done += 1;
            backlog.done_bytes += archive.bytes;
        }
    }
}

impl Figures {
    /// Formats one line for the log. Rates of the interval are relative to `before`, the figures of the previous line.
    pub fn line(&self, before: &Figures) -> String {
        let Archives { discovered, already_done, processed, failed, pending } = self.archives;
        let settled = self.totals.rows.settled();
        let interval = self.elapsed.saturating_sub(before.elapsed);
        let mut line = format!(
            "archives: {processed} processed, {failed} failed, {pending} pending, {already_done} already done of \
             {discovered}; rows: {settled} done, {} rejected, {:.0} rows/s, {:.0} rows/s since the start; \
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
            let age = self.now.saturating_sub(millis).div_euclid(1000);
            line.push_str(&format!(
                "; newest archive: {}, {} old",
                rfc3339_millis(millis),
                format_seconds(age)
            ));
        }
        if let Some(ServerFigures { health, limit, .. }) = self.server {
            let requests = if limit == 1 { "request" } else { "requests" };
            line.push_str(&format!("; Elasticsearch is {health}, {limit} {requests} at once"));
        }
        line
    }
}

/// Returns rows per second.
fn rate(rows: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { rows as f64 / time.as_secs_f64() }
}

/// Formats seconds in the largest unit that fits at least twice.
pub fn format_seconds(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
