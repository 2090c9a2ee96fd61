//! Where documents go: Elasticsearch, or the NDJSON of a dry run.

pub mod batch;
pub mod elasticsearch;
pub mod ndjson;

use crate::model::{Batch, Outcomes};

/// What becomes of a batch: written to Elasticsearch, or not (a dry run).
pub trait Deliver: Sync {
    /// Brings every action of a batch to an outcome. Where the run stops first, the rest is `unconfirmed`; the
    /// outcomes always add up to the number of actions.
    fn deliver(&self, batch: &Batch) -> Outcomes;
}
