//! Chooses a node for a request: the next one in turn, and the others if it fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::request::{Answered, Outgoing};
use super::{Client, Reply};
use crate::auth;
use crate::http::TransportError;
use crate::http::nodes::{Nodes, Turn};
use crate::process::shutdown::Stop;
use crate::sink::elasticsearch::outcome::foreign_answer;

/// Time limit of the small request that checks whether a node is back.
const PROBE: Duration = Duration::from_secs(10);

impl Client {
    /// Sends a request to one node and, after a failure, to the others in turn. Fails only if no node answers.
    pub(super) fn send(&self, ask: &Outgoing<'_>) -> Result<Answered, TransportError> {
        let result = if self.nodes.len() == 1 { self.send_to(0, ask) } else { self.send_to_any(ask) };
        let result = result.map_err(|error| self.outage_if_trusted_before(error));
        match &result {
            Ok(answered) => self.record_page(ask.path, &answered.reply),
            // The proxy has answered instead of the server, without a connection to it.
            Err(TransportError::RefusedByProxy(why)) => self.pages.lock().0 = Some(why.clone()),
            Err(_) => {}
        }
        result
    }

    /// Makes it an outage if a server that has answered cannot be trusted any more. Its certificate has expired or was
    /// renewed wrongly, and may be right again later.
    fn outage_if_trusted_before(&self, error: TransportError) -> TransportError {
        match error {
            TransportError::Tls(why) if (0..self.nodes.len()).any(|node| self.nodes.has_answered(node)) => {
                TransportError::Connect(format!("TLS was trusted before, but is not now: {why}"))
            }
            error => error,
        }
    }

    /// Returns a client for each node that is not left out; none if there is only one node. A request has the time limit
    /// of a probe.
    pub fn of_each_node(&self) -> Vec<Self> {
        if self.nodes.len() == 1 {
            return Vec::new();
        }
        let of_node = |node| Self {
            nodes: Arc::new(Nodes::new(vec![self.nodes.url(node).to_owned()])),
            // What happens at a single node does not count for the run.
            pages: Arc::default(),
            outages: Arc::default(),
            ..self.within(PROBE)
        };
        (0..self.nodes.len()).filter(|node| !self.nodes.is_left_out(*node)).map(of_node).collect()
    }

    fn send_to_any(&self, ask: &Outgoing<'_>) -> Result<Answered, TransportError> {
        let mut failed = FailedNodes::default();
        // A page says that its node is wrong only if another node has an answer to the same request.
        let mut pages: Vec<(usize, String)> = Vec::new();
        // Requests that begin after the stop, such as those before marking, may need another node.
        let stop = self.stop.as_ref().filter(|stop| !stop.is_requested());
        for (nth, node) in self.nodes.order(ask.sent.is_some(), Instant::now()).into_iter().enumerate() {
            if nth > 0 && stop.is_some_and(Stop::is_requested) {
                break;
            }
            if !self.is_usable(node, &mut failed) {
                continue;
            }
            let result = self.send_to(node, ask);
            if let Some(page) = page(&result) {
                pages.push((node, page));
            } else if let Some(why) = self.failure_of_node(node, &result) {
                self.leave_out(node, &why);
            } else if ask.is_small() && pushes_back(&result) {
                // Another node may have room. Otherwise a preflight, which needs several answers, would never pass.
            } else {
                self.name_node_that_refuses(node, &result);
                if self.nodes.succeeded(node) {
                    log::info!("{} answers again", self.nodes.url(node));
                }
                pages.iter().for_each(|(node, page)| self.leave_out(*node, &foreign_answer(page)));
                return result;
            }
            failed.add(self.nodes.url(node), result);
        }
        failed.result()
    }

