//! What error replies of S3 mean, and the URLs that it is asked at.

use super::*;

fn error(code: &str) -> Vec<u8> {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>no\nway</Message>\
         <Region>eu-west-1</Region><RequestId>1</RequestId></Error>"
    )
    .into_bytes()
}

#[test]
fn a_reply_is_judged_by_its_code_and_else_by_its_status() {
    for (status, code) in [(503, "SlowDown"), (400, "RequestTimeout"), (500, "x"), (429, ""), (503, "")] {
        let wait = Some(Duration::from_secs(7));
        let error = judge(status, &error(code), wait);
        assert!(
            matches!(error, GetError::Unavailable { retry_after, .. } if retry_after == wait),
            "{status} {code}"
        );
    }
    for (status, code) in [
        (403, "InvalidAccessKeyId"),
        (403, "SignatureDoesNotMatch"),
        (403, "RequestTimeTooSkewed"),
        (400, "InvalidToken"),
        (401, ""),
        (307, ""),
    ] {
        assert!(matches!(judge(status, &error(code), None), GetError::Refused(_)), "{status} {code}");
    }
    assert!(matches!(judge(400, &error("ExpiredToken"), None), GetError::Expired(_)));
    assert!(matches!(judge(403, &error("AccessDenied"), None), GetError::Denied(_)));
    assert!(matches!(judge(403, &error("InvalidObjectState"), None), GetError::Denied(_)));
    assert!(matches!(judge(404, b"", None), GetError::Missing(_)));
    assert_eq!(judge(412, b"<html>", None), GetError::Changed);
    assert_eq!(judge(416, b"", None), GetError::Changed);
    assert_eq!(judge(501, b"\xff", None), GetError::Other("S3 answers HTTP 501".into()));
}

#[test]
fn a_bucket_elsewhere_is_told_with_its_region_on_one_line() {
    let GetError::Refused(why) = judge(301, &error("PermanentRedirect"), None) else { panic!() };
    assert!(why.contains("\"eu-west-1\"") && why.contains("AWS_REGION") && !why.contains('\n'), "{why}");
}

#[test]
fn the_bucket_is_part_of_the_host_only_where_a_certificate_covers_that() {
    for (bucket, region, endpoint, url) in [
        ("a-b1", "eu-west-1", None, "https://a-b1.s3.eu-west-1.amazonaws.com/"),
        ("a-b1", "cn-north-1", None, "https://a-b1.s3.cn-north-1.amazonaws.com.cn/"),
        ("a.b", "us-east-1", None, "https://s3.us-east-1.amazonaws.com/a.b/"),
        ("Old_One", "us-east-1", None, "https://s3.us-east-1.amazonaws.com/Old_One/"),
        ("a-b1", "eu-west-1", Some("http://127.0.0.1:9000/s3"), "http://127.0.0.1:9000/s3/a-b1/"),
    ] {
        assert_eq!(base_url(bucket, region, endpoint), url);
    }
}

#[test]
fn dots_as_segments_have_no_url() {
    assert!(has_url("a/b..c/.d.db.zip") && has_url("//a"));
    assert!(!has_url("a/../b.db.zip") && !has_url("./b.db.zip"));
}
