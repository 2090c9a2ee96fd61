//! Base85 with the alphabet of RFC 1924, as Python's `base64.b85encode` writes it.
//!
//! Five characters encode four bytes, big-endian. A last group of n characters encodes n - 1 bytes. RFC 1924 itself
//! encodes a single number of 128 bits; only its alphabet is used here.

/// The digits, in the order of their values. Source: RFC 1924, section 4.2.
const ALPHABET: [u8; 85] =
    *b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

/// The mark of a character that is not a digit. Its high bit distinguishes it from every digit.
const NO_DIGIT: u8 = 0xFF;

/// The value of each character.
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        values[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// Why a text is not base85.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base85Error {
    /// A character outside of the alphabet.
    Character,
    /// A group whose value does not fit into four bytes.
    Overflow,
    /// A last group of one character, which encodes no byte.
    Length,
}

/// Decodes a text into `out`, replacing its content.
///
/// # Errors
///
/// Fails if the text is not base85. The content of `out` is then undefined.
pub fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), Base85Error> {
    let (groups, last) = text.as_chunks::<5>();
    out.clear();
    out.reserve(4 * groups.len() + 4);
    for group in groups {
        out.extend_from_slice(&decode_group(group)?);
    }
    let last_bytes = match last.len() {
        0 => return Ok(()),
        1 => return Err(Base85Error::Length),
        characters => characters - 1,
    };
    // A short group is padded with the highest digit. The bytes that this adds are cut off.
    let mut group = [b'~'; 5];
    for (place, character) in group.iter_mut().zip(last) {
        *place = *character;
    }
    out.extend(decode_group(&group)?.into_iter().take(last_bytes));
    Ok(())
}

/// Decodes a group of five characters to four bytes.
fn decode_group(group: &[u8; 5]) -> Result<[u8; 4], Base85Error> {
    let digits = group.map(|character| VALUES[usize::from(character)]);
    if digits.iter().fold(0, |any, digit| any | digit) > 0x7F {
        return Err(Base85Error::Character);
    }
    let number = digits.iter().fold(0, |number, &digit| number * 85 + u64::from(digit));
    u32::try_from(number).map(u32::to_be_bytes).map_err(|_| Base85Error::Overflow)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(text: &str) -> Result<Vec<u8>, Base85Error> {
        let mut out = b"what was there before".to_vec();
        decode(text.as_bytes(), &mut out)?;
        Ok(out)
    }

    /// Encodes like Python's `base64.b85encode`.
    pub(in super::super) fn encode(bytes: &[u8]) -> String {
        let mut text = String::new();
        for chunk in bytes.chunks(4) {
            let mut filled = [0; 4];
            filled[..chunk.len()].copy_from_slice(chunk);
            let number = u32::from_be_bytes(filled);
            let digits = [4, 3, 2, 1, 0].map(|power| number / 85_u32.pow(power) % 85);
            text.extend(
                digits.iter().take(chunk.len() + 1).map(|&digit| char::from(ALPHABET[digit as usize])),
            );
        }
        text
    }

    #[test]
    fn what_python_encodes_is_decoded() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("00", &b"\x00"[..]),
            ("{{", &b"\xff"[..]),
            ("VE", &b"a"[..]),
            ("VPX", &b"ab"[..]),
            ("VPaz", &b"abc"[..]),
            ("VPa!s", &b"abcd"[..]),
            ("VPa!sWd", &b"abcde"[..]),
            ("00000", &b"\x00\x00\x00\x00"[..]),
            ("|NsC0", &b"\xff\xff\xff\xff"[..]),
            ("|Nj", &b"\xff\xff"[..]),
            ("c$@<O00001", &b"x\x9c\x03\x00\x00\x00\x00\x01"[..]),
            ("`1$(#{Qds_", &b"\xf8\xf9\xfa\xfb\xfc\xfd\xfe\xff"[..]),
            ("{XgqGl2EsoN}E!PX=7s{UH", &b"\xfd?\xeb<\x92P\xb7\x97J\x9bR\x8bicc!^"[..]),
            ("^;>)D{eYU9o|0R6rZg|0{kXD}*?-0mJ(38UUIP", &b"\xf5[{\xea\xfd\x80\x9a\x9a\x9e\x92[y\xa64/\xa0\xfd\xb8\xb2\x94\xd9\x7f\xc6\x10=\x92\x08\x9b^\x03"[..]),
        ] {
            assert_eq!(decoded(text).as_deref(), Ok(bytes), "{text}");
            assert_eq!(encode(bytes), text);
        }
    }

    #[test]
    fn a_short_last_group_may_differ_from_pythons_encoding() {
        // b85decode("0~") == b"\x03" and b85decode("01") == b"\x00".
        assert_eq!(decoded("0~").as_deref(), Ok(&b"\x03"[..]));
        assert_eq!(decoded("01").as_deref(), Ok(&b"\x00"[..]));
    }

    #[test]
    fn a_character_outside_of_the_alphabet_is_an_error() {
        for text in ["not base85", "0000\"", "000\u{e9}", "00000\n0", "/0000", "\0\0\0\0\0", "00000,0"] {
            assert_eq!(decoded(text), Err(Base85Error::Character), "{text}");
        }
    }

    #[test]
    fn a_group_that_overflows_is_an_error() {
        assert_eq!(decoded("|NsC0").as_deref(), Ok(&[0xFF; 4][..]));
        assert_eq!(decoded("|NsC1"), Err(Base85Error::Overflow));
        assert_eq!(decoded("~~~~~"), Err(Base85Error::Overflow));
        assert_eq!(decoded("00000~~"), Err(Base85Error::Overflow));
    }

    #[test]
    fn a_lone_last_character_is_an_error() {
        assert_eq!(decoded("0"), Err(Base85Error::Length));
        assert_eq!(decoded("000000"), Err(Base85Error::Length));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(bytes in any::<Vec<u8>>()) {
            prop_assert_eq!(decoded(&encode(&bytes)), Ok(bytes));
        }

        #[test]
        fn arbitrary_bytes_never_panic(text in any::<Vec<u8>>()) {
            let _ = decode(&text, &mut Vec::new());
        }
    }
}
