//! Skips pages outside the requested time range, if names allow it.
//!
//! The archives of a year fill about a hundred pages, of which a day needs one. Keys are listed in byte order, so keys of
//! the form `LEADyyyymmdd_hhmmss.db.zip` are in the order of their times. A listing can then leap over the keys that are
//! too old and over those that are too new. Keys with another character than a digit behind the lead come after all
//! times, and are listed.
//!
//! That requires three things:
//!
//! - All archives on the first page have this form, with the same lead.
//! - One further request lists all keys below the prefix that do not have this lead: with the lead as the delimiter, S3
//!   lists only these and groups the others.
//! - Another one, with `_` as the delimiter, shows what follows the lead. If it begins with a digit, it is a day.
//!
//! Otherwise all pages are listed.

use super::page::{Key, Page};
use crate::common::timestamp::rfc3339_millis;
use crate::model::{ARCHIVE_SUFFIX, Span, archive_seconds};

/// Length of the time in a key, in bytes.
const TIME_BYTES: usize = "yyyymmdd_hhmmss".len();

/// The delimiter between day and time.
pub(super) const AFTER_DAY: &str = "_";

/// The text before the time, common to the keys of all archives.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lead {
    pub(super) text: String,
    /// Whether only times follow the lead.
    only_times: bool,
}

/// Where a listing goes on after a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Leap {
    /// With the next page.
    NextPage,
    /// With the first key after this one.
    After(String),
    /// Nowhere: all other keys are known, or outside the time range.
    End,
}

impl Lead {
    /// Returns the common lead of all archives on `page`, the first page below this prefix.
    pub(super) fn of(page: &Page, prefix: &str) -> Option<Self> {
        if !is_in_order(page) {
            return None;
        }
        let mut archives = page.keys.iter().filter(|key| key.key.ends_with(ARCHIVE_SUFFIX));
        let lead = lead_of(archives.next()?)?;
        let is_only_one = lead.starts_with(prefix) && archives.all(|key| lead_of(key) == Some(lead));
        is_only_one.then(|| Self { text: lead.to_owned(), only_times: false })
    }

    /// Returns the delimiter that makes S3 list the keys without this lead. None if all keys below the prefix have it.
    pub(super) fn delimiter(&self, prefix: &str) -> Option<&str> {
        self.text.strip_prefix(prefix).filter(|delimiter| !delimiter.is_empty())
    }

    /// Whether a page requested with the delimiter lists all keys without this lead, and only these.
    pub(super) fn is_confirmed_by(&self, page: &Page) -> bool {
        is_whole(page)
            && page.groups == [self.text.as_str()]
            && !page.keys.iter().any(|key| key.key.starts_with(&self.text))
    }

    /// Takes a page of what follows the lead, grouped by [`AFTER_DAY`]. None if a number other than a day follows it: its
    /// keys may be of any time. None, too, if a day is before all archives of the `first` page: the server lists its
    /// pages in another order.
    pub(super) fn with_days(mut self, page: &Page, first: &Page) -> Option<Self> {
        let behind = |key| str::strip_prefix(key, self.text.as_str());
        let groups: Vec<&str> = page.groups.iter().map(|group| behind(group)).collect::<Option<_>>()?;
        let are_numbers_days = groups.iter().all(|group| !starts_with_digit(group) || is_day(group));
        // A server that does not group lists every archive.
        let is_grouped = !groups.is_empty() && page.keys.iter().all(|key| !key.key.ends_with(ARCHIVE_SUFFIX));
        let first = behind(&first.keys.iter().find(|key| key.key.ends_with(ARCHIVE_SUFFIX))?.key)?;
        let is_earlier = |day: &str| starts_with_digit(day) && day < first && !first.starts_with(day);
        let is_first = !groups.iter().any(|group| is_earlier(group));
        self.only_times = groups.iter().all(|group| starts_with_digit(group));
        (is_whole(page) && are_numbers_days && is_grouped && is_first).then_some(self)
    }

