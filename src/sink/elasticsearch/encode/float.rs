//! Writes the decimal text of an f32.
//!
//! All embeddings seen so far hold f16 values widened to f32. There are 65,536 of those, so their texts are computed
//! once: copying one costs a third of printing it. Any other value is printed.

use std::sync::LazyLock;

/// Room for the longest shortest decimal of an f32, such as `-1.1754944e-38`, and a byte for its length.
const ENTRY: usize = 16;

/// Texts of the normal f16 values, by [`index_of`]. The last byte of each is its length.
static TEXTS: LazyLock<Box<[[u8; ENTRY]]>> = LazyLock::new(|| (0..1 << 16).map(entry).collect());

/// Difference between the exponent biases of f32 and f16.
const EXPONENT_BIAS: u32 = 127 - 15;

/// Appends the shortest decimal that reads back as the same f32. It always has a decimal point: an integer could make a
/// dynamic mapping `long`. The value must be finite.
pub fn write_float(out: &mut Vec<u8>, value: f32) {
    let Some(text) = index_of(value).and_then(|index| TEXTS.get(index)) else {
        return print(out, value);
    };
    let length = usize::from(text[ENTRY - 1]);
    // Copying sixteen bytes at once is faster than copying a counted few.
    let end = out.len() + length;
    out.extend_from_slice(text);
    out.truncate(end);
}

/// Returns the index of a value in the table; None: the value is not an f16, or it is subnormal.
fn index_of(value: f32) -> Option<usize> {
    let bits = value.to_bits();
    let exponent = (bits >> 23) & 0xff;
    let is_zero = bits << 1 == 0;
    let is_normal = bits & 0x1fff == 0 && (EXPONENT_BIAS + 1..EXPONENT_BIAS + 31).contains(&exponent);
    let magnitude = if is_normal { (exponent - EXPONENT_BIAS) << 10 | (bits >> 13) & 0x3ff } else { 0 };
    (is_zero || is_normal).then_some((bits >> 31 << 15 | magnitude) as usize)
}

/// Computes the entry at `index`. Subnormal values, infinities and NaN have entries that are never looked up.
fn entry(index: u32) -> [u8; ENTRY] {
    let (sign, exponent, fraction) = (index >> 15, index >> 10 & 0x1f, index & 0x3ff);
    let magnitude = if exponent == 0 { 0 } else { (exponent + EXPONENT_BIAS) << 23 | fraction << 13 };
    let mut text = Vec::with_capacity(ENTRY);
    print(&mut text, f32::from_bits(sign << 31 | magnitude));
    let mut entry = [0; ENTRY];
    entry[ENTRY - 1] = text.len() as u8;
    if let Some(room) = entry.get_mut(..text.len()) {
        room.copy_from_slice(&text);
    }
    entry
}

fn print(out: &mut Vec<u8>, value: f32) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    match text.split_once('e') {
        Some((digits, exponent)) if !digits.contains('.') => {
            out.extend_from_slice(digits.as_bytes());
            out.extend_from_slice(b".0e");
            out.extend_from_slice(exponent.as_bytes());
        }
        _ => out.extend_from_slice(text.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b"before ".to_vec();
        write(&mut out);
        String::from_utf8(out.split_off(7)).unwrap()
    }

    #[test]
    fn every_number_has_a_decimal_point() {
        for value in [0.0, -0.0, 1.0, -1.0, 1e-7, 1e20, f32::MAX, f32::MIN_POSITIVE, 65504.0] {
            let text = written(|out| write_float(out, value));
            assert!(text.contains('.'), "{text}");
            assert_eq!(text.parse::<f32>().unwrap().to_bits(), value.to_bits(), "{text}");
        }
    }

    /// Returns the value of an f16 by its definition (IEEE 754, binary16).
    fn f16(bits: u16) -> f32 {
        let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
        let magnitude = match exponent {
            0 => fraction * 2_f32.powi(-24),
            _ => (1.0 + fraction / 1024.0) * 2_f32.powi(exponent - 15),
        };
        if bits >> 15 == 1 { -magnitude } else { magnitude }
    }

    #[test]
    fn the_table_and_the_printer_agree_on_every_f16() {
        for bits in (0..=u16::MAX).filter(|bits| bits >> 10 & 0x1f != 0x1f) {
            let value = f16(bits);
            let text = written(|out| write_float(out, value));
            assert_eq!(text, written(|out| print(out, value)), "{value}");
            let is_subnormal = bits & 0x7c00 == 0 && bits & 0x3ff != 0;
            assert_eq!(index_of(value).is_none(), is_subnormal, "{value}");
            assert!(is_subnormal || text.len() < ENTRY, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_bit_of_a_float_reads_back(bits in any::<u32>()) {
            let value = f32::from_bits(bits);
            prop_assume!(value.is_finite());
            let text = written(|out| write_float(out, value));
            prop_assert!(text.contains('.'));
            prop_assert_eq!(serde_json::from_str::<f32>(&text).unwrap().to_bits(), bits);
        }
    }
}
