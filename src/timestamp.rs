//! Parses and formats RFC 3339 times, and parses the times in archive names. Times are in milliseconds since 1970 (UTC).
//!
//! Only the years 0 to 9999 are supported, as in RFC 3339.

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

/// 0000-01-01T00:00:00.000Z, the earliest time, in milliseconds since 1970.
const MIN_MILLIS: i64 = -62_167_219_200_000;

/// 9999-12-31T23:59:59.999Z, the latest time, in milliseconds since 1970.
const MAX_MILLIS: i64 = 253_402_300_799_999;

/// Parses an RFC 3339 time with any offset into milliseconds since 1970. Digits beyond milliseconds are cut off.
///
/// The separator is `T`, `t` or a space. A leap second (`23:59:60` UTC at the end of a month) becomes the last
/// millisecond before it. None if the text is not such a time, or if its year in UTC is outside 0 to 9999.
pub fn parse_rfc3339_millis(text: &str) -> Option<i64> {
    // The parser accepts any separator.
    if !matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let millis = i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).ok()?;
    in_range(millis)
}

/// Like [`parse_rfc3339_millis`], but also accepts a date, which means its midnight in UTC.
pub fn parse_time_or_date_millis(text: &str) -> Option<i64> {
    let is_date = text.len() == "YYYY-MM-DD".len();
    if is_date { parse_rfc3339_millis(&format!("{text}T00:00:00Z")) } else { parse_rfc3339_millis(text) }
}

/// Formats milliseconds since 1970 as `2025-10-30T12:34:56.789Z`.
pub fn rfc3339_millis(millis: i64) -> String {
    let mut text = Vec::new();
    write_rfc3339_millis(&mut text, millis);
    String::from_utf8(text).unwrap_or_default()
}

