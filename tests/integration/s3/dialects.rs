//! `--source s3`: servers other than AWS, with other error codes, odd keys and odd bodies.

use super::{archives, gets, ingest, is_get_of, key, run, with};
use crate::harness::archives::Archive;
use crate::harness::http::{Reply, Request};
use crate::harness::model::assert_holds;
use crate::harness::posts;
use crate::harness::s3::{BUCKET, error, is_listing, is_object};
use crate::harness::script::Fault;

fn page_of(body: &str) -> Fault {
    Fault::Reply(Reply { status: 200, headers: vec![], body: body.as_bytes().to_vec() })
}

fn has_payer(request: &Request) -> bool {
    request.header("x-amz-request-payer").is_some()
}

#[test]
fn a_server_that_refuses_the_requester_pays_header_is_asked_without_it() {
    let refusals = [(501, "NotImplemented"), (400, "InvalidArgument"), (400, ""), (501, "")];
    for (status, code) in refusals {
        for condition in [is_listing, is_object] {
            let archives = archives();
            let (env, s3) = with(&archives);
            s3.fail(
                move |request| condition(request) && has_payer(request),
                0,
                usize::MAX,
                Fault::Reply(error(status, code)),
            );
            let run = ingest(&env, &s3).run().exits(0).says("S3_REQUEST_PAYER=none");
            assert_eq!(run.stderr.matches("S3_REQUEST_PAYER=none").count(), 1, "it is reported once");
            assert_holds(&env.fake, &archives);
            let listings = s3.requests().into_iter().filter(is_listing).count();
            assert!(
                listings <= 2
                    && s3
                        .requests()
                        .iter()
                        .filter(|request| condition(request) && has_payer(request))
                        .count()
                        <= 3
            );
        }
    }
}

#[test]
fn a_refusal_without_the_requester_pays_header_is_reported_unchanged() {
    let (env, s3) = with(&archives());
    s3.fail(is_listing, 0, usize::MAX, Fault::Reply(error(400, "InvalidArgument")));
    let run = ingest(&env, &s3).run().exits(1).says("InvalidArgument");
    run.check(!run.stderr.contains("S3_REQUEST_PAYER"), "the header is not blamed");
    assert_eq!(s3.requests().len(), 2);
}

#[test]
fn an_object_that_cannot_be_read_does_not_turn_the_requester_pays_header_off() {
    let archives = archives();
    let (env, s3) = with(&archives);
    let is_first = is_get_of(&archives[0]);
    let refused = move |request: &Request| is_first(request) && has_payer(request);
    s3.fail(refused, 0, usize::MAX, Fault::Reply(error(400, "KMS.DisabledException")));
    s3.fail(|request| !has_payer(request), 0, usize::MAX, Fault::Reply(error(403, "AccessDenied")));
    let run = ingest(&env, &s3).args(&["--workers", "1"]).run().exits(1).says("KMS.DisabledException");
    run.counts(&[("archives.processed", 2), ("archives.pending", 1)]);
    run.check(!run.stderr.contains("S3_REQUEST_PAYER"), "the header is not blamed");
}

/// A page that lists one object with the minimum of elements, among elements of all kinds.
fn bare_page(archive: &Archive, token: &str) -> String {
    format!(
        "<ListBucketResult><NextMarker>m</NextMarker><KeyCount/><Contents><Key>in/</Key><Size>0</Size></Contents>\
         <Contents><Owner><DisplayName>x</DisplayName></Owner><Key>{}</Key><Size>{}</Size></Contents>\
         <CommonPrefixes><Prefix>x/</Prefix></CommonPrefixes>{token}</ListBucketResult>",
        key(archive),
        archive.zip().len()
    )
}

#[test]
fn a_listing_needs_only_the_elements_that_are_used() {
    let archives = archives();
    let (env, s3) = with(&archives);
    let token = "<IsTruncated>true</IsTruncated><NextContinuationToken>after+/=in/a</NextContinuationToken>";
    s3.fail(is_listing, 0, 1, page_of(&bare_page(&archives[0], token)));
    run(ingest(&env, &s3), &s3).exits(0).counts(&[("archives.processed", 3)]);
    assert_holds(&env.fake, &archives);
}

