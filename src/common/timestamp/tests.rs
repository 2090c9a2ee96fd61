//! Tests of reading and writing times.

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
    let expected = Some((datetime!(2025-10-30 12:34:56.789 UTC).unix_timestamp_nanos() / 1_000_000) as i64);
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
