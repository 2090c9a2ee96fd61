//! Pages of listings, and the archives that are made of them.

use super::*;

fn xml(more: &str, keys: &[&str]) -> Vec<u8> {
    let contents: String = keys
        .iter()
        .map(|key| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2025-12-18T00:00:00.000Z</LastModified>\
                 <ETag>&quot;e&quot;</ETag><Size>7</Size><StorageClass>STANDARD</StorageClass></Contents>"
            )
        })
        .collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><Prefix></Prefix>\
         <KeyCount>{}</KeyCount><MaxKeys>1000</MaxKeys>{more}{contents}</ListBucketResult>",
        keys.len()
    )
    .into_bytes()
}

fn key(key: &str) -> Key {
    let modified = "2025-12-18T00:00:00.000Z".to_owned();
    Key { key: key.into(), etag: Some("\"e\"".into()), bytes: 7, modified }
}

#[test]
fn pages_are_read_and_characters_that_xml_has_not_are_taken() {
    let more = "<IsTruncated>true</IsTruncated><NextContinuationToken>1/a+b==</NextContinuationToken>";
    let page = parse_page(&xml(more, &["a/ b+%2B\u{1f331}&#x1;&#10;.db.zip", "d"])).unwrap();
    assert_eq!(page.keys, [key("a/ b+%2B\u{1f331}\u{1}\n.db.zip"), key("d")]);
    assert_eq!(page.next.as_deref(), Some("1/a+b=="));
    let last = parse_page(&xml("<IsTruncated>false</IsTruncated>", &["a+b &amp; c"])).unwrap();
    assert_eq!((last.keys, last.next), (vec![key("a+b & c")], None));
    let empty = parse_page(&xml("<IsTruncated>false</IsTruncated>", &[])).unwrap();
    assert_eq!((empty.keys, empty.next), (vec![], None));
}

#[test]
fn more_keys_without_a_token_are_an_error_and_what_is_cut_off_is_asked_for_again() {
    let truncated = xml("<IsTruncated>true</IsTruncated>", &["a"]);
    assert!(matches!(parse_page(&truncated), Err(GetError::Other(_))));
    for body in [&truncated[..truncated.len() - 40], b"", b"<html></html>", b"\xff"] {
        assert!(matches!(parse_page(body), Err(GetError::Unavailable { .. })), "{body:?}");
    }
}

fn found(keys: &[&str]) -> Result<Listing, Failure> {
    let mut found = Found::nothing("b");
    found.take_up(keys.iter().copied().map(key).collect())?;
    Ok(found.in_order())
}

#[test]
fn archives_are_known_by_the_last_segment_and_come_in_the_order_of_time() {
    let keys = [
        "p/z.db.zip",
        "p/2/b_20251218_000200.db.zip",
        "p/a_20251218_000100.db.zip",
        "c_20251217_000000.db.zip",
        "p/c.db",
        "p/.db.zip/",
    ];
    let listing = found(&keys).unwrap();
    let names: Vec<_> = listing.discovery.archives.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(
        names,
        ["c_20251217_000000.db.zip", "z.db.zip", "a_20251218_000100.db.zip", "b_20251218_000200.db.zip"]
    );
    let archive = &listing.discovery.archives[1];
    assert_eq!((archive.seconds, archive.bytes), (None, 7));
    assert_eq!(archive.modified_ns, 1_766_016_000_000_000_000);
    assert_eq!(listing.objects["b_20251218_000200.db.zip"].key, "p/2/b_20251218_000200.db.zip");
}

#[test]
fn two_keys_of_one_name_are_an_error_that_names_both() {
    let failure = found(&["1/a.db.zip", "2/a.db.zip"]).unwrap_err();
    assert_eq!(failure.code, ExitCode::Usage);
    assert!(failure.message.contains("s3://b/1/a.db.zip") && failure.message.contains("s3://b/2/a.db.zip"));
}

#[test]
fn a_key_that_no_url_leads_to_is_left_out_with_the_reason() {
    let listing = found(&["../a.db.zip", "../a.db.zip"]).unwrap();
    assert!(listing.discovery.archives.is_empty());
    assert_eq!(listing.discovery.left_out.len(), 1);
    assert!(listing.discovery.left_out[0].reason.contains(".."));
}

#[test]
fn a_key_that_is_listed_twice_is_one_object_in_its_later_state() {
    let mut found = Found::nothing("b");
    found.take_up(vec![key("a.db.zip")]).unwrap();
    found.take_up(vec![Key { bytes: 8, etag: None, ..key("a.db.zip") }]).unwrap();
    let listing = found.in_order();
    let later = Object { key: "a.db.zip".into(), etag: None, bytes: 8 };
    assert_eq!(listing.objects["a.db.zip"], later);
    assert_eq!(listing.discovery.archives.iter().map(|a| a.bytes).collect::<Vec<_>>(), [8]);
}

#[test]
fn only_archives_are_kept() {
    let mut found = Found::nothing("b");
    found.take_up(vec![key("a.txt"), key("a.db.zip"), key("../b.db"), key("a.db.zip/")]).unwrap();
    assert_eq!((found.archives.len(), found.left_out.len()), (1, 0));
}

#[test]
fn pages_that_go_in_a_circle_of_any_length_are_noticed() {
    let mut pages = Pages::default();
    (0..100).for_each(|n| pages.go_on(n.to_string()).unwrap());
    for n in [99, 98, 0] {
        assert!(matches!(pages.go_on(n.to_string()), Err(GetError::Other(_))));
    }
    assert_eq!(pages.token.as_deref(), Some("99"));
}
