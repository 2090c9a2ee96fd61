//! Talking to Elasticsearch: one HTTP client, and what is checked and created before anything is sent.

pub mod bulk;
pub mod client;
pub mod convergence;
pub mod encode;
mod flat;
pub mod identity;
pub mod load_settings;
pub mod mapping;
pub(crate) mod outcome;
pub mod preflight;
pub mod primaries;
pub mod schema;
pub mod server;
pub mod vectors;

pub use schema::{POSTS, TOMBSTONES};
