//! The batches of one sender, with a look at the next one while the current one is delivered.

use std::time::Instant;

use crossbeam_channel::{Receiver, bounded};

use crate::model::{Batch, Generation};

/// Tombstones of a batch's posts, looked up before the delivery of the batch has begun.
pub struct LookedUp {
    /// The sink's generation before the look-up.
    pub generation: Generation,
    /// When the look-up began.
    pub at: Instant,
    /// Version of the tombstone of each post, in their order; None: there is no tombstone.
    pub tombstones: Vec<Option<u64>>,
}

/// The batches that a sender delivers.
pub struct Upcoming {
    batches: Receiver<Batch>,
    next: Option<(Batch, Option<LookedUp>)>,
    /// What was looked up for the current batch.
    looked_up: Option<LookedUp>,
}

impl Upcoming {
    /// Creates the queue of one sender. `batches` is shared with the other senders.
    pub fn new(batches: Receiver<Batch>) -> Self {
        Self { batches, next: None, looked_up: None }
    }

    /// Creates an empty queue, to deliver a single batch.
    pub fn nothing() -> Self {
        Self::new(bounded(0).1)
    }

    /// Waits for the next batch, which becomes the current one. None: there are no more.
    pub fn advance(&mut self) -> Option<Batch> {
        let next = self.next.take().or_else(|| Some((self.batches.recv().ok()?, None)));
        let (batch, looked_up) = next?;
        self.looked_up = looked_up;
        Some(batch)
    }

    /// Returns the batch that follows the current one, if it is there already. No other sender gets it any more.
    pub fn peek(&mut self) -> Option<&Batch> {
        if self.next.is_none() {
            self.next = self.batches.try_recv().ok().map(|batch| (batch, None));
        }
        self.next.as_ref().map(|(batch, _)| batch)
    }

    /// Keeps what was looked up for the batch of [`Self::peek`].
    pub fn keep(&mut self, looked_up: LookedUp) {
        if let Some((_, kept)) = &mut self.next {
            *kept = Some(looked_up);
        }
    }

    /// Takes out what was looked up for the current batch.
    pub fn looked_up(&mut self) -> Option<LookedUp> {
        self.looked_up.take()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crossbeam_channel::unbounded;

    use super::*;
    use crate::model::Archive;

    /// Creates a queue of batches of archives with these names.
    fn queue(names: &[&str]) -> (Receiver<Batch>, Upcoming) {
        let (sender, batches) = unbounded();
        for name in names {
            let archive = Archive { name: (*name).to_owned(), ..Archive::default() };
            sender
                .send(Batch { archive: Arc::new(archive), body: Vec::new(), actions: Vec::new() })
                .expect("the receiver is there");
        }
        (batches.clone(), Upcoming::new(batches))
    }

    fn of_post(tombstone: Option<u64>) -> LookedUp {
        LookedUp { generation: 3, at: Instant::now(), tombstones: vec![tombstone] }
    }

    #[test]
    fn a_batch_seen_ahead_is_delivered_next_and_by_nobody_else() {
        let (others, mut upcoming) = queue(&["a", "b", "c"]);
        assert_eq!(upcoming.advance().unwrap().archive.name, "a");
        assert_eq!(upcoming.peek().unwrap().archive.name, "b");
        assert_eq!(upcoming.peek().unwrap().archive.name, "b");
        assert_eq!(others.recv().unwrap().archive.name, "c");
        assert_eq!(upcoming.advance().unwrap().archive.name, "b");
        assert!(upcoming.peek().is_none() && upcoming.advance().is_none());
    }

    #[test]
    fn what_was_looked_up_belongs_to_the_next_batch_alone() {
        let (_, mut upcoming) = queue(&["a", "b", "c"]);
        upcoming.advance();
        // Without a batch seen ahead there is nothing to keep it for.
        upcoming.keep(of_post(Some(1)));
        upcoming.peek();
        upcoming.keep(of_post(Some(2)));
        assert!(upcoming.looked_up().is_none());
        upcoming.advance();
        assert_eq!(upcoming.looked_up().unwrap().tombstones, [Some(2)]);
        upcoming.advance();
        assert!(upcoming.looked_up().is_none());
    }
}
