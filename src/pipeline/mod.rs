//! The pipeline: six stages in the order in which data flow, and the messages between them.
//!
//! ```text
//! source → archive → decode → encode ══ Batch, bounded ══▶ sender ══ Event ══▶ ledger
//! └──── Rayon pool, one archive a task ────┘            N plain threads     run's own thread
//! ```
//!
//! Every row that a stage has read reaches the ledger exactly once, as part of an [`Event`]:
//! settled, or explicitly unsettled. That is what makes the summary add up.

pub mod source;

pub mod archive;

pub mod decode;

pub mod encode;

pub mod outlet;

pub mod sender;

pub mod ledger;

pub mod vectors;

pub mod worker;

pub mod replay;

pub mod convergence;

mod message;

pub use message::*;
