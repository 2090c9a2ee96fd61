//! Compares the indices with the archives. Looks up each batch, judges and reports the result, and repairs differences
//! if configured.
//!
//! A batch takes one or two requests. The ids are looked up in every index of posts and of tombstones (`held`). That
//! decides everything except posts with the expected version (`judge`). These are fetched and compared field by field
//! (`content`, `compare`).
//!
//! The verifier is a sink like any other, so archives are read, ordered and counted as in a load.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::atomic::AtomicBool;

use self::differences::Differences;
use self::judge::{Judged, Verdict, judge};
use super::Elasticsearch;
use super::encode::VectorEncoding;
use super::encode::document::write_action;
use super::retrying::{MOVING, policy, retry_until_stopped};
use crate::common::exit::Failure;
use crate::common::mutex::Mutex;
use crate::common::timestamp::now_millis;
use crate::model::{Action, Batch, Document, FieldChoice, Finding, Generation, Outcomes};
use crate::retry::patience::Retries;
use crate::retry::throttle::Stopped;
use crate::sink::Sink;
use crate::sink::upcoming::Upcoming;

mod compare;
mod content;
mod differences;
mod held;
mod judge;
mod repair;

/// An action, and the place of its verdict.
type Open<'a> = (&'a Action, &'a mut Option<Verdict>);

/// Compares documents with what the indices hold.
pub struct Verifier<'r> {
    elasticsearch: Elasticsearch<'r>,
    /// Encoding of vectors that are sent again; None: nothing is sent.
    repair: Option<VectorEncoding>,
    differences: Differences,
    /// Whether the server does not know the parameter that requests vectors, and returns them without it.
    returns_vectors: AtomicBool,
    /// Names of which the server shows nothing, but which have turned out to require routing.
    routed: Mutex<BTreeSet<String>>,
}

impl<'r> Verifier<'r> {
    /// Creates a verifier. Sends nothing yet. Writes differences to `output`, one JSON object per line. With `repair`,
    /// the encoding of vectors, differing rows are sent again.
    pub fn new(
        elasticsearch: Elasticsearch<'r>,
        repair: Option<VectorEncoding>,
        output: Option<Box<dyn Write + Send>>,
    ) -> Self {
        Self {
            elasticsearch,
            repair,
            differences: Differences(output.map(Mutex::new)),
            returns_vectors: AtomicBool::new(false),
            routed: Mutex::default(),
        }
    }

    /// Flushes the output. The run fails if it cannot be written.
    pub fn finish(self) {
        if let Err(error) = self.differences.finish() {
            self.elasticsearch.bulk.stop.output_failed(&error);
        }
    }

    /// Looks up and judges some actions of a batch.
    fn find(&self, batch: &Batch, actions: &[&Action]) -> Result<Vec<Verdict>, Stopped> {
        let mut verdicts: Vec<Option<Verdict>> = vec![None; actions.len()];
        let mut second_looks = judge::MAX_SECOND_LOOKS;
        // An action without a verdict after a look has changed between two requests.
        while verdicts.iter().any(Option::is_none) {
            let seen = self.elasticsearch.server.targets.now().generation;
            let slots = actions.iter().copied().zip(&mut verdicts);
            let mut open: Vec<Open<'_>> = slots.filter(|(_, verdict)| verdict.is_none()).collect();
            self.look(batch, &mut open)?;
            let any = |is: fn(Finding) -> bool| {
                open.iter().any(|(_, verdict)| verdict.is_some_and(|verdict| is(verdict.finding)))
            };
            // A running load may have written the tombstone and be about to delete the post.
            let is_transient = |finding| finding == Finding::Resurrected;
            let again = if any(Finding::is_difference) && self.have_targets_changed(seen)? {
                Finding::is_difference
            } else if any(is_transient) && second_looks > 0 {
                second_looks -= 1;
                self.wait(judge::SECOND_LOOK_PAUSE)?;
                is_transient
            } else {
                continue;
            };
            for (_, verdict) in open {
                verdict.take_if(|verdict| again(verdict.finding));
            }
        }
        Ok(verdicts.into_iter().flatten().collect())
    }

