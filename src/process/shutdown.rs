//! Stops a run: on a signal, on a failure of a stage, or on a panic in any thread ([`Stop::guard`]).
//!
//! Every wait in the program also waits on one channel that never carries a message. It closes when the run is to stop,
//! so every wait ends at once and nothing polls.

use std::any::Any;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};
use signal_hook::consts::{SIGHUP, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

use crate::common::exit::{ExitCode, Failure};
use crate::common::mutex::Mutex;
use crate::config::Mode;
use crate::process::pulse::Pulse;

/// Time within which further signals count as the same request: `timeout` signals the program first and then its
/// process group.
const ONE_REQUEST: Duration = Duration::from_millis(50);

/// Time after a signal after which a file that is still being read or written is named: its file server may be away.
const LONG_USE: Duration = Duration::from_secs(2);

/// Why a run stops before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// SIGINT.
    Interrupt,
    /// SIGTERM or SIGHUP.
    Terminate,
    /// The reader of the run's output has closed the pipe, as `head` does.
    Unread,
    /// A failure that the run cannot recover from.
    Fatal(Failure),
}

impl StopReason {
    /// Returns the exit code of a run that stops for this reason. A signal is the normal end of a spool run.
    pub fn exit_code(&self, mode: Mode) -> ExitCode {
        match self {
            StopReason::Interrupt | StopReason::Terminate if mode == Mode::Spool => ExitCode::Done,
            StopReason::Unread => ExitCode::Done,
            StopReason::Interrupt => ExitCode::Interrupted,
            StopReason::Terminate => ExitCode::Terminated,
            StopReason::Fatal(failure) => failure.code,
        }
    }
}

/// Whether and why a run is to stop, shared by all its threads. Also holds their heartbeats, since they wait here.
#[derive(Clone)]
pub struct Stop {
    shared: Arc<Shared>,
}

