//! Tests of the classification of error replies, and of the URLs of requests.

use ureq::http::{HeaderMap, HeaderValue};

use super::*;
use crate::auth::aws::{CredentialSources, Profile, Sts};
use crate::config::s3::{AccessPoint, Addressing, BucketName, Region, Variant};
use crate::http::proxy::Proxies;

fn settings(bucket: &str, endpoint: Option<&str>, addressing: Addressing, variant: Variant) -> S3 {
    let profile = Profile {
        name: "default".into(),
        asked_for: false,
        credentials_file: None,
        config_file: None,
        sso_cache: None,
    };
    let bucket = match bucket.strip_prefix("ap:") {
        Some(name) => BucketName::AccessPoint(AccessPoint {
            arn: format!("arn:{name}"),
            region: "eu-west-1".into(),
            account: "1".into(),
            name: name.into(),
        }),
        None => BucketName::Plain(bucket.into()),
    };
    S3 {
        bucket,
        prefix: String::new(),
        span: crate::model::Span::ALL,
        region: Region { name: "us-east-1".into(), setting: "" },
        endpoint: endpoint.map(str::to_owned),
        addressing,
        variant,
        requester_pays: true,
        anonymous: false,
        ca_cert: None,
        proxies: Proxies::default(),
        credentials: CredentialSources {
            keys: None,
            profile,
            web_identity: None,
            sts: Sts { url: String::new(), region: String::new() },
            sso_url: None,
            container: None,
            instance_url: None,
        },
    }
}

const ENDPOINT: Option<&str> = Some("http://s3.example:9000");

fn place() -> Place {
    Place::of(&settings("bucket", ENDPOINT, Addressing::Auto, Variant::default()), "us-east-1")
}

fn body(code: &str, more: &str) -> Vec<u8> {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>no\nway</Message>{more}\
         <RequestId>1</RequestId></Error>"
    )
    .into_bytes()
}

fn judged(status: u16, body: &[u8]) -> GetError {
    judge(&place(), status, &HeaderMap::new(), body).error
}

#[test]
fn a_reply_is_classified_by_its_code_or_else_by_its_status() {
    let mut headers = HeaderMap::new();
    headers.insert("retry-after", HeaderValue::from_static("7"));
    let wait = Some(Duration::from_secs(7));
    for (status, code) in [
        (503, "SlowDown"),
        (400, "RequestTimeout"),
        (500, "x"),
        (429, ""),
        (503, ""),
        (520, ""),
        (409, "OperationAborted"),
    ] {
        let error = judge(&place(), status, &headers, &body(code, "")).error;
        assert!(
            matches!(error, GetError::Unavailable { retry_after, .. } if retry_after == wait),
            "{status} {code}"
        );
    }
    for (status, code) in [
        (403, "InvalidAccessKeyId"),
        (403, "SignatureDoesNotMatch"),
        (400, "InvalidToken"),
        (400, "ExpiredToken"),
        (403, "InvalidTokenId"),
        (400, "TokenRefreshRequired"),
        (401, ""),
    ] {
        assert!(matches!(judged(status, &body(code, "")), GetError::Credentials(_)), "{status} {code}");
    }
    assert!(matches!(judged(403, &body("RequestTimeTooSkewed", "")), GetError::Refused(_)));
    assert!(matches!(judged(307, &body("", "")), GetError::Refused(_)));
    assert!(matches!(judged(403, &body("AccessDenied", "")), GetError::Denied(_)));
    assert!(matches!(judged(404, b""), GetError::Missing(_)));
    assert_eq!(judged(412, b"<html>"), GetError::Changed);
    assert_eq!(judged(416, b""), GetError::Changed);
    assert_eq!(judged(501, b""), GetError::Other("s3.example:9000 answers HTTP 501".into()));
}

#[test]
fn an_archived_object_is_reported_as_archived() {
    let GetError::Denied(why) =
        judged(403, &body("InvalidObjectState", "<StorageClass>GLACIER</StorageClass>"))
    else {
        panic!()
    };
    assert!(why.contains("archived (GLACIER)") && why.contains("restore"), "{why}");
}

#[test]
fn an_error_of_another_server_is_quoted_on_one_line() {
    let GetError::Missing(why) = judged(404, b"<html>\n404 nginx") else { panic!() };
    assert!(why.contains("<html> 404 nginx") && !why.contains('\n'), "{why}");
    let GetError::Refused(why) = judged(400, b"Client sent an HTTP request to an HTTPS server.\n") else {
        panic!()
    };
    assert!(
        why.contains("Client sent") && why.contains("https://") && why.contains("AWS_ENDPOINT_URL_S3"),
        "{why}"
    );
}

