//! Decodes an embedding: base85 of a zlib stream of little-endian f32 values.

use libdeflater::{DecompressionError, Decompressor};

use super::base85::{self, Base85Error};
use crate::model::{DIMENSIONS, Vector};

/// Size of a vector, in bytes.
const VECTOR_BYTES: usize = DIMENSIONS * size_of::<f32>();

/// The longest text of an embedding, in bytes: twice that of an incompressible vector.
const MAX_TEXT_BYTES: usize = 4096;

/// Maximum number of dimensions. Source: Elasticsearch's `dense_vector`, parameter `dims`.
const MAX_DIMS: usize = 4096;

/// Why a text is not an embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorError {
    /// The text is longer than any vector needs.
    TooLong,
    /// The text is not base85.
    Base85(Base85Error),
    /// The decoded bytes are not a zlib stream.
    Zlib,
    /// It does not have [`DIMENSIONS`] values.
    Dimensions,
    /// A value is NaN or infinite.
    NotFinite,
    /// Its magnitude is 0 or too large for an f32, so it has no usable direction.
    Length,
}

impl From<Base85Error> for VectorError {
    fn from(error: Base85Error) -> Self {
        VectorError::Base85(error)
    }
}

impl From<DecompressionError> for VectorError {
    fn from(error: DecompressionError) -> Self {
        match error {
            DecompressionError::BadData => VectorError::Zlib,
            DecompressionError::InsufficientSpace => VectorError::Dimensions,
        }
    }
}

/// Decodes embeddings with reused buffers.
pub struct VectorDecoder {
    inflater: Decompressor,
    deflated: Vec<u8>,
    inflated: [u8; VECTOR_BYTES],
    inflated_any: Vec<u8>,
}

impl VectorDecoder {
    /// Creates a decoder with empty buffers.
    pub fn new() -> Self {
        Self {
            inflater: Decompressor::new(),
            deflated: Vec::new(),
            inflated: [0; VECTOR_BYTES],
            inflated_any: Vec::new(),
        }
    }

    /// Decodes an embedding, bit for bit. Inflates at most the size of a vector.
    ///
    /// # Errors
    ///
    /// Fails if the text is not an embedding. The content of `out` is then undefined.
    pub fn decode(&mut self, text: &str, out: &mut Vector) -> Result<(), VectorError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(VectorError::TooLong);
        }
        base85::decode(text.as_bytes(), &mut self.deflated)?;
        if self.inflater.zlib_decompress(&self.deflated, &mut self.inflated)? != VECTOR_BYTES {
            return Err(VectorError::Dimensions);
        }
        let (values, _) = self.inflated.as_chunks();
        for (place, bytes) in out.iter_mut().zip(values) {
            *place = f32::from_le_bytes(*bytes);
        }
        // No early exit, so that the compiler generates vector instructions.
        let finite = out.iter().fold(true, |all, value| all & value.is_finite());
        if !finite {
            return Err(VectorError::NotFinite);
        }
        let squared = squared_length(out);
        if squared > 0.0 && squared.is_finite() { Ok(()) } else { Err(VectorError::Length) }
    }

    /// Decodes an embedding with any number of dimensions that an index accepts, otherwise like [`VectorDecoder::decode`].
    ///
    /// # Errors
    ///
    /// Fails if the text is not an embedding.
    pub fn decode_any(&mut self, text: &str) -> Result<Vec<f32>, VectorError> {
        if text.len() > MAX_TEXT_BYTES * MAX_DIMS / DIMENSIONS {
            return Err(VectorError::TooLong);
        }
        base85::decode(text.as_bytes(), &mut self.deflated)?;
        self.inflated_any.resize(MAX_DIMS * size_of::<f32>(), 0);
        let length = self.inflater.zlib_decompress(&self.deflated, &mut self.inflated_any)?;
        let (values, []) = self.inflated_any.get(..length).unwrap_or_default().as_chunks() else {
            return Err(VectorError::Dimensions);
        };
        let vector: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if vector.is_empty() {
            return Err(VectorError::Dimensions);
        }
        if !vector.iter().all(|value| value.is_finite()) {
            return Err(VectorError::NotFinite);
        }
        let squared = squared_length(&vector);
        if squared > 0.0 && squared.is_finite() { Ok(vector) } else { Err(VectorError::Length) }
    }
}

/// Returns the square of a vector's magnitude, as an f32. An index with cosine similarity computes it, and refuses the
/// whole post if it is 0 or not finite.
///
/// Eight sums let the compiler generate vector instructions.
fn squared_length(vector: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (eights, rest) = vector.as_chunks::<8>();
    for values in eights {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value * value;
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|value| value * value).sum::<f32>()
}

impl Default for VectorDecoder {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
pub(super) mod tests;
