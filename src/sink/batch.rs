//! Groups bulk actions into batches, limited by number and bytes.

use std::mem;
use std::sync::Arc;

use crate::config::BatchLimits;
use crate::model::{Action, Archive, Batch};

/// Groups the actions of one archive into batches. Each batch stays within both limits, except that a document over the
/// byte limit gets a batch of its own.
pub struct Batcher {
    archive: Arc<Archive>,
    limits: BatchLimits,
    body: Vec<u8>,
    actions: Vec<Action>,
}

impl Batcher {
    /// Creates an empty batch of `archive` that is written into `body`. The buffer is cleared first.
    pub fn new(archive: Arc<Archive>, limits: BatchLimits, mut body: Vec<u8>) -> Self {
        body.clear();
        Self { archive, limits, body, actions: Vec::new() }
    }

    /// Appends one action. `write` appends its lines to the buffer; this sets the action's `lines`. Returns a batch if
    /// the action fills it or does not fit into it. `spare` provides the buffer of the next batch.
    pub fn push(
        &mut self,
        action: Action,
        write: impl FnOnce(&mut Vec<u8>, &Action),
        spare: impl FnOnce() -> Vec<u8>,
    ) -> Option<Batch> {
        let start = self.body.len();
        write(&mut self.body, &action);
        let end = self.body.len();
        if end > self.limits.bytes && start > 0 {
            let without_room = self.body.split_off(start);
            let full = self.cut(spare());
            self.body.extend_from_slice(&without_room);
            self.actions.push(Action { lines: 0..end - start, ..action });
            return full;
        }
        self.actions.push(Action { lines: start..end, ..action });
        if self.actions.len() >= self.limits.docs || end >= self.limits.bytes {
            return self.cut(spare());
        }
        None
    }

    /// Returns the last batch; None: no action is left.
    pub fn finish(&mut self) -> Option<Batch> {
        self.cut(Vec::new())
    }

    fn cut(&mut self, mut next: Vec<u8>) -> Option<Batch> {
        next.clear();
        let mut body = mem::replace(&mut self.body, next);
        let actions = mem::take(&mut self.actions);
        // A `write` that panicked may have left bytes behind the last action; drop them.
        body.truncate(actions.last().map_or(0, |action| action.lines.end));
        (!actions.is_empty()).then(|| Batch { archive: self.archive.clone(), body, actions })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{ActionKind, Version};

    fn archive() -> Arc<Archive> {
        Arc::new(Archive { name: "a".into(), path: "a".into(), seconds: Some(1), ..Archive::default() })
    }

    fn action(row_id: i64) -> Action {
        Action::new(ActionKind::Post, Version::new(1, row_id).unwrap(), "id")
    }

    fn batches(limits: BatchLimits, sizes: &[usize]) -> Vec<Batch> {
        let mut batcher = Batcher::new(archive(), limits, b"left over".to_vec());
        let mut batches = Vec::new();
        for (row_id, &size) in sizes.iter().enumerate() {
            let write = |body: &mut Vec<u8>, _: &Action| body.resize(body.len() + size, row_id as u8);
            let spare = || b"spare".to_vec();
            batches.extend(batcher.push(action(row_id as i64), write, spare));
        }
        batches.extend(batcher.finish());
        batches
    }

    #[test]
    fn half_a_document_is_not_sent() {
        let mut batcher = Batcher::new(archive(), BatchLimits { docs: 10, bytes: 100 }, Vec::new());
        assert!(batcher.push(action(1), |body, _| body.extend_from_slice(b"whole\n"), Vec::new).is_none());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let half = |body: &mut Vec<u8>, _: &Action| {
                body.extend_from_slice(b"ha");
                panic!("in the middle of a document");
            };
            batcher.push(action(2), half, Vec::new)
        }));
        assert!(panicked.is_err());
        let batch = batcher.finish().unwrap();
        assert_eq!((&*batch.body, batch.actions.len()), (&b"whole\n"[..], 1));
    }

    proptest! {
        #[test]
        fn batches_keep_the_limits_and_lose_nothing(
            docs in 1_usize..8,
            bytes in 1_usize..64,
            sizes in prop::collection::vec(1_usize..80, 0..60),
        ) {
            let batches = batches(BatchLimits { docs, bytes }, &sizes);
            let mut rows = Vec::new();
            for batch in &batches {
                prop_assert!(!batch.actions.is_empty() && batch.actions.len() <= docs);
                prop_assert!(batch.body.len() <= bytes || batch.actions.len() == 1);
                let mut end = 0;
                for action in &batch.actions {
                    prop_assert_eq!(action.lines.start, end);
                    end = action.lines.end;
                    prop_assert_eq!(action.lines.len(), sizes[action.row_id as usize]);
                    prop_assert!(batch.body[action.lines.clone()].iter().all(|&b| b == action.row_id as u8));
                    rows.push(action.row_id as usize);
                }
                prop_assert_eq!(end, batch.body.len());
            }
            prop_assert_eq!(rows, (0..sizes.len()).collect::<Vec<_>>());
        }
    }
}