#[test]
fn odd_keys_harm_no_other_archive() {
    let archives = archives();
    let (env, s3) = with(&archives);
    s3.put("in/\u{1}\u{8}\u{1b}.txt", "x");
    s3.put("in/a b+c%41 \u{e9}\u{1f331}\u{7f}.db.zip", "no zip");
    s3.put("in/\u{2}/odd\u{3}.db.zip", "no zip");
    let run = run(ingest(&env, &s3), &s3).exits(3);
    run.counts(&[("archives.processed", 3), ("archives.failed", 2), ("archives.pending", 0)]);
    assert_holds(&env.fake, &archives);
}

#[test]
fn a_key_that_the_server_signs_in_another_way_harms_no_other_archive() {
    for odd in ["in/a b_20251217_000000.db.zip", "in//a_20251217_000000.db.zip"] {
        let archives = archives();
        let (env, s3) = with(&archives);
        s3.put(odd, archives[0].zip());
        let is_plain = |request: &Request| is_object(request) && request.path.contains("mega_jetstream");
        s3.fail(
            move |request| is_object(request) && !is_plain(request),
            0,
            usize::MAX,
            Fault::Reply(error(403, "SignatureDoesNotMatch")),
        );
        let run = ingest(&env, &s3).run().exits(1).says("signs this key in another way: rename it");
        run.counts(&[("archives.processed", 3), ("archives.pending", 1)]);
    }
}

#[test]
fn keys_that_xml_cannot_hold_are_listed_url_encoded() {
    // The listing of a server in Go, and the same with `encoding-type=url`.
    for (encoded, confirms) in
        [("in/a%01%20b.db.zip", true), ("in/a%01+b.db.zip", true), ("in/a\u{1} b.db.zip", false)]
    {
        let (env, s3) = with(&[]);
        s3.put("in/a\u{1} b.db.zip", "no zip");
        let page = |key: &str, confirmed: bool| {
            let encoding = if confirmed { "<EncodingType>url</EncodingType>" } else { "" };
            page_of(&format!(
                "<ListBucketResult>{encoding}<Contents><Key>{key}</Key><Size>6</Size></Contents></ListBucketResult>"
            ))
        };
        let asks_encoded =
            |request: &Request| is_listing(request) && request.param("encoding-type") == Some("url");
        s3.fail(asks_encoded, 0, usize::MAX, page(encoded, confirms));
        s3.fail(is_listing, 0, usize::MAX, page("in/a\u{fffd} b.db.zip", false));
        run(ingest(&env, &s3), &s3).exits(3).counts(&[("archives.failed", 1)]);
        assert_eq!(gets(&s3, "in/a\u{1} b.db.zip").len(), 1);
    }
}

#[test]
fn a_key_that_cannot_be_listed_is_left_out_by_name() {
    let archives = archives();
    let (env, s3) = with(&archives);
    s3.put("in/a\u{fffd}.db.zip", "the listed name is not the real name");
    let run =
        run(ingest(&env, &s3), &s3).exits(0).says("in/a\u{fffd}.db.zip").says("replaces some characters");
    run.counts(&[("archives.processed", 3), ("archives.pending", 0)]);
}

#[test]
fn invalid_xml_is_asked_for_url_encoded_and_a_cut_page_again() {
    let archives = archives();
    let (env, s3) = with(&archives);
    let asks_encoded = |request: &Request| is_listing(request) && request.param("encoding-type").is_some();
    let rest = "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
                <NextContinuationToken>after+/=</NextContinuationToken></ListBucketResult>";
    s3.fail(
        asks_encoded,
        0,
        1,
        page_of(&format!("<ListBucketResult><Contents><Key>in%2Fa%26b</Key></Contents>{rest}")),
    );
    s3.fail(
        is_listing,
        0,
        1,
        page_of("<ListBucketResult><Contents><Key>in/a&b<</Key></Contents></ListBucketResult>"),
    );
    run(ingest(&env, &s3), &s3).exits(0).counts(&[("archives.processed", 3)]);
    // Both forms of the page are cut off; the next attempt is complete.
    let (env, s3) = with(&archives);
    s3.fail(is_listing, 0, 2, page_of("<ListBucketResult><Contents><Key>in/a"));
    run(ingest(&env, &s3), &s3).exits(0).says("cannot be read").counts(&[("archives.processed", 3)]);
}

#[test]
fn a_page_that_is_not_a_listing_ends_the_run_at_once() {
    for body in
        ["<html><title>Console</title></html>", "{\"cluster_name\":\"x\"}", "", "<ListAllMyBucketsResult/>"]
    {
        let (env, s3) = with(&archives());
        s3.fail(is_listing, 0, usize::MAX, page_of(body));
        run(ingest(&env, &s3), &s3).exits(1).says("not a listing of S3").says("AWS_ENDPOINT_URL_S3");
        assert_eq!(s3.requests().len(), 1);
    }
    let (env, s3) = with(&archives());
    s3.fail(is_listing, 0, 2, page_of("<Error><Code>InternalError</Code></Error>"));
    run(ingest(&env, &s3), &s3).exits(0).says("InternalError");
}

