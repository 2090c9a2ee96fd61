//! Encoded embeddings, and the values they decode to.

use megastream_ingest::model::DIMENSIONS;
use megastream_ingest::pipeline::decode::base85;
use megastream_ingest::pipeline::decode::vector::VectorDecoder;

use super::harness::fuzz;
use super::mutation::{Format, no_fields, words};
use super::vectors::{base85 as encode, encode as embedding, vector, zlib};

#[test]
fn embeddings() {
    let bytes: Vec<u8> = vector(3).iter().flat_map(|value| value.to_le_bytes()).collect();
    let format = Format {
        bases: vec![
            embedding(&vector(1)).into_bytes(),
            embedding(&[0.5; DIMENSIONS]).into_bytes(),
            embedding(&[f32::NAN; DIMENSIONS]).into_bytes(),
            embedding(&vector(2)[..383]).into_bytes(),
            embedding(&vec![0.0; 1 << 18]).into_bytes(),
            encode(&bytes).into_bytes(),
            encode(b"\x78\x9c\x03\0\0\0\0\x01").into_bytes(),
            b"~~~~~".to_vec(),
            bytes.clone(),
            bytes,
        ],
        words: words(&["~~~~~", "|NsC0", "00000", "\"", "\\", " ", "\u{fffd}", "{}"]),
        fields: no_fields,
    };
    let decoder = std::cell::RefCell::new(VectorDecoder::new());
    fuzz("base85", &format, |bytes| {
        let mut decoded = Vec::new();
        match base85::decode(bytes, &mut decoded) {
            Ok(()) => assert_eq!(Some(&decoded), reference(bytes).as_ref()),
            Err(_) => assert_eq!(reference(bytes), None),
        }
        let taken = check_values(bytes, &mut decoder.borrow_mut());
        let Ok(text) = std::str::from_utf8(bytes) else { return taken };
        let mut values = [0.0; DIMENSIONS];
        let decoded = decoder.borrow_mut().decode(text, &mut values).is_ok();
        assert!(!decoded || values.iter().all(|value| value.is_finite()));
        decoded || taken
    });
}

/// Asserts that the encoded bytes decode to their values, bit for bit, if they are 384 finite ones.
fn check_values(bytes: &[u8], decoder: &mut VectorDecoder) -> bool {
    let (values, rest) = bytes.as_chunks();
    let given: Vec<f32> = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
    let mut decoded = [0.0; DIMENSIONS];
    let result = decoder.decode(&encode(&zlib(bytes)), &mut decoded);
    let expected =
        rest.is_empty() && given.len() == DIMENSIONS && given.iter().all(|value| value.is_finite());
    // Vectors of length zero are refused. At the limits of f32, the length depends on the order of the sum.
    let squared: f64 = given.iter().map(|value| f64::from(*value).powi(2)).sum();
    let is_plain = expected && squared > 1e-30 && squared < 1e30;
    assert!(result.is_ok() || !is_plain, "{result:?}");
    assert!(result.is_err() || expected, "{result:?}");
    if result.is_ok() {
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&decoded), bits(&given));
    }
    expected
}

/// The plainest base85 decoder.
fn reference(text: &[u8]) -> Option<Vec<u8>> {
    const DIGITS: &[u8; 85] =
        b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";
    let mut out = Vec::new();
    for group in text.chunks(5) {
        let mut number = 0_u64;
        for n in 0..5 {
            let digit = match group.get(n) {
                Some(character) => DIGITS.iter().position(|digit| digit == character)?,
                None => 84,
            };
            number = number * 85 + digit as u64;
        }
        let bytes = u32::try_from(number).ok()?.to_be_bytes();
        if group.len() == 1 {
            return None;
        }
        out.extend_from_slice(&bytes[..group.len() - 1]);
    }
    Some(out)
}