#[test]
fn the_region_of_a_bucket_is_found_anywhere_in_the_reply() {
    let in_header = |status, code: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-bucket-region", HeaderValue::from_static("eu-west-1"));
        judge(&place(), status, &headers, &body(code, ""))
    };
    let plain = |status, body: &[u8]| judge(&place(), status, &HeaderMap::new(), body);
    let in_text =
        b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region 'us-east-1' is wrong; \
                    expecting 'eu-west-1'</Message></Error>";
    for refusal in [
        in_header(301, ""),
        in_header(301, "PermanentRedirect"),
        in_header(400, ""),
        plain(301, &body("PermanentRedirect", "<Region>eu-west-1</Region>")),
        plain(400, &body("AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>")),
        plain(400, in_text),
    ] {
        assert_eq!(refusal.region.as_deref(), Some("eu-west-1"), "{refusal:?}");
    }
    let GetError::Refused(why) = in_header(301, "PermanentRedirect").error else { panic!() };
    assert!(why.contains("\"eu-west-1\"") && why.contains("AWS_REGION") && !why.contains('\n'), "{why}");
    for region in ["us-east-1", "evil.example/", ""] {
        let body = body("PermanentRedirect", &format!("<Region>{region}</Region>"));
        assert_eq!(plain(301, &body).region, None, "{region}");
    }
    assert_eq!(in_header(403, "AccessDenied").region, None);
}

#[test]
fn a_header_may_be_the_cause_only_if_the_reply_names_no_other() {
    for (status, code, may_be) in [
        (501, "NotImplemented", true),
        (400, "InvalidArgument", true),
        (400, "", true),
        (400, "ExpiredToken", false),
        (400, "AuthorizationHeaderMalformed", false),
        (403, "AccessDenied", false),
        (503, "", false),
    ] {
        let refusal = judge(&place(), status, &HeaderMap::new(), &body(code, ""));
        assert_eq!(refusal.may_be_a_header, may_be, "{status} {code}");
    }
}

#[test]
fn the_bucket_is_part_of_the_host_if_a_certificate_covers_it_or_on_request() {
    use Addressing::{Auto, Path, Virtual};

    let fips = Variant { fips: true, dual_stack: false };
    let dual = Variant { fips: false, dual_stack: true };
    let none = Variant::default();
    for (bucket, region, endpoint, addressing, variant, url) in [
        ("a-b1", "eu-west-1", None, Auto, none, "https://a-b1.s3.eu-west-1.amazonaws.com/"),
        ("a-b1", "cn-north-1", None, Auto, none, "https://a-b1.s3.cn-north-1.amazonaws.com.cn/"),
        ("a-b1", "eu-west-1", None, Path, none, "https://s3.eu-west-1.amazonaws.com/a-b1/"),
        ("a.b", "us-east-1", None, Auto, none, "https://s3.us-east-1.amazonaws.com/a.b/"),
        ("a.b", "us-east-1", None, Virtual, none, "https://a.b.s3.us-east-1.amazonaws.com/"),
        ("Old_One", "us-east-1", None, Auto, none, "https://s3.us-east-1.amazonaws.com/Old_One/"),
        ("a-b1", "us-east-1", None, Auto, fips, "https://a-b1.s3-fips.us-east-1.amazonaws.com/"),
        ("a-b1", "eu-west-1", None, Auto, dual, "https://a-b1.s3.dualstack.eu-west-1.amazonaws.com/"),
        ("a-b1", "x", Some("http://127.0.0.1:9000/s3"), Auto, none, "http://127.0.0.1:9000/s3/a-b1/"),
        ("a-b1", "x", Some("https://s3.example/p"), Virtual, none, "https://a-b1.s3.example/p/"),
        (
            "a-b1",
            "eu-west-1",
            Some("https://s3.dualstack.eu-west-1.amazonaws.com"),
            Auto,
            none,
            "https://a-b1.s3.dualstack.eu-west-1.amazonaws.com/",
        ),
        ("ap:mine", "eu-west-1", None, Auto, none, "https://mine-1.s3-accesspoint.eu-west-1.amazonaws.com/"),
        (
            "ap:mine",
            "eu-west-1",
            None,
            Auto,
            dual,
            "https://mine-1.s3-accesspoint.dualstack.eu-west-1.amazonaws.com/",
        ),
    ] {
        assert_eq!(Place::of(&settings(bucket, endpoint, addressing, variant), region).base, url);
    }
}

#[test]
fn a_bucket_that_is_already_in_the_endpoint_is_reported() {
    let hint = |endpoint: &str| {
        let settings = settings("bucket", Some(endpoint), Addressing::Auto, Variant::default());
        let refusal = GetError::Missing("NoSuchKey".into()).into();
        hints::of_answer(&settings, &Place::of(&settings, "us-east-1"), refusal).error
    };
    for endpoint in ["http://s3.example:9000/bucket", "https://bucket.s3.eu-west-1.amazonaws.com"] {
        assert!(
            matches!(hint(endpoint), GetError::Missing(why) if why.contains("AWS_ENDPOINT_URL_S3")),
            "{endpoint}"
        );
    }
    assert_eq!(hint("http://s3.example:9000"), GetError::Missing("NoSuchKey".into()));
}

#[test]
fn keys_with_dot_segments_have_no_url() {
    assert!(has_url("a/b..c/.d.db.zip") && has_url("//a"));
    assert!(!has_url("a/../b.db.zip") && !has_url("./b.db.zip"));
}