struct Shared {
    /// The first reason to stop.
    reason: OnceLock<StopReason>,
    /// The first failure of the run itself after a signal, such as a full disk.
    late: OnceLock<Failure>,
    /// When the first signal arrived.
    signalled: OnceLock<Instant>,
    /// The sending end. The first request drops it, which closes the channel.
    open: Mutex<Option<Sender<()>>>,
    closed: Receiver<()>,
    pulse: Pulse,
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.reason()).finish()
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl Stop {
    /// Creates the state of a run that is not to stop.
    pub fn new() -> Self {
        let (sender, closed) = bounded(0);
        let (reason, late, signalled) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let (open, pulse) = (Mutex::new(Some(sender)), Pulse::default());
        Self { shared: Arc::new(Shared { reason, late, signalled, open, closed, pulse }) }
    }

    /// Asks the run to stop. Returns whether this is the first request; only the first reason counts.
    pub fn request(&self, reason: StopReason) -> bool {
        let is_first = self.shared.reason.set(reason).is_ok();
        if is_first {
            *self.shared.open.lock() = None;
        }
        is_first
    }

    /// Stops the run with a failure. Returns whether it is the one that the end of the run reports: the first one. A
    /// stopped run that cannot save what it has done, or restore what it has changed, has failed all the same.
    pub fn fail(&self, failure: Failure) -> bool {
        if self.request(StopReason::Fatal(failure.clone())) {
            return true;
        }
        self.is_interrupted() && failure.code == ExitCode::Failed && self.shared.late.set(failure).is_ok()
    }

    /// Stops the run after an error in writing its output. A closed pipe is not a failure.
    pub fn output_failed(&self, error: &io::Error) {
        if error.kind() == ErrorKind::BrokenPipe {
            self.request(StopReason::Unread);
        } else {
            self.fail(Failure::run(format!("--output cannot be written: {error}")));
        }
    }

    /// Whether the run stops because the reader of its output has closed the pipe.
    pub fn is_unread(&self) -> bool {
        self.reason() == Some(StopReason::Unread)
    }

    /// Runs one thread's work; returns None if it panics. A panic is a bug and stops the run like any failure: the other
    /// threads finish their current work, and none waits for the one that panicked.
    ///
    /// Shared state stays usable after a panic: no lock is held across code that can panic, and the poison flag of locks
    /// is ignored.
    pub fn guard<T>(&self, who: &str, work: impl FnOnce() -> T) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(|| {
            #[cfg(debug_assertions)]
            panic_if_requested(who);
            work()
        }));
        done.map_err(|panic| self.panicked(who, &*panic)).ok()
    }

    fn panicked(&self, who: &str, panic: &(dyn Any + Send)) {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic");
        let failure = if is_lack_of_threads(text) {
            lack_of_threads()
        } else {
            Failure::run(format!("an internal error in {who}: {text}; please report it{RUN_AGAIN}"))
        };
        // If the run has already failed for another reason, its end reports only that one.
        if !self.fail(failure.clone()) {
            log::error!("{failure}");
        }
    }

    /// Whether the run is to stop.
    pub fn is_requested(&self) -> bool {
        self.shared.reason.get().is_some()
    }

    /// Whether a signal, or the reader of the output, was the first reason to stop.
    pub fn is_interrupted(&self) -> bool {
        self.shared.reason.get().is_some_and(|reason| !matches!(reason, StopReason::Fatal(_)))
    }

    /// Returns why the run is to stop, if it is.
    pub fn reason(&self) -> Option<StopReason> {
        self.shared.late.get().cloned().map(StopReason::Fatal).or_else(|| self.shared.reason.get().cloned())
    }

    /// Returns the reason to stop as a failure, for functions that fail because of it.
    pub fn as_failure(&self) -> Failure {
        match self.reason() {
            Some(StopReason::Fatal(failure)) => failure,
            Some(StopReason::Unread) => Failure::new(ExitCode::Done, "the reader of the output has gone"),
            Some(signal) => Failure::new(signal.exit_code(Mode::Once), "the run was stopped by a signal"),
            None => Failure::run("the run was stopped"),
        }
    }

    /// Returns the heartbeats of the run's threads.
    pub fn pulse(&self) -> &Pulse {
        &self.shared.pulse
    }

    /// Returns a channel that closes when the run is to stop, for `select!`.
    pub fn channel(&self) -> &Receiver<()> {
        &self.shared.closed
    }

    /// Waits for `time`. Returns true once it has passed, or false as soon as the run is to stop.
    pub fn wait(&self, time: Duration) -> bool {
        self.pulse().beat(time);
        matches!(self.shared.closed.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }

    /// Does `work` on a thread of its own. Returns None as soon as the run is to stop, without waiting for the thread.
    ///
    /// Meant for requests whose replies are useless to a run that ends. A request cannot be cancelled from outside, and
    /// its time-outs (name resolution, connection, TLS handshake, reply) are long.
    ///
    /// # Errors
    ///
    /// Fails if no thread can be started.
    pub fn unless_requested<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Option<T>> {
        if self.is_requested() {
            return Ok(None);
        }
        let (sender, done) = bounded(1);
        let working = thread::Builder::new().name("question".into()).spawn(move || {
            // The receiver is gone once the run is to stop.
            let _ = sender.send(work());
        })?;
        let answer = select! {
            recv(done) -> answer => answer.ok(),
            recv(self.channel()) -> _ => return Ok(None),
        };
        // If the work has panicked, the panic continues here.
        if let Err(panic) = working.join() {
            std::panic::resume_unwind(panic);
        }
        Ok(answer)
    }

    /// Handles signals: the first SIGINT, SIGTERM or SIGHUP asks the run to stop, a second one exits at once. A SIGHUP
    /// that is ignored at the start stays ignored, so that a run under `nohup` outlives its terminal.
    ///
    /// `ctrlc` does not report which signal arrived, but the exit codes differ. So `ctrlc` handles SIGINT only, and
    /// `signal-hook` the other two.
    pub fn listen_to_signals(&self, mode: Mode) -> Result<(), Failure> {
        let cannot = |error: &dyn std::fmt::Display| Failure::run(format!("cannot receive signals: {error}"));
        self.log_signals().map_err(|e| cannot(&e))?;
        // With SIGXFSZ caught, exceeding the file size limit (`ulimit -f`) is a write error, as on a full disk, and does
        // not kill the process.
        signal_hook::flag::register(SIGXFSZ, Arc::default()).map_err(|e| cannot(&e))?;
        let stop = self.clone();
        ctrlc::set_handler(move || stop.on_signal(StopReason::Interrupt, mode)).map_err(|e| cannot(&e))?;
        let watched: &[i32] = if is_ignored(SIGHUP) { &[SIGTERM] } else { &[SIGTERM, SIGHUP] };
        let mut signals = Signals::new(watched).map_err(|e| cannot(&e))?;
        let stop = self.clone();
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                stop.guard("the thread for signals", || {
                    signals.forever().for_each(|_| stop.on_signal(StopReason::Terminate, mode));
                })
            })
            .map_err(|e| cannot(&e))?;
        Ok(())
    }

    /// Logs signals on a thread of its own: writing to a log that nobody reads may block for ever, and the threads that
    /// handle signals must notice a second one.
    fn log_signals(&self) -> io::Result<()> {
        let stop = self.clone();
        let log = move || {
            let _ = stop.channel().recv();
            if matches!(stop.reason(), Some(StopReason::Interrupt | StopReason::Terminate)) {
                log::warn!("stopping: requests in flight are finished first; a second signal exits at once");
                thread::sleep(LONG_USE);
                if let Some((count, path)) = stop.pulse().in_use() {
                    let files = if count == 1 { "1 file" } else { &format!("{count} files") };
                    log::warn!(
                        "still waiting for the disk or file server of {path:?} ({files} in use); a second signal exits \
                         at once"
                    );
                }
            }
        };
        thread::Builder::new().name("stopping".into()).spawn(log)?;
        Ok(())
    }

    fn on_signal(&self, reason: StopReason, mode: Mode) {
        let code = reason.exit_code(mode);
        if self.take_signal(reason, Instant::now()) {
            // Skips the clean-up of an orderly exit, which might block on flushing a buffer that nobody reads.
            low_level::exit(code.number().into());
        }
    }

    /// Records a signal that arrives `now`. Returns whether it is a second request.
    fn take_signal(&self, reason: StopReason, now: Instant) -> bool {
        let first = *self.shared.signalled.get_or_init(|| now);
        self.request(reason);
        now.duration_since(first) >= ONE_REQUEST
    }
}

