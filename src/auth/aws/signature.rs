//! Signature Version 4: signs requests to AWS.
//!
//! Source: AWS Identity and Access Management User Guide, "AWS Signature Version 4 for API requests". The canonical
//! request comes from rust-s3.

use std::error::Error;

use aws_lc_rs::{digest, hmac};
use s3::signing::{canonical_request, signed_header_string};
use time::OffsetDateTime;
use time::macros::format_description;
use ureq::http::header::{AUTHORIZATION, HOST, InvalidHeaderValue};
use ureq::http::{HeaderMap, HeaderValue};
use url::{Position, Url};

use crate::common::secret::Secret;

/// Credentials that requests are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) access_key: String,
    pub(crate) secret_key: Secret,
    /// Session token of temporary keys.
    pub(crate) session_token: Option<Secret>,
    /// Expiry in milliseconds since 1970; None: unknown.
    pub(crate) expires: Option<i64>,
}

impl Credentials {
    /// Returns whether the credentials expire within `millis` milliseconds of `now`.
    pub(super) fn expire_within(&self, now: i64, millis: i64) -> bool {
        self.expires.is_some_and(|expires| expires.saturating_sub(now) < millis)
    }
}

/// Region and service that a signature is valid for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'s> {
    pub(crate) region: &'s str,
    /// Service name, as in `s3`.
    pub(crate) service: &'s str,
}

pub(crate) struct Signature {
    /// Scope as in `Credential`, after the access key.
    pub(crate) scope: String,
    /// Signature in hexadecimal digits.
    pub(crate) signature: String,
}

impl Signature {
    /// Signs a canonical request. `time` comes from [`time_of`].
    pub(crate) fn of(canonical: &str, credentials: &Credentials, scope: Scope<'_>, time: &str) -> Self {
        let (day, Scope { region, service }) = (time.get(..8).unwrap_or_default(), scope);
        let scope = format!("{day}/{region}/{service}/aws4_request");
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hash(canonical.as_bytes()));
        let secret = format!("AWS4{}", credentials.secret_key.expose());
        let key = [day, region, service, "aws4_request"]
            .iter()
            .fold(secret.into_bytes(), |key, part| mac(&key, part.as_bytes()));
        Self { scope, signature: hex(&mac(&key, to_sign.as_bytes())) }
    }
}

/// Formats a time as in signatures.
pub(crate) fn time_of(time: OffsetDateTime) -> Result<String, time::error::Format> {
    time.format(format_description!("[year][month][day]T[hour][minute][second]Z"))
}

/// Returns the SHA-256 of `bytes` in hexadecimal digits.
pub(crate) fn hash(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Adds the headers of a signature to a request. All `headers` are signed.
///
/// # Errors
///
/// Fails if a value cannot be put into a header.
pub(crate) fn sign(
    (method, url, body): (&str, &Url, &[u8]),
    headers: &mut HeaderMap,
    credentials: &Credentials,
    scope: Scope<'_>,
    now: OffsetDateTime,
) -> Result<(), Box<dyn Error>> {
    let (time, body) = (time_of(now)?, hash(body));
    headers.insert(HOST, host(url).parse()?);
    headers.insert("x-amz-date", time.parse()?);
    headers.insert("x-amz-content-sha256", body.parse()?);
    if let Some(token) = &credentials.session_token {
        headers.insert("x-amz-security-token", sensitive(token.expose())?);
    }
    let canonical = canonical_request(method, url, headers, &body)?;
    let Signature { scope, signature } = Signature::of(&canonical, credentials, scope, &time);
    let text = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
        credentials.access_key,
        signed_header_string(headers),
    );
    headers.insert(AUTHORIZATION, sensitive(&text)?);
    Ok(())
}

/// Returns the host of a URL, with its port unless it is the scheme's default.
pub(in crate::auth) fn host(url: &Url) -> String {
    url[Position::BeforeHost..Position::AfterPort].to_owned()
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Creates a header value that `Debug` does not print.
pub(crate) fn sensitive(text: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value: HeaderValue = text.parse()?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const SCOPE: Scope<'_> = Scope { region: "us-east-1", service: "s3" };

    /// Credentials of the examples that AWS publishes.
    fn published(session_token: Option<&str>) -> Credentials {
        Credentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session_token: session_token.map(Secret::new),
            expires: None,
        }
    }

    fn authorization(url: &str, headers: &[(&'static str, &str)], credentials: &Credentials) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let asked = ("GET", &url.parse().unwrap(), &b""[..]);
        sign(asked, &mut map, credentials, SCOPE, datetime!(2013-05-24 00:00 UTC)).unwrap();
        map[AUTHORIZATION].to_str().unwrap().to_owned()
    }

    /// Source: Amazon S3 API Reference, "Signature Calculations for the Authorization Header", example "GET Object".
    #[test]
    fn a_request_for_an_object_is_signed_as_in_the_published_example() {
        let url = "https://examplebucket.s3.amazonaws.com/test.txt";
        assert_eq!(
            authorization(url, &[("range", "bytes=0-9")], &published(None)),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
    }

    /// Source: the same, example "Get Bucket (List Objects)".
    #[test]
    fn a_request_for_a_listing_is_signed_as_in_the_published_example() {
        let url = "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J";
        assert!(
            authorization(url, &[], &published(None))
                .ends_with("34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")
        );
    }

    #[test]
    fn token_payer_range_and_condition_are_signed_and_secrets_are_not_shown() {
        let mut headers = HeaderMap::new();
        for name in ["x-amz-request-payer", "range", "if-match"] {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        let url = "http://127.0.0.1:9000/bucket/a%20b".parse().unwrap();
        let credentials = published(Some("hunter2"));
        sign(("GET", &url, b""), &mut headers, &credentials, SCOPE, datetime!(2013-05-24 00:00 UTC)).unwrap();
        let signed = "SignedHeaders=host;if-match;range;x-amz-content-sha256;x-amz-date;x-amz-request-payer;\
                      x-amz-security-token,";
        assert!(headers[AUTHORIZATION].to_str().unwrap().contains(signed));
        assert_eq!(headers[HOST], "127.0.0.1:9000");
        let shown = format!("{headers:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("Signature"), "{shown}");
    }
}
