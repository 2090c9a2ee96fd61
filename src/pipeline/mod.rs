//! The pipeline: six stages in the order of the data flow, and the messages between them.
//!
//! ```text
//! source → archive → decode → encode ══ Batch, bounded ══▶ sender ══ Event ══▶ ledger
//! └──── Rayon pool, one archive a task ────┘            N plain threads     run's own thread
//! ```
//!
//! Every row that a stage has read reaches the ledger exactly once, as part of an [`Event`](crate::model::Event),
//! either settled or explicitly unsettled. This makes the summary add up.

// The stages in order. `worker` and `replay` carry out the first three.

pub mod source;

pub mod archive;

pub mod decode;

pub mod sender;

pub mod ledger;

// The readers, of archives on the pool or of a dead-letter file, and the outlet that both use.

pub mod worker;

pub mod admission;

pub mod replay;

pub mod outlet;

pub mod buffers;

// The threads of the stages, and their channels.

pub mod stages;

#[cfg(test)]
mod tests {
    //! Helpers for the tests of several stages.

    use crate::exit::Failure;
    use crate::model::Names;
    use crate::model::{Action, Batch, Document, Generation, Outcomes};
    use crate::sink::Sink;
    use crate::sink::elasticsearch::encode::VectorEncoding;
    use crate::sink::elasticsearch::encode::document::write_action;

    /// A sink that accepts documents and does nothing with them.
    pub(super) struct NullSink;

    impl Sink for NullSink {
        fn encode(&self, body: &mut Vec<u8>, action: &Action, document: &Document<'_>) {
            write_action(body, Names::default(), action, document, VectorEncoding::Array, 0);
        }

        fn deliver(&self, _: &Batch) -> Outcomes {
            Outcomes::default()
        }

        fn make_durable(&self) -> Result<Generation, Failure> {
            Ok(0)
        }
    }
}