/// The end of messages about failures that have nothing to do with archives.
const RUN_AGAIN: &str = ", and run again: archives that are not marked are loaded again, nothing is lost";

/// Returns the failure of a run that could not start a thread.
pub(crate) fn lack_of_threads() -> Failure {
    Failure::run(format!(
        "the system allows no more threads: raise the limit of processes (ulimit -u, TasksMax of systemd, pids.max of a \
         container), or lower --workers and --senders{RUN_AGAIN}"
    ))
}

/// Whether a panic means that no thread could be started, by its text. The standard library panics where a scope starts
/// one.
pub(crate) fn is_lack_of_threads(panic: &str) -> bool {
    panic.contains("failed to spawn thread")
}

/// Panics if a test asks for it. Debug builds only.
#[cfg(debug_assertions)]
#[allow(clippy::panic)]
fn panic_if_requested(who: &str) {
    if std::env::var_os("MEGASTREAM_INGEST_PANIC").is_some_and(|asked| asked == who) {
        panic!("asked for");
    }
}

/// Whether this process ignores a signal. False if the system does not report it.
fn is_ignored(signal: i32) -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, signal))
}

/// Whether `status` lists a signal as ignored.
///
/// Source: proc_pid_status(5): a hexadecimal mask whose lowest bit is signal 1.
fn ignores(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests;
