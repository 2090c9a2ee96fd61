//! Authenticates requests to Elasticsearch.
//!
//! Everything specific to one way of authentication is in this module: its settings, its headers, its secrets, and the
//! advice after a refusal. To add a way, add a function to `WAYS`, a variant of [`Auth`], and its flag. Users must
//! choose exactly one way; `--no-auth` is one, too.

pub mod aws;
mod sigv4;
mod stored;

use std::sync::Arc;

use ureq::http::header::AUTHORIZATION;
use ureq::http::{HeaderMap, HeaderValue, Uri};

use self::aws::CredentialSources;
use self::sigv4::Signer;
use self::stored::StoredSecret;
use crate::exit::Failure;
use crate::http::url::UserInfo;
use crate::http::{TransportError, proxy::Proxies};
use crate::secret::Secret;

/// Returns the region (the given one, if any) and the sources of credentials for it.
pub type AwsChain<'g> = &'g dyn Fn(Option<&str>) -> Result<(String, CredentialSources), Failure>;

/// Settings that authentication is read from.
pub struct AuthSettings<'g> {
    /// Looks up an environment variable.
    pub variable: &'g dyn Fn(&str) -> Option<String>,
    /// Value of `--username`, else of its variable.
    pub username: Option<String>,
    /// User and password in the URL.
    pub user_info: Option<UserInfo>,
    /// Value of `--aws-sigv4`, else of its variable.
    pub aws_sigv4: Option<String>,
    /// Whether `--no-auth` is set.
    pub no_auth: bool,
    /// Base URLs of the server.
    pub urls: &'g [String],
    /// Finds the AWS region and credential sources.
    pub aws: AwsChain<'g>,
    /// The proxy for the services that provide AWS credentials.
    pub proxies: &'g Proxies,
}

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

/// Reads the settings of one way; None: nothing is set for it.
type Way = fn(&AuthSettings<'_>) -> Result<Option<Auth>, Failure>;

/// All ways, with their names in messages.
const WAYS: [(&str, Way); 6] = [
    ("an API key (ELASTICSEARCH_API_KEY)", api_key),
    ("a user and password (--username or ELASTICSEARCH_USERNAME, with ELASTICSEARCH_PASSWORD)", basic),
    ("a user and password in ELASTICSEARCH_URL", basic_from_url),
    ("a bearer token (ELASTICSEARCH_BEARER_TOKEN)", bearer),
    ("AWS signatures (--aws-sigv4 or ELASTICSEARCH_AWS_SIGV4)", sigv4),
    ("--no-auth", no_auth),
];

const API_KEY: &str = "ELASTICSEARCH_API_KEY";
const USERNAME: &str = "ELASTICSEARCH_USERNAME";
const PASSWORD: &str = "ELASTICSEARCH_PASSWORD";
const BEARER_TOKEN: &str = "ELASTICSEARCH_BEARER_TOKEN";

fn api_key(given: &AuthSettings<'_>) -> Result<Option<Auth>, Failure> {
    let key = StoredSecret::find(API_KEY, given, |text| {
        let why = "it has white space, quotes or other characters that a key cannot have: set it to the `encoded` \
        value of an API key, or to its id and api_key with a colon between them";
        if may_be_token(text) { Ok(()) } else { Err(why) }
    })?;
    Ok(key.map(Auth::ApiKey))
}

/// Whether a text may be a key or a token. Quotes are what a shell would have removed, but `docker --env-file` and systemd
/// credentials keep; braces are those of a whole reply with a key in it.
fn may_be_token(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && !br#""'`{}"#.contains(&byte))
}

fn basic(given: &AuthSettings<'_>) -> Result<Option<Auth>, Failure> {
    let password = StoredSecret::find(PASSWORD, given, |_| Ok(()))?;
    let of_url =
        given.user_info.as_ref().filter(|info| info.password.is_none()).map(|info| info.user.clone());
    match (given.username.clone().or(of_url), password) {
        (Some(user), Some(password)) => {
            if user.contains(':') {
                return Err(Failure::usage(
                    "--username (ELASTICSEARCH_USERNAME) has a colon, which a user name cannot have",
                ));
            }
            Ok(Some(Auth::Basic(user.trim().into(), password)))
        }
        (Some(_), None) => Err(Failure::usage(format!(
            "a user name is given, but no password: set {PASSWORD}, or name a file that holds it in {PASSWORD}_FILE"
        ))),
        (None, Some(_)) => Err(Failure::usage(format!(
            "{PASSWORD} is set, but no user name: give it with --username ({USERNAME})"
        ))),
        (None, None) => Ok(None),
    }
}

fn basic_from_url(given: &AuthSettings<'_>) -> Result<Option<Auth>, Failure> {
    let Some(UserInfo { user, password: Some(password) }) = &given.user_info else { return Ok(None) };
    let password = StoredSecret::of_setting("ELASTICSEARCH_URL", password.clone());
    Ok(Some(Auth::Basic(user.as_str().into(), Arc::new(password))))
}

fn bearer(given: &AuthSettings<'_>) -> Result<Option<Auth>, Failure> {
    let token = StoredSecret::find(BEARER_TOKEN, given, |text| {
        let why = "it has white space, quotes or other characters that a token cannot have";
        if may_be_token(text) { Ok(()) } else { Err(why) }
    })?;
    Ok(token.map(Auth::Bearer))
}

fn sigv4(given: &AuthSettings<'_>) -> Result<Option<Auth>, Failure> {
    let Some(service) = &given.aws_sigv4 else { return Ok(None) };
    Signer::new(service, given).map(|signer| Some(Auth::SigV4(Arc::new(signer))))
}

fn no_auth(given: &AuthSettings<'_>) -> Result<Option<Auth>, Failure> {
    Ok(given.no_auth.then_some(Auth::NoAuth))
}

impl Auth {
    /// Reads the one way that is set.
    ///
    /// # Errors
    ///
    /// Returns a usage failure if no way or more than one is set, or if its settings are incomplete or cannot be read.
    /// The failure holds no secret.
    pub fn read(given: &AuthSettings<'_>) -> Result<Self, Failure> {
        let mut found: Option<(&str, Self)> = None;
        for (name, way) in WAYS {
            let Some(auth) = way(given)? else { continue };
            if let Some((other, _)) = found {
                return Err(Failure::usage(format!(
                    "two ways to authenticate are given: {other}, and {name}: remove one of them"
                )));
            }
            found = Some((name, auth));
        }
        found.map(|(_, auth)| auth).ok_or_else(|| {
            let ways: Vec<_> = WAYS.iter().map(|(name, _)| *name).collect();
            Failure::usage(format!(
                "no way to authenticate to Elasticsearch is given: give one of {}; or use --dry-run to \
                 write nothing",
                ways.join(", ")
            ))
        })
    }

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
            return signer.sign(method, uri, headers, body);
        }
        if let Some(text) = self.authorization() {
            let mut value = HeaderValue::try_from(text).map_err(|_| {
                TransportError::Refused(format!(
                    "{} has characters that an HTTP header cannot carry",
                    self.setting()
                ))
            })?;
            // Keeps the value out of `Debug` output.
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(())
    }

    /// Returns the value of `Authorization`, if it is the same for every request.
    fn authorization(&self) -> Option<String> {
        let base64 = |text: &str| base64_simd::STANDARD.encode_to_string(text);
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
            (401, _, _) => Some(self.advice()),
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
        let base64 = |text: &str| Secret::new(base64_simd::STANDARD.encode_to_string(text));
        match self {
            Self::ApiKey(key) => key.all().into_iter().flat_map(|key| parts_of_key(&key)).collect(),
            Self::Basic(user, password) => {
                let pair = |password: &Secret| base64(&format!("{user}:{}", password.expose()));
                password.all().into_iter().flat_map(|password| [pair(&password), password]).collect()
            }
            Self::Bearer(token) => token.all(),
            Self::SigV4(signer) => signer.secrets(),
            Self::NoAuth => Vec::new(),
        }
    }
}

