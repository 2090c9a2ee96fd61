//! SHA-256 fingerprint of a certificate, as Elasticsearch prints it at its first start.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};

/// SHA-256 of a certificate in DER form.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Parses 64 hexadecimal digits, with or without colons, as `openssl x509 -fingerprint` prints them.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text
            .trim()
            .chars()
            .filter(|&c| c != ':')
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()?;
        let bytes: Vec<u8> =
            digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
        (digits.len() == 64).then(|| bytes.try_into().ok().map(Self)).flatten()
    }

    /// Computes the fingerprint of a certificate.
    pub(crate) fn of(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, der).as_ref());
        Self(bytes)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_with_and_without_colons() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let pairs: Vec<String> =
            hex.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).to_uppercase()).collect();
        for text in [hex.to_owned(), format!(" {hex}\n"), pairs.join(":")] {
            assert_eq!(Fingerprint::parse(&text), Some(Fingerprint::of(b"")), "{text}");
        }
        assert_eq!(format!("{:?}", Fingerprint::of(b"")), hex);
        for text in ["", "e3b0", &hex[1..], &format!("{hex}00"), &hex.replace('e', "x")] {
            assert_eq!(Fingerprint::parse(text), None, "{text}");
        }
    }
}
