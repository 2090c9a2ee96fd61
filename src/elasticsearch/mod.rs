//! Talking to Elasticsearch: one HTTP client, and what is checked and created before anything is sent.

pub mod client;
mod flat;
pub mod identity;
pub mod load_settings;
pub mod mapping;
pub(crate) mod outcome;
pub mod preflight;
pub mod primaries;
pub(crate) mod resolver;
pub mod schema;
pub(crate) mod tls;
mod transport_error;
pub mod url;

pub(crate) use client::retry_after;
pub use schema::{POSTS, TOMBSTONES};
pub use transport_error::TransportError;
