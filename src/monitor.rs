//! The thread that tells how a run gets on: a line in the log now and then, and the metrics file.

use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use crate::config::{Config, Mode};
use crate::exit::ExitCode;
use crate::metrics::MetricsFile;
use crate::progress::Progress;

/// The metrics file is written this often, and a `once` run logs a line.
const TICK: Duration = Duration::from_secs(10);

/// A spool run, which mostly waits, logs a line once in so many ticks.
const TICKS_PER_SPOOL_LINE: u32 = 6;

/// Tells how a run gets on while it works.
pub struct Monitor<'r> {
    progress: &'r Progress,
    metrics: Option<MetricsFile>,
    tick: Duration,
    ticks_per_line: u32,
}

impl<'r> Monitor<'r> {
    /// Tells of `progress` what the configuration asks for.
    pub fn new(config: &Config, progress: &'r Progress) -> Self {
        let ticks_per_line = if config.mode == Mode::Spool { TICKS_PER_SPOOL_LINE } else { 1 };
        Self { progress, metrics: MetricsFile::of(config), tick: TICK, ticks_per_line }
    }

    /// Does the run's work, and tells how it gets on until the work returns: also while a run that is asked to stop
    /// finishes what is being sent. Where nothing is logged and no metrics file asked for, there is no thread.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.metrics.is_none() && !log::log_enabled!(log::Level::Info) {
            return work();
        }
        thread::scope(|scope| {
            // The sending end is dropped, and the thread ends, even if the work panics.
            let (_end, ended) = bounded(0);
            scope.spawn(move || self.watch(&ended));
            work()
        })
    }

    fn watch(&self, ended: &Receiver<()>) {
        self.publish();
        let mut before = self.progress.figures();
        let mut ticks = 0;
        while ended.recv_timeout(self.tick) == Err(RecvTimeoutError::Timeout) {
            ticks += 1;
            if ticks >= self.ticks_per_line {
                let figures = self.progress.figures();
                log::info!("{}", figures.line(&before));
                (ticks, before) = (0, figures);
            }
            self.publish();
        }
    }

    /// Writes the metrics file, where there is to be one.
    pub fn publish(&self) {
        self.write(None);
    }

    /// Writes the metrics file for the last time.
    pub fn finish(&self, code: ExitCode) {
        self.write(Some(code));
    }

    fn write(&self, code: Option<ExitCode>) {
        if let Some(metrics) = &self.metrics {
            metrics.write(|| self.progress.figures(), code);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::pipeline::{Reasons, Tally};

    #[test]
    fn the_metrics_file_follows_the_work_and_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.prom");
        let progress = Progress::new();
        let metrics = Some(MetricsFile::new(path.clone(), Mode::Once, true));
        let monitor =
            Monitor { progress: &progress, metrics, tick: Duration::from_millis(1), ticks_per_line: 1 };
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
