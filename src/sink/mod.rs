//! Where documents go: Elasticsearch, or the NDJSON of a dry run.
//!
//! The pipeline knows a sink only by this trait. Another kind of sink is another implementation, and a line in `run/`
//! that opens it.

use crate::exit::Failure;
use crate::model::{Action, Batch, Document, FieldChoice, Generation, Outcomes};

pub mod batch;
pub mod elasticsearch;
pub mod ndjson;

/// Takes documents, batch by batch.
pub trait Sink: Sync {
    /// Appends an action and its document to the body of a batch, in the form in which [`Sink::deliver`] sends it.
    /// Called by the workers; may wait for the server.
    fn encode(&self, body: &mut Vec<u8>, action: &Action, document: &Document<'_>);

    /// Delivers a batch: brings every action to an outcome. If the run stops first, the rest is `unconfirmed`. The
    /// outcomes always add up to the number of actions.
    fn deliver(&self, batch: &Batch) -> Outcomes;

    /// The fields that posts have in this sink.
    fn fields(&self) -> FieldChoice {
        FieldChoice::default()
    }

    /// Flushes confirmed documents to disk if a confirmation does not mean that already. Called before archives are
    /// marked. Returns the present generation: what was delivered to an earlier one does not count and must be
    /// delivered again.
    ///
    /// # Errors
    ///
    /// Nothing may be marked, and the run must stop.
    fn make_durable(&self) -> Result<Generation, Failure>;
}
