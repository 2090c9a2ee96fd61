//! Classifies error replies.
//!
//! Source: Amazon S3 API Reference, "Error responses". Replies of other servers were observed.

use serde::Deserialize;
use ureq::http::HeaderMap;

use super::GetError;
use super::place::{Place, is_of_aws};
use crate::auth::aws::is_region;
use crate::http::retry_after;

/// Maximum length of a server's error text in messages, in characters.
const MAX_REASON_CHARS: usize = 400;

/// A classified error reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The error.
    pub(super) error: GetError,
    /// The region of the bucket, if the request was for another one.
    pub(super) region: Option<String>,
    /// Whether a request header may be the cause: the server does not understand the request.
    pub(super) may_be_a_header: bool,
}

impl From<GetError> for Refusal {
    fn from(error: GetError) -> Self {
        Self { error, region: None, may_be_a_header: false }
    }
}

/// The body of an error reply.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ErrorBody {
    code: String,
    message: String,
    region: Option<String>,
    storage_class: Option<String>,
}

/// Classifies a reply by its status, headers and body.
pub(super) fn judge(place: &Place, status: u16, headers: &HeaderMap, body: &[u8]) -> Refusal {
    let text = String::from_utf8_lossy(body);
    let parsed: Option<ErrorBody> = quick_xml::de::from_str(&text).ok();
    let is_known = parsed.as_ref().is_some_and(|body| !body.code.is_empty());
    let body = parsed.unwrap_or_default();
    let said = match is_known {
        true => printable(&format!("{} {}", body.code, body.message)),
        false if text.trim().is_empty() => String::new(),
        false => format!("without an S3 error, but with {:?}", printable(&text)),
    };
    let why = format!("{} answers HTTP {status} {said}", place.host()).trim_end().to_owned();
    let region = named_region(place, headers, &body);
    let unavailable = |why| GetError::Unavailable { why, retry_after: retry_after(headers) };
    let mut may_be_a_header = false;
    let error = match (status, body.code.as_str()) {
        // Retries do not help: the owner of the bucket has to restore the object.
        (_, "InvalidObjectState") => {
            let class =
                body.storage_class.map(|class| format!(" ({})", printable(&class))).unwrap_or_default();
            GetError::Denied(format!(
                "{why}: the object is archived{class}: restore it (s3:RestoreObject), then run again"
            ))
        }
        (_, code) if IS_BUSY.contains(&code) => unavailable(why),
        (_, code) if IS_SKEWED.contains(&code) => {
            GetError::Refused(format!("{why}: set the clock of this machine"))
        }
        (_, code) if HAS_WRONG_CREDENTIALS.contains(&code) => GetError::Credentials(why),
        (_, code) if IS_ELSEWHERE.contains(&code) => elsewhere(place, why, region.as_deref()),
        (301 | 302 | 303 | 307 | 308, _) => elsewhere(place, why, region.as_deref()),
        (400, _) if place.is_plain() && !is_known && text.to_ascii_lowercase().contains("https") => {
            GetError::Refused(format!(
                "{why}: AWS_ENDPOINT_URL_S3 begins with http://, but the port is for https://"
            ))
        }
        (401, _) => GetError::Credentials(why),
        (403, _) => GetError::Denied(why),
        (404, _) => GetError::Missing(why),
        (412 | 416, _) => GetError::Changed,
        (408 | 425 | 429, _) => unavailable(why),
        (500.., _) if status != 501 => unavailable(why),
        _ => {
            may_be_a_header = matches!(status, 400 | 405 | 501);
            GetError::Other(why)
        }
    };
    let is_elsewhere =
        IS_ELSEWHERE.contains(&body.code.as_str()) || (300..400).contains(&status) || status == 400;
    Refusal { error, region: region.filter(|_| is_elsewhere), may_be_a_header }
}

/// Classifies an error in the body of a successful reply: S3 may fail after it has sent the status.
pub(in super::super) fn judge_late(host: &str, code: &str, message: &str) -> GetError {
    let why = format!("{host} answers HTTP 200 with an error: {}", printable(&format!("{code} {message}")));
    match code {
        code if HAS_WRONG_CREDENTIALS.contains(&code) => GetError::Credentials(why),
        "AccessDenied" => GetError::Denied(why),
        "NoSuchBucket" | "NoSuchKey" => GetError::Missing(why),
        code if IS_BUSY.contains(&code) => GetError::unavailable(why),
        _ => GetError::Other(why),
    }
}

/// Returns the error if `text` is one in place of the body of a successful reply.
pub(super) fn error_in(host: &str, text: &[u8]) -> Option<GetError> {
    let text = text.trim_ascii_start();
    if !text.starts_with(b"<") {
        return None;
    }
    let ErrorBody { code, message, .. } = quick_xml::de::from_str(str::from_utf8(text).ok()?).ok()?;
    (!code.is_empty()).then(|| judge_late(host, &code, &message))
}

/// Codes for a busy server: a retry may help.
const IS_BUSY: [&str; 14] = [
    "SlowDown",
    "SlowDownRead",
    "RequestTimeout",
    "InternalError",
    "ServiceUnavailable",
    "ServerBusy",
    "Busy",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "OperationAborted",
    "XMinioServerNotInitialized",
];

/// Codes for clocks that differ.
const IS_SKEWED: [&str; 3] = ["RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"];

/// Codes for credentials that are wrong or have expired.
const HAS_WRONG_CREDENTIALS: [&str; 16] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "TokenRefreshRequired",
    "InvalidToken",
    "InvalidTokenId",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "InvalidAccessKey",
    "InvalidSecurity",
    "SignatureDoesNotMatch",
    "AuthFailure",
    "Unauthorized",
    "UnauthorizedAccess",
    "UnrecognizedClientException",
    "CredentialsNotSupported",
    "XMinioInvalidIAMCredentials",
];

/// Codes for a bucket in another region or at another address.
const IS_ELSEWHERE: [&str; 6] = [
    "PermanentRedirect",
    "TemporaryRedirect",
    "Redirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "InvalidRegion",
];

fn elsewhere(place: &Place, why: String, region: Option<&str>) -> GetError {
    GetError::Refused(match region {
        Some(region) => format!("{why}: the bucket is in the region {region:?}: set AWS_REGION"),
        None if is_of_aws(&place.base) => {
            format!("{why}: the bucket is not in the region {:?}: set AWS_REGION", place.region)
        }
        None => format!(
            "{why}: requests are signed for the region {:?}, and go to {}: check AWS_REGION and \
             AWS_ENDPOINT_URL_S3",
            place.region,
            place.host()
        ),
    })
}

/// Returns the region that a reply names for the bucket, if it is another one.
fn named_region(place: &Place, headers: &HeaderMap, body: &ErrorBody) -> Option<String> {
    let header = headers.get("x-amz-bucket-region").and_then(|value| value.to_str().ok()).map(str::to_owned);
    // For example: the region 'us-east-1' is wrong; expecting 'eu-west-1'.
    let quoted = || {
        let after = body.message.split_once("expecting ").or_else(|| body.message.split_once("expected "))?.1;
        let mut parts = after.trim_start().split(['\'', '"']);
        parts.nth(1).map(str::to_owned)
    };
    let region = header.or_else(|| body.region.clone()).or_else(quoted)?;
    let region = region.trim();
    (is_region(region) && region != place.region).then(|| region.to_owned())
}

/// Formats a server's text on one line. Replaces control characters, since they could forge log lines.
pub(in super::super) fn printable(text: &str) -> String {
    let one_line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    one_line.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_REASON_CHARS).collect()
}
