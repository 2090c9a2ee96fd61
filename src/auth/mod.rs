//! Authenticates requests to Elasticsearch.
//!
//! Everything specific to one way of authentication is in this module: its settings, its headers, its secrets, and the
//! advice after a refusal. To add a way, add a function to `WAYS` (`ways.rs`), a variant of [`Auth`], and its flag.
//! Users must choose exactly one way; `--no-auth` is one, too.

mod amazon;
pub mod aws;
mod sigv4;
mod stored;
mod ways;

use std::sync::Arc;

use ureq::http::header::AUTHORIZATION;
use ureq::http::{HeaderMap, HeaderValue, Uri};

use self::amazon::{Amazon, amazon};
pub(crate) use self::amazon::{hides_api, is_amazons};
use self::aws::signature::sensitive;
use self::sigv4::Signer;
use self::stored::StoredSecret;
use self::ways::{API_KEY, WAYS};
pub use self::ways::{AuthSettings, AwsChain};
use crate::common::secret::Secret;
use crate::http::TransportError;

/// How requests authenticate.
#[derive(Clone, Debug)]
pub enum Auth {
    /// `Authorization: ApiKey …`.
    ApiKey(Arc<StoredSecret>),
    /// `Authorization: Basic …`: user and password.
    Basic(Arc<str>, Arc<StoredSecret>),
    /// `Authorization: Bearer …`.
    Bearer(Arc<StoredSecret>),
    /// AWS Signature Version 4.
    SigV4(Arc<Signer>),
    /// No authentication: the cluster has no security, or a proxy in front of it authenticates.
    NoAuth,
}

impl Auth {
    /// Creates an API key, for tests and benches.
    pub fn of_api_key(key: &str) -> Self {
        Self::ApiKey(Arc::new(StoredSecret::of_setting(API_KEY, Secret::new(key))))
    }

    /// Adds the headers that authenticate a request.
    ///
    /// # Errors
    ///
    /// Fails if there are no credentials, for now or at all.
    pub(crate) fn authorize(
        &self,
        method: &str,
        uri: &Uri,
        headers: &mut HeaderMap,
        body: &[u8],
    ) -> Result<(), TransportError> {
        if let Self::SigV4(signer) = self {
            return signer.sign((method, uri, body), headers);
        }
        if let Some(text) = self.authorization() {
            let value = sensitive(&text).map_err(|_| {
                TransportError::Refused(format!(
                    "{} has characters that an HTTP header cannot carry",
                    self.setting()
                ))
            })?;
            headers.insert(AUTHORIZATION, value);
        }
        Ok(())
    }

    /// Returns the value of `Authorization`, if it is the same for every request.
    fn authorization(&self) -> Option<String> {
        match self {
            Self::ApiKey(key) => {
                let key = key.current();
                let key = key.expose();
                // An encoded key is base64, which has no colon.
                Some(format!("ApiKey {}", if key.contains(':') { base64(key) } else { key.to_owned() }))
            }
            Self::Basic(user, password) => {
                Some(format!("Basic {}", base64(&format!("{user}:{}", password.current().expose()))))
            }
            Self::Bearer(token) => Some(format!("Bearer {}", token.current().expose())),
            Self::SigV4(_) | Self::NoAuth => None,
        }
    }

    /// Looks for new credentials after those in `sent` were refused: in a file that has changed, or from the AWS
    /// sources. Returns whether there are any.
    pub(crate) fn renew(&self, sent: &HeaderMap, status: u16, body: &[u8]) -> bool {
        match self {
            Self::ApiKey(stored) | Self::Basic(_, stored) | Self::Bearer(stored) => {
                let is_another = || {
                    let now = self.authorization();
                    now.as_ref().map(String::as_bytes) != sent.get(AUTHORIZATION).map(HeaderValue::as_bytes)
                };
                if status != 401 {
                    return false;
                }
                // Another thread may read the file at the same time, or may have read it since.
                if !is_another() {
                    stored.reload();
                }
                is_another()
            }
            Self::SigV4(signer) => matches!(status, 401 | 403) && signer.renew(sent, body),
            Self::NoAuth => false,
        }
    }

