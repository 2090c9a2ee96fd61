//! The looks of a load while its stages run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::select;

use super::Run;
use super::looks::Looks;
use crate::common::exit::Failure;
use crate::config::{Load, Mode};
use crate::model::Archive;
use crate::pipeline::ledger::books::Books;
use crate::pipeline::ledger::lines::Lines;
use crate::sink::elasticsearch::server::Server;

/// Interval between warnings about a source that cannot be read, in spool mode.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Looks for archives, on its own thread, while the stages process those found before.
pub(super) struct Looker<'r> {
    pub(super) run: &'r Run<'r>,
    pub(super) task: &'r Load,
    pub(super) server: &'r Server,
    pub(super) books: &'r Books,
    pub(super) lines: &'r Lines,
}

impl Looker<'_> {
    /// Queues archives until the last one is done or, in spool mode, until the run is to stop. Then closes the books.
    pub(super) fn run(&self, mut looks: Looks<'_>, first: Vec<Arc<Archive>>) {
        let stop = self.run.stop;
        let looked = stop.guard("the looks for archives", || match self.task.archives.mode {
            Mode::Once => {
                self.enqueue(first);
                self.wait_until_all_is_done();
                Ok(())
            }
            Mode::Spool => self.spool(&mut looks, first),
        });
        if let Some(Err(failure)) = looked {
            stop.fail(failure);
        }
        self.books.open().close();
    }

    fn spool(&self, looks: &mut Looks<'_>, first: Vec<Arc<Archive>>) -> Result<(), Failure> {
        let mut found = Some(first);
        while let Some(archives) = found {
            self.enqueue(archives);
            found = self.next_look(looks);
            if let Some(archives) = &found {
                self.server.look(!archives.is_empty(), self.run.stop)?;
            }
        }
        Ok(())
    }

    /// Queues the archives of a look. A look that leaves nothing under way is a success.
    fn enqueue(&self, archives: Vec<Arc<Archive>>) {
        let open = self.books.open();
        open.enqueue(archives);
        if open.under_way().archives == 0 {
            self.run.progress.passed();
        }
        drop(open);
        self.run.monitor.publish();
    }

    fn wait_until_all_is_done(&self) {
        while self.books.open().under_way().archives > 0 {
            select! {
                recv(self.books.settled()) -> _ => {}
                recv(self.run.stop.channel()) -> _ => return,
            }
        }
    }

    /// Waits and looks again; returns None when the run is to stop. A failed look is repeated after the next wait, since
    /// the source has been readable before.
    fn next_look(&self, looks: &mut Looks<'_>) -> Option<Vec<Arc<Archive>>> {
        let mut warned: Option<Instant> = None;
        while self.wait(looks.pause(self.task.intake.spool_interval)) {
            match self.run.look(looks, &self.task.archives, self.books, self.lines) {
                Ok(selection) => return Some(selection.take),
                Err(_) if self.run.stop.is_requested() => return None,
                Err(failure) => {
                    if warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY) {
                        warned = Some(Instant::now());
                        log::error!("{failure}; the next look tries again");
                    }
                }
            }
        }
        None
    }

    /// Waits for `time`, and publishes the figures whenever the last archive under way is done. Returns false as soon as
    /// the run is to stop.
    fn wait(&self, time: Duration) -> bool {
        let begun = Instant::now();
        loop {
            select! {
                recv(self.run.stop.channel()) -> _ => return false,
                recv(self.books.settled()) -> _ => self.run.monitor.publish(),
                default(time.saturating_sub(begun.elapsed())) => return true,
            }
        }
    }
}