    /// Returns where the listing goes on after this page.
    pub(super) fn leap(&self, span: Span, page: &Page) -> Leap {
        let Some(Key { key: last, .. }) = page.keys.last().filter(|_| is_in_order(page)) else {
            return Leap::NextPage;
        };
        let [from, to] = [span.from, span.to].map(|time| time.map(|time| self.key_at(time)));
        // In byte order, `:` follows the digits.
        let after_times = format!("{}:", self.text);
        match (from, to) {
            (Some(from), _) if *last < from => Leap::After(from),
            (_, Some(to)) if *last < to => Leap::NextPage,
            (_, Some(_)) if *last < after_times && !self.only_times => Leap::After(after_times),
            // The keys without the lead are known.
            (_, Some(_)) if self.only_times || !last.starts_with(&self.text) => Leap::End,
            _ => Leap::NextPage,
        }
    }

    /// Returns the lowest key of this time or later. Times in keys are whole seconds, so the time is rounded up.
    fn key_at(&self, millis: i64) -> String {
        let seconds = millis.div_euclid(1000) + i64::from(millis.rem_euclid(1000) > 0);
        let text = rfc3339_millis(seconds.saturating_mul(1000));
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        let (date, time) = digits.split_at_checked(8).unwrap_or_default();
        format!("{}{date}{AFTER_DAY}{}", self.text, time.get(..6).unwrap_or_default())
    }
}

/// Returns the text before the time in an archive's key, if the key has this form.
fn lead_of(key: &Key) -> Option<&str> {
    let stem = key.key.strip_suffix(ARCHIVE_SUFFIX)?;
    let (lead, time) = stem.split_at_checked(stem.len().checked_sub(TIME_BYTES)?)?;
    let is_of_this_form =
        archive_seconds(time).is_some() && !lead.ends_with(|last: char| last.is_ascii_digit());
    is_of_this_form.then_some(lead)
}

/// Whether a page has all that was requested.
fn is_whole(page: &Page) -> bool {
    page.next.is_none() && page.unreadable == 0 && page.broken.is_none()
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}

/// Whether a group has the form `yyyymmdd_`.
fn is_day(group: &str) -> bool {
    archive_seconds(&format!("{group}000000")).is_some() && group.len() == "yyyymmdd_".len()
}