/// Appends milliseconds since 1970 as `2025-10-30T12:34:56.789Z`.
///
/// A time outside the years 0 to 9999 is written as the nearest one inside.
pub fn write_rfc3339_millis(out: &mut Vec<u8>, millis: i64) {
    let millis = millis.clamp(MIN_MILLIS, MAX_MILLIS);
    let time =
        OffsetDateTime::from_unix_timestamp(millis.div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let (year, month, day) = time.to_calendar_date();
    let [y1, y2, y3, y4, _, m1, m2, _, d1, d2, _, h1, h2, _, n1, n2, _, s1, s2, _, f1, f2, f3, _] = &mut text;
    write_digits([y1, y2, y3, y4], year.unsigned_abs());
    write_digits([m1, m2], u8::from(month).into());
    write_digits([d1, d2], day.into());
    write_digits([h1, h2], time.hour().into());
    write_digits([n1, n2], time.minute().into());
    write_digits([s1, s2], time.second().into());
    write_digits([f1, f2, f3], millis.rem_euclid(1000) as u32);
    out.extend_from_slice(&text);
}

/// Writes the last `N` decimal digits of a number.
fn write_digits<const N: usize>(places: [&mut u8; N], mut number: u32) {
    for place in places.into_iter().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Converts microseconds since 1970 to milliseconds, rounded down; None outside the years 0 to 9999.
pub fn from_micros(us: i64) -> Option<i64> {
    in_range(us.div_euclid(1000))
}

fn in_range(millis: i64) -> Option<i64> {
    (MIN_MILLIS..=MAX_MILLIS).contains(&millis).then_some(millis)
}

/// Parses the `YYYYMMDD_HHMMSS` (UTC) in an archive's file name, in seconds since 1970.
///
/// A group counts if no digit is next to it, if it is a real date and time, and if it is in `range`. The last such group
/// wins.
pub fn last_in_name(name: &str, range: Range<i64>) -> Option<i64> {
    const LENGTH: usize = "YYYYMMDD_HHMMSS".len();
    let name = name.as_bytes();
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    name.windows(LENGTH).enumerate().rev().find_map(|(start, group)| {
        let touched = start.checked_sub(1).is_some_and(|before| is_digit(name.get(before)))
            || is_digit(name.get(start + LENGTH));
        if touched {
            return None;
        }
        let seconds = match group {
            [y1, y2, y3, y4, m1, m2, d1, d2, b'_', h1, h2, n1, n2, s1, s2] => utc_seconds(
                [*y1, *y2, *y3, *y4],
                [[*m1, *m2], [*d1, *d2], [*h1, *h2], [*n1, *n2], [*s1, *s2]],
            )?,
            _ => return None,
        };
        range.contains(&seconds).then_some(seconds)
    })
}

/// Converts the digits of year, month, day, hour, minute and second to seconds since 1970.
fn utc_seconds(year: [u8; 4], rest: [[u8; 2]; 5]) -> Option<i64> {
    let year = i32::try_from(number(&year)?).ok()?;
    let [month, day, hour, minute, second] = rest;
    let two = |digits: [u8; 2]| u8::try_from(number(&digits)?).ok();
    let date = Date::from_calendar_date(year, Month::try_from(two(month)?).ok()?, two(day)?).ok()?;
    let time = Time::from_hms(two(hour)?, two(minute)?, two(second)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp())
}

/// Parses decimal digits.
fn number(digits: &[u8]) -> Option<u32> {
    digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0')))
}

/// Returns the current time in milliseconds since 1970.
pub fn now_millis() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(MAX_MILLIS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::UtcOffset;
    use time::macros::{datetime, format_description};

    use super::*;
    use crate::model::{MAX_ARCHIVE_SECONDS, archive_seconds};

    fn written(millis: i64) -> String {
        let mut out = Vec::new();
        write_rfc3339_millis(&mut out, millis);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_form_of_rfc_3339_is_read() {
        let expected =
            Some((datetime!(2025-10-30 12:34:56.789 UTC).unix_timestamp_nanos() / 1_000_000) as i64);
        for text in [
            "2025-10-30T12:34:56.789Z",
            "2025-10-30t12:34:56.789z",
            "2025-10-30 12:34:56.789Z",
            "2025-10-30T12:34:56.789+00:00",
            "2025-10-30T12:34:56.789-00:00",
            "2025-10-30T21:34:56.789+09:00",
            "2025-10-30T00:04:56.789999-12:30",
            "2025-10-30T12:34:56.78999999999999999999999999999999999999Z",
        ] {
            assert_eq!(parse_rfc3339_millis(text), expected, "{text}");
        }
        assert_eq!(parse_rfc3339_millis("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_rfc3339_millis("1970-01-01T00:00:00.5Z"), Some(500));
        assert_eq!(parse_rfc3339_millis("1969-12-31T23:59:59.9999Z"), Some(-1));
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "",
            "yesterday",
            "2025-10-30",
            "2025-10-30T12:34:56",
            "2025-10-30T12:34Z",
            "2025-10-30_12:34:56Z",
            "2025-10-30T12:34:56.Z",
            "2025-10-30T12:34:56,5Z",
            "2025-10-30T12:34:56Z ",
            " 2025-10-30T12:34:56Z",
            "2025-10-30T12:34:56+0000",
            "2025-13-45T99:00:00Z",
            "2025-02-29T00:00:00Z",
            "2025-10-30T24:00:00Z",
            "2025-10-30T12:34:60Z",
            "12025-10-30T12:34:56Z",
            "2025-10-30é12:34:56Z",
        ] {
            assert_eq!(parse_rfc3339_millis(text), None, "{text}");
        }
    }

    #[test]
    fn a_date_is_its_beginning_in_utc() {
        let midnight = parse_rfc3339_millis("2025-10-30T00:00:00Z");
        assert!(midnight.is_some());
        for text in ["2025-10-30", "2025-10-30T00:00:00Z", "2025-10-30T01:00:00+01:00"] {
            assert_eq!(parse_time_or_date_millis(text), midnight, "{text}");
        }
        for text in [
            "",
            "2025-13-30",
            "20251030",
            "2025-10-3",
            "2025-1-030",
            "10-30-2025",
            "yesterday.",
            "2025-10-30T00:00",
        ] {
            assert_eq!(parse_time_or_date_millis(text), None, "{text}");
        }
        assert_eq!(rfc3339_millis(0), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_leap_second_is_the_millisecond_before_it() {
        let before = parse_rfc3339_millis("2016-12-31T23:59:59.999Z");
        assert!(before.is_some());
        assert_eq!(parse_rfc3339_millis("2016-12-31T23:59:60Z"), before);
        assert_eq!(parse_rfc3339_millis("2017-01-01T08:59:60.5+09:00"), before);
    }

    #[test]
    fn the_years_0_to_9999_in_utc_are_all() {
        assert_eq!(parse_rfc3339_millis("0000-01-01T00:00:00Z"), Some(MIN_MILLIS));
        assert_eq!(parse_rfc3339_millis("0000-01-01T00:00:00+00:01"), None);
        assert_eq!(parse_rfc3339_millis("9999-12-31T23:59:59.999Z"), Some(MAX_MILLIS));
        assert_eq!(parse_rfc3339_millis("9999-12-31T23:59:59.999-00:01"), None);
        assert_eq!(from_micros(MAX_MILLIS * 1000 + 999), Some(MAX_MILLIS));
        assert_eq!(from_micros(MAX_MILLIS * 1000 + 1000), None);
        assert_eq!(from_micros(MIN_MILLIS * 1000), Some(MIN_MILLIS));
        assert_eq!(from_micros(MIN_MILLIS * 1000 - 1), None);
        assert_eq!(from_micros(-1), Some(-1));
        assert_eq!(from_micros(i64::MIN), None);
    }

    #[test]
    fn times_are_written_with_milliseconds() {
        assert_eq!(written(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(written(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(written(1_761_827_696_789), "2025-10-30T12:34:56.789Z");
        assert_eq!(written(i64::MIN), "0000-01-01T00:00:00.000Z");
        assert_eq!(written(i64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn the_time_of_an_archive_comes_from_its_name() {
        let expected = Some(datetime!(2025-12-18 01:02:03 UTC).unix_timestamp());
        for name in [
            "mega_jetstream_20251218_010203.db.zip",
            "20251218_010203",
            "20240101_000000_to_20251218_010203.db.zip",
            "v2_20251218_010203_20259999_000000.db.zip",
            "20251218_20251218_010203.db.zip",
        ] {
            assert_eq!(archive_seconds(name), expected, "{name}");
        }
    }

    #[test]
    fn a_name_without_a_real_time_has_none() {
        for name in [
            "",
            "posts.db.zip",
            "mega_20251318_010203.db.zip",
            "mega_20250229_010203.db.zip",
            "mega_20251218_240000.db.zip",
            "mega_20251218_235960.db.zip",
            "mega_20251218-010203.db.zip",
            "mega_120251218_010203.db.zip",
            "mega_20251218_0102031.db.zip",
            "mega_19691231_235959.db.zip",
            "mega_25150101_000000.db.zip",
            "mega_+0251218_010203.db.zip",
        ] {
            assert_eq!(archive_seconds(name), None, "{name}");
        }
    }

    #[test]
    fn now_is_after_this_was_written() {
        assert!(parse_rfc3339_millis("2025-01-01T00:00:00Z").is_some_and(|then| then < now_millis()));
    }

    proptest! {
        #[test]
        fn written_times_are_read_back(millis in MIN_MILLIS..=MAX_MILLIS) {
            prop_assert_eq!(parse_rfc3339_millis(&written(millis)), Some(millis));
        }

        #[test]
        fn times_are_written_as_the_time_crate_writes_them(millis in MIN_MILLIS..=MAX_MILLIS) {
            let format = format_description!(
                "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
            );
            let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).unwrap();
            prop_assert_eq!(written(millis), time.format(&format).unwrap());
        }

        #[test]
        fn an_offset_changes_nothing(millis in MIN_MILLIS / 2..=MAX_MILLIS / 2, minutes in -1439..=1439) {
            let offset = UtcOffset::from_whole_seconds(minutes * 60).unwrap();
            let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).unwrap();
            let text = time.to_offset(offset).format(&Rfc3339).unwrap();
            prop_assert_eq!(parse_rfc3339_millis(&text), Some(millis));
        }

        #[test]
        fn times_written_in_archive_names_are_read_back(seconds in 0..MAX_ARCHIVE_SECONDS) {
            let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
            let name = time.format(format_description!("mega_[year][month][day]_[hour][minute][second].db.zip"));
            prop_assert_eq!(archive_seconds(&name.unwrap()), Some(seconds));
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = (parse_rfc3339_millis(&text), archive_seconds(&text));
        }
    }
}
