//! AWS Signature Version 4 for Amazon OpenSearch Service and OpenSearch Serverless.
//!
//! Source: IAM User Guide, "Create a signed AWS API request"; OpenSearch Serverless Developer Guide, "Signing HTTP
//! requests with other clients". Serverless requires `x-amz-content-sha256`, and allows no signed length. Signed are
//! only parts that no proxy changes: host, time, hash of the body, token.

use std::sync::Arc;
use std::time::Duration;

use s3::signing::uri_encode;
use time::OffsetDateTime;
use ureq::http::header::{AUTHORIZATION, HOST};
use ureq::http::{HeaderMap, HeaderValue, Uri};

use super::AuthSettings;
use crate::auth::aws::signature::{Scope, Signature, hash, sensitive, time_of};
use crate::auth::aws::{CredentialError, Credentials, Provider};
use crate::exit::Failure;
use crate::http::url::default_port;
use crate::http::{self, HttpSettings, TransportError};
use crate::mutex::Mutex;
use crate::secret::Secret;

/// Connect time-out for services that provide credentials.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Service names in signatures: OpenSearch Service and OpenSearch Serverless.
const SERVICES: [&str; 2] = ["es", "aoss"];

/// Signs requests with credentials from the AWS sources.
pub struct Signer {
    region: String,
    service: String,
    provider: Provider,
    /// All credentials used so far. They have to be masked.
    known: Mutex<Vec<Secret>>,
}

struct Request<'r> {
    method: &'r str,
    /// Path as it is sent.
    path: &'r str,
    /// Query as it is sent, without `?`.
    query: &'r str,
    /// Headers with lower-case names, sorted by name.
    headers: &'r [(&'r str, &'r str)],
    /// SHA-256 of the body, in hexadecimal digits.
    body: &'r str,
}

impl Signer {
    /// Creates a signer for an AWS service.
    pub(super) fn new(service: &str, given: &AuthSettings<'_>) -> Result<Self, Failure> {
        if !SERVICES.contains(&service) {
            return Err(Failure::usage(format!(
                "--aws-sigv4 (ELASTICSEARCH_AWS_SIGV4) is {service:?}: it takes es (Amazon OpenSearch Service) or aoss \
                 (OpenSearch Serverless)"
            )));
        }
        let of_host = given.urls.iter().find_map(|url| region_of_host(url));
        let (region, sources) = (given.aws)(of_host.as_deref())?;
        // Only the proxy setting applies to the services that provide credentials; the other connection settings are
        // for Elasticsearch.
        let agent = http::agent(&HttpSettings::new(given.proxies, CONNECT_LIMIT))?;
        let provider = Provider::new(sources, agent);
        Ok(Self { region, service: service.to_owned(), provider, known: Mutex::default() })
    }

    /// Adds the headers of a signature to a request: its method, URL and body.
    pub(super) fn sign(
        &self,
        request: (&str, &Uri, &[u8]),
        headers: &mut HeaderMap,
    ) -> Result<(), TransportError> {
        let credentials = self.credentials()?;
        self.add_signature(&credentials, request, headers)
            .map_err(|why| TransportError::Refused(format!("a request cannot be signed: {why}")))
    }

    fn add_signature(
        &self,
        credentials: &Credentials,
        (method, uri, body): (&str, &Uri, &[u8]),
        headers: &mut HeaderMap,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let (host, hash, time) = (host_of(uri), hash(body), time_of(OffsetDateTime::now_utc())?);
        let token = credentials.session_token.as_ref().map(|token| token.expose());
        let mut signed =
            vec![("host", host.as_str()), ("x-amz-content-sha256", &hash), ("x-amz-date", &time)];
        signed.extend(token.map(|token| ("x-amz-security-token", token)));
        let query = uri.query().unwrap_or_default();
        let request = Request { method, path: uri.path(), query, headers: &signed, body: &hash };
        let value = authorization(&request, credentials, self.scope(), &time);
        headers.insert(HOST, HeaderValue::try_from(&host)?);
        headers.insert("x-amz-date", HeaderValue::try_from(&time)?);
        headers.insert("x-amz-content-sha256", HeaderValue::try_from(&hash)?);
        if let Some(token) = token {
            headers.insert("x-amz-security-token", sensitive(token)?);
        }
        headers.insert(AUTHORIZATION, sensitive(&value)?);
        Ok(())
    }

