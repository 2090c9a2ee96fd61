//! What differs is sent again, on the way that a load takes, and looked at again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use super::Verifier;
use super::compare::vector_of;
use super::judge::Verdict;
use crate::model::{Action, Batch, Finding, Outcomes};
use crate::retry::throttle::Stopped;
use crate::sink::elasticsearch::encode::VectorEncoding;
use crate::sink::elasticsearch::encode::text::write_vector_array;

/// Where an index still remembers the delete of a post, it is tried again after so long.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

impl Verifier<'_> {
    /// Sends the rows of a batch again that differ. Returns what is found of each afterwards; None where it was
    /// rejected, which `outcomes` tells.
    pub(super) fn mend(
        &self,
        batch: &Batch,
        differing: &[(&Action, Verdict)],
        vectors: VectorEncoding,
        outcomes: &mut Outcomes,
    ) -> Result<Vec<Option<Finding>>, Stopped> {
        let mut findings: Vec<Option<Finding>> =
            differing.iter().map(|(_, verdict)| Some(verdict.finding)).collect();
        let mut open: Vec<usize> = (0..differing.len()).collect();
        let begun = Instant::now();
        loop {
            let actions: Vec<&Action> = open.iter().filter_map(|&nth| Some(differing.get(nth)?.0)).collect();
            let sent = self.elasticsearch.bulk.deliver(&again(batch, &actions, vectors));
            let was_cut_short = sent.tally.unconfirmed > 0;
            let superseded = sent.tally.superseded > 0;
            let rejected = Self::rejected_rows(&sent);
            take_over(outcomes, sent);
            if was_cut_short {
                return Err(Stopped);
            }
            open.retain(|&nth| {
                let is_rejected =
                    differing.get(nth).is_some_and(|(action, _)| rejected.contains(&action.row_id));
                if let Some(finding) = findings.get_mut(nth).filter(|_| is_rejected) {
                    *finding = None;
                }
                !is_rejected
            });
            let actions: Vec<&Action> = open.iter().filter_map(|&nth| Some(differing.get(nth)?.0)).collect();
            for (&nth, verdict) in open.iter().zip(self.find(batch, &actions)?) {
                if let Some(finding) = findings.get_mut(nth) {
                    *finding = Some(verdict.finding);
                }
            }
            // Elasticsearch takes no older version for as long as it remembers the delete. That of a post is told; a tombstone
            // that is refused for it is taken for a newer one.
            let is_refused = |nth: &usize| match findings.get(*nth) {
                Some(Some(Finding::Missing)) => superseded,
                Some(Some(Finding::Undeleted)) => true,
                _ => false,
            };
            open.retain(is_refused);
            let targets = self.elasticsearch.server.targets.now();
            let remembered = targets.posts.gc_deletes.max(targets.tombstones.gc_deletes);
            if open.is_empty() || begun.elapsed() > remembered + AGAIN_AFTER {
                return Ok(findings);
            }
            log::info!(
                "{} documents were deleted so lately that the index refuses them: they are sent again once it has forgotten \
                 that (index.gc_deletes)",
                open.len()
            );
            self.wait(AGAIN_AFTER)?;
        }
    }
}

/// Takes over what is to be told of rows that were rejected. Everything else is told by what is found afterwards.
fn take_over(outcomes: &mut Outcomes, sent: Outcomes) {
    outcomes.generation = outcomes.generation.into_iter().chain(sent.generation).min();
    outcomes.tally.rejected += sent.tally.rejected;
    outcomes.reasons += sent.reasons;
    outcomes.dead_letters.extend(sent.dead_letters);
}

/// A batch of some of the actions of another, with vectors in the form in which they are to be sent.
fn again(batch: &Batch, actions: &[&Action], vectors: VectorEncoding) -> Batch {
    let mut body = Vec::new();
    let mut taken = Vec::with_capacity(actions.len());
    for action in actions {
        let start = body.len();
        let lines = batch.body.get(action.lines.clone()).unwrap_or_default();
        let mut parts = lines.split(|&byte| byte == b'\n');
        let (line, document) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        body.extend_from_slice(line);
        body.push(b'\n');
        match vectors {
            VectorEncoding::Base64 => body.extend_from_slice(document),
            VectorEncoding::Array => with_arrays(&mut body, document),
        }
        body.push(b'\n');
        taken.push(Action { lines: start..body.len(), ..(*action).clone() });
    }
    Batch { archive: batch.archive.clone(), body, actions: taken }
}

/// Appends a document with its vectors as arrays.
fn with_arrays(out: &mut Vec<u8>, document: &[u8]) {
    let rewritten = rewrite(document);
    out.extend_from_slice(rewritten.as_deref().unwrap_or(document));
}

/// None where there is nothing to rewrite.
fn rewrite(document: &[u8]) -> Option<Vec<u8>> {
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(document).ok()?;
    let vectors: BTreeMap<String, &RawValue> = serde_json::from_str(fields.get("embeddings")?.get()).ok()?;
    let mut written = Vec::new();
    for (name, value) in vectors {
        written.push(if written.is_empty() { b'{' } else { b',' });
        serde_json::to_writer(&mut written, &name).ok()?;
        written.push(b':');
        let values = vector_of(value.get())?;
        write_vector_array(&mut written, values.as_slice().try_into().ok()?);
    }
    written.push(b'}');
    let embeddings = RawValue::from_string(String::from_utf8(written).ok()?).ok()?;
    fields.insert("embeddings".to_owned(), embeddings);
    serde_json::to_vec(&fields).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::{DIMENSIONS, Vector};
    use crate::sink::elasticsearch::encode::text::write_vector_base64;

    #[test]
    fn vectors_become_arrays_and_all_else_stays() {
        let vector: Vector = std::array::from_fn(|n| n as f32 - 0.1);
        let mut base64 = Vec::new();
        write_vector_base64(&mut base64, &vector);
        let base64 = String::from_utf8(base64).unwrap();
        let document =
            format!(r#"{{"at_uri":"a\u0000","embeddings":{{"x":{base64},"y":{base64}}},"content":"é"}}"#);
        let written: Value = serde_json::from_slice(&rewrite(document.as_bytes()).unwrap()).unwrap();
        assert_eq!(written["content"], "é");
        assert_eq!(written["at_uri"], "a\u{0}");
        for name in ["x", "y"] {
            let values: Vec<f32> = serde_json::from_value(written["embeddings"][name].clone()).unwrap();
            assert_eq!((values.len(), values), (DIMENSIONS, vector.to_vec()));
        }
        assert_eq!(rewrite(json!({"content": "é"}).to_string().as_bytes()), None);
    }
}
