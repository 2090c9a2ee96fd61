//! Scripted faults of the fake server, and the requests they hit.

use std::time::Duration;

use super::http::{Reply, Request};
use super::store::Item;

/// The pause between two bytes of a slow body.
pub(crate) const DRIP: Duration = Duration::from_millis(100);

/// A fault that replaces the normal reply to a request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Replies with this; applies nothing.
    Reply(Reply),
    /// Replies with this; applies nothing. A request that expects a continue gets it before its body.
    BeforeBody(Reply),
    /// Closes the connection; applies everything after this number of further requests, but before a look-up of one of
    /// its ids.
    ApplyLate(usize),
    /// Replies after this number of further requests, or when none arrives for a moment.
    After(usize),
    /// Closes the connection; applies nothing.
    CloseBefore,
    /// Applies everything; closes the connection without a reply.
    CloseAfter,
    /// Applies the first half of the actions; closes the connection.
    CloseHalfway,
    /// Replies normally, once the fake is released.
    Hang,
    /// Replies normally, after this time.
    Delay(Duration),
    /// Replies with this, one byte of the body every [`DRIP`]; applies nothing.
    Dripping(Reply),
    /// Applies everything; the reply breaks off within its body.
    CutReply,
    /// Replies normally, but the second half of the body takes hours.
    Trickle,
    /// Replies normally, with a chunked body.
    Chunked,
    /// Replies normally, without a length; the end of the connection ends the body.
    Unframed,
    /// As `Unframed`, but with only this many bytes of the body.
    UnframedCut(usize),
    /// Sends these bytes and closes the connection.
    Bytes(&'static [u8]),
    /// Applies everything; the reply is a 200 whose body is not JSON.
    Garbage,
    /// Applies everything; the reply lacks the last item.
    ItemFewer,
    /// Applies everything; the reply has one item too many.
    ItemMore,
    /// Applies everything; the reply has the items in the opposite order.
    ItemsReversed,
}

impl Fault {
    /// The error reply of Elasticsearch with this status.
    pub(crate) fn status(status: u16) -> Self {
        let kind = match status {
            401 | 403 => "security_exception",
            429 => "es_rejected_execution_exception",
            503 => "no_shard_available_action_exception",
            _ => "scripted_exception",
        };
        // Replies of proxies, and those to oversized requests, are not JSON.
        if [408, 413, 502, 504].contains(&status) {
            return Self::page(status);
        }
        Self::Reply(Reply::error(status, kind, "scripted"))
    }

    /// A page of something other than Elasticsearch.
    pub(crate) fn page(status: u16) -> Self {
        Self::Reply(Reply { status, headers: vec![], body: b"<html>scripted</html>".to_vec() })
    }

    /// A write block: 403, but not for lack of privileges.
    pub(crate) fn cluster_block() -> Self {
        let reason =
            "index [posts] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark]";
        Self::Reply(Reply::error(403, "cluster_block_exception", reason))
    }
}

/// Which requests a fault hits.
type Condition = Box<dyn Fn(&Request) -> bool + Send>;

/// A fault, and the requests it hits.
pub(crate) struct Rule {
    pub(crate) condition: Condition,
    /// How many matching requests it hits, after those that pass.
    pub(crate) times: usize,
    /// How many matching requests pass first.
    pub(crate) after: usize,
    pub(crate) fault: Fault,
}

/// An error for single items of bulk requests.
pub(crate) struct ItemRule {
    pub(crate) condition: Box<dyn Fn(&Item) -> bool + Send>,
    pub(crate) times: usize,
    pub(crate) status: u16,
    pub(crate) error_type: &'static str,
}

/// All faults.
#[derive(Default)]
pub(crate) struct Script {
    rules: Vec<Rule>,
    items: Vec<ItemRule>,
}

impl Script {
    pub(crate) fn add(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    pub(crate) fn add_items(&mut self, rule: ItemRule) {
        self.items.push(rule);
    }

    /// Removes all faults.
    pub(crate) fn clear(&mut self) {
        self.rules.clear();
        self.items.clear();
    }

    /// Takes the reply that refuses a request before its body.
    pub(crate) fn take_before_body(&mut self, head: &Request) -> Option<Reply> {
        match self.take_of(head, |fault| matches!(fault, Fault::BeforeBody(_))) {
            Some(Fault::BeforeBody(reply)) => Some(reply),
            _ => None,
        }
    }

    /// Takes the fault that hits a request.
    pub(crate) fn take(&mut self, request: &Request) -> Option<Fault> {
        // Those faults have already hit a request that expects a continue.
        let expects_continue = request.expects_continue();
        self.take_of(request, |fault| !expects_continue || !matches!(fault, Fault::BeforeBody(_)))
    }

    fn take_of(&mut self, request: &Request, counts: impl Fn(&Fault) -> bool) -> Option<Fault> {
        for rule in self.rules.iter_mut().filter(|rule| rule.times > 0 && counts(&rule.fault)) {
            if !(rule.condition)(request) {
                continue;
            }
            if rule.after > 0 {
                rule.after -= 1;
                continue;
            }
            rule.times = rule.times.saturating_sub(1);
            return Some(rule.fault.clone());
        }
        None
    }

    /// Takes the error that hits an item.
    pub(crate) fn take_item(&mut self, item: &Item) -> Option<(u16, &'static str)> {
        let rule = self.items.iter_mut().find(|rule| rule.times > 0 && (rule.condition)(item))?;
        rule.times = rule.times.saturating_sub(1);
        Some((rule.status, rule.error_type))
    }
}
