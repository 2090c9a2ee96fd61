//! Embeddings as in archives, encoded independently of the program.

use libdeflater::{CompressionLvl, Compressor};

/// The alphabet of RFC 1924, as Python's `base64.b85encode` uses it.
const BASE85: &[u8; 85] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

/// 384 values that f16 can hold, different for each seed; zeros and ones are among them.
pub(crate) fn vector(seed: u32) -> Vec<f32> {
    let mut values: Vec<f32> = (0..384u32)
        .map(|n| {
            let mixed = (n + 1).wrapping_mul(seed.wrapping_mul(2_654_435_761) | 1) >> 20;
            (mixed as f32 - 2048.0) / 4096.0
        })
        .collect();
    values[..4].copy_from_slice(&[0.0, -0.0, 1.0, -1.0]);
    values
}

/// Little-endian f32, zlib, base85.
pub(crate) fn encode(values: &[f32]) -> String {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    base85(&zlib(&bytes))
}

/// A zlib stream.
pub(crate) fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(CompressionLvl::default());
    let mut out = vec![0; compressor.zlib_compress_bound(bytes.len())];
    let size = compressor.zlib_compress(bytes, &mut out).expect("the bound holds");
    out.truncate(size);
    out
}

/// Base85: four bytes, big-endian, make five digits; a last group of n bytes makes n + 1.
pub(crate) fn base85(bytes: &[u8]) -> String {
    let mut out = String::new();
    for group in bytes.chunks(4) {
        let mut padded = [0; 4];
        padded[..group.len()].copy_from_slice(group);
        let mut number = u32::from_be_bytes(padded);
        let mut digits = [0; 5];
        for digit in digits.iter_mut().rev() {
            *digit = BASE85[(number % 85) as usize];
            number /= 85;
        }
        out.extend(digits[..=group.len()].iter().map(|digit| char::from(*digit)));
    }
    out
}

/// The values of a vector in a document: numbers with a decimal point, or base64 of big-endian f32.
pub(crate) fn decode(vector: &serde_json::Value) -> Option<Vec<f32>> {
    use base64::Engine as _;
    if let Some(text) = vector.as_str() {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        let (values, rest) = bytes.as_chunks();
        return rest.is_empty().then(|| values.iter().map(|value| f32::from_be_bytes(*value)).collect());
    }
    // serde_json distinguishes integers from floats, so an integer is not accepted.
    let one = |value: &serde_json::Value| value.is_f64().then(|| value.to_string().parse().ok())?;
    vector.as_array()?.iter().map(one).collect()
}
