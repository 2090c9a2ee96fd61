//! Parses and formats RFC 3339 times, and parses the times in archive names. Times are in milliseconds since 1970 (UTC).
//!
//! Only the years 0 to 9999 are supported, as in RFC 3339.

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// The form of the time in an archive's file name.
const TIME_IN_NAME: &[BorrowedFormatItem<'_>] =
    format_description!("[year][month][day]_[hour][minute][second]");

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
        // Most groups are not times, and this check is faster than the parser.
        if touched || group.get(8) != Some(&b'_') {
            return None;
        }
        let time = PrimitiveDateTime::parse(str::from_utf8(group).ok()?, TIME_IN_NAME).ok()?;
        Some(time.assume_utc().unix_timestamp()).filter(|seconds| range.contains(seconds))
    })
}

/// Returns the current time in milliseconds since 1970.
pub fn now_millis() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(MAX_MILLIS)
}

#[cfg(test)]
mod tests;
