//! Signed GET requests to one bucket. There is no other method here, so nothing can be written to it.

use std::error::Error;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use s3::region::Region;
use s3::signing::uri_encode;
use serde::Deserialize;
use time::OffsetDateTime;
use ureq::http::header::HeaderName;
use ureq::http::{HeaderMap, HeaderValue, Request, Response};
use ureq::{Agent, Body};
use url::Url;

use super::credentials::{CredentialError, Credentials, Provider};
use super::signature::sign;
use super::watched::Watched;
use crate::config::s3::S3;
use crate::exit::Failure;
use crate::http::{self, TransportError, retry_after};

/// Time for name, TCP connection and TLS handshake.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Time to the head of a reply.
const REPLY_LIMIT: Duration = Duration::from_secs(20);

/// Time in which at least something of a body has to come. Bodies as a whole have no limit: an archive may take as
/// long as it likes as long as it comes.
const READ_LIMIT: Duration = Duration::from_secs(15);

/// Downloads at once, at most.
pub(super) const MOST_DOWNLOADS: usize = 16;

/// Bytes of an error reply that are looked at.
const ERROR_BYTES: u64 = 64 << 10;

/// Time for the body of an error reply. Its status has come already, and is enough to go by.
const ERROR_LIMIT: Duration = Duration::from_secs(3);

/// Characters of a server's error text that are passed on at most.
const MAX_REASON_CHARS: usize = 400;

/// Why there is no object and no listing. No text in it holds a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GetError {
    /// Asking again may help: throttled, a 5xx, a broken connection.
    Unavailable {
        why: String,
        /// How long the server asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// Nothing will be answered: no valid credentials, another region, no trusted connection.
    Refused(String),
    /// 403: these credentials may not have this.
    Denied(String),
    /// 404.
    Missing(String),
    /// 412, 416: it is not the object that the request was made for.
    Changed,
    /// The credentials have expired.
    Expired(String),
    /// Anything else.
    Other(String),
}

impl GetError {
    /// Asking again may help, and nobody says when.
    pub(super) fn unavailable(why: impl Into<String>) -> Self {
        GetError::Unavailable { why: why.into(), retry_after: None }
    }
}

impl From<TransportError> for GetError {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Tls(_) => GetError::Refused(format!(
                "{error}: add the root with --ca-cert (ELASTICSEARCH_CA_CERT), which is trusted for S3, too"
            )),
            TransportError::Refused(why) => GetError::Refused(why),
            other => GetError::unavailable(other.to_string()),
        }
    }
}

/// The client. Its connections are shared by all threads.
pub(super) struct Client {
    agent: Agent,
    /// What keys are appended to; ends in `/`.
    base: String,
    region: Region,
    requester_pays: bool,
    credentials: Provider,
}

impl Client {
    /// A client for the given bucket. Opens no connection yet.
    ///
    /// # Errors
    ///
    /// A usage failure where the CA file cannot be used.
    pub(super) fn new(settings: &S3) -> Result<Self, Failure> {
        let agent = agent(settings)?;
        let region = settings.region.parse().map_err(|error| {
            Failure::usage(format!("AWS_REGION is {:?}, which is no region: {error}", settings.region))
        })?;
        Ok(Self {
            credentials: Provider::new(settings.credentials.clone(), agent.clone()),
            agent,
            base: base_url(&settings.bucket, &settings.region, settings.endpoint.as_deref()),
            region,
            requester_pays: settings.requester_pays,
        })
    }

    /// Asks for an object, or with an empty key for a listing. The reply is a success whose body is still to be
    /// read. Where the credentials have expired they are renewed once.
    ///
    /// # Errors
    ///
    /// [`GetError`]; never [`GetError::Expired`].
    pub(super) fn get(
        &self,
        key: &str,
        query: &[(&str, &str)],
        headers: &[(HeaderName, String)],
    ) -> Result<Response<Body>, GetError> {
        let url = self.url(key, query)?;
        let credentials = self.credentials()?;
        match self.get_with(&credentials, &url, headers) {
            Err(GetError::Expired(_)) => {}
            done => return done,
        }
        self.credentials.forget(&credentials);
        let credentials = self.credentials()?;
        self.get_with(&credentials, &url, headers).map_err(|error| match error {
            GetError::Expired(why) => {
                GetError::Refused(format!("{why} (and so have the renewed credentials)"))
            }
            other => other,
        })
    }

    fn credentials(&self) -> Result<Arc<Credentials>, GetError> {
        self.credentials.get().map_err(|error| match error {
            CredentialError::Unavailable(why) => GetError::unavailable(why),
            CredentialError::Refused(why) => GetError::Refused(why),
        })
    }

