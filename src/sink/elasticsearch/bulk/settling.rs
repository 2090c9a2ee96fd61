//! Sends lines until each has its final outcome: in one request, in smaller ones if the server requires that, and again
//! after a failed attempt.

mod items;

use std::collections::BTreeMap;
use std::time::Instant;

use super::lines::{BodyLines, halves};
use super::look_up::Tombstones;
use super::refused::{Refused, RefusedPart, refuses_everything};
use super::sizes::INTERRUPTIONS_BEFORE_DIVIDING;
use super::{Attempt, Bulk};
use crate::observe::traffic::Again;
use crate::retry::patience::Patience;
use crate::retry::throttle::{Permit, Stopped};
use crate::sink::elasticsearch::bulk::batch_report::Final;
use crate::sink::elasticsearch::bulk::reply::Refusal;
use crate::sink::upcoming::LookedUp;

/// Size in bytes above which a broken connection may mean "request too large". Common limits are far above (nginx: 1
/// MiB by default). Below it a broken connection is an outage, however often it happens, and no document is to blame.
const MAY_BE_TOO_LARGE: usize = 64 << 10;

/// Broken connections in a row after which a request of one action counts as refused. They take some seconds, so they
/// are hardly a coincidence.
const INTERRUPTIONS_BEFORE_REFUSING: u32 = 8;

/// Sends lines until each has its outcome.
pub(super) struct Settling<'s, 'r> {
    bulk: &'s Bulk<'r>,
    lines: &'s BodyLines<'s>,
    on_final: &'s mut dyn FnMut(usize, Final),
    /// When the lines were looked up, if that is done already.
    looked_up: Option<Instant>,
    /// Whether the server has judged any action.
    judged: bool,
    /// Actions refused on their own. They are judged at the end, when it is known whether they are to blame or the
    /// server refuses everything.
    refused: Vec<Refused>,
    /// Lines written with a routing to an index that needs none, each with that index.
    misrouted: Vec<(usize, String)>,
}

/// What to do with the lines of a part that have no outcome yet.
enum Left {
    Again(Vec<usize>),
    InHalves(Vec<usize>),
}

/// What follows from a connection that broke during a request.
#[derive(Debug, PartialEq, Eq)]
enum Consequence {
    Again,
    Divide,
    Refuse,
}

impl<'s, 'r> Settling<'s, 'r> {
    /// Sends lines until each has an outcome, which `on_final` gets as soon as it is known. `looked_up` is what was looked
    /// up for the lines before.
    pub(super) fn run(
        bulk: &'s Bulk<'r>,
        lines: &'s BodyLines<'s>,
        looked_up: Option<LookedUp>,
        on_final: &'s mut dyn FnMut(usize, Final),
    ) -> Result<(), Stopped> {
        let mut left: Vec<usize> = (0..lines.ranges.len()).collect();
        let mut settling = Self {
            bulk,
            lines,
            on_final,
            looked_up: looked_up.as_ref().map(|looked_up| looked_up.at),
            judged: false,
            refused: Vec::new(),
            misrouted: Vec::new(),
        };
        if let Some(LookedUp { tombstones, .. }) = looked_up {
            let (asked, _) = lines.to_look_up(&left);
            settling.suppress_found(&mut left, asked, tombstones);
        }
        // The posts of which an older index has a newer emission are not sent.
        let (asked, posts) = lines.to_look_up(&left);
        let outcomes = bulk.supersede(&posts)?;
        settling.settle_found(&mut left, asked, outcomes);
        let mut parts = lines.parts(&left, bulk.limits);
        while let Some(part) = parts.pop() {
            let halves =
                if settling.is_too_large(&part) { Some(halves(part)) } else { settling.settle(part)? };
            parts.extend(halves.into_iter().flatten());
        }
        settling.remove_misrouted()?;
        settling.settle_refused()
    }

    /// Reports the actions refused on their own, unless the server refuses everything.
    fn settle_refused(self) -> Result<(), Stopped> {
        if !self.judged
            && let Some(failure) = refuses_everything(&self.refused)
        {
            return self.bulk.fail(failure);
        }
        for Refused { line, refusal, .. } in self.refused {
            (self.on_final)(line, Final::Refused(refusal));
        }
        Ok(())
    }

