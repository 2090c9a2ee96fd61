//! Stage 4: writes documents as bulk NDJSON directly into the buffer that is sent. Pure.

pub mod action;
pub mod document;
pub mod float;
pub mod replayed;
pub mod text;

/// The form of a vector in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorEncoding {
    /// A JSON array of decimals. Every version reads it.
    Array,
    /// A base64 string of big-endian f32. Elasticsearch 9.3 and later reads it in `dense_vector` fields.
    Base64,
}
