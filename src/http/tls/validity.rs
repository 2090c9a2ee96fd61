//! Reads the validity period of a certificate. The TLS library checks it only while it follows a chain to an issuer. A
//! server certificate that is itself trusted has no such chain.
//!
//! Source: RFC 5280, section 4.1, and X.690, sections 8.1 and 11.7.

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{PrimitiveDateTime, UtcDateTime};

const SEQUENCE: u8 = 0x30;
const EXPLICIT_VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `GeneralizedTime` as used in certificates; `UTCTime` is the same without the century.
const TIME: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day][hour][minute][second]Z");

/// Returns the first and the last second of a DER certificate's validity, in seconds since 1970. None: it is malformed.
pub(super) fn validity(certificate: &[u8]) -> Option<(i64, i64)> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    if let Some((_, after)) = element(rest, EXPLICIT_VERSION) {
        rest = after;
    }
    // Skip serial number, signature algorithm and issuer.
    for _ in 0..3 {
        rest = any_element(rest)?.2;
    }
    let (dates, _) = element(rest, SEQUENCE)?;
    let (first, rest) = time_of(dates)?;
    let (last, _) = time_of(rest)?;
    Some((first, last))
}

fn time_of(input: &[u8]) -> Option<(i64, &[u8])> {
    let (tag, content, rest) = any_element(input)?;
    let text = std::str::from_utf8(content).ok()?;
    let text = match tag {
        UTC_TIME => format!("{}{text}", if text.get(..2)? < "50" { "20" } else { "19" }),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time: UtcDateTime = PrimitiveDateTime::parse(&text, TIME).ok()?.as_utc();
    Some((time.unix_timestamp(), rest))
}

/// Returns the content of the first element, and the rest. None: the element has another tag.
fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    any_element(input).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// Returns tag and content of the first element, and the rest.
fn any_element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = input.split_first_chunk()?;
    let (length, rest) = match length {
        short @ 0..=0x7f => (usize::from(short), rest),
        long => {
            let (bytes, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            if bytes.len() > 4 {
                return None;
            }
            (bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn both_forms_of_time_are_read() {
        for (first, last) in [(1990, 2049), (2020, 2050), (2060, 2999)] {
            let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            (params.not_before, params.not_after) = (date_time_ymd(first, 2, 3), date_time_ymd(last, 4, 5));
            let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let seconds = (params.not_before.unix_timestamp(), params.not_after.unix_timestamp());
            assert_eq!(validity(made.der()), Some(seconds), "{first} {last}");
        }
    }

    #[test]
    fn a_truncated_or_foreign_file_has_no_validity() {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let der = made.cert.der();
        for length in 0..der.len() {
            assert_eq!(validity(&der[..length]), None, "{length}");
        }
        assert_eq!(validity(&[SEQUENCE, 0xff, 1, 2, 3]), None);
    }
}
