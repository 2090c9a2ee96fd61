//! Writes JSON strings, numbers and vectors into a buffer.

use base64_simd::{AsOut, STANDARD};

use super::VectorEncoding;
use super::float::write_float;
use crate::model::{DIMENSIONS, Vector};

/// Appends `text` as a JSON string, with quotes (RFC 8259, section 7).
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[written..at]);
        written = at + 1;
        write_escape(out, byte);
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

fn write_escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Appends an integer.
pub fn write_number(out: &mut Vec<u8>, number: u64) {
    // A number can be written, and a vector takes it.
    let _ = serde_json::to_writer(out, &number);
}

/// Appends a vector in the given encoding.
pub fn write_vector(out: &mut Vec<u8>, vector: &[f32], encoding: VectorEncoding) {
    match encoding {
        VectorEncoding::Array => write_vector_array(out, vector),
        VectorEncoding::Base64 => write_vector_base64(out, vector),
    }
}

/// Appends a vector as a JSON array, each value as by [`write_float`].
fn write_vector_array(out: &mut Vec<u8>, vector: &[f32]) {
    out.push(b'[');
    for (i, &value) in vector.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_float(out, value);
    }
    out.push(b']');
}

/// Appends a vector as a JSON string: standard base64 of its big-endian f32 values, as Elasticsearch 9.3 and later
/// reads them in `dense_vector` fields.
fn write_vector_base64(out: &mut Vec<u8>, vector: &[f32]) {
    let mut bytes = [0; size_of::<Vector>()];
    out.push(b'"');
    // Every part but the last has a multiple of three bytes, so only the last may end in padding.
    for part in vector.chunks(DIMENSIONS) {
        for (to, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(part) {
            *to = value.to_be_bytes();
        }
        let part = bytes.get(..size_of_val(part)).unwrap_or_default();
        let start = out.len();
        out.resize(start + STANDARD.encoded_length(part.len()), b'=');
        let text = out.get_mut(start..).unwrap_or_default();
        // The buffer has exactly the length of the encoded text, so this cannot fail.
        let _ = STANDARD.encode(part, text.as_out());
    }
    out.push(b'"');
}

/// Parses a vector: an array of numbers, or a base64 string of big-endian f32 values. None: it is neither.
pub fn read_vector(text: &str) -> Option<Vec<f32>> {
    if let Some(base64) = text.strip_prefix('"') {
        let bytes = STANDARD.decode_to_vec(base64.strip_suffix('"')?).ok()?;
        let (values, rest) = bytes.as_chunks();
        return rest.is_empty().then(|| values.iter().map(|bytes| f32::from_be_bytes(*bytes)).collect());
    }
    let values = text.strip_prefix('[')?.strip_suffix(']')?;
    // Parses each value directly as the nearest f32. Parsing as f64 first would round twice.
    values.split(',').map(|value| value.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn strings_read_back(text in any::<String>()) {
            let json = written(|out| write_string(out, &text));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
            prop_assert!(!json.contains('\n'));
        }

        #[test]
        fn numbers_read_back(number in any::<u64>()) {
            prop_assert_eq!(written(|out| write_number(out, number)), number.to_string());
        }

        #[test]
        fn base64_is_big_endian(seed in any::<u64>()) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let vector: Vec<f32> = (0..rng.usize(1..1_000)).map(|_| rng.f32()).collect();
            let text = written(|out| write_vector_base64(out, &vector));
            let bytes = base64::prelude::BASE64_STANDARD.decode(text.trim_matches('"')).unwrap();
            let back: Vec<f32> =
                bytes.chunks(4).map(|c| f32::from_be_bytes(c.try_into().unwrap())).collect();
            prop_assert_eq!(back.as_slice(), vector.as_slice());
        }
    }
}
