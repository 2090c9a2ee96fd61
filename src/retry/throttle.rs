//! Shares the state of a server among all senders: its health, the requests and bytes in flight, and the pause after a
//! push-back. All waits end as soon as the run is to stop.

use std::collections::VecDeque;

use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded, select};

use super::growth::Growth;
use super::limiter::Limiter;
use super::shared_health::SharedHealth;
use crate::common::mutex::Mutex;
use crate::model::{Health, Senders, ServerFigures};
use crate::process::shutdown::Stop;

/// Limit on bytes of request bodies in flight, whatever the limit on requests. A node reserves a tenth of its heap for
/// them (`indexing_pressure.memory.limit`); this is well below. A larger request is sent while no other is in flight.
const MAX_BYTES: usize = 64 << 20;

/// Time without progress after which a server counts as unavailable. Until then it counts as pushing back.
const UNAVAILABLE_AFTER: Duration = Duration::from_secs(10);

/// Returns the health of a server that has made no progress for `time`; None: nothing has failed.
fn health_without_progress_for(time: Option<Duration>) -> Health {
    match time {
        None => Health::Available,
        Some(time) if time < UNAVAILABLE_AFTER => Health::PushingBack,
        Some(_) => Health::Unavailable,
    }
}

/// The run is to stop, so the request is not sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Stopped;

/// Admits requests to a server; shared by all its senders.
pub struct Throttle {
    stop: Stop,
    budget: Option<Duration>,
    state: Mutex<State>,
}

struct State {
    limiter: Limiter,
    /// Looks for the best ceiling of the limiter; None: it is fixed.
    growth: Option<Growth>,
    /// Number of [`Permit`]s held, and the bytes of their request bodies.
    in_flight: usize,
    bytes: usize,
    /// Requests that wait for a permit, first come first served.
    waiting: VecDeque<Waiting>,
    /// Start of the first request that failed since the server last carried one out, at least in part.
    failing_since: Option<Instant>,
    /// Whether a request since then found the server away: no connection, or a server that is not ready.
    away: bool,
    /// When the server last carried out a request, at least in part.
    progressed: Option<Instant>,
}

struct Waiting {
    bytes: usize,
    admit: Sender<()>,
}

/// The right to have one request in flight.
pub struct Permit<'t> {
    throttle: &'t Throttle,
    bytes: usize,
    number: u64,
    started: Instant,
}

impl State {
    /// Records that the server carried out a request. `failing_since` is set if it carried out only part of it.
    fn progress(&mut self, failing_since: Option<Instant>) {
        self.failing_since = failing_since;
        self.away = false;
        self.progressed = Some(Instant::now());
    }

    /// Passes an outcome to the search for the best ceiling, and sets the ceiling that follows. The end of the permit
    /// admits more requests.
    fn grow(&mut self, outcome: impl FnOnce(&mut Growth) -> Option<usize>) {
        if let Some(ceiling) = self.growth.as_mut().and_then(outcome) {
            log::debug!("--senders auto: at most {ceiling} concurrent requests from now on");
            self.limiter.set_ceiling(ceiling);
        }
    }

    fn admit(&mut self) {
        while let Some(next) = self.waiting.front().filter(|next| self.has_room_for(next.bytes)) {
            let bytes = next.bytes;
            // If the receiver is gone, its thread has been stopped.
            if next.admit.try_send(()).is_ok() {
                self.in_flight += 1;
                self.bytes += bytes;
            }
            self.waiting.pop_front();
        }
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        let alone = self.in_flight == 0;
        alone || self.in_flight < self.limiter.limit() && self.bytes.saturating_add(bytes) <= MAX_BYTES
    }
}

impl Throttle {
    /// Creates a throttle for this many senders. The server may make no progress for `budget`; None: without limit.
    pub fn new(senders: Senders, stop: Stop, budget: Option<Duration>) -> Self {
        let Senders { start, max } = senders;
        let state = State {
            limiter: Limiter::new(start),
            growth: (start < max).then(|| Growth::new(start, max)),
            in_flight: 0,
            bytes: 0,
            waiting: VecDeque::new(),
            failing_since: None,
            away: false,
            progressed: None,
        };
        Self { stop, budget, state: Mutex::new(state) }
    }

