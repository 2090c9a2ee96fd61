//! What passes between the stages: archives, documents, batches of bulk actions, and what has become of rows.
//!
//! Plain data. Nothing here reads, writes or waits.

mod archive;
mod document;
mod litter;
mod message;
mod server;
mod tally;
mod version;

pub use archive::*;
pub use document::*;
pub use litter::is_litter;
pub use message::*;
pub use server::*;
pub use tally::*;
pub use version::*;
