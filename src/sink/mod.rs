//! Sinks for documents: Elasticsearch, or the NDJSON file of a dry run.
//!
//! The pipeline knows sinks only through [`Sink`]. To add one, implement the trait and open it in `run/`.

use crate::common::exit::Failure;
use crate::model::{Action, Batch, Document, FieldChoice, Generation, Outcomes};

pub mod batch;
pub mod elasticsearch;
pub mod ndjson;
pub mod upcoming;

use upcoming::Upcoming;

/// Takes documents in batches.
pub trait Sink: Sync {
    /// Appends an action and its document to the body of a batch, in the form that [`Sink::deliver`] sends. Called by
    /// the workers; may wait for the server.
    fn encode(&self, body: &mut Vec<u8>, action: &Action, document: &Document<'_>);

    /// Delivers a batch: every action gets an outcome. If the run stops first, the rest is `unconfirmed`. The outcomes
    /// always add up to the number of actions. `upcoming` shows the batch that follows, so that one request can serve both.
    fn deliver(&self, batch: &Batch, upcoming: &mut Upcoming) -> Outcomes;

    /// Returns the fields that posts have in this sink.
    fn fields(&self) -> FieldChoice {
        FieldChoice::default()
    }

    /// Flushes confirmed documents to disk, unless a confirmation already means that they are there. Called before
    /// archives are marked. Returns the current generation: whatever was delivered to an earlier one does not count and
    /// must be delivered again.
    ///
    /// # Errors
    ///
    /// Fails if nothing may be marked. The run must then stop.
    fn make_durable(&self) -> Result<Generation, Failure>;
}