    /// Looks actions up once, by id and, if that is not enough, by content.
    fn look(&self, batch: &Batch, open: &mut [Open<'_>]) -> Result<(), Stopped> {
        let actions: Vec<&Action> = open.iter().map(|(action, _)| *action).collect();
        let (mut to_compare, mut compared) = (Vec::new(), Vec::new());
        for ((action, verdict), held) in open.iter_mut().zip(self.look_up_held(&actions)?) {
            match judge(action, &held) {
                Judged::Settled(settled) => **verdict = Some(settled),
                Judged::Compare(place) => {
                    to_compare.push((*action, place));
                    compared.push(verdict);
                }
            }
        }
        for (slot, verdict) in compared.into_iter().zip(self.compare(batch, &to_compare)?) {
            **slot = verdict;
        }
        Ok(())
    }

    /// Returns whether the indices behind the names have changed since something was not found: it may be in the new
    /// ones.
    fn have_targets_changed(&self, seen: Generation) -> Result<bool, Stopped> {
        let Elasticsearch { server, bulk, .. } = &self.elasticsearch;
        let (targets, client) = (server.targets.clone(), server.client.clone());
        let refresh = move |call| targets.refresh(&client.within(call), seen);
        match retry_until_stopped(&Retries::new(bulk.stop, policy(server.budget)), MOVING, refresh) {
            Ok(now) => Ok(now.generation != seen),
            Err(unanswered) => bulk.fail(unanswered.into()),
        }
    }

    fn wait(&self, time: std::time::Duration) -> Result<(), Stopped> {
        if self.elasticsearch.bulk.stop.wait(time) { Ok(()) } else { Err(Stopped) }
    }

    /// Looks up a batch, and repairs it if configured.
    fn verify(&self, batch: &Batch, outcomes: &mut Outcomes) -> Result<(), Stopped> {
        let actions: Vec<&Action> = batch.actions.iter().collect();
        let found = self.find(batch, &actions)?;
        let (differing, right): (Vec<_>, Vec<_>) =
            actions.into_iter().zip(found).partition(|(_, verdict)| verdict.finding.is_difference());
        let repaired = match self.repair {
            Some(vectors) if !differing.is_empty() => self.resend(batch, &differing, vectors, outcomes)?,
            _ => differing.iter().map(|(_, verdict)| Some(verdict.finding)).collect(),
        };
        right.iter().for_each(|(_, verdict)| outcomes.tally.findings.count(verdict.finding));
        for ((action, before), after) in differing.iter().zip(repaired) {
            // Refused rows are counted as rejected.
            if let Some(after) = after {
                outcomes.tally.findings.count(after);
            }
            let is_repaired = after.is_some_and(|after| !after.is_difference());
            if is_repaired {
                outcomes.tally.repaired.count(before.finding);
            }
            self.report(batch, action, before, self.repair.map(|_| is_repaired))?;
        }
        Ok(())
    }

    /// Writes a difference to the output.
    fn report(
        &self,
        batch: &Batch,
        action: &Action,
        verdict: &Verdict,
        is_repaired: Option<bool>,
    ) -> Result<(), Stopped> {
        self.differences.write(&batch.archive.name, action, verdict, is_repaired).map_err(|error| {
            self.elasticsearch.bulk.stop.output_failed(&error);
            Stopped
        })
    }
}

impl Sink for Verifier<'_> {
    /// Encodes as in a load, with vectors in their shortest form. Rows that are sent again are encoded once more, as
    /// the server reads them.
    fn encode(&self, body: &mut Vec<u8>, action: &Action, document: &Document<'_>) {
        let names = self.elasticsearch.server.names;
        write_action(body, names, action, document, VectorEncoding::Base64, now_millis());
    }

    fn fields(&self) -> FieldChoice {
        self.elasticsearch.server.names.fields
    }

    fn deliver(&self, batch: &Batch, _: &mut Upcoming) -> Outcomes {
        let mut outcomes = Outcomes::default();
        // `stop` has the reason. Unfinished actions count as unconfirmed.
        let _ = self.verify(batch, &mut outcomes);
        let tally = &mut outcomes.tally;
        tally.unconfirmed = (batch.actions.len() as u64).saturating_sub(tally.settled());
        outcomes
    }

    fn make_durable(&self) -> Result<Generation, Failure> {
        // Without writes there is nothing to flush.
        if self.repair.is_some() { self.elasticsearch.make_durable() } else { Ok(0) }
    }
}
