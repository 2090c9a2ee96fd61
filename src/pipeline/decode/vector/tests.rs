//! Tests of decoding a vector.

use libdeflater::{CompressionLvl, Compressor};
use proptest::prelude::*;

use super::*;
use crate::pipeline::decode::base85::tests::encode;

/// Returns the text of an embedding with any number of values.
pub(in super::super) fn embedding(values: &[f32]) -> String {
    encode(&deflate(&bytes(values), 6))
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn deflate(bytes: &[u8], level: i32) -> Vec<u8> {
    let mut compressor = Compressor::new(CompressionLvl::new(level).unwrap());
    let mut deflated = vec![0; compressor.zlib_compress_bound(bytes.len())];
    let length = compressor.zlib_compress(bytes, &mut deflated).unwrap();
    deflated.truncate(length);
    deflated
}

fn decoded(text: &str) -> Result<Vector, VectorError> {
    let mut vector = [f32::NAN; DIMENSIONS];
    VectorDecoder::new().decode(text, &mut vector).map(|()| vector)
}

#[test]
fn every_finite_value_is_kept_bit_for_bit() {
    let odd = [0.0, -0.0, 1.0, -1.0, f32::MIN_POSITIVE, 1e-45, -1e-45, 1e18, -1e18, 0.012_344_36];
    let vector: Vector = std::array::from_fn(|n| odd[n % odd.len()]);
    let decoded = decoded(&embedding(&vector)).unwrap();
    assert_eq!(decoded.map(f32::to_bits), vector.map(f32::to_bits));
}

#[test]
fn what_python_encodes_is_decoded() {
    // base64.b85encode(zlib.compress(struct.pack("<384f", *[n / 512 - 0.25 for n in range(384)]), 9))
    let text = concat!(
        "c-j@xZ)ns77zgklA!EoGLqvv%9An53ks)IYUE>&I3>jmH$Pkf3M8+60L}ZA_S<99!J#*!<RadQAwd$%>%guS()Ri+&n>K6Z)",
        "RoItO<Or@{rT*H&x_~b`{MiJ34&;U5bR|SyJ=(>JJ~@4+o`9HTDGy3EkxMNCN@&T2G+BVYO1JYEfthgMk!%RC}uT96jHz{@>",
        "$6WmXpUaa>*gYQkJloY!<PQ1!R#)2J=ZLjd?so!0d@2m|>bJCYfNIF-93-m=r?{GC-0(dgvxW7oBtvr=2!hiP1tcO+;y=fm$",
        "NeP)!A4ipVFA5ZPprPB7QGPft=LNf0MSln7x$1ap~QcY--{v&K%6pjeJD5u(J1lORcoF{TI})`Kjv36V!WMTDuKni?Y1(m*3",
        "onrNnl7_GF?PMi)p=^{ZlJ@k=efI)^xG0X^~j4{pxlT0zq46_6!{(yO;k<NTF$RvveEMyVcEM^Hy36VoC%gAFnD_BWBt0<t5",
        "B34sO31LbpqnrxXQb`rntYbYJs9__U*i3{iY-Jm@)KSlN8rZ>3cG1Xg_OO>I`*?&$Y2q>V^Ek~s!2zD6g{L^kAz~cnX^zm!G",
        "d#;t+IWs*JWo3>@FFh}=Ve~uRXTW$*Lj0Z-sCObri*uYm-k5UJ|FNQ-F(Eyd_oVOa-3fJI6*%rNpgzQe8vE0ILkQ(`J68}&k",
        "z^*l8dCc#AUu>m@8c6Yeu-nH+;(|-|;=y8RG^wxy3j?@FTaG;3w|zGn4$nul&Xoce%&!O!EhSa-SI<@E3nG%Rl_fe<l9|bN*",
        "s*",
    );
    let expected: Vector = std::array::from_fn(|n| n as f32 / 512.0 - 0.25);
    assert_eq!(decoded(text), Ok(expected));
}

#[test]
fn a_vector_of_other_than_384_values_is_an_error() {
    for values in [0, 1, 383, 385, 768] {
        assert_eq!(decoded(&embedding(&vec![0.5; values])), Err(VectorError::Dimensions), "{values}");
    }
    let ragged = encode(&deflate(&[0; VECTOR_BYTES - 1], 6));
    assert_eq!(decoded(&ragged), Err(VectorError::Dimensions));
}

#[test]
fn nan_and_infinity_are_errors_at_every_place() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for place in [0, 1, 200, DIMENSIONS - 1] {
            let mut vector = [0.5; DIMENSIONS];
            vector[place] = bad;
            assert_eq!(decoded(&embedding(&vector)), Err(VectorError::NotFinite), "{bad} at {place}");
        }
    }
}

