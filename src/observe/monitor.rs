//! The thread that reports progress: a bar on a terminal or else log lines, and the metrics file.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};

use crate::common::exit::ExitCode;
use crate::config::{LogFormat, Mode, Reports};
use crate::observe::bar::Bar;
use crate::observe::metrics::MetricsFile;
use crate::observe::progress::{Figures, Progress};
use crate::process::shutdown::Stop;

/// Interval at which the metrics file is written, and a `once` run logs a line.
const TICK: Duration = Duration::from_secs(10);

/// Ticks per log line of a spool run, which mostly waits.
const TICKS_PER_SPOOL_LINE: u32 = 6;

/// Interval at which the bar is drawn.
const FRAME: Duration = Duration::from_millis(200);

/// Reports progress while a run works.
pub struct Monitor<'r> {
    reports: &'r Reports,
    format: LogFormat,
    progress: &'r Progress,
    stop: &'r Stop,
    metrics: Option<MetricsFile>,
    /// A message asks for the metrics file to be written.
    wake: (Sender<()>, Receiver<()>),
    tick: Duration,
}

impl<'r> Monitor<'r> {
    /// Creates a monitor of `progress`. A panic of its thread stops the run.
    pub fn new(reports: &'r Reports, format: LogFormat, progress: &'r Progress, stop: &'r Stop) -> Self {
        let (metrics, wake) = (MetricsFile::of(reports), bounded(1));
        Self { reports, format, progress, stop, metrics, wake, tick: TICK }
    }

    /// Does the run's work and reports progress until it returns, also while a stopped run finishes its requests. Starts
    /// no thread if nothing is logged and there is no metrics file.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.metrics.is_none() && !log::log_enabled!(log::Level::Info) {
            return work();
        }
        thread::scope(|scope| {
            // The sending end is dropped even if the work panics, so the thread ends in any case.
            let (_end, ended) = bounded(0);
            scope.spawn(move || self.stop.guard("the monitor", || self.watch(&ended)));
            work()
        })
    }

    fn watch(&self, ended: &Receiver<()>) {
        self.write(None);
        let mut bar = Bar::new(self.format, self.reports.shows_documents);
        let ticks_per_line = match self.reports.mode {
            Mode::Spool => Some(TICKS_PER_SPOOL_LINE),
            // The bar shows everything that the lines would.
            Mode::Once if bar.is_some() => None,
            Mode::Once => Some(1),
        };
        let mut before = self.progress.figures();
        let mut ticks = 0;
        let mut clock = Clock::new(self.tick, Instant::now());
        loop {
            let until_tick = clock.next.saturating_duration_since(Instant::now());
            let wait = if bar.is_some() { until_tick.min(FRAME) } else { until_tick };
            select! {
                recv(ended) -> _ => return,
                recv(self.wake.1) -> _ => self.write(None),
                default(wait) => {}
            }
            if let Some(bar) = &mut bar {
                bar.show(&self.progress.figures());
            }
            if !clock.ticks(Instant::now()) {
                continue;
            }
            ticks += 1;
            if ticks_per_line.is_some_and(|count| ticks >= count) {
                let figures = self.progress.figures();
                log::info!("{}", figures.line(&before));
                (ticks, before) = (0, figures);
            }
            self.write(None);
        }
    }

    /// Has the metrics file written, if there is one. Does not wait for it, since its disk may hang.
    pub fn publish(&self) {
        // If there is no room, it is written soon anyway.
        let _ = self.wake.0.try_send(());
    }

    /// Writes the metrics file for the last time, with the exit code.
    pub fn finish(&self, code: ExitCode) {
        self.write(Some(code));
    }

    fn write(&self, code: Option<ExitCode>) {
        if let Some(metrics) = &self.metrics {
            let pulse = self.stop.pulse();
            let stuck = pulse.all_stuck(Instant::now());
            let figures = || Figures { stuck, ..self.progress.figures() };
            pulse.while_using(metrics.path(), || metrics.write(figures, code));
        }
    }
}

/// Ticks at a steady rate. Ticks missed while the process was stopped (SIGSTOP, a suspended machine) are skipped.
struct Clock {
    every: Duration,
    next: Instant,
}

impl Clock {
    fn new(every: Duration, now: Instant) -> Self {
        Self { every, next: now + every }
    }

    /// Whether a tick is due. If so, schedules the next one.
    fn ticks(&mut self, now: Instant) -> bool {
        let is_due = now >= self.next;
        if is_due {
            let on_time = self.next + self.every;
            self.next = if on_time > now { on_time } else { now + self.every };
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use crate::config::{Config, Task};
    use crate::model::{Reasons, Tally};

    #[test]
    fn missed_ticks_are_skipped() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut clock = Clock::new(10 * second, start);
        let ticks = |clock: &mut Clock, seconds| clock.ticks(start + seconds * second);
        assert!(!ticks(&mut clock, 9) && ticks(&mut clock, 10) && !ticks(&mut clock, 11));
        // A late tick does not delay the next one.
        assert!(ticks(&mut clock, 22) && ticks(&mut clock, 30));
        assert!(ticks(&mut clock, 3600));
        assert!(!ticks(&mut clock, 3600) && !ticks(&mut clock, 3609));
        assert!(ticks(&mut clock, 3610));
    }

    #[test]
    fn the_metrics_file_follows_the_work_and_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.prom");
        let progress = Progress::new();
        let metrics = Some(MetricsFile::new(path.clone(), Mode::Once, true));
        let cli = Cli { dry_run: true, paths: vec![".".into()], ..Cli::default() };
        let Task::DryRun(task) = Config::resolve(cli, &|_| None).unwrap().task else { panic!("a dry run") };
        let tick = Duration::from_millis(1);
        let stop = Stop::new();
        let (reports, format) = (&task.reports, LogFormat::Text);
        let wake = bounded(1);
        let monitor = Monitor { reports, format, progress: &progress, stop: &stop, metrics, wake, tick };
        let has = |text: &str| std::fs::read_to_string(&path).is_ok_and(|file| file.contains(text));
        let deadline = Instant::now() + Duration::from_secs(30);
        let seen = monitor.during(|| {
            progress.count_rows(&Tally { skipped: 77, ..Tally::default() }, Reasons::default());
            while !has("{outcome=\"skipped\"} 77\n") {
                if Instant::now() > deadline {
                    return false;
                }
                thread::yield_now();
            }
            true
        });
        assert!(seen);
        assert!(has("megastream_ingest_running 1\n"));
        monitor.finish(ExitCode::Done);
        assert!(has("megastream_ingest_running 0\n") && has("megastream_ingest_exit_code 0\n"));
    }
}
