//! AWS Signature Version 4 for Amazon OpenSearch Service and OpenSearch Serverless.
//!
//! Source: IAM User Guide, "Create a signed AWS API request"; OpenSearch Serverless Developer Guide, "Signing HTTP
//! requests with other clients". Serverless requires `x-amz-content-sha256`, and allows no signed length. The signature
//! covers only parts that no proxy changes: host, time, hash of the body, token.

use std::sync::Arc;
use std::time::Duration;

use s3::signing::uri_encode;
use time::OffsetDateTime;
use ureq::http::header::AUTHORIZATION;
use ureq::http::{HeaderMap, Uri};
use url::Url;

use super::AuthSettings;
use crate::auth::aws::signature::{self, Scope};
use crate::auth::aws::{CredentialError, Credentials, Provider};
use crate::cli::choices::AwsService;
use crate::common::exit::Failure;
use crate::common::secret::Secret;
use crate::http::{self, HttpSettings, TransportError};

/// Connect time-out for services that provide credentials.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Signs requests with credentials from the AWS sources.
pub struct Signer {
    region: String,
    service: AwsService,
    provider: Provider,
}

impl Signer {
    /// Creates a signer for an AWS service.
    pub(super) fn new(service: AwsService, given: &AuthSettings<'_>) -> Result<Self, Failure> {
        let of_host = given.urls.iter().find_map(|url| region_of_host(url));
        let (region, sources) = (given.aws)(of_host.as_deref())?;
        // Only the proxy setting applies to the services that provide credentials; the other connection settings are
        // for Elasticsearch.
        let agent = http::agent(&HttpSettings::new(given.proxies, CONNECT_LIMIT))?;
        let provider = Provider::new(sources, agent);
        Ok(Self { region, service, provider })
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
        let url = encoded_again(Url::parse(&uri.to_string())?, uri.path());
        let mut signed = HeaderMap::new();
        let now = OffsetDateTime::now_utc();
        signature::sign((method, &url, body), &mut signed, credentials, self.scope(), now)?;
        headers.extend(signed);
        Ok(())
    }

    fn scope(&self) -> Scope<'_> {
        Scope { region: &self.region, service: self.service.name() }
    }

    fn credentials(&self) -> Result<Arc<Credentials>, TransportError> {
        self.provider.get().map_err(|error| match error {
            CredentialError::Unavailable(why) => TransportError::Connect(why),
            CredentialError::Refused(why) => TransportError::Refused(why),
        })
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
        self.provider.secrets()
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({} {})", self.service.name(), self.region)
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

/// Returns a URL whose path is encoded once more than it is sent. Other services than S3 sign that.
fn encoded_again(mut url: Url, sent: &str) -> Url {
    url.set_path(&uri_encode(sent, false));
    url
}

#[cfg(test)]
mod tests;
