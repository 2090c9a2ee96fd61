//! Sends differing rows again, in the same way as a load, and checks them once more.

use std::collections::HashSet;
use std::mem;
use std::time::{Duration, Instant};

use super::Verifier;
use super::judge::Verdict;
use crate::model::{Action, Batch, Finding, Outcomes};
use crate::retry::throttle::Stopped;
use crate::sink::elasticsearch::encode::VectorEncoding;
use crate::sink::elasticsearch::encode::replayed::write_replayed;
use crate::sink::upcoming::Upcoming;

/// Pause before a retry while an index still remembers the delete of a post.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

impl Verifier<'_> {
    /// Sends the differing rows of a batch again. Returns the finding for each afterwards; None: the row was rejected
    /// and is in `outcomes`.
    pub(super) fn resend(
        &self,
        batch: &Batch,
        differing: &[(&Action, Verdict)],
        vectors: VectorEncoding,
        outcomes: &mut Outcomes,
    ) -> Result<Vec<Option<Finding>>, Stopped> {
        let mut findings: Vec<Option<Finding>> =
            differing.iter().map(|(_, verdict)| Some(verdict.finding)).collect();
        let actions = differing.iter().map(|(action, _)| *action);
        let mut open: Vec<(&Action, &mut Option<Finding>)> = actions.zip(&mut findings).collect();
        let begun = Instant::now();
        let mut has_logged = false;
        loop {
            let actions: Vec<&Action> = open.iter().map(|(action, _)| *action).collect();
            let again = batch_of(batch, &actions, vectors);
            let sent = self.elasticsearch.bulk.deliver(&again, &mut Upcoming::nothing());
            let was_cut_short = sent.tally.unconfirmed > 0;
            let superseded = sent.tally.superseded > 0;
            let rejected: HashSet<i64> = sent.dead_letters.iter().map(|letter| letter.row_id).collect();
            add_rejected(outcomes, sent);
            if was_cut_short {
                return Err(Stopped);
            }
            open.retain_mut(|(action, finding)| {
                let is_rejected = rejected.contains(&action.row_id);
                finding.take_if(|_| is_rejected);
                !is_rejected
            });
            let actions: Vec<&Action> = open.iter().map(|(action, _)| *action).collect();
            for ((_, finding), verdict) in open.iter_mut().zip(self.find(batch, &actions)?) {
                **finding = Some(verdict.finding);
            }
            // Elasticsearch accepts no older version while it remembers a delete. A post refused for this reason counts
            // as superseded. A tombstone does not: the refusal looks as if a newer tombstone existed.
            open.retain(|(_, finding)| match finding {
                Some(Finding::Missing) => superseded,
                Some(Finding::Undeleted) => true,
                _ => false,
            });
            let targets = self.elasticsearch.server.targets.now();
            let remembered = targets.posts.gc_deletes.max(targets.tombstones.gc_deletes);
            if open.is_empty() || begun.elapsed() > remembered + RETRY_PAUSE {
                return Ok(findings);
            }
            if !mem::replace(&mut has_logged, true) {
                log::info!(
                    "documents ({}) were deleted so recently that the index refuses them: they are sent again \
                     once it has forgotten the deletions (index.gc_deletes), within {} s",
                    open.len(),
                    remembered.as_secs()
                );
            }
            self.wait(RETRY_PAUSE)?;
        }
    }
}

/// Takes over the results of rejected rows. The look-up that follows reports everything else.
fn add_rejected(outcomes: &mut Outcomes, sent: Outcomes) {
    outcomes.generation = outcomes.generation.into_iter().chain(sent.generation).min();
    outcomes.tally.rejected += sent.tally.rejected;
    outcomes.reasons += sent.reasons;
    outcomes.dead_letters.extend(sent.dead_letters);
}

/// Creates a batch with some actions of another, with vectors in the encoding to send.
fn batch_of(batch: &Batch, actions: &[&Action], vectors: VectorEncoding) -> Batch {
    let mut body = Vec::new();
    let mut taken = Vec::with_capacity(actions.len());
    for action in actions {
        let start = body.len();
        let (line, document) = batch.lines_of(action);
        body.extend_from_slice(line);
        body.push(b'\n');
        write_replayed(&mut body, &String::from_utf8_lossy(document), vectors);
        body.push(b'\n');
        taken.push(Action { lines: start..body.len(), ..(*action).clone() });
    }
    Batch { archive: batch.archive.clone(), body, actions: taken }
}