    /// Waits until a request with a body of `bytes` bytes may be sent.
    pub fn acquire(&self, bytes: usize) -> Result<Permit<'_>, Stopped> {
        if self.stop.is_requested() {
            return Err(Stopped);
        }
        let (admit, admitted) = bounded(1);
        {
            let mut state = self.state.lock();
            state.waiting.push_back(Waiting { bytes, admit });
            state.admit();
        }
        self.stop.pulse().pause();
        select! {
            recv(admitted) -> _ => {}
            // A request admitted at this very moment stays counted. That is harmless: no other is admitted any more.
            recv(self.stop.channel()) -> _ => {
                self.stop.pulse().beat(Duration::ZERO);
                return Err(Stopped);
            }
        }
        // From here on, dropping the permit frees its place.
        let mut permit = Permit { throttle: self, bytes, number: 0, started: Instant::now() };
        while let Some(pause) = self.pause() {
            if !self.stop.wait(pause) {
                return Err(Stopped);
            }
        }
        self.stop.pulse().beat(Duration::ZERO);
        permit.number = self.state.lock().limiter.start();
        permit.started = Instant::now();
        Ok(permit)
    }

    /// Records that a request without a permit found the server unavailable. Later requests may find it starting.
    pub fn found_away(&self) {
        self.state.lock().away = true;
    }

    /// Returns the health of the server.
    pub fn health(&self) -> Health {
        health_without_progress_for(self.state.lock().failing_since.map(|since| since.elapsed()))
    }

    /// Returns the server's state for the metrics.
    pub fn figures(&self) -> ServerFigures {
        let confirmed = self.state.lock().progressed.map(|progressed| progressed.elapsed());
        ServerFigures { health: self.health(), limit: self.limit(), since_confirmed: confirmed }
    }

    /// Returns how many requests may be in flight now.
    pub fn limit(&self) -> usize {
        self.state.lock().limiter.limit()
    }
}

impl SharedHealth for Throttle {
    fn failing_for(&self) -> Duration {
        self.state.lock().failing_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn was_away(&self) -> bool {
        self.state.lock().away
    }

    fn own_pause(&self, failures: u32, random: f64) -> Duration {
        self.state.lock().limiter.own_pause(failures, random)
    }

    /// Returns the current pause. It never outlasts the budget: when the budget ends, the server gets a last request.
    fn pause(&self) -> Option<Duration> {
        let state = self.state.lock();
        let now = Instant::now();
        let pause = state.limiter.pause(now)?;
        let end = self.budget.zip(state.failing_since).and_then(|(budget, since)| since.checked_add(budget));
        let left = end.map_or(pause, |end| pause.min(end.saturating_duration_since(now)));
        (!left.is_zero()).then_some(left)
    }
}

impl Permit<'_> {
    /// Records that the server carried out the request.
    pub fn succeeded(self) {
        let mut state = self.throttle.state.lock();
        state.progress(None);
        state.limiter.record_duration(self.started.elapsed());
        state.limiter.succeeded(self.number);
        let is_needed = !state.waiting.is_empty();
        state.grow(|growth| growth.succeeded(self.bytes, is_needed, Instant::now()));
    }

    /// Records that the server carried out part of the request, and pushed back on the rest.
    pub fn pushed_back_in_part(self) {
        let now = Instant::now();
        let mut state = self.throttle.state.lock();
        state.progress(Some(now));
        state.limiter.record_duration(self.started.elapsed());
        state.limiter.pushed_back_in_part(self.number, now, fastrand::f64());
        state.grow(|growth| growth.failed(now));
    }

    /// Records that the server pushed back: allows fewer requests at once, and none for a while.
    pub fn pushed_back(self, retry_after: Option<Duration>) {
        self.failed(retry_after, false);
    }

    /// Like [`Self::pushed_back`], but the server cannot be reached, or is not ready.
    pub fn found_away(self, retry_after: Option<Duration>) {
        self.failed(retry_after, true);
    }

    fn failed(self, retry_after: Option<Duration>, away: bool) {
        let mut state = self.throttle.state.lock();
        // A request that hung while others were carried out says nothing about the time before that.
        let since = state.progressed.map_or(self.started, |progressed| progressed.max(self.started));
        state.failing_since.get_or_insert(since);
        state.away |= away;
        let now = Instant::now();
        state.limiter.pushed_back(self.number, retry_after, now, fastrand::f64());
        state.grow(|growth| growth.failed(now));
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.throttle.state.lock();
        state.in_flight -= 1;
        state.bytes -= self.bytes;
        state.admit();
    }
}

#[cfg(test)]
mod tests;
