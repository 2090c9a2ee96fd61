//! Tests of how a listing continues, and of which keys become archives.

use super::found::Found;
use super::page::Key;
use super::*;

fn key(key: &str) -> Key {
    let modified = "2025-12-18T00:00:00.000Z".to_owned();
    Key { key: key.into(), etag: Some("\"e\"".into()), bytes: Some(7), modified, ..Key::default() }
}

fn bucket() -> BucketName {
    BucketName::Plain("b".into())
}

fn found(keys: Vec<Key>) -> Listing {
    let bucket = bucket();
    let mut found = Found::nothing(&bucket, "");
    found.add(keys, 0);
    found.in_order()
}

fn named(keys: &[&str]) -> Listing {
    found(keys.iter().copied().map(key).collect())
}

fn names(listing: &Listing) -> Vec<&str> {
    listing.discovery.archives.iter().map(|archive| archive.name.as_str()).collect()
}

/// Returns the addresses and reasons of keys that were left out.
fn left_out(listing: &Listing) -> Vec<(String, &str)> {
    let left_out = listing.discovery.left_out.iter();
    left_out.map(|left_out| (left_out.path.display().to_string(), left_out.reason.as_str())).collect()
}

#[test]
fn archives_are_named_by_the_last_segment_and_sorted_by_time() {
    let listing = named(&[
        "p/z.db.zip",
        "p/2/b_20251218_000200.db.zip",
        "p/a_20251218_000100.db.zip",
        "c_20251217_000000.db.zip",
        "p/c.db",
        "p/.db.zip/",
    ]);
    assert_eq!(
        names(&listing),
        ["c_20251217_000000.db.zip", "z.db.zip", "a_20251218_000100.db.zip", "b_20251218_000200.db.zip"]
    );
    let archive = &listing.discovery.archives[1];
    assert_eq!((archive.seconds, archive.bytes), (None, 7));
    assert_eq!(archive.modified_ns, 1_766_016_000_000_000_000);
    assert_eq!(listing.objects["b_20251218_000200.db.zip"].key, "p/2/b_20251218_000200.db.zip");
}

#[test]
fn keys_of_the_same_name_are_all_left_out() {
    let listing = named(&["1/a.db.zip", "2/a.db.zip", "3/a.db.zip", "1/b.db.zip", "2/a.db.zip"]);
    assert_eq!(names(&listing), ["b.db.zip"]);
    assert_eq!(listing.objects.len(), 1);
    let left_out = left_out(&listing);
    assert_eq!(left_out.len(), 3);
    assert!(
        left_out[0].0 == "s3://b/1/a.db.zip" && left_out[0].1.contains("s3://b/2/a.db.zip"),
        "{left_out:?}"
    );
    assert!(
        left_out[2].0 == "s3://b/3/a.db.zip" && left_out[2].1.contains("s3://b/1/a.db.zip"),
        "{left_out:?}"
    );
}

#[test]
fn unreadable_archives_are_left_out_with_a_reason() {
    let archived =
        |class: &str, is_restored| Key { storage_class: Some(class.into()), is_restored, ..key("g.db.zip") };
    for (odd, why) in [
        (key("../a.db.zip"), ".."),
        (Key { bytes: None, ..key("s.db.zip") }, "size"),
        (archived("GLACIER", false), "GLACIER"),
        (archived("DEEP_ARCHIVE", false), "restore"),
    ] {
        let listing = found(vec![odd.clone(), key("b.db.zip"), odd]);
        assert_eq!(names(&listing), ["b.db.zip"]);
        assert!(matches!(&left_out(&listing)[..], [(_, reason)] if reason.contains(why)), "{why}");
    }
    for readable in [archived("GLACIER_IR", false), archived("STANDARD_IA", false), archived("GLACIER", true)]
    {
        assert_eq!(names(&found(vec![readable])), ["g.db.zip"]);
    }
}

#[test]
fn if_a_key_is_listed_twice_the_later_listing_counts() {
    let listing = found(vec![key("a.db.zip"), Key { bytes: Some(8), etag: None, ..key("a.db.zip") }]);
    let later = Object { key: "a.db.zip".into(), etag: None, bytes: 8, storage_class: None, log: None };
    assert_eq!(listing.objects["a.db.zip"], later);
    assert_eq!(listing.discovery.archives.iter().map(|a| a.bytes).collect::<Vec<_>>(), [8]);
}

#[test]
fn keys_outside_the_prefix_are_ignored() {
    let bucket = bucket();
    let mut found = Found::nothing(&bucket, "in/");
    found.add(vec![key("in/a.db.zip"), key("out/b.db.zip"), key("in/c.txt")], 0);
    assert_eq!(found.first_keys().len(), 3);
    assert_eq!(names(&found.in_order()), ["a.db.zip"]);
}

#[test]
fn times_are_read_in_every_known_form() {
    for text in ["2025-12-18T00:00:00Z", "2025-12-18T01:00:00+01:00", "Thu, 18 Dec 2025 00:00:00 GMT"] {
        let listing = found(vec![Key { modified: text.into(), ..key("a.db.zip") }]);
        assert_eq!(listing.discovery.archives[0].modified_ns, 1_766_016_000_000_000_000, "{text}");
    }
    let listing = found(vec![Key { modified: "yesterday".into(), ..key("a.db.zip") }]);
    assert_eq!(listing.discovery.archives[0].modified_ns, 0);
}

#[test]
fn cycles_of_pages_of_any_length_are_noticed() {
    let mut pages = Pages::default();
    (0..100).for_each(|n| pages.continue_with(n.to_string()).unwrap());
    for n in [99, 98, 0] {
        assert!(matches!(pages.continue_with(n.to_string()), Err(GetError::Other(_))));
    }
    assert_eq!(pages.token.as_deref(), Some("99"));
}

#[test]
fn a_long_listing_is_logged_now_and_then() {
    let start = Instant::now();
    let mut length = Length::begin(start);
    let page = Page { keys: vec![key("a"), key("b")], ..Page::default() };
    (0..3).for_each(|_| length.add(&page));
    let after = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(length.line_if_due(after(9)), None);
    assert_eq!(length.line_if_due(after(10)).as_deref(), Some("3 pages with 6 keys so far"));
    length.add(&Page::default());
    assert_eq!(length.line_if_due(after(19)), None);
    assert_eq!(length.line_if_due(after(25)).as_deref(), Some("4 pages with 6 keys so far"));
}

#[test]
fn a_page_has_other_keys_than_the_one_before_unless_it_has_none_or_begins_elsewhere() {
    let page = |keys: &[&str]| Page { keys: keys.iter().map(|name| key(name)).collect(), ..Page::default() };
    let mut pages = Pages::default();
    for keys in [&[][..], &[], &["a", "b"], &["b", "a"], &["a"], &[], &["a"]] {
        pages.check_moves_on(&page(keys)).unwrap();
    }
    assert!(matches!(pages.check_moves_on(&page(&["a"])), Err(GetError::Other(_))));
    pages.skip_to("0".to_owned());
    pages.check_moves_on(&page(&["a"])).unwrap();
}
