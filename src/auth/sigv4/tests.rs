//! Tests of signatures, with the published test suite.

use s3::signing::canonical_request;

use super::*;
use crate::auth::aws::signature::{Signature, hash, host};

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const TIME: &str = "20150830T123600Z";

/// Returns the signature of a request in the "AWS Signature Version 4 Test Suite". Its requests are to
/// `example.amazonaws.com` in 2015.
fn signature(method: &str, path: &str, query: &str, more: &[(&'static str, &str)], body: &[u8]) -> String {
    let mut headers = HeaderMap::new();
    for (name, value) in [("host", "example.amazonaws.com"), ("x-amz-date", TIME)].iter().chain(more) {
        headers.insert(*name, value.parse().unwrap());
    }
    let credentials = Credentials {
        access_key: "AKIDEXAMPLE".into(),
        secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        session_token: None,
        expires: None,
    };
    let url = Url::parse(&format!("https://example.amazonaws.com/?{query}")).unwrap();
    let canonical = canonical_request(method, &encoded_again(url, path), &headers, &hash(body)).unwrap();
    let scope = Scope { region: "us-east-1", service: "service" };
    let signature = Signature::of(&canonical, &credentials, scope, TIME);
    assert_eq!(signature.scope, "20150830/us-east-1/service/aws4_request");
    signature.signature
}

/// Source: "AWS Signature Version 4 Test Suite": get-vanilla, post-vanilla, get-vanilla-query-order-key-case,
/// get-unreserved, get-utf8, get-vanilla-utf8-query, post-x-www-form-urlencoded.
#[test]
fn requests_are_signed_as_in_the_published_test_suite() {
    let unreserved = "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let form = ("content-type", "application/x-www-form-urlencoded");
    for (signed, expected) in [
        (
            signature("GET", "/", "", &[], b""),
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            signature("POST", "/", "", &[], b""),
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            signature("GET", "/", "Param2=value2&Param1=value1", &[], b""),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            signature("GET", unreserved, "", &[], b""),
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
        ),
        (
            signature("GET", "/\u{1234}", "", &[], b""),
            "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
        ),
        (
            signature("GET", "/", "\u{1234}=bar", &[], b""),
            "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
        ),
        (
            signature("POST", "/", "", &[form], b"Param1=value1"),
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ] {
        assert_eq!(signed, expected);
    }
    assert_eq!(hash(b""), EMPTY);
}

#[test]
fn paths_are_encoded_twice_and_queries_are_encoded_again() {
    let url = Url::parse("https://a/posts,post%2Ctombstones/_flush?b=*.x,y&a&a=%20%2c").unwrap();
    let path = url.path().to_owned();
    let canonical = canonical_request("GET", &encoded_again(url, &path), &HeaderMap::new(), "").unwrap();
    let expected = "GET\n/posts%2Cpost%252Ctombstones/_flush\na=&a=%20%2C&b=%2A.x%2Cy\n";
    assert!(canonical.starts_with(expected), "{canonical}");
}

#[test]
fn a_host_name_of_aws_contains_its_region() {
    for (url, region) in [
        ("https://search-x-abc.eu-west-1.es.amazonaws.com", Some("eu-west-1")),
        ("https://vpc-x-abc.cn-north-1.es.amazonaws.com.cn:443/", Some("cn-north-1")),
        ("https://abc.us-gov-west-1.aoss.amazonaws.com", Some("us-gov-west-1")),
        ("https://search-x-abc.aos.eu-central-1.on.aws", Some("eu-central-1")),
        ("https://es.example", None),
        ("http://127.0.0.1:9200", None),
    ] {
        assert_eq!(region_of_host(url).as_deref(), region, "{url}");
    }
}

#[test]
fn a_host_is_sent_without_the_default_port() {
    for (url, expected) in [
        ("https://a:443/", "a"),
        ("http://a:80/", "a"),
        ("https://a:80/", "a:80"),
        ("http://[::1]:9200", "[::1]:9200"),
    ] {
        assert_eq!(host(&url.parse().unwrap()), expected);
    }
}