    fn get_with(
        &self,
        credentials: &Credentials,
        url: &Url,
        headers: &[(HeaderName, String)],
    ) -> Result<Response<Body>, GetError> {
        let request = self
            .request(credentials, url, headers)
            .map_err(|why| GetError::Refused(format!("the request cannot be signed: {why}")))?;
        let mut response = self.agent.run(request).map_err(TransportError::from)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let mut body = Vec::new();
        let reader = Watched::new(response.body_mut().as_reader(), ERROR_LIMIT, None);
        if let Err(error) = reader.take(ERROR_BYTES).read_to_end(&mut body) {
            log::debug!("the reply with an error of S3 ends early: {error}");
        }
        // It may quote the request, and with it the session token.
        credentials.secret_key.cut_out_of(&mut body);
        credentials.session_token.iter().for_each(|token| token.cut_out_of(&mut body));
        Err(judge(response.status().as_u16(), &body, retry_after(response.headers())))
    }

    fn request(
        &self,
        credentials: &Credentials,
        url: &Url,
        headers: &[(HeaderName, String)],
    ) -> Result<Request<()>, Box<dyn Error>> {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.insert(name.clone(), value.parse()?);
        }
        if self.requester_pays {
            all.insert("x-amz-request-payer", HeaderValue::from_static("requester"));
        }
        sign(url, &mut all, credentials, &self.region, OffsetDateTime::now_utc())?;
        let mut request = Request::get(url.as_str()).body(())?;
        *request.headers_mut() = all;
        Ok(request)
    }

    fn url(&self, key: &str, query: &[(&str, &str)]) -> Result<Url, GetError> {
        let mut text = format!("{}{}", self.base, uri_encode(key, false));
        for (n, (name, value)) in query.iter().enumerate() {
            let separator = if n == 0 { '?' } else { '&' };
            text.push_str(&format!("{separator}{name}={}", uri_encode(value, true)));
        }
        Url::parse(&text).map_err(|error| GetError::Other(error.to_string()))
    }
}

/// Whether a key can be asked for. URLs with a segment `.` or `..` mean another key, so such a key has none.
pub(super) fn has_url(key: &str) -> bool {
    key.split('/').all(|segment| segment != "." && segment != "..")
}

/// The URL that keys are appended to. The bucket is part of the path where the server is named, or where its name
/// is none of a host that the wildcard certificate of AWS is for.
fn base_url(bucket: &str, region: &str, endpoint: Option<&str>) -> String {
    if let Some(endpoint) = endpoint {
        return format!("{endpoint}/{bucket}/");
    }
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let is_label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if bucket.chars().all(is_label) {
        format!("https://{bucket}.s3.{region}.{suffix}/")
    } else {
        format!("https://s3.{region}.{suffix}/{bucket}/")
    }
}

fn agent(settings: &S3) -> Result<Agent, Failure> {
    let sources = &settings.credentials;
    let asks_sts = sources.web_identity.is_some() || sources.profile.config_file.is_some();
    let is_https = settings.endpoint.as_ref().is_none_or(|url| url.starts_with("https:"))
        || asks_sts && sources.sts_url.starts_with("https:")
        || sources.container.as_ref().is_some_and(|container| container.url.starts_with("https:"));
    http::agent(&http::Settings {
        ca_cert: settings.ca_cert.as_deref(),
        ca_fingerprint: None,
        client_cert: None,
        is_https,
        skip_tls_verify: false,
        proxies: &settings.proxies,
        connect_limit: CONNECT_LIMIT,
        head_limit: Some(REPLY_LIMIT),
        read_limit: Some(READ_LIMIT),
        // One for each download.
        idle_connections: MOST_DOWNLOADS,
    })
}

/// The body of an error reply.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ErrorBody {
    code: String,
    message: String,
    region: Option<String>,
}

/// What a reply means that is no success.
///
/// Source: Amazon S3 API Reference, "Error responses".
fn judge(status: u16, body: &[u8], retry_after: Option<Duration>) -> GetError {
    let body: ErrorBody = quick_xml::de::from_str(&String::from_utf8_lossy(body)).unwrap_or_default();
    // Control characters could forge lines of a log.
    let said = format!("{} {}", body.code, body.message);
    let said: String =
        said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON_CHARS).collect();
    let why = format!("S3 answers HTTP {status} {said}").trim_end().to_owned();
    match (status, body.code.as_str()) {
        (_, "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired") => GetError::Expired(why),
        (_, "SlowDown" | "RequestTimeout" | "InternalError" | "ServiceUnavailable") => {
            GetError::Unavailable { why, retry_after }
        }
        (408 | 429 | 500 | 502 | 503 | 504, _) => GetError::Unavailable { why, retry_after },
        (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "InvalidClientTokenId") => {
            GetError::Refused(format!("{why}: the credentials are wrong"))
        }
        (_, "RequestTimeTooSkewed") => GetError::Refused(format!("{why}: set the clock of this machine")),
        (
            _,
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException",
        )
        | (301 | 302 | 303 | 307 | 308, _) => GetError::Refused(match body.region {
            Some(region) => format!("{why}: the bucket is in the region {region:?}: set AWS_REGION"),
            None => format!("{why}: the bucket is elsewhere: set AWS_REGION or AWS_ENDPOINT_URL_S3"),
        }),
        (401, _) => GetError::Refused(why),
        (403, _) => GetError::Denied(why),
        (404, _) => GetError::Missing(why),
        (412 | 416, _) => GetError::Changed,
        _ => GetError::Other(why),
    }
}

#[cfg(test)]
mod tests;