#[test]
fn a_body_without_a_length_is_read_to_its_end() {
    for fault in [Fault::Chunked, Fault::Unframed] {
        let archives = archives();
        let (env, s3) = with(&archives);
        s3.fail(is_object, 0, usize::MAX, fault.clone());
        s3.fail(is_listing, 0, usize::MAX, fault);
        run(ingest(&env, &s3), &s3).exits(0);
        assert_holds(&env.fake, &archives);
        assert_eq!(gets(&s3, &key(&archives[0])).len(), 1);
    }
}

#[test]
fn an_interrupted_body_without_a_length_resumes() {
    let archives = archives();
    let (env, s3) = with(&archives);
    s3.fail(is_get_of(&archives[1]), 0, 2, Fault::UnframedCut(200));
    run(ingest(&env, &s3), &s3).exits(0);
    assert_holds(&env.fake, &archives);
    let asked: Vec<_> = gets(&s3, &key(&archives[1]))
        .iter()
        .map(|request| request.header("range").map(str::to_owned))
        .collect();
    assert_eq!(asked, [None, Some("bytes=200-".to_owned()), Some("bytes=400-".to_owned())]);
}

#[test]
fn a_body_without_a_length_must_have_the_listed_size() {
    let archives = archives();
    let (env, s3) = with(&archives);
    let larger = Reply { status: 200, headers: vec![], body: [archives[1].zip(), b"more".to_vec()].concat() };
    let larger = larger.with_header("transfer-encoding", "identity");
    let bytes: &'static [u8] = larger.unframed(usize::MAX).leak();
    s3.fail(is_get_of(&archives[1]), 0, 1, Fault::Bytes(bytes));
    let run = run(ingest(&env, &s3), &s3).exits(1).says("more bytes");
    run.counts(&[("archives.processed", 2), ("archives.pending", 1), ("archives.failed", 0)]);
}

#[test]
fn a_body_compressed_by_a_gateway_is_read() {
    let archives = archives();
    let (env, s3) = with(&archives);
    let zip = archives[1].zip();
    let mut packed = vec![0; zip.len() * 2 + 100];
    let length = libdeflater::Compressor::default().gzip_compress(&zip, &mut packed).unwrap();
    packed.truncate(length);
    let reply = Reply { status: 200, headers: vec![("content-encoding", "gzip".to_owned())], body: packed };
    s3.fail(is_get_of(&archives[1]), 0, 1, Fault::Bytes(reply.unframed(300).leak()));
    s3.fail(is_get_of(&archives[1]), 0, 1, Fault::Bytes(reply.chunked().leak()));
    run(ingest(&env, &s3), &s3).exits(0);
    assert_holds(&env.fake, &archives);
    assert_eq!(gets(&s3, &key(&archives[1])).len(), 2);
}

