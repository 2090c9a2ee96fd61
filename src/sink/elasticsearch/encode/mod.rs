//! Stage 4: encodes documents as bulk NDJSON, directly into the buffer that is sent. Pure.

use crate::config::VectorChoice;

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

impl VectorEncoding {
    /// Returns the encoding for documents that no server is asked about: arrays, unless base64 is required.
    pub fn untested(choice: VectorChoice) -> Self {
        match choice {
            VectorChoice::Base64 => Self::Base64,
            VectorChoice::Auto | VectorChoice::Array => Self::Array,
        }
    }
}
