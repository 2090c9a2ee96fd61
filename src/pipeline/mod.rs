//! The pipeline: six stages, in the order of the data flow.
//!
//! ```text
//! source → archive → decode → encode ══ Batch, bounded ══▶ sender ══ Event ══▶ ledger
//! └─── Rayon pool, one archive per task ───┘            N plain threads     run's own thread
//! ```
//!
//! Every row read reaches the ledger exactly once, as part of an [`Event`](crate::model::Event): with its outcome, or
//! as unconfirmed. This makes the summary add up.

// The stages.

pub mod source;

pub mod archive;

pub mod decode;

pub mod sender;

pub mod ledger;

// Workers and replays read rows and run the stages up to `encode`. Both hand batches on through an outlet.

pub mod worker;

pub mod admission;

pub mod replay;

pub mod outlet;

pub mod buffers;

// Threads and channels.

pub mod stages;

#[cfg(test)]
mod tests {
    //! Helpers for the tests of several stages.

    use crate::common::exit::Failure;
    use crate::model::{Action, Batch, Document, Generation, Names, Outcomes};
    use crate::sink::Sink;
    use crate::sink::elasticsearch::encode::VectorEncoding;
    use crate::sink::elasticsearch::encode::document::write_action;
    use crate::sink::upcoming::Upcoming;

    /// A sink that accepts documents and does nothing with them.
    pub(super) struct NullSink;

    impl Sink for NullSink {
        fn encode(&self, body: &mut Vec<u8>, action: &Action, document: &Document<'_>) {
            write_action(body, Names::default(), action, document, VectorEncoding::Array, 0);
        }

        fn deliver(&self, _: &Batch, _: &mut Upcoming) -> Outcomes {
            Outcomes::default()
        }

        fn make_durable(&self) -> Result<Generation, Failure> {
            Ok(0)
        }
    }
}