    fn scope(&self) -> Scope<'_> {
        Scope { region: &self.region, service: &self.service }
    }

    fn credentials(&self) -> Result<Arc<Credentials>, TransportError> {
        let credentials = self.provider.get().map_err(|error| match error {
            CredentialError::Unavailable(why) => TransportError::Connect(why),
            CredentialError::Refused(why) => TransportError::Refused(why),
        })?;
        let mut known = self.known.lock();
        for secret in
            [Some(&credentials.secret_key), credentials.session_token.as_ref()].into_iter().flatten()
        {
            if !known.contains(secret) {
                known.push(secret.clone());
            }
        }
        Ok(credentials)
    }

    /// Returns whether there are other credentials than the refused ones.
    pub(super) fn renew(&self, sent: &HeaderMap, body: &[u8]) -> bool {
        if !String::from_utf8_lossy(body).to_ascii_lowercase().contains("security token") {
            return false;
        }
        let was_sent = |credentials: &Credentials| {
            let value = sent.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
            value.contains(&format!("Credential={}/", credentials.access_key))
        };
        let Ok(now) = self.credentials() else { return false };
        !was_sent(&now) || self.provider.renew_refused(&now, true).is_ok_and(|others| others.is_some())
    }

    pub(super) fn refusal(&self, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(body).to_ascii_lowercase();
        let Scope { region, service } = self.scope();
        if text.contains("is not authorized to perform") {
            return format!(
                "the AWS identity may not use this: allow it {service}:{} in its policy, and in that of the domain or \
                 collection",
                if service == "aoss" { "APIAccessAll" } else { "ESHttp*" }
            );
        }
        if text.contains("security token") {
            return "the AWS credentials are invalid or have expired: renew them".to_owned();
        }
        if text.contains("expired") || text.contains("not yet current") {
            return "the signature's time is refused: set the clock of this machine (NTP)".to_owned();
        }
        format!(
            "the signature for the service {service} in the region {region} is refused: check AWS credentials, \
             --aws-sigv4 and AWS_REGION"
        )
    }

    pub(super) fn secrets(&self) -> Vec<Secret> {
        self.known.lock().clone()
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({} {})", self.service, self.region)
    }
}

/// Returns the region in an AWS host name: `….REGION.es.amazonaws.com`, `….aos.REGION.on.aws`.
fn region_of_host(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let host = uri.host()?.to_ascii_lowercase();
    let host = host.trim_end_matches(".cn");
    let before = host
        .strip_suffix(".amazonaws.com")
        .map(|rest| rest.rsplit_once('.').map_or("", |(before, _)| before));
    let region = before.or_else(|| host.strip_suffix(".on.aws"))?.rsplit('.').next()?;
    region.contains('-').then(|| region.to_owned())
}

/// Returns the host as it is sent: without the scheme's default port.
fn host_of(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    match uri.port_u16().filter(|port| *port != default_port(uri)) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn authorization(request: &Request<'_>, credentials: &Credentials, scope: Scope<'_>, time: &str) -> String {
    let names: Vec<_> = request.headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String =
        request.headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    // Unlike for S3, the canonical request encodes the path once more than it is sent.
    let path = if request.path.is_empty() { "/".to_owned() } else { uri_encode(request.path, false) };
    let Request { method, query, body, .. } = request;
    let canonical = format!("{method}\n{path}\n{}\n{lines}\n{names}\n{body}", canonical_query(query));
    let Signature { scope, signature } = Signature::of(&canonical, credentials, scope, time);
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        credentials.access_key
    )
}

/// Builds the canonical query: encodes names and values strictly, and sorts them in their encoded form.
fn canonical_query(query: &str) -> String {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    let mut pairs: Vec<_> =
        pairs.map(|(name, value)| (uri_encode(&name, true), uri_encode(&value, true))).collect();
    pairs.sort();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests;
