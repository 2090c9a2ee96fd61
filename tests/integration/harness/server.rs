//! The inside of the fake server: state, connections, and replies.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::fake::API_KEY;
use super::http::{Reply, Request};
use super::json::filter;
use super::listener::{Answer, Serve};
use super::rest::{self, Privileges};
use super::script::{Fault, Script};
use super::store::{Item, Store, parse_bulk, refused};

/// A received request and its result.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) request: Request,
    /// The actions of a bulk request.
    pub(crate) items: Vec<Item>,
    pub(crate) arrived: Moment,
    /// Just before the reply was sent; None without a reply.
    pub(crate) answered: Option<Moment>,
    /// The status of the reply.
    pub(crate) status: Option<u16>,
}

/// A point in time, and its position among all events of this server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) order: u64,
    pub(crate) time: Instant,
}

/// Admits a request (None), or refuses it with a reply.
pub(super) type Gate = Box<dyn Fn(&Request) -> Option<Reply> + Send>;

/// How long a request of [`Fault::After`] waits for the next request.
const IDLE_WAIT: Duration = Duration::from_millis(2);

/// A bulk request that is applied after its sender has given up.
struct Late {
    items: Vec<Item>,
    /// The number of requests that must arrive first.
    requests: usize,
}

/// The state of the server.
#[derive(Default)]
pub(super) struct State {
    pub(super) store: Store,
    pub(super) privileges: Privileges,
    pub(super) script: Script,
    pub(super) records: Vec<Record>,
    late: Vec<Late>,
    moments: u64,
    open_bulks: usize,
    pub(super) peak_open_bulks: usize,
    /// Larger bulk requests, in bytes, get status 413.
    pub(super) bulk_limit: Option<usize>,
    /// Which requests are admitted; None: those with the API key of the tests.
    pub(super) gate: Option<Gate>,
    pub(super) releases: u64,
    pub(super) stopped: bool,
}

impl State {
    fn now(&mut self) -> Moment {
        self.moments += 1;
        Moment { order: self.moments, time: Instant::now() }
    }

    /// Applies late requests whose turn has come.
    fn apply_late(&mut self, request: &Request) {
        if self.late.is_empty() {
            return;
        }
        let body = String::from_utf8_lossy(&request.body);
        let store = &mut self.store;
        self.late.retain_mut(|late| {
            let looked_up = request.is_mget() && late.items.iter().any(|item| body.contains(&item.id));
            let due = looked_up || late.requests == 0;
            if due {
                late.items.iter().for_each(|item| drop(store.apply(item)));
            }
            late.requests = late.requests.saturating_sub(1);
            !due
        });
    }

    /// Applies all late requests.
    pub(super) fn settle(&mut self) {
        for item in self.late.drain(..).flat_map(|late| late.items) {
            self.store.apply(&item);
        }
    }
}

/// The state, and a signal of its changes.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Serve for Shared {
    fn answer(&self, request: &Request) -> Answer {
        handle(self, request)
    }

    fn refuse_before_body(&self, head: &Request) -> Option<Answer> {
        let mut state = self.lock();
        let reply = state.script.take_before_body(head)?;
        let (arrived, answered) = (state.now(), state.now());
        let status = Some(reply.status);
        let request = head.clone();
        state.records.push(Record { request, items: Vec::new(), arrived, answered: Some(answered), status });
        self.changed.notify_all();
        Some(Answer { bytes: reply.bytes(false), ..Answer::default() })
    }
}

fn handle(shared: &Shared, request: &Request) -> Answer {
    let mut state = shared.lock();
    let arrived = state.now();
    state.apply_late(request);
    let fault = state.script.take(request);
    let place = state.records.len();
    let items = if request.is_bulk() { actions(request).unwrap_or_default() } else { Vec::new() };
    let bulk = request.is_bulk();
    state.records.push(Record { request: request.clone(), items, arrived, answered: None, status: None });
    if bulk {
        state.open_bulks += 1;
        state.peak_open_bulks = state.peak_open_bulks.max(state.open_bulks);
    }
    shared.changed.notify_all();
    if let Some(Fault::After(requests)) = fault {
        while state.records.len() <= place + requests {
            let arrived = state.records.len();
            state = shared.changed.wait_timeout(state, IDLE_WAIT).unwrap_or_else(PoisonError::into_inner).0;
            if state.records.len() == arrived {
                break;
            }
        }
    }
    if matches!(fault, Some(Fault::Hang)) {
        let before = state.releases;
        state = shared
            .changed
            .wait_while(state, |state| state.releases == before && !state.stopped)
            .unwrap_or_else(PoisonError::into_inner);
    }
    if let Some(Fault::Delay(time)) = fault {
        drop(state);
        std::thread::sleep(time);
        state = shared.lock();
    }
    let answer = if state.stopped { None } else { reply(&mut state, place, request, fault.as_ref()) };
    if bulk {
        state.open_bulks -= 1;
    }
    let now = state.now();
    let bytes = answer.as_ref().map(|answer| answer.bytes(request.method == "HEAD")).unwrap_or_default();
    if let (Some(reply), Some(record)) = (&answer, state.records.get_mut(place)) {
        record.answered = Some(now);
        record.status = Some(reply.status);
    }
    match fault {
        Some(Fault::CutReply) => {
            let body = answer.map(|answer| answer.body.len()).unwrap_or_default();
            Answer { bytes: bytes[..bytes.len() - body / 2].to_vec(), ..Answer::default() }
        }
        _ => Answer { keep_alive: !bytes.is_empty(), bytes, ..Answer::default() },
    }
}

