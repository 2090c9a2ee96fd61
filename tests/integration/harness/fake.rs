//! A scripted Elasticsearch on loopback. It keeps documents and versions like the real one, records every request, and
//! fails as scripted.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::http::{Reply, Request};
use super::listener::Listener;
use super::script::{Fault, ItemRule, Rule};
use super::server::{Record, Shared, State, unauthenticated};
use super::store::{Document, Item, Store};

/// The API key that the server accepts, and that no output may contain.
pub(crate) const API_KEY: &str = "VGhlLWtleS1vZi10aGUtdGVzdHM6bm90LXRvLWJlLXNlZW4=";

/// How long a test waits for an event on the server.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The running server; dropping it stops it.
pub(crate) struct Fake {
    shared: Arc<Shared>,
    listener: Listener,
}

impl Fake {
    /// Starts a server with empty indices behind the aliases `posts` and `post_tombstones`.
    pub(crate) fn start() -> Self {
        Self::start_with(Store::with_aliases(&["posts", "post_tombstones"]))
    }

    /// Starts a server with this content.
    pub(crate) fn start_with(store: Store) -> Self {
        let shared = Arc::new(Shared::default());
        shared.lock().store = store;
        let listener = Listener::start(Arc::clone(&shared));
        Self { shared, listener }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.listener.address())
    }

    /// Reads or changes the content of the server.
    pub(crate) fn store<T>(&self, f: impl FnOnce(&mut Store) -> T) -> T {
        f(&mut self.shared.lock().store)
    }

    /// Makes the translog of all indices asynchronous.
    pub(crate) fn use_async_translog(&self) {
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

    /// Accepts only this `Authorization` from now on; None stands for none at all.
    pub(crate) fn admit(&self, authorization: Option<&str>) {
        let wanted = authorization.map(str::to_owned);
        self.admit_by(move |request| {
            (request.header("authorization") != wanted.as_deref()).then(unauthenticated)
        });
    }

    /// Accepts all requests that this does not refuse, from now on.
    pub(crate) fn admit_by(&self, refuses: impl Fn(&Request) -> Option<Reply> + Send + 'static) {
        self.shared.lock().gate = Some(Box::new(refuses));
    }

    /// Denies an index privilege in `_has_privileges` from now on.
    pub(crate) fn deny(&self, privilege: &str) {
        self.shared.lock().privileges.denied.push(privilege.to_owned());
    }

    /// Answers larger bulk requests with 413 from now on.
    pub(crate) fn limit_bulk_bytes(&self, limit: usize) {
        self.shared.lock().bulk_limit = Some(limit);
    }

    /// The next `times` bulk requests meet this fault.
    pub(crate) fn fail_bulks(&self, times: usize, fault: Fault) {
        self.fail(Request::is_bulk, 0, times, fault);
    }

    /// After `after` requests that match, the next `times` meet this fault.
    pub(crate) fn fail(
        &self,
        condition: impl Fn(&Request) -> bool + Send + 'static,
        after: usize,
        times: usize,
        fault: Fault,
    ) {
        let mut state = self.shared.lock();
        state.script.add(Rule { condition: Box::new(condition), times, after, fault });
    }

    /// The next `times` matching items are refused.
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

    /// Removes all faults, and lets hanging requests continue.
    pub(crate) fn release(&self) {
        self.clear_faults();
        self.release_hanging();
    }

    /// Lets hanging requests continue.
    pub(crate) fn release_hanging(&self) {
        self.shared.lock().releases += 1;
        self.shared.changed.notify_all();
    }

    /// Removes all faults.
    pub(crate) fn clear_faults(&self) {
        self.shared.lock().script.clear();
    }

    /// Applies all late requests.
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

    /// The peak number of open bulk requests.
    pub(crate) fn peak_open_bulks(&self) -> usize {
        self.shared.lock().peak_open_bulks
    }

    /// Waits for this number of bulk requests.
    pub(crate) fn wait_for_bulks(&self, count: usize) {
        self.wait_for(|record| record.request.is_bulk(), count);
    }

    /// Waits for this number of such requests.
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