fn is_in_order(page: &Page) -> bool {
    page.unreadable == 0 && page.keys.is_sorted_by(|a, b| a.key < b.key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::timestamp::parse_time_or_date_millis;

    fn page(keys: &[&str]) -> Page {
        let keys = keys.iter().map(|key| Key { key: (*key).to_owned(), ..Key::default() }).collect();
        Page { keys, ..Page::default() }
    }

    fn lead(keys: &[&str]) -> Option<String> {
        Lead::of(&page(keys), "in/").map(|lead| lead.text)
    }

    fn mega(only_times: bool) -> Lead {
        Lead { text: "in/mega_".into(), only_times }
    }

    fn span(from: &str, to: &str) -> Span {
        Span { from: parse_time_or_date_millis(from), to: parse_time_or_date_millis(to) }
    }

    #[test]
    fn the_lead_is_common_to_all_archives_whatever_else_there_is() {
        let keys = ["in/", "in/README", "in/mega_20251218_000000.db.zip", "in/mega_20251218_000500.db.zip"];
        assert_eq!(lead(&keys).as_deref(), Some("in/mega_"));
        assert_eq!(lead(&["in/20251218_000000.db.zip"]).as_deref(), Some("in/"));
    }

    #[test]
    fn other_names_have_no_lead() {
        let one = "in/mega_20251218_000000.db.zip";
        for keys in [
            &[][..],
            &["in/README"],
            &[one, "in/other_20251218_000000.db.zip"],
            &["in/2025/12/mega_20251218_000000.db.zip", one],
            &[one, "in/mega_20251218_000500_again.db.zip"],
            &["in/a.db.zip", one],
            &["in/mega_20251318_000000.db.zip"],
            &["in/mega_120251218_000000.db.zip"],
            // A server with another order.
            &["in/mega_20251218_000500.db.zip", one],
            &["out/mega_20251218_000000.db.zip"],
        ] {
            assert_eq!(lead(keys), None, "{keys:?}");
        }
    }

    #[test]
    fn a_lead_is_confirmed_if_all_other_keys_are_listed() {
        let lead = mega(false);
        assert_eq!((lead.delimiter("in/"), lead.delimiter("in/mega_")), (Some("mega_"), None));
        let confirmed = |groups: &[&str], keys: &[&str]| {
            let groups = groups.iter().map(|group| (*group).to_owned()).collect();
            lead.is_confirmed_by(&Page { groups, ..page(keys) })
        };
        assert!(
            confirmed(&["in/mega_"], &[]) && confirmed(&["in/mega_"], &["in/other_20251218_000000.db.zip"])
        );
        assert!(!confirmed(&["in/mega_", "in/2025/mega_"], &[]) && !confirmed(&["in/m"], &[]));
        // A server that does not support delimiters of several characters.
        assert!(!confirmed(&[], &["in/mega_20251218_000000.db.zip"]));
        let cut = Page { next: Some("t".into()), groups: vec!["in/mega_".into()], ..Page::default() };
        assert!(!lead.is_confirmed_by(&cut));
    }

    #[test]
    fn a_listing_leaps_over_keys_that_are_too_old_or_too_new() {
        let lead = mega(false);
        let times = page(&["in/mega_20251218_000000.db.zip", "in/mega_20251218_000500.db.zip"]);
        let after = |key: &str| Leap::After(key.to_owned());
        let leap = |from: &str, to: &str| lead.leap(span(from, to), &times);
        assert_eq!(leap("2025-12-18T00:05:00.001Z", ""), after("in/mega_20251218_000501"));
        assert_eq!(leap("2025-12-18T00:05:00Z", ""), Leap::NextPage, "that one is on the page");
        assert_eq!((leap("1960-01-01", ""), leap("", "")), (Leap::NextPage, Leap::NextPage));
        for to in ["2025-12-18T00:05:00Z", "2025-12-18T00:04:59.5Z"] {
            assert_eq!(leap("", to), after("in/mega_:"), "{to}");
        }
        assert_eq!(leap("", "2025-12-18T00:05:00.001Z"), Leap::NextPage);
        let end = |keys: &[&str]| lead.leap(span("", "2025-12-18"), &page(keys));
        assert_eq!(end(&["in/mega_eu_20251218_000000.db.zip"]), Leap::NextPage);
        assert_eq!(end(&["in/mega_eu_20251218_000000.db.zip", "in/other"]), Leap::End);
        assert_eq!(end(&["in/other", "in/mega_eu_20251218_000000.db.zip"]), Leap::NextPage, "no order");
        assert_eq!(mega(true).leap(span("", "2025-12-18"), &times), Leap::End, "only times follow");
    }

    #[test]
    fn a_number_behind_the_lead_must_be_a_day() {
        let with_days = |groups: &[&str], keys: &[&str]| {
            let groups = groups.iter().map(|group| (*group).to_owned()).collect();
            let first = page(&["in/a", "in/mega_20251218_000000.db.zip"]);
            mega(false).with_days(&Page { groups, ..page(keys) }, &first).map(|lead| lead.only_times)
        };
        assert_eq!(with_days(&["in/mega_20251218_", "in/mega_20251219_"], &["in/mega_1"]), Some(true));
        // A server that lists later pages first.
        assert_eq!(with_days(&["in/mega_20251217_", "in/mega_20251218_"], &[]), None);
        assert_eq!(with_days(&["in/mega_20251218_", "in/mega_eu_"], &[]), Some(false));
        for other in
            ["in/mega_2_", "in/mega_1_", "in/mega_20251318_", "in/mega_20251218x_", "in/", "out/20251218_"]
        {
            assert_eq!(with_days(&["in/mega_20251218_", other], &[]), None, "{other}");
        }
        // A server that does not group.
        assert_eq!(with_days(&[], &["in/mega_20251218_000000.db.zip"]), None);
        let cut =
            Page { next: Some("t".into()), groups: vec!["in/mega_20251218_".into()], ..Page::default() };
        let first = page(&["in/mega_20251218_000000.db.zip"]);
        assert_eq!(mega(false).with_days(&cut, &first), None);
    }
}
