//! Signature Version 4: the headers that prove who asks.
//!
//! Source: AWS Identity and Access Management User Guide, "AWS Signature Version 4 for API requests". The parts are
//! rust-s3's, as far as they are not for S3 alone.

use hmac::Mac;
use s3::error::S3Error;
use s3::region::Region;
use s3::signing::{HmacSha256, canonical_request, signed_header_string, signing_key};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::macros::format_description;
use ureq::http::header::{AUTHORIZATION, HOST, InvalidHeaderValue};
use ureq::http::{HeaderMap, HeaderValue};
use url::Url;

use super::credentials::Credentials;

/// What a signature is good for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'s> {
    /// Region of the service.
    pub(super) region: &'s str,
    /// The service, as in `s3`.
    pub(super) service: &'s str,
}

/// Adds to `headers`, all of which are signed, those that a signed request needs.
///
/// # Errors
///
/// Where something cannot be put into a header.
pub(super) fn sign(
    (method, url, body): (&str, &Url, &[u8]),
    headers: &mut HeaderMap,
    credentials: &Credentials,
    scope: Scope<'_>,
    now: OffsetDateTime,
) -> Result<(), S3Error> {
    let time = now.format(format_description!("[year][month][day]T[hour][minute][second]Z"))?;
    let day = &time[..8];
    let body = hex(&Sha256::digest(body));
    headers.insert(HOST, host(url).parse()?);
    headers.insert("x-amz-date", time.parse()?);
    headers.insert("x-amz-content-sha256", body.parse()?);
    if let Some(token) = &credentials.session_token {
        headers.insert("x-amz-security-token", sensitive(token.expose())?);
    }
    let Scope { region, service } = scope;
    let canonical = hex(&Sha256::digest(canonical_request(method, url, headers, &body)?));
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let region = Region::Custom { region: region.to_owned(), endpoint: String::new() };
    let key = signing_key(&now, credentials.secret_key.expose(), &region, service)?;
    let mut signature = HmacSha256::new_from_slice(&key)?;
    signature.update(format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{canonical}").as_bytes());
    let text = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={},Signature={}",
        credentials.access_key,
        signed_header_string(headers),
        hex(&signature.finalize().into_bytes())
    );
    headers.insert(AUTHORIZATION, sensitive(&text)?);
    Ok(())
}

/// The host of a URL, with its port where that is not the scheme's own.
pub(super) fn host(url: &Url) -> String {
    match (url.host_str().unwrap_or_default(), url.port()) {
        (host, None) => host.to_owned(),
        (host, Some(port)) => format!("{host}:{port}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A header that no `Debug` prints.
fn sensitive(text: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value: HeaderValue = text.parse()?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::secret::Secret;

    const SCOPE: Scope<'_> = Scope { region: "us-east-1", service: "s3" };

    /// The credentials of the examples that AWS publishes.
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
    fn an_object_is_asked_for_as_in_the_published_example() {
        let url = "https://examplebucket.s3.amazonaws.com/test.txt";
        assert_eq!(
            authorization(url, &[("range", "bytes=0-9")], &published(None)),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
    }

    /// Source: the same, example "Get Bucket (List Objects)".
    #[test]
    fn a_listing_is_asked_for_as_in_the_published_example() {
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