    /// Returns whether a part is larger than the server is known to accept.
    fn is_too_large(&self, part: &[usize]) -> bool {
        part.len() > 1 && self.lines.bytes(part) > self.bulk.sizes.bulk.current(Instant::now())
    }

    /// Sends a part until each line has an outcome, or until the part must be divided: then returns its halves.
    fn settle(&mut self, mut part: Vec<usize>) -> Result<Option<[Vec<usize>; 2]>, Stopped> {
        let mut patience = self.bulk.retries.patience();
        // Failures of look-ups must not count against the size of the bulk request, nor the reverse.
        let mut look_up_patience = self.bulk.retries.patience();
        let mut looked_up = self.looked_up;
        while !part.is_empty() {
            // Another sender may have learnt a limit in the meantime.
            if patience.interruptions() > 0 && self.is_too_large(&part) {
                return Ok(Some(halves(part)));
            }
            let mut permit = self.bulk.throttle.acquire(self.lines.bytes(&part))?;
            // How long the lines have waited is known only once there is a permit.
            if looked_up.is_none_or(|at| at.elapsed() > self.bulk.targets.now().posts.gc_deletes / 2) {
                let begun = Instant::now();
                let Some(returned) = self.suppress(permit, &mut part, &mut look_up_patience)? else {
                    continue;
                };
                looked_up = Some(begun);
                look_up_patience = self.bulk.retries.patience();
                permit = returned;
                if part.is_empty() {
                    permit.succeeded();
                    break;
                }
            }
            match self.send(permit, part, &mut patience)? {
                Left::Again(left) => part = left,
                Left::InHalves(left) => return Ok(Some(halves(left))),
            }
        }
        Ok(None)
    }