    /// Returns the advice for an answer that refuses the credentials themselves; None for any other answer.
    pub(crate) fn refusal(&self, status: u16, body: &[u8]) -> Option<String> {
        match (status, amazon(status, body), self) {
            (_, Some(_), Self::SigV4(signer)) => Some(signer.refusal(body)),
            (_, Some(Amazon::WantsSignature), _) => Some(
                "this is Amazon OpenSearch Service, which does not accept such credentials: sign requests \
                 with --aws-sigv4 es (aoss for Serverless); or, if the domain has a user of its own, \
                 authenticate with --username and ELASTICSEARCH_PASSWORD"
                    .to_owned(),
            ),
            (401, _, _) if !hides_api(status, body) => Some(self.advice()),
            _ => None,
        }
    }

    pub(crate) fn advice(&self) -> String {
        let setting = self.setting();
        match self {
            Self::ApiKey(_) => format!(
                "{setting} is refused: check that it is the `encoded` value of a key of this cluster, or its id and \
                 api_key with a colon between them, not expired and not invalidated"
            ),
            Self::Basic(user, _) => {
                format!("the user {user:?} is refused with the password of {setting}: check both")
            }
            Self::Bearer(_) => {
                format!(
                    "{setting} is refused: check that the token belongs to this cluster and has not expired"
                )
            }
            Self::SigV4(_) => {
                "the signature is refused: the server may not be an AWS service; remove --aws-sigv4"
                    .to_owned()
            }
            Self::NoAuth => {
                let ways: Vec<_> =
                    WAYS.iter().map(|(name, _)| *name).filter(|name| *name != "--no-auth").collect();
                format!(
                    "the server requires credentials, but --no-auth sends none: give {}",
                    ways.join(" or ")
                )
            }
        }
    }

    /// Returns the name of the setting that holds the secret.
    fn setting(&self) -> String {
        match self {
            Self::ApiKey(stored) | Self::Basic(_, stored) | Self::Bearer(stored) => stored.setting(),
            Self::SigV4(_) => "--aws-sigv4".to_owned(),
            Self::NoAuth => "--no-auth".to_owned(),
        }
    }

    /// Names the secret that others could read and use if requests are not encrypted.
    pub fn exposed_secret(&self) -> Option<&'static str> {
        match self {
            Self::ApiKey(_) => Some("the API key"),
            Self::Basic(..) => Some("the password"),
            Self::Bearer(_) => Some("the bearer token"),
            Self::SigV4(_) | Self::NoAuth => None,
        }
    }

    /// Masks current and earlier credentials in text from outside, such as a server's reply.
    pub(crate) fn cut_out_of(&self, text: &mut Vec<u8>) {
        for secret in self.secrets() {
            secret.cut_out_of(text);
        }
    }

    /// Returns everything that has to be masked.
    fn secrets(&self) -> Vec<Secret> {
        match self {
            Self::ApiKey(key) => key.all().into_iter().flat_map(|key| parts_of_key(&key)).collect(),
            Self::Basic(user, password) => {
                let pair = |password: &Secret| Secret::new(base64(&format!("{user}:{}", password.expose())));
                password.all().into_iter().flat_map(|password| [pair(&password), password]).collect()
            }
            Self::Bearer(token) => token.all(),
            Self::SigV4(signer) => signer.secrets(),
            Self::NoAuth => Vec::new(),
        }
    }
}

fn base64(text: &str) -> String {
    base64_simd::STANDARD.encode_to_string(text)
}

/// Returns all forms of an API key that have to be masked: `encoded`, id and secret, and the secret.
fn parts_of_key(key: &Secret) -> Vec<Secret> {
    let text = key.expose();
    let decoded = || String::from_utf8(base64_simd::STANDARD.decode_to_vec(text).ok()?).ok();
    let pair = if text.contains(':') { Some(text.to_owned()) } else { decoded() };
    let Some(pair) = pair else { return vec![key.clone()] };
    let secret = pair.split_once(':').map(|(_, secret)| Secret::new(secret));
    let encoded = Secret::new(base64(&pair));
    [Some(encoded), Some(Secret::new(pair)), secret].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