    /// Returns whether a request can be sent to a node, or adds the node to those that failed. A node that has failed is
    /// probed first.
    fn is_usable(&self, node: usize, failed: &mut FailedNodes) -> bool {
        match self.nodes.begin(node) {
            Turn::Ready => return true,
            Turn::Busy => {
                failed.skipped(self.nodes.url(node));
                return false;
            }
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
                match result {
                    Ok(answered) if refuses_credentials(&answered.reply) && !answered.reply.is_page() => {
                        failed.refusal = Some(answered);
                    }
                    _ => failed.skipped(self.nodes.url(node)),
                }
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

    /// Logs which of several nodes refuses the credentials. The failure of the run does not name it.
    fn name_node_that_refuses(&self, node: usize, result: &Result<Answered, TransportError>) {
        if let Ok(Answered { reply, .. }) = result
            && refuses_credentials(reply)
        {
            log::warn!("{} refuses the credentials: {}", self.nodes.url(node), reply.reason());
        }
    }

    /// Returns why a node is to blame for the result of a request; None: it is not.
    fn failure_of_node(&self, node: usize, result: &Result<Answered, TransportError>) -> Option<String> {
        match result {
            // A node that has just started may not know its users and keys yet.
            Ok(Answered { reply, .. }) if refuses_credentials(reply) && self.nodes.has_failed(node) => {
                Some(reply.reason())
            }
            Ok(Answered { reply, .. }) => matches!(reply.status, 502 | 503).then(|| reply.reason()),
            Err(TransportError::Refused(_) | TransportError::Other(_)) => None,
            Err(error) => Some(error.to_string()),
        }
    }
}

fn refuses_credentials(reply: &Reply) -> bool {
    reply.status == 401 && !auth::hides_api(reply.status, &reply.body)
}

/// Returns the answer if it is a page that says nothing about the request. Proxies also answer requests that are too
/// large or too many, or that the server does not answer, in their own words.
fn page(result: &Result<Answered, TransportError>) -> Option<String> {
    let reply = &result.as_ref().ok()?.reply;
    let is_about_request = matches!(reply.status, 408 | 413 | 429 | 500..=599);
    (reply.is_page() && !is_about_request).then(|| reply.reason())
}

/// Returns whether the answer says that the node cannot carry out the request now. A request that took too long may take
/// as long at any other node.
fn pushes_back(result: &Result<Answered, TransportError>) -> bool {
    result.as_ref().is_ok_and(|answered| matches!(answered.reply.status, 429 | 500..=503))
}

/// Results of a request at nodes that failed.
#[derive(Default)]
struct FailedNodes {
    /// The last reply. It says more than an error.
    reply: Option<Answered>,
    /// The last error. A temporary one takes precedence over a permanent one.
    error: Option<TransportError>,
    /// The last refusal of the credentials by a node that has failed before, and may still be starting. It counts only if
    /// the request has met no outage: the node may learn its keys while another one is away.
    refusal: Option<Answered>,
    reasons: Vec<String>,
}

impl FailedNodes {
    fn add(&mut self, url: &str, result: Result<Answered, TransportError>) {
        match result {
            // A page says less than an answer of Elasticsearch.
            Ok(answered) if self.reply.is_some() && answered.reply.is_page() => {}
            Ok(answered) => self.reply = Some(answered),
            Err(error) => {
                self.reasons.push(format!("{url}: {error}"));
                if self.error.is_none()
                    || !matches!(error, TransportError::Tls(_) | TransportError::RefusedByProxy(_))
                {
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
        let refusal = self.refusal.filter(|_| self.error.is_none());
        match (self.reply.or(refusal), self.error) {
            (Some(answered), _) => Ok(answered),
            (None, Some(TransportError::Tls(_))) => Err(TransportError::Tls(reasons)),
            (None, Some(TransportError::RefusedByProxy(_))) => Err(TransportError::RefusedByProxy(reasons)),
            (None, Some(TransportError::Interrupted(_))) => Err(TransportError::Interrupted(reasons)),
            (None, Some(TransportError::Cut(_))) => Err(TransportError::Cut(reasons)),
            (None, Some(TransportError::TimedOut)) => Err(TransportError::TimedOut),
            (None, _) => Err(TransportError::Connect(reasons)),
        }
    }
}

#[cfg(test)]
mod tests {
    use ureq::http::HeaderMap;

    use super::*;

    fn answered(status: u16) -> Answered {
        let reply = Reply { status, retry_after: None, body: Vec::new() };
        Answered { reply, headers: HeaderMap::new(), sent: HeaderMap::new() }
    }

    #[test]
    fn a_starting_node_refuses_the_credentials_only_if_no_other_node_is_away() {
        let status = |others: Vec<Result<Answered, TransportError>>| {
            let mut failed = FailedNodes { refusal: Some(answered(401)), ..FailedNodes::default() };
            failed.skipped("a");
            others.into_iter().for_each(|result| failed.add("b", result));
            failed.result().map(|answered| answered.reply.status)
        };
        assert!(matches!(status(vec![]), Ok(401)));
        assert!(matches!(status(vec![Ok(answered(503))]), Ok(503)));
        assert!(matches!(status(vec![Err(TransportError::TimedOut)]), Err(TransportError::TimedOut)));
    }
}
