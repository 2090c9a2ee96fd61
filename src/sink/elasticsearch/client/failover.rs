//! Chooses a node for a request: the next one in turn, and the others if it fails.

use std::time::{Duration, Instant};

use super::Client;
use super::request::{Answered, Outgoing};
use crate::http::TransportError;
use crate::http::nodes::Turn;

/// Time limit of the small request that checks whether a node is back.
const PROBE: Duration = Duration::from_secs(10);

impl Client {
    /// Sends a request to one node and, after a failure, to the others in turn. Fails only if no node answers.
    pub(super) fn send(&self, ask: &Outgoing<'_>) -> Result<Answered, TransportError> {
        if self.nodes.len() == 1 {
            return self.send_to(0, ask);
        }
        let mut failed = FailedNodes::default();
        for node in self.nodes.order(Instant::now()) {
            if !self.is_usable(node) {
                failed.skipped(self.nodes.url(node));
                continue;
            }
            let result = self.send_to(node, ask);
            let Some(why) = self.failure_of_node(node, &result) else {
                if self.nodes.succeeded(node) {
                    log::info!("{} answers again", self.nodes.url(node));
                }
                return result;
            };
            self.leave_out(node, &why);
            failed.add(self.nodes.url(node), result);
        }
        failed.result()
    }

    /// Returns whether a request can be sent to a node. A node that has failed is probed first.
    fn is_usable(&self, node: usize) -> bool {
        match self.nodes.begin(node) {
            Turn::Ready => return true,
            Turn::Busy => return false,
            Turn::Probe => {}
        }
        let result = self.within(PROBE).send_to(node, &Outgoing::get("/"));
        match self.failure_of_node(node, &result) {
            None => {
                self.nodes.came_back(node);
                true
            }
            Some(why) => {
                self.leave_out(node, &why);
                false
            }
        }
    }

    fn leave_out(&self, node: usize, why: &str) {
        if let Some(pause) = self.nodes.failed(node, Instant::now()) {
            let (url, seconds) = (self.nodes.url(node), pause.as_secs());
            let level = if seconds <= 1 { log::Level::Warn } else { log::Level::Debug };
            log::log!(level, "{url} is left out for {seconds} s, and the other nodes are used: {why}");
        }
    }

    /// Returns why a node is to blame for the result of a request; None: it is not.
    fn failure_of_node(&self, node: usize, result: &Result<Answered, TransportError>) -> Option<String> {
        match result {
            // A node that has just started may not know its users and keys yet.
            Ok(Answered { reply, .. }) if reply.status == 401 && self.nodes.has_failed(node) => {
                Some(reply.reason())
            }
            Ok(Answered { reply, .. }) => matches!(reply.status, 502 | 503).then(|| reply.reason()),
            Err(TransportError::Refused(_) | TransportError::Other(_)) => None,
            Err(error) => Some(error.to_string()),
        }
    }
}

/// Results of a request at nodes that failed.
#[derive(Default)]
struct FailedNodes {
    /// The last reply. It says more than an error.
    reply: Option<Answered>,
    /// The last error. A temporary one takes precedence over a permanent one.
    error: Option<TransportError>,
    reasons: Vec<String>,
}

impl FailedNodes {
    fn add(&mut self, url: &str, result: Result<Answered, TransportError>) {
        match result {
            Ok(answered) => self.reply = Some(answered),
            Err(error) => {
                self.reasons.push(format!("{url}: {error}"));
                if self.error.is_none() || !matches!(error, TransportError::Tls(_)) {
                    self.error = Some(error);
                }
            }
        }
    }

    /// Adds a node that is skipped because it has failed and has not answered since.
    fn skipped(&mut self, url: &str) {
        self.reasons.push(format!("{url}: left out because it has failed"));
    }

    fn result(self) -> Result<Answered, TransportError> {
        let reasons = self.reasons.join("; ");
        match (self.reply, self.error) {
            (Some(answered), _) => Ok(answered),
            (None, Some(TransportError::Tls(_))) => Err(TransportError::Tls(reasons)),
            (None, Some(TransportError::Interrupted(_))) => Err(TransportError::Interrupted(reasons)),
            (None, Some(TransportError::Cut(_))) => Err(TransportError::Cut(reasons)),
            (None, Some(TransportError::TimedOut)) => Err(TransportError::TimedOut),
            (None, _) => Err(TransportError::Connect(reasons)),
        }
    }
}
