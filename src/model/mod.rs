//! The data that stages exchange: archives, documents, batches of bulk actions, and the outcomes of rows.
//!
//! Plain data. Nothing here reads, writes or waits.

mod archive;
mod criteria;
mod document;
mod fields;
mod findings;
mod message;
mod metadata_file;
mod names;
pub mod schema;
mod server;
mod shard;
mod tally;
mod version;

pub use archive::*;
pub use criteria::*;
pub use document::*;
pub use fields::*;
pub use findings::*;
pub use message::*;
pub use metadata_file::is_metadata_file;
pub use names::*;
pub use server::*;
pub use shard::*;
pub use tally::*;
pub use version::*;
