//! A scripted Elasticsearch on loopback: keeps documents and versions as the real one does, records every
//! request, and does wrong what it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::http::{Reply, Request};
use super::listener::Listener;
use super::script::{Fault, ItemRule, Rule};
use super::server::{Record, Shared, State, unauthenticated};
use super::store::{Document, Item, Store};

/// The API key that the server accepts, and that must turn up in no output.
pub(crate) const API_KEY: &str = "VGhlLWtleS1vZi10aGUtdGVzdHM6bm90LXRvLWJlLXNlZW4=";

/// How long a test waits for something to happen on the server.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The running server; it ends with this value.
pub(crate) struct Fake {
    shared: Arc<Shared>,
    listener: Listener,
}

impl Fake {
    /// Starts a server with empty indices behind the aliases `posts` and `post_tombstones`.
    pub(crate) fn start() -> Self {
        Self::start_with(Store::with_aliases(&["posts", "post_tombstones"]))
    }

    /// Starts a server that holds this.
    pub(crate) fn start_with(store: Store) -> Self {
        let shared = Arc::new(Shared::default());
        shared.lock().store = store;
        let listener = Listener::start(Arc::clone(&shared));
        Self { shared, listener }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.listener.address())
    }

    /// Looks at or changes what the server holds.
    pub(crate) fn store<T>(&self, f: impl FnOnce(&mut Store) -> T) -> T {
        f(&mut self.shared.lock().store)
    }

    /// From now on all indices have an asynchronous translog.
    pub(crate) fn confirm_before_sync(&self) {
        self.store(|store| {
            for index in store.indices.values_mut() {
                index.settings.insert("index.translog.durability".to_owned(), "async".to_owned());
            }
        });
    }

    /// The live documents of an index or alias.
    pub(crate) fn documents(&self, index: &str) -> BTreeMap<String, Document> {
        self.store(|store| store.index(index).map(|index| index.documents.clone()).unwrap_or_default())
    }

    /// Lets in who sends this as `Authorization`, None for nothing at all, from now on.
    pub(crate) fn admit(&self, authorization: Option<&str>) {
        let wanted = authorization.map(str::to_owned);
        self.admit_by(move |request| {
            (request.header("authorization") != wanted.as_deref()).then(unauthenticated)
        });
    }

    /// Lets in whom this does not refuse, from now on.
    pub(crate) fn admit_by(&self, refuses: impl Fn(&Request) -> Option<Reply> + Send + 'static) {
        self.shared.lock().gate = Some(Box::new(refuses));
    }

    /// `_has_privileges` denies this index privilege from now on.
    pub(crate) fn deny(&self, privilege: &str) {
        self.shared.lock().privileges.denied.push(privilege.to_owned());
    }

    /// Bulk requests with more bytes get a 413 from now on.
    pub(crate) fn limit_bulk_bytes(&self, limit: usize) {
        self.shared.lock().bulk_limit = Some(limit);
    }

    /// The next `times` bulk requests meet this fault.
    pub(crate) fn fail_bulks(&self, times: usize, fault: Fault) {
        self.fail(Request::is_bulk, 0, times, fault);
    }

    /// Of the requests that fulfil a condition, `after` pass, the next `times` meet this fault.
    pub(crate) fn fail(
        &self,
        condition: impl Fn(&Request) -> bool + Send + 'static,
        after: usize,
        times: usize,
        fault: Fault,
    ) {
        let mut state = self.shared.lock();
        state.released = false;
        state.script.add(Rule { condition: Box::new(condition), times, after, fault });
    }

    /// The next `times` items that fulfil a condition are refused.
    pub(crate) fn fail_items(
        &self,
        condition: impl Fn(&Item) -> bool + Send + 'static,
        times: usize,
        status: u16,
        error_type: &'static str,
    ) {
        let rule = ItemRule { condition: Box::new(condition), times, status, error_type };
        self.shared.lock().script.add_items(rule);
    }

    /// Nothing goes wrong any more, until told anew, and what hangs goes on.
    pub(crate) fn release(&self) {
        let mut state = self.shared.lock();
        state.script.clear();
        state.released = true;
        self.shared.changed.notify_all();
    }

    /// Nothing goes wrong from now on.
    pub(crate) fn nothing_goes_wrong(&self) {
        self.shared.lock().script.clear();
    }

    /// What was to be applied late is applied.
    pub(crate) fn settle(&self) {
        let mut state = self.shared.lock();
        state.settle();
    }

    /// All requests so far, in the order of their arrival.
    pub(crate) fn requests(&self) -> Vec<Record> {
        self.shared.lock().records.clone()
    }

    /// The bulk requests so far.
    pub(crate) fn bulks(&self) -> Vec<Record> {
        self.requests().into_iter().filter(|record| record.request.is_bulk()).collect()
    }

    /// Forgets the requests so far.
    pub(crate) fn forget_requests(&self) {
        self.shared.lock().records.clear();
    }

    /// Bulk requests that were open at the same time, at most.
    pub(crate) fn most_open_bulks(&self) -> usize {
        self.shared.lock().most_open_bulks
    }

    /// Waits until so many bulk requests have arrived.
    pub(crate) fn wait_for_bulks(&self, count: usize) {
        self.wait_for(|record| record.request.is_bulk(), count);
    }

    /// Waits until so many such requests have arrived.
    pub(crate) fn wait_for(&self, wanted: impl Fn(&Record) -> bool, count: usize) {
        let missing =
            |state: &mut State| state.records.iter().filter(|record| wanted(record)).count() < count;
        let (state, time_out) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), PATIENCE, missing)
            .unwrap_or_else(PoisonError::into_inner);
        let paths: Vec<&str> = state.records.iter().map(|record| record.request.path.as_str()).collect();
        assert!(!time_out.timed_out(), "no {count} such requests arrived, only {paths:?}");
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        self.listener.end();
    }
}