/// Returns all forms of an API key that have to be masked: `encoded`, id and secret, and the secret.
fn parts_of_key(key: &Secret) -> Vec<Secret> {
    let text = key.expose();
    let decoded = || String::from_utf8(base64_simd::STANDARD.decode_to_vec(text).ok()?).ok();
    let pair = if text.contains(':') { Some(text.to_owned()) } else { decoded() };
    let Some(pair) = pair else { return vec![key.clone()] };
    let secret = pair.split_once(':').map(|(_, secret)| Secret::new(secret));
    let encoded = Secret::new(base64_simd::STANDARD.encode_to_string(&pair));
    [Some(encoded), Some(Secret::new(pair)), secret].into_iter().flatten().collect()
}

/// Refusals by Amazon's services. Elasticsearch does not send these texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Amazon {
    /// The service accepts only signed requests, or those of a user of the domain.
    WantsSignature,
    RefusesSignature,
}

/// Returns whether an answer refuses credentials with a text of Amazon's services.
///
/// Source: Amazon OpenSearch Service Developer Guide, "Troubleshooting"; IAM User Guide, "Troubleshoot Signature
/// Version 4 signing". The texts are compared in lower case, since services write them differently.
pub(crate) fn is_amazons(status: u16, body: &[u8]) -> bool {
    amazon(status, body).is_some()
}

fn amazon(status: u16, body: &[u8]) -> Option<Amazon> {
    if !matches!(status, 400 | 401 | 403) {
        return None;
    }
    let text = String::from_utf8_lossy(body.get(..body.len().min(4096))?).to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&[
        "authorization header requires",
        "(missing equal-sign) in authorization header",
        "missing authentication token",
        "user: anonymous is not authorized",
    ]) {
        return Some(Amazon::WantsSignature);
    }
    has(&[
        "request signature we calculated",
        "security token included in the request",
        "credential should be scoped",
        "signature expired",
        "signature not yet current",
        "is not authorized to perform: es:",
        "is not authorized to perform: aoss:",
    ])
    .then_some(Amazon::RefusesSignature)
}

#[cfg(test)]
mod tests;
