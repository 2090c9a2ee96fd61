//! What the fake server is told to do wrong, and to which requests.

use std::time::Duration;

use super::http::{Reply, Request};
use super::store::Item;

/// Between two bytes of a body that drips.
pub(crate) const DRIP: Duration = Duration::from_millis(100);

/// What happens to one request instead of a proper reply.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This reply; nothing is applied.
    Reply(Reply),
    /// This reply; nothing is applied. A request that asks first gets it in place of the agreement to its body.
    Unseen(Reply),
    /// The connection is closed at once; everything is applied later, when so many more requests have arrived, but
    /// before one that looks up one of its ids.
    ApplyLate(usize),
    /// Answered after so many more requests have arrived, or when none has for a moment.
    After(usize),
    /// The connection is closed; nothing is applied.
    CloseBefore,
    /// Everything is applied, the connection is closed without a reply.
    CloseAfter,
    /// The first half of the actions is applied, then the connection is closed.
    CloseHalfway,
    /// No reply until the fake is released; then as if nothing had been.
    Hang,
    /// As if nothing had been, but only after this long.
    Delay(Duration),
    /// This reply, a byte of its body every [`DRIP`]; nothing is applied.
    Dripping(Reply),
    /// Applied; the reply breaks off in the middle of its body.
    CutReply,
    /// The second half of the reply's body comes byte by byte, for hours.
    Trickle,
    /// The reply in chunks, with no length told.
    Chunked,
    /// The reply with no length told; the end of the connection is its end.
    Unframed,
    /// The same, of whose body only so many bytes come.
    UnframedCut(usize),
    /// These bytes, whatever they are, and the end of the connection.
    Bytes(&'static [u8]),
    /// Applied; the reply is a 200 whose body is no JSON.
    Garbage,
    /// Applied; the reply lacks the last item.
    ItemFewer,
    /// Applied; the reply has one item more than there were actions.
    ItemMore,
}

impl Fault {
    /// A whole request answered with a status and the error that goes with it.
    pub(crate) fn status(status: u16) -> Self {
        let kind = match status {
            401 | 403 => "security_exception",
            429 => "es_rejected_execution_exception",
            503 => "no_shard_available_action_exception",
            _ => "scripted_exception",
        };
        // A proxy's own replies, and that to an oversized request, are no JSON.
        if [408, 413, 502, 504].contains(&status) {
            return Self::Reply(Reply { status, headers: vec![], body: b"<html>scripted</html>".to_vec() });
        }
        Self::Reply(Reply::error(status, kind, "scripted"))
    }

    /// A write block of the whole request: 403, yet not a matter of privileges.
    pub(crate) fn cluster_block() -> Self {
        let reason =
            "index [posts] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark]";
        Self::Reply(Reply::error(403, "cluster_block_exception", reason))
    }
}

/// Which requests a fault meets.
type Condition = Box<dyn Fn(&Request) -> bool + Send>;

/// A fault and its occasions.
pub(crate) struct Rule {
    pub(crate) condition: Condition,
    /// How many requests it meets, once others of them have been let pass.
    pub(crate) times: usize,
    /// How many requests that fulfil the condition are let pass first.
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

/// Everything that is to go wrong.
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

    /// Nothing goes wrong from now on.
    pub(crate) fn clear(&mut self) {
        self.rules.clear();
        self.items.clear();
    }

    /// The reply to a request that asks first and whose body is not wanted, spent by it.
    pub(crate) fn take_unseen(&mut self, head: &Request) -> Option<Reply> {
        match self.take_of(head, |fault| matches!(fault, Fault::Unseen(_))) {
            Some(Fault::Unseen(reply)) => Some(reply),
            _ => None,
        }
    }

    /// The fault that meets a request, spent by it.
    pub(crate) fn take(&mut self, request: &Request) -> Option<Fault> {
        // What has asked first has met those.
        let asks_first = request.asks_first();
        self.take_of(request, |fault| !asks_first || !matches!(fault, Fault::Unseen(_)))
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

    /// The status and type of the error that meets an item.
    pub(crate) fn take_item(&mut self, item: &Item) -> Option<(u16, &'static str)> {
        let rule = self.items.iter_mut().find(|rule| rule.times > 0 && (rule.condition)(item))?;
        rule.times = rule.times.saturating_sub(1);
        Some((rule.status, rule.error_type))
    }
}
