//! Settles the items of an answer: most are outcomes, some need another look at the indices.

use std::sync::Arc;

use super::Settling;
use crate::common::exit::{ExitCode, Failure};
use crate::model::{ActionKind, Generation};
use crate::observe::traffic::Again;
use crate::retry::patience::Patience;
use crate::retry::throttle::{Permit, Stopped};
use crate::sink::elasticsearch::bulk::Bulk;
use crate::sink::elasticsearch::bulk::batch_report::Final;
use crate::sink::elasticsearch::bulk::reply::{Item, Refusal};
use crate::sink::elasticsearch::retrying::{MOVING, retry};
use crate::sink::elasticsearch::targets::Targets;

impl Settling<'_, '_> {
    /// Reports the outcomes of a request's items. Returns the lines to send again. `sent_to`: the targets that were known
    /// when the request was sent.
    pub(super) fn settle_items(
        &mut self,
        part: Vec<usize>,
        items: Vec<Item>,
        sent_to: Generation,
        permit: Permit<'_>,
        patience: &mut Patience<'_>,
    ) -> Result<Vec<usize>, Stopped> {
        self.judged = true;
        let sent = part.len();
        let mut again = Vec::new();
        let mut why = None;
        for (line, item) in part.into_iter().zip(items) {
            match item {
                Item::Done => (self.on_final)(line, Final::Done),
                Item::Elsewhere(index) => {
                    again.extend(self.written_elsewhere(line, &index, sent_to)?.then_some(line));
                }
                Item::ElsewhereWithRouting(index) => {
                    again.extend(self.was_misrouted(line, &index, sent_to)?.then_some(line));
                }
                Item::Dropped(what) => self.dropped(line, what)?,
                Item::Superseded => (self.on_final)(line, Final::Superseded),
                Item::Refused(refusal) => (self.on_final)(line, Final::Refused(refusal)),
                Item::Retry(reason) => {
                    again.push(line);
                    why.get_or_insert(reason);
                }
            }
        }
        let Some(reason) = why else {
            permit.succeeded();
            return Ok(again);
        };
        let progress = again.len() < sent;
        let traffic = &self.bulk.counters.traffic;
        traffic.again(if progress { Again::InPart } else { Again::PushedBack });
        if progress {
            permit.pushed_back_in_part();
        } else {
            permit.pushed_back(None);
        }
        patience.failed(&format!("{} of {sent} actions: {reason}", again.len()), progress)?;
        Ok(again)
    }

    /// Handles a document that was written to an index not known to be behind the name. The alias has moved, or a
    /// pipeline sends the document elsewhere. Returns whether to send it again.
    fn written_elsewhere(&mut self, line: usize, index: &str, sent_to: Generation) -> Result<bool, Stopped> {
        let kind = self.lines.kind(line);
        let mut targets = self.bulk.targets.now();
        if !targets.of(kind).holds(index) {
            targets = self.newer_targets(targets.generation)?;
        }
        if targets.of(kind).holds(index) {
            (self.on_final)(line, Final::Done);
            return Ok(false);
        }
        if kind == ActionKind::Post && targets.tombstones.is_known && targets.tombstones.holds(index) {
            let message = format!(
                "a post was written to {index}, an index of tombstones, where it counts as the tombstone of \
                 the post: remove the ingest pipeline that sends posts there, and delete them from {index}"
            );
            return self.bulk.fail(Failure::new(ExitCode::Refused, message));
        }
        let name = &targets.of(kind).name;
        self.dropped_unless_moved(
            line,
            format!("it was written to {index}, which is not behind {name}"),
            sent_to,
        )
    }

    /// Handles a document that a pipeline has sent elsewhere, unless the targets have changed since then: the alias may
    /// have moved twice. Returns whether to send it again.
    fn dropped_unless_moved(
        &mut self,
        line: usize,
        what: String,
        sent_to: Generation,
    ) -> Result<bool, Stopped> {
        if self.bulk.targets.now().generation != sent_to {
            return Ok(true);
        }
        self.dropped(line, what).map(|()| false)
    }

    /// Returns the targets as they are now, unless others than those of the generation `seen` are known.
    fn newer_targets(&self, seen: Generation) -> Result<Arc<Targets>, Stopped> {
        let Bulk { client, targets, retries, .. } = self.bulk;
        retry(retries, MOVING, |limit| targets.refresh(&client.within(limit), seen)).map_err(|_| Stopped)
    }

    /// Handles a document that was written with the routing of another index. If its index needs a routing, too, it is in
    /// its place. If not, it may be in another shard than look-ups and deletes go to. Returns whether to send it again,
    /// without a routing.
    fn was_misrouted(&mut self, line: usize, index: &str, sent_to: Generation) -> Result<bool, Stopped> {
        let kind = self.lines.kind(line);
        let targets = self.newer_targets(self.bulk.targets.now().generation)?;
        let target = targets.of(kind);
        if !target.holds(index) || target.needs_routing_in(index) {
            return self.written_elsewhere(line, index, sent_to);
        }
        self.misrouted.push((line, index.to_owned()));
        if target.requires_routing() {
            let what = format!("it was written to {index}, which is not the write index of {}", target.name);
            return self.dropped_unless_moved(line, what, sent_to);
        }
        Ok(true)
    }

    /// Deletes what was written with a routing to an index that needs none, if look-ups and deletes without a routing go
    /// to another shard.
    pub(super) fn remove_misrouted(&mut self) -> Result<(), Stopped> {
        let misrouted = std::mem::take(&mut self.misrouted);
        let copy = |(line, index): (usize, String)| {
            Some((self.lines.kind(line), *self.lines.actions.get(line)?, index))
        };
        self.bulk.delete_misrouted(&misrouted.into_iter().filter_map(copy).collect::<Vec<_>>())
    }

    /// Handles a document that was not written as it was sent. A post becomes a dead letter. A lost tombstone stops the
    /// run, because no deletion is final without it.
    fn dropped(&mut self, line: usize, what: String) -> Result<(), Stopped> {
        if self.lines.kind(line) == ActionKind::Post {
            let refusal = Refusal { error_type: "dropped_by_pipeline".into(), reason: what };
            (self.on_final)(line, Final::Refused(refusal));
            return Ok(());
        }
        let message = format!(
            "a tombstone was not written as it was sent ({what}), so deleted posts would come back: remove \
             the ingest pipeline from the index of tombstones"
        );
        self.bulk.fail(Failure::new(ExitCode::Refused, message))
    }
}
