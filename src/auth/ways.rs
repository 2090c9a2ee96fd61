//! Reads which way to authenticate is set.

use std::sync::Arc;

use super::Auth;
use super::aws::CredentialSources;
use super::sigv4::Signer;
use super::stored::StoredSecret;
use crate::cli::choices::AwsService;
use crate::common::exit::Failure;
use crate::http::proxy::Proxies;
use crate::http::url::UserInfo;

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
    pub aws_sigv4: Option<AwsService>,
    /// Whether `--no-auth` is set.
    pub no_auth: bool,
    /// Base URLs of the server.
    pub urls: &'g [String],
    /// Finds the AWS region and credential sources.
    pub aws: AwsChain<'g>,
    /// The proxy for the services that provide AWS credentials.
    pub proxies: &'g Proxies,
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
}

/// Reads the settings of one way; None: nothing is set for it.
type Way = fn(&AuthSettings<'_>) -> Result<Option<Auth>, Failure>;

/// All ways, with their names in messages.
pub(super) const WAYS: [(&str, Way); 6] = [
    ("an API key (ELASTICSEARCH_API_KEY)", api_key),
    ("a user and password (--username or ELASTICSEARCH_USERNAME, with ELASTICSEARCH_PASSWORD)", basic),
    ("a user and password in ELASTICSEARCH_URL", basic_from_url),
    ("a bearer token (ELASTICSEARCH_BEARER_TOKEN)", bearer),
    ("AWS signatures (--aws-sigv4 or ELASTICSEARCH_AWS_SIGV4)", sigv4),
    ("--no-auth", no_auth),
];

pub(super) const API_KEY: &str = "ELASTICSEARCH_API_KEY";
pub(super) const USERNAME: &str = "ELASTICSEARCH_USERNAME";
pub(super) const PASSWORD: &str = "ELASTICSEARCH_PASSWORD";
pub(super) const BEARER_TOKEN: &str = "ELASTICSEARCH_BEARER_TOKEN";

fn api_key(given: &AuthSettings<'_>) -> Result<Option<Auth>, Failure> {
    let key = StoredSecret::find(API_KEY, given, |text| {
        let why = "it has white space, quotes or other characters that a key cannot have: set it to the `encoded` \
        value of an API key, or to its id and api_key with a colon between them";
        if may_be_token(text) { Ok(()) } else { Err(why) }
    })?;
    Ok(key.map(Auth::ApiKey))
}

/// Whether a text may be a key or a token. `docker --env-file` and systemd credentials keep quotes that a shell would
/// remove. Braces mean that a whole reply was copied, not only its key.
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
    let Some(service) = given.aws_sigv4 else { return Ok(None) };
    Signer::new(service, given).map(|signer| Some(Auth::SigV4(Arc::new(signer))))
}

fn no_auth(given: &AuthSettings<'_>) -> Result<Option<Auth>, Failure> {
    Ok(given.no_auth.then_some(Auth::NoAuth))
}
