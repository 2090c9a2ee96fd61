//! Stage 4: encodes documents as bulk NDJSON, directly into the buffer that is sent. Pure.

pub mod action;
pub mod document;
pub mod float;
pub mod replayed;
pub mod text;

/// Encoding of a vector in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorEncoding {
    /// A JSON array of decimals. Every server version reads it.
    Array,
    /// A base64 string of big-endian f32 values. Elasticsearch 9.3 and later reads it in `dense_vector` fields.
    Base64,
}
