//! Where documents go: Elasticsearch, or the NDJSON of a dry run.
//!
//! The pipeline knows a sink by this trait alone. Another kind of sink is another implementation of it, and a line in
//! `run/` that opens it.

use crate::exit::Failure;
use crate::model::{Action, Batch, Document, FieldChoice, Generation, Outcomes};

pub mod batch;
pub mod elasticsearch;
pub mod ndjson;

/// Takes documents in, batch by batch.
pub trait Sink: Sync {
    /// Appends an action and its document to the body of a batch, in the form in which [`Sink::deliver`] sends it.
    /// Called by the workers; may wait for the server.
    fn encode(&self, body: &mut Vec<u8>, action: &Action, document: &Document<'_>);

    /// Brings every action of a batch to an outcome. Where the run stops first, the rest is `unconfirmed`; the
    /// outcomes always add up to the number of actions.
    fn deliver(&self, batch: &Batch) -> Outcomes;

    /// Which fields posts have there.
    fn fields(&self) -> FieldChoice {
        FieldChoice::default()
    }

    /// Brings to disk what has been confirmed, where a confirmation does not mean that already. Called before archives
    /// are marked. Returns the present generation: what was delivered to an earlier one does not count, and has to be
    /// delivered again.
    ///
    /// # Errors
    ///
    /// Nothing may be marked, and the run is to stop.
    fn make_durable(&self) -> Result<Generation, Failure>;
}