    /// Looks up a part's posts, and removes those that have a tombstone. None: the attempt failed; try again.
    fn suppress(
        &mut self,
        permit: Permit<'r>,
        part: &mut Vec<usize>,
        patience: &mut Patience<'_>,
    ) -> Result<Option<Permit<'r>>, Stopped> {
        let (asked, posts) = self.lines.to_look_up(part);
        let Some((tombstones, permit)) = self.bulk.look_up(permit, &posts, patience)? else {
            return Ok(None);
        };
        self.suppress_found(part, asked, tombstones);
        // After a signal, another request to a server that hangs would double the time until the end.
        if self.bulk.stop.is_requested() { Err(Stopped) } else { Ok(Some(permit)) }
    }

    /// Removes the lines that have a tombstone. `asked`: the lines that were looked up, in the order of `tombstones`.
    fn suppress_found(&mut self, lines: &mut Vec<usize>, asked: Vec<usize>, tombstones: Tombstones) {
        let outcomes = tombstones.into_iter().map(|version| version.map(Final::Suppressed));
        self.settle_found(lines, asked, outcomes);
    }

    /// Removes the lines that have an outcome without being sent, and reports it. `asked`: the lines that were looked up,
    /// in the order of `outcomes`.
    fn settle_found(
        &mut self,
        lines: &mut Vec<usize>,
        asked: Vec<usize>,
        outcomes: impl IntoIterator<Item = Option<Final>>,
    ) {
        let found = asked.into_iter().zip(outcomes);
        let settled: BTreeMap<usize, Final> =
            found.filter_map(|(line, outcome)| Some((line, outcome?))).collect();
        lines.retain(|line| !settled.contains_key(line));
        for (line, outcome) in settled {
            (self.on_final)(line, outcome);
        }
    }

    fn send(
        &mut self,
        permit: Permit<'r>,
        part: Vec<usize>,
        patience: &mut Patience<'_>,
    ) -> Result<Left, Stopped> {
        let sent_to = self.bulk.targets.now().generation;
        match self.bulk.send(permit, self.lines, &part, patience)? {
            Attempt::Read(items, permit) => {
                self.settle_items(part, items, sent_to, permit, patience).map(Left::Again)
            }
            Attempt::Failed => Ok(Left::Again(part)),
            Attempt::Interrupted(reason) => self.interrupted(part, &reason, patience),
            Attempt::TooSlow(reason) => self.too_slow(part, &reason, patience),
            Attempt::Divide(refusal, permit) => {
                permit.succeeded();
                self.bulk.notices.refused(&refusal);
                Ok(self.divide(part, refusal, RefusedPart::Content))
            }
            Attempt::TooLarge(refusal, permit) => {
                permit.succeeded();
                let bytes = self.lines.bytes(&part);
                if part.len() > 1 {
                    self.bulk.notices.too_large(part.len(), bytes, &refusal);
                }
                Ok(self.divide(part, refusal, RefusedPart::Size(bytes)))
            }
        }
    }

    /// Divides a refused part in halves. A single action is refused on its own.
    fn divide(&mut self, part: Vec<usize>, mut refusal: Refusal, what: RefusedPart) -> Left {
        let [line] = part[..] else {
            self.bulk.counters.traffic.again(match what {
                RefusedPart::Size(_) => Again::TooLarge,
                RefusedPart::Content => Again::Divided,
            });
            if let RefusedPart::Size(bytes) = what {
                self.bulk.sizes.bulk.divided(bytes, Instant::now());
            }
            return Left::InHalves(part);
        };
        // The size of the request is mostly that of the document.
        refusal.reason.push_str(&format!("; the request has {} bytes", self.lines.bytes(&part)));
        self.refused.push(Refused { line, refusal, what });
        Left::Again(Vec::new())
    }

    /// Handles a connection that broke during a part.
    fn interrupted(
        &mut self,
        part: Vec<usize>,
        reason: &str,
        patience: &mut Patience<'_>,
    ) -> Result<Left, Stopped> {
        let bytes = self.lines.bytes(&part);
        if bytes <= MAY_BE_TOO_LARGE || !self.bulk.answers_small_requests(patience)? {
            patience.away(reason)?;
            return Ok(Left::Again(part));
        }
        patience.interrupted(reason)?;
        Ok(match after_interruptions(patience.interruptions(), part.len()) {
            Consequence::Again => Left::Again(part),
            Consequence::Divide => self.divide_and_remember(part, reason),
            Consequence::Refuse => self.divide(part, breaks_connection(reason), RefusedPart::Size(bytes)),
        })
    }

    /// Handles a part that was not answered in time. A single action is never to blame for that.
    fn too_slow(
        &mut self,
        part: Vec<usize>,
        reason: &str,
        patience: &mut Patience<'_>,
    ) -> Result<Left, Stopped> {
        if part.len() == 1 || !self.bulk.answers_small_requests(patience)? {
            patience.failed(reason, false)?;
            return Ok(Left::Again(part));
        }
        patience.unanswered(reason)?;
        Ok(match after_interruptions(patience.interruptions(), part.len()) {
            Consequence::Divide => self.divide_and_remember(part, reason),
            Consequence::Again | Consequence::Refuse => Left::Again(part),
        })
    }

    /// Divides a part that was repeatedly not answered while smaller requests were. From now on all senders send
    /// smaller parts.
    fn divide_and_remember(&self, part: Vec<usize>, reason: &str) -> Left {
        let bytes = self.lines.bytes(&part);
        if self.bulk.sizes.bulk.divided(bytes, Instant::now()) {
            self.bulk.notices.unanswered(part.len(), bytes, reason);
        }
        Left::InHalves(part)
    }
}

/// Decides what follows after the connection broke this often in a row during a large request of so many actions, while
/// the server answered a small request each time.
fn after_interruptions(in_a_row: u32, actions: usize) -> Consequence {
    match (in_a_row, actions) {
        (INTERRUPTIONS_BEFORE_REFUSING.., 1) => Consequence::Refuse,
        (INTERRUPTIONS_BEFORE_DIVIDING.., 2..) => Consequence::Divide,
        _ => Consequence::Again,
    }
}

/// Returns the refusal of a document that makes the server break the connection every time.
fn breaks_connection(reason: &str) -> Refusal {
    let reason = format!(
        "the server breaks the connection each time it gets this document, but answers other requests; the \
         document may be too large for it ({reason})"
    );
    Refusal { error_type: "connection_broken".into(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_request_that_breaks_the_connection_is_divided_early_and_refused_late() {
        let kinds: Vec<Consequence> = (1..=9).map(|n| after_interruptions(n, 2)).collect();
        assert_eq!(kinds[..3], [Consequence::Again, Consequence::Again, Consequence::Divide]);
        assert_eq!(kinds[8], Consequence::Divide);
        for n in 1..INTERRUPTIONS_BEFORE_REFUSING {
            assert_eq!(after_interruptions(n, 1), Consequence::Again);
        }
        assert_eq!(after_interruptions(INTERRUPTIONS_BEFORE_REFUSING, 1), Consequence::Refuse);
    }
}
