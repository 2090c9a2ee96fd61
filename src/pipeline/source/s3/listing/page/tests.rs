//! Tests of parsing pages as servers write them.

use super::*;

fn page(body: &str) -> Result<Page, GetError> {
    parse("host", body.as_bytes())
}

fn keys(body: &str) -> Vec<String> {
    page(body).unwrap().keys.into_iter().map(|key| key.key).collect()
}

/// Formats a page with this content as most servers do.
fn listing(inner: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult \
         xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{inner}</ListBucketResult>"
    )
}

fn contents(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("<Contents><Key>{key}</Key><Size>7</Size></Contents>")).collect()
}

#[test]
fn used_elements_are_read_in_any_order() {
    let body = listing(
        "<Contents><Owner><DisplayName>x</DisplayName><Key>not this</Key></Owner><Size> 7 </Size><Key>a</Key>\
         <LastModified>2025-12-18T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag>\
         <StorageClass>GLACIER</StorageClass><RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress>\
         <RestoreExpiryDate>2026-01-01T00:00:00Z</RestoreExpiryDate></RestoreStatus></Contents>\
         <CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes><NextMarker>m</NextMarker>\
         <NextContinuationToken>1/a+b==</NextContinuationToken><IsTruncated>true</IsTruncated>\
         <Contents><Key>b</Key></Contents>",
    );
    let page = page(&body).unwrap();
    let first = Key {
        key: "a".into(),
        etag: Some("\"e\"".into()),
        bytes: Some(7),
        modified: "2025-12-18T00:00:00.000Z".into(),
        storage_class: Some("GLACIER".into()),
        is_restored: true,
        is_garbled: false,
    };
    assert_eq!(page.keys, [first, Key { key: "b".into(), ..Key::default() }]);
    assert_eq!(page.next.as_deref(), Some("1/a+b=="));
    assert_eq!(page.groups, ["p/"]);
}

#[test]
fn a_deeply_nested_page_is_read_quickly() {
    let depth = 200_000;
    let body = format!("{}{}<Contents><Key>a</Key></Contents>", "<a>".repeat(depth), "</a>".repeat(depth));
    assert_eq!(keys(&listing(&body)), ["a"]);
}

#[test]
fn an_empty_etag_is_none() {
    for empty in ["", "&quot;&quot;", "W/&quot;&quot;"] {
        let body = listing(&format!("<Contents><Key>a</Key><ETag>{empty}</ETag></Contents>"));
        assert_eq!(page(&body).unwrap().keys[0].etag, None, "{empty}");
    }
}

#[test]
fn namespaces_and_missing_elements_do_not_matter() {
    let body = "<s3:ListBucketResult xmlns:s3=\"x\"><s3:Contents><s3:Key>a</s3:Key></s3:Contents></s3:ListBucketResult>";
    assert_eq!(keys(body), ["a"]);
    for empty in ["<ListBucketResult/>", "<ListBucketResult></ListBucketResult>"] {
        assert_eq!(page(empty).unwrap(), Page::default());
    }
    let page =
        page(&listing("<Contents><Size>1</Size></Contents><Contents/><Contents><Key>a</Key></Contents>"))
            .unwrap();
    assert_eq!((page.keys.len(), page.unreadable), (1, 2));
}

#[test]
fn control_characters_and_white_space_are_part_of_a_key() {
    let body = listing(&contents(&[
        "a/ b+%2B\u{1f331}&#x1;&#10;&#13;.db.zip",
        " a &amp;&lt;&#x41; ",
        "b\u{1}\u{8}c",
        "<![CDATA[<d>]]>",
    ]));
    assert_eq!(keys(&body), ["a/ b+%2B\u{1f331}\u{1}\n\r.db.zip", " a &<A ", "b\u{1}\u{8}c", "<d>"]);
}

#[test]
fn keys_are_decoded_only_if_the_reply_says_so_and_they_are_encoded() {
    let encoded = |keys: &[&str]| listing(&format!("<EncodingType>url</EncodingType>{}", contents(keys)));
    assert_eq!(keys(&encoded(&["a%20b%2Bc/%01", "a+b"])), ["a b+c/\u{1}", "a b"]);
    assert_eq!(keys(&encoded(&["a b+%41"])), ["a b+%41"], "it says so, and does not");
    assert_eq!(keys(&encoded(&["100%"])), ["100%"]);
    let later = listing(&format!("{}<EncodingType>url</EncodingType>", contents(&["a%20b"])));
    assert_eq!(keys(&later), ["a b"], "said after the keys");
    assert_eq!(keys(&listing(&contents(&["a%20b"]))), ["a%20b"]);
}

#[test]
fn keys_that_are_not_utf_8_are_counted_and_replaced_characters_are_noticed() {
    let body = [
        listing("<Contents><Key>").as_bytes().strip_suffix(b"</ListBucketResult>").unwrap(),
        b"\xff</Key></Contents></ListBucketResult>",
    ]
    .concat();
    let page_of_bytes = parse("host", &body).unwrap();
    assert_eq!(page_of_bytes.unreadable, 1);
    assert!(page_of_bytes.may_need_encoding());
    assert!(page(&listing(&contents(&["a\u{fffd}b"]))).unwrap().may_need_encoding());
    assert!(!page(&listing(&contents(&["a\u{1}b"]))).unwrap().may_need_encoding());
}

#[test]
fn there_is_another_page_if_the_reply_says_so_or_has_a_token() {
    let next = |inner: &str| page(&listing(inner)).map(|page| page.next);
    let token = "<NextContinuationToken>t</NextContinuationToken>";
    assert_eq!(next(token), Ok(Some("t".into())));
    assert_eq!(next(&format!("{token}<IsTruncated>TRUE</IsTruncated>")), Ok(Some("t".into())));
    assert_eq!(next(&format!("{token}<IsTruncated>false</IsTruncated>")), Ok(None));
    assert_eq!(next("<NextContinuationToken/>"), Ok(None));
    for inner in [
        "<IsTruncated>true</IsTruncated>",
        "<IsTruncated> true </IsTruncated><NextContinuationToken></NextContinuationToken>",
    ] {
        assert!(matches!(next(inner), Err(GetError::Other(why)) if why.contains("no token")));
    }
}

#[test]
fn a_torn_listing_is_requested_again_and_another_text_is_not() {
    let whole = listing(&contents(&["a"]));
    let begin = whole.find("<List").unwrap();
    for whole in [&whole, &whole[begin..]] {
        for length in 1..whole.len() {
            let cut = page(&whole[..length]).unwrap();
            assert!(cut.broken.is_some() && cut.may_need_encoding() && cut.keys.is_empty(), "{length}");
        }
    }
    for other in [
        "",
        "  ",
        "<html><body>Welcome</body></html>",
        "{\"a\":1}",
        "<ListAllMyBucketsResult/>",
        "Welcome",
        "<?xml version=\"1.0\"?><html>",
    ] {
        let Err(GetError::Other(why)) = page(other) else { panic!("{other}") };
        assert!(why.contains("not a listing") && why.contains("AWS_ENDPOINT_URL_S3"), "{why}");
    }
}

#[test]
fn an_error_in_a_successful_reply_is_an_error() {
    let error =
        |code: &str| page(&format!("<Error><Code>{code}</Code><Message>m</Message></Error>")).unwrap_err();
    assert!(matches!(error("InternalError"), GetError::Unavailable { .. }));
    assert!(matches!(error("AccessDenied"), GetError::Denied(_)));
    assert!(matches!(error("ExpiredToken"), GetError::Credentials(_)));
    assert!(matches!(error("NoSuchBucket"), GetError::Missing(_)));
}