#[test]
fn an_interim_answer_before_a_large_object_does_no_harm() {
    let (env, s3) = with(&[]);
    let archive = &archives()[0];
    // As a self-extracting zip.
    let large = [vec![b'x'; 200_000], archive.zip()].concat();
    s3.put(&key(archive), large.clone());
    let reply = Reply { status: 200, headers: vec![], body: large }.bytes(false);
    let hinted = [b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".to_vec(), reply].concat();
    s3.fail(is_object, 0, usize::MAX, Fault::Bytes(hinted.leak()));
    let run = run(ingest(&env, &s3), &s3).exits(0);
    run.check(!run.stderr.contains("next attempt"), "the first request is enough");
}

#[test]
fn a_check_does_not_fail_where_ranges_are_refused() {
    for (status, code) in [(501, "NotImplemented"), (416, "InvalidRange")] {
        let (env, s3) = with(&archives());
        let ranged = |request: &Request| is_object(request) && request.header("range").is_some();
        s3.fail(ranged, 0, usize::MAX, Fault::Reply(error(status, code)));
        ingest(&env, &s3).args(&["--check"]).run().exits(0);
    }
}

#[test]
fn a_page_compressed_by_a_gateway_is_read() {
    let archives = archives();
    let (env, s3) = with(&archives);
    let page = bare_page(&archives[0], "<IsTruncated>false</IsTruncated>");
    let mut packed = vec![0; page.len() + 100];
    let length = libdeflater::Compressor::default().gzip_compress(page.as_bytes(), &mut packed).unwrap();
    packed.truncate(length);
    let reply = Reply { status: 200, headers: vec![("content-encoding", "gzip".to_owned())], body: packed };
    s3.fail(is_listing, 0, 1, Fault::Reply(reply));
    run(ingest(&env, &s3), &s3).exits(0).counts(&[("archives.processed", 1)]);
}

/// A listing of one archived object, as AWS replies when asked for restored copies.
fn archived_page(archive: &Archive, class: &str, is_restored: bool) -> Fault {
    let restored = "<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress>\
                    <RestoreExpiryDate>2099-01-01T00:00:00Z</RestoreExpiryDate></RestoreStatus>";
    page_of(&format!(
        "<ListBucketResult><Contents><Key>{}</Key><Size>{}</Size><StorageClass>{class}</StorageClass>{}</Contents>\
         </ListBucketResult>",
        key(archive),
        archive.zip().len(),
        if is_restored { restored } else { "" }
    ))
}

fn asks_for_copies(request: &Request) -> bool {
    is_listing(request) && request.header("x-amz-optional-object-attributes") == Some("RestoreStatus")
}

#[test]
fn archived_objects_are_left_out_unless_restored() {
    let archives = archives();
    for class in ["GLACIER", "DEEP_ARCHIVE"] {
        let (env, s3) = with(&archives[..1]);
        s3.fail(is_listing, 0, usize::MAX, archived_page(&archives[0], class, false));
        let list = run(ingest(&env, &s3).args(&["--list"]), &s3).exits(0);
        list.check(
            list.stdout.contains(class) && list.stdout.contains("restore"),
            "the class and what to do",
        );
        run(ingest(&env, &s3), &s3).exits(0).says(class).counts(&[("archives.discovered", 0)]);
        assert!(gets(&s3, &key(&archives[0])).is_empty());
    }
    let (env, s3) = with(&archives[..1]);
    s3.fail(asks_for_copies, 0, usize::MAX, archived_page(&archives[0], "GLACIER", true));
    s3.fail(is_listing, 0, usize::MAX, archived_page(&archives[0], "GLACIER", false));
    run(ingest(&env, &s3), &s3).exits(0).counts(&[("archives.processed", 1)]);
    // This server does not know the question for restored copies.
    let (env, s3) = with(&archives[..1]);
    s3.fail(asks_for_copies, 0, usize::MAX, Fault::Reply(error(501, "NotImplemented")));
    s3.fail(is_listing, 0, usize::MAX, archived_page(&archives[0], "GLACIER", false));
    ingest(&env, &s3).run().exits(0).says("GLACIER").counts(&[("archives.discovered", 0)]);
}

#[test]
fn an_object_archived_since_the_listing_stays_pending() {
    let archives = archives();
    let (env, s3) = with(&archives);
    s3.fail(is_get_of(&archives[1]), 0, 1, Fault::Reply(error(403, "InvalidObjectState")));
    let run = run(ingest(&env, &s3), &s3).exits(1).says("archived").says("restore").says(&key(&archives[1]));
    run.counts(&[("archives.processed", 2), ("archives.pending", 1)]);
}

#[test]
fn etags_are_compared_regardless_of_their_notation() {
    let mut archives = archives();
    archives[1] = Archive::new("20251218_000100").with_all(posts("larger", 30));
    let (env, s3) = with(&archives);
    let (length, etag) = (archives[1].zip().len(), format!("{:032x}", 2));
    s3.fail(
        is_listing,
        0,
        1,
        page_of(&format!(
            "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>after+/=</NextContinuationToken>\
             <Contents><Key>{}</Key><Size>{length}</Size><ETag>{etag}</ETag></Contents></ListBucketResult>",
            key(&archives[1])
        )),
    );
    s3.fail(is_get_of(&archives[1]), 0, 1, Fault::CutReply);
    run(ingest(&env, &s3), &s3).exits(0);
    assert_holds(&env.fake, &archives);
}

#[test]
fn server_errors_name_the_host_and_the_object() {
    let (env, s3) = with(&archives());
    let host = s3.url().replace("http://", "");
    s3.fail(is_object, 0, usize::MAX, Fault::Reply(error(404, "NoSuchKey")));
    run(ingest(&env, &s3), &s3).exits(1).says(&host).says(&format!("s3://{BUCKET}/in/"));
}
