//! Stage 4: documents become bulk NDJSON, written straight into the buffer that is sent. Pure.

pub mod action;
pub mod document;
pub mod float;
pub mod replayed;
pub mod text;

/// How a vector stands in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorEncoding {
    /// A JSON array of decimals: read by every version.
    Array,
    /// A base64 string of big-endian f32: read by Elasticsearch 9.3 and later in `dense_vector` fields.
    Base64,
}