/// The reply of Elasticsearch to invalid credentials.
pub(super) fn unauthenticated() -> Reply {
    let reason = "unable to authenticate with provided credentials for this request";
    Reply::error(401, "security_exception", reason)
}

/// Applies the request as far as the fault allows, and returns the reply unless the fault prevents it.
fn reply(state: &mut State, place: usize, request: &Request, fault: Option<&Fault>) -> Option<Reply> {
    if let Some(Fault::Reply(reply) | Fault::BeforeBody(reply)) = fault {
        return Some(reply.clone());
    }
    if matches!(fault, Some(Fault::CloseBefore)) {
        return None;
    }
    if let Some(gate) = &state.gate {
        if let Some(refusal) = gate(request) {
            return Some(refusal);
        }
    } else if request.header("authorization") != Some(&format!("ApiKey {API_KEY}")) {
        return Some(unauthenticated());
    }
    if let Some(Fault::ApplyLate(requests)) = fault {
        let items = actions(request).unwrap_or_default();
        state.late.push(Late { items, requests: *requests });
        return None;
    }
    if !request.is_bulk() {
        let reply = rest::answer(&mut state.store, &state.privileges, request);
        return (!matches!(fault, Some(Fault::CloseAfter | Fault::CloseHalfway))).then_some(reply);
    }
    if state.bulk_limit.is_some_and(|limit| request.body.len() > limit) {
        return Some(Reply { status: 413, headers: vec![], body: vec![] });
    }
    let mut told = match bulk(state, place, request, matches!(fault, Some(Fault::CloseHalfway))) {
        Ok(told) => told,
        Err(_) if matches!(fault, Some(Fault::CloseAfter | Fault::CloseHalfway)) => return None,
        Err(reason) => return Some(Reply::error(400, "illegal_argument_exception", &reason)),
    };
    match fault {
        Some(Fault::CloseAfter | Fault::CloseHalfway) => return None,
        Some(Fault::Garbage) => return Some(Reply::json(200, &json!("")).with_body(b"{\"took\":1,\"err")),
        Some(Fault::ItemFewer) => drop(told.pop()),
        Some(Fault::ItemMore) => told.extend(told.last().cloned()),
        Some(Fault::ItemsReversed) => told.reverse(),
        _ => {}
    }
    let errors = told.iter().any(|item| item.to_string().contains("\"error\":"));
    let body = json!({"errors": errors, "took": 1, "items": told});
    let body = request.param("filter_path").map(|paths| filter(&body, paths)).unwrap_or(body);
    Some(Reply::json(200, &body))
}

/// An error that OpenSearch returns as the cause of another one.
const BREAKER: &str = "knn_circuit_breaker_exception";

/// Applies all actions of a bulk request, or the first half, and returns the results.
fn bulk(state: &mut State, place: usize, request: &Request, half: bool) -> Result<Vec<Value>, String> {
    let mut items = actions(request)?;
    let applied = if half { items.len() / 2 } else { items.len() };
    let mut told = Vec::with_capacity(items.len());
    for item in items.iter_mut().take(applied) {
        let (status, result) = match state.script.take_item(item) {
            Some((status, BREAKER)) => {
                let (status, mut told) =
                    refused(item, &item.index, status, "mapper_parsing_exception", "scripted");
                told["error"]["caused_by"] = json!({"type": BREAKER, "reason": "low on memory"});
                (status, told)
            }
            Some((status, error_type)) => refused(item, &item.index, status, error_type, "scripted"),
            None => state.store.apply(item),
        };
        item.status = Some(status);
        told.push(json!({&item.operation: result}));
    }
    if let Some(record) = state.records.get_mut(place) {
        items.retain(|item| !item.is_guard());
        record.items = items;
    }
    Ok(told)
}

fn actions(request: &Request) -> Result<Vec<Item>, String> {
    let index = request.path.strip_suffix("/_bulk").unwrap_or_default().trim_start_matches('/');
    let mut items = parse_bulk(&request.body, (!index.is_empty()).then_some(index))?;
    items.iter_mut().for_each(|item| item.require_alias |= request.switch("require_alias"));
    let required = |item: &Item| item.require_alias && item.operation != "delete";
    let required: Vec<String> =
        items.iter().filter(|item| required(item)).map(|item| item.index.clone()).collect();
    for item in items.iter_mut().filter(|item| item.operation == "delete") {
        item.require_alias = required.contains(&item.index);
    }
    Ok(items)
}