#[test]
fn a_vector_without_a_magnitude_is_an_error() {
    let one_of = |value: f32| -> Vector { std::array::from_fn(|n| if n == 383 { value } else { 0.0 }) };
    for vector in [
        [0.0; DIMENSIONS],
        [-0.0; DIMENSIONS],
        // The squares do not fit into an f32; the values do.
        [1e-30; DIMENSIONS],
        [1e19; DIMENSIONS],
        one_of(1e-23),
        one_of(f32::MAX),
    ] {
        assert_eq!(decoded(&embedding(&vector)), Err(VectorError::Length), "{}", vector[383]);
    }
    for vector in [one_of(1e-19), one_of(-1e19), one_of(f32::from_bits(0x1a80_0000))] {
        assert_eq!(decoded(&embedding(&vector)), Ok(vector), "{}", vector[383]);
    }
}

#[test]
fn inflation_ends_at_the_size_of_a_vector() {
    let bomb = encode(&deflate(&vec![0; 2 << 20], 6));
    assert!(bomb.len() <= MAX_TEXT_BYTES);
    assert_eq!(decoded(&bomb), Err(VectorError::Dimensions));
}

#[test]
fn a_long_text_is_not_decoded_at_all() {
    assert_eq!(decoded(&"0".repeat(MAX_TEXT_BYTES + 1)), Err(VectorError::TooLong));
}

#[test]
fn a_vector_that_is_stored_uncompressed_fits() {
    let vector: Vector = std::array::from_fn(|n| 1.0 / (n as f32 + 1.0));
    let text = encode(&deflate(&bytes(&vector), 0));
    assert!(text.len() > VECTOR_BYTES * 5 / 4);
    assert_eq!(decoded(&text), Ok(vector));
}

#[test]
fn other_texts_are_refused_by_kind() {
    assert_eq!(decoded("not base85 é"), Err(VectorError::Base85(Base85Error::Character)));
    assert_eq!(decoded(""), Err(VectorError::Zlib));
    assert_eq!(decoded("0000000000"), Err(VectorError::Zlib));
    let mut truncated = embedding(&[0.5; DIMENSIONS]);
    truncated.truncate(truncated.len() - 5);
    assert_eq!(decoded(&truncated), Err(VectorError::Zlib));
}

#[test]
fn a_failure_leaves_no_trace_in_the_next_vector() {
    let mut decoder = VectorDecoder::new();
    let mut vector = [0.0; DIMENSIONS];
    assert!(decoder.decode(&embedding(&[f32::NAN; DIMENSIONS]), &mut vector).is_err());
    assert_eq!(decoder.decode(&embedding(&[0.5; DIMENSIONS]), &mut vector), Ok(()));
    assert_eq!(vector, [0.5; DIMENSIONS]);
}

proptest! {
    #[test]
    fn vectors_are_decoded_as_they_were_encoded(
        bits in prop_oneof![
            prop::collection::vec(any::<u32>(), DIMENSIONS),
            prop::collection::vec((-1e15_f32..1e15).prop_map(f32::to_bits), DIMENSIONS),
        ],
    ) {
        let vector: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        // The exact sum: near the limits of an f32 the order of additions decides.
        let squared: f64 = vector.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
        let expected = if vector.iter().any(|value| !value.is_finite()) {
            Err(VectorError::NotFinite)
        } else if squared > f64::from(f32::MAX) {
            Err(VectorError::Length)
        } else {
            Ok(vector.iter().map(|value| value.to_bits()).collect())
        };
        let decoded = decoded(&embedding(&vector));
        prop_assert_eq!(decoded.map(|vector| vector.map(f32::to_bits).to_vec()), expected);
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        let _ = (decoded(&text), decoded(&encode(&bytes)));
    }
}
