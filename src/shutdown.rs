//! How a run is asked to stop: by a signal, or by a stage that cannot go on.
//!
//! Waiting anywhere in the program is waiting on one channel that nobody sends on: it closes when the run is
//! asked to stop, so every wait ends at once and nobody polls.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::exit::{ExitCode, Failure};

/// Signals that come within this time of the first are taken for the same request: `timeout` sends its signal to the
/// program and to its process group, and a script may pass on what the terminal has sent to all.
const ONE_REQUEST: Duration = Duration::from_millis(250);

/// Why a run stops before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// SIGINT.
    Interrupt,
    /// SIGTERM or SIGHUP.
    Terminate,
    /// A stage met something that the run cannot get past.
    Fatal(Failure),
}

impl StopReason {
    /// The exit code of a `once` run that ends for this reason.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            StopReason::Interrupt => ExitCode::Interrupted,
            StopReason::Terminate => ExitCode::Terminated,
            StopReason::Fatal(failure) => failure.code,
        }
    }

    /// Whether a signal asked for it.
    pub fn is_signal(&self) -> bool {
        !matches!(self, StopReason::Fatal(_))
    }
}

/// Shared by all threads of a run: whether it is to stop, and why.
#[derive(Clone)]
pub struct Stop {
    shared: Arc<Shared>,
}

struct Shared {
    requested: AtomicBool,
    /// When the first signal came.
    signalled: OnceLock<Instant>,
    /// The reason, and the sender whose end closes the channel. The first reason stays.
    state: Mutex<(Option<StopReason>, Option<Sender<()>>)>,
    closed: Receiver<()>,
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl Stop {
    /// A run that nobody has asked to stop.
    pub fn new() -> Self {
        let (sender, closed) = bounded(0);
        let state = Mutex::new((None, Some(sender)));
        let (requested, signalled) = (AtomicBool::new(false), OnceLock::new());
        Self { shared: Arc::new(Shared { requested, signalled, state, closed }) }
    }

    /// Asks the run to stop. Says whether this was the first request; only the first reason counts.
    pub fn request(&self, reason: StopReason) -> bool {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let first = state.0.is_none();
        if first {
            state.0 = Some(reason);
            state.1 = None;
            self.shared.requested.store(true, Ordering::Release);
        }
        first
    }

    /// Asks the run to stop since it cannot go on.
    pub fn fail(&self, failure: Failure) {
        self.request(StopReason::Fatal(failure));
    }

    /// Whether the run is to stop.
    pub fn is_requested(&self) -> bool {
        self.shared.requested.load(Ordering::Acquire)
    }

    /// Why the run is to stop, if it is.
    pub fn reason(&self) -> Option<StopReason> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Why the run is to stop, as a failure: for functions that fail since it is.
    pub fn as_failure(&self) -> Failure {
        match self.reason() {
            Some(StopReason::Fatal(failure)) => failure,
            Some(signal) => Failure::new(signal.exit_code(), "the run was stopped by a signal"),
            None => Failure::run("the run was stopped"),
        }
    }

    /// A channel that closes when the run is to stop, for `select!`.
    pub fn channel(&self) -> &Receiver<()> {
        &self.shared.closed
    }

    /// Waits. False as soon as the run is to stop, true when the time has passed.
    pub fn wait(&self, time: Duration) -> bool {
        matches!(self.shared.closed.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }

    /// From now on the first SIGINT, SIGTERM or SIGHUP asks the run to stop, and a second one exits at once.
    ///
    /// `ctrlc` does not say which signal came, and the exit codes differ: so it watches SIGINT, and
    /// `signal-hook` the other two.
    pub fn listen_to_signals(&self) -> Result<(), Failure> {
        let cannot =
            |error: &dyn std::fmt::Display| Failure::run(format!("cannot listen to signals: {error}"));
        let stop = self.clone();
        ctrlc::set_handler(move || stop.on_signal(StopReason::Interrupt)).map_err(|e| cannot(&e))?;
        let mut signals =
            signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP])
                .map_err(|e| cannot(&e))?;
        let stop = self.clone();
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || signals.forever().for_each(|_| stop.on_signal(StopReason::Terminate)))
            .map_err(|e| cannot(&e))?;
        Ok(())
    }

    fn on_signal(&self, reason: StopReason) {
        let code = reason.exit_code();
        let first = *self.shared.signalled.get_or_init(Instant::now);
        if self.request(reason) {
            log::warn!("stopping: what is being sent is finished first; a second signal exits at once");
        } else if first.elapsed() >= ONE_REQUEST {
            process::exit(code.number().into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays() {
        let stop = Stop::new();
        assert!(!stop.is_requested());
        assert!(stop.request(StopReason::Terminate));
        assert!(!stop.request(StopReason::Interrupt));
        assert_eq!(stop.reason(), Some(StopReason::Terminate));
    }

    #[test]
    fn a_wait_ends_when_the_run_is_to_stop() {
        let stop = Stop::new();
        assert!(stop.wait(Duration::from_millis(1)));
        let other = stop.clone();
        let waiting = thread::spawn(move || other.wait(Duration::from_secs(3600)));
        stop.request(StopReason::Interrupt);
        assert!(!waiting.join().unwrap());
    }
}
