//! Credentials of an IAM Identity Center (SSO) log-in. The log-in itself needs a browser: the AWS tools do it, and
//! store the token that is read here.
//!
//! Source: AWS SDKs and Tools Reference Guide, "IAM Identity Center credential provider"; AWS IAM Identity Center
//! Portal API Reference, "GetRoleCredentials".

use std::fs;
use std::path::Path;

use s3::signing::uri_encode;
use serde::Deserialize;
use ureq::Agent;
use ureq::http::Request;

use super::request::{CONNECT_REMOTE, ask};
use super::{Credentials, StepError};
use crate::auth::aws::shared::{Section, set_in};
use crate::auth::aws::{Profile, is_region};
use crate::common::secret::Secret;
use crate::common::timestamp::{now_millis, parse_rfc3339_millis};
use crate::files;

/// Maximum number of cache files that are read.
const MAX_FILES: usize = 1_000;

/// Parameters of an SSO log-in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Login {
    start_url: String,
    region: String,
    account_id: String,
    role_name: String,
}

impl Login {
    /// Reads the log-in of a profile; None: the profile has none.
    pub(super) fn of(section: &Section, profile: &Profile) -> Result<Option<Self>, String> {
        let of_profile = |setting: &str| set_in(section, setting);
        let session = match of_profile("sso_session") {
            Some(name) => profile.named("sso-session", &name).ok_or_else(|| {
                format!("names the section [sso-session {name}], which is not in the config file")
            })?,
            None if of_profile("sso_start_url").is_some() => section.clone(),
            None => return Ok(None),
        };
        let needed = |section: &Section, setting: &str| {
            set_in(section, setting).ok_or_else(|| format!("uses SSO, but has no {setting}"))
        };
        let region = needed(&session, "sso_region")?;
        if !is_region(&region) {
            return Err(format!("has sso_region {region:?}, which is not a region"));
        }
        Ok(Some(Self {
            start_url: needed(&session, "sso_start_url")?,
            region,
            account_id: needed(section, "sso_account_id")?,
            role_name: needed(section, "sso_role_name")?,
        }))
    }
}

/// Requests the credentials of the role with the token of the log-in.
pub(super) fn credentials(
    agent: &Agent,
    url: Option<&str>,
    cache: Option<&Path>,
    login: &Login,
) -> Result<Credentials, StepError> {
    let refused = |why: &str| StepError::Refused(format!("uses SSO, but {why}"));
    let token = cache.and_then(|cache| token(cache, login)).ok_or_else(|| refused("there is no log-in"))?;
    if token.expires.is_none_or(|expires| expires <= now_millis()) {
        return Err(refused("the log-in has expired"));
    }
    let suffix = if login.region.starts_with("cn-") { ".cn" } else { "" };
    let url = url
        .map_or_else(|| format!("https://portal.sso.{}.amazonaws.com{suffix}", login.region), str::to_owned);
    let query = format!(
        "role_name={}&account_id={}",
        uri_encode(&login.role_name, true),
        uri_encode(&login.account_id, true)
    );
    let request = Request::get(format!("{url}/federation/credentials?{query}"))
        .header("x-amz-sso_bearer_token", token.access_token.expose())
        .body(());
    let (status, body) =
        ask(agent, request, CONNECT_REMOTE).map_err(|why| StepError::Unavailable(format!("{url}: {why}")))?;
    match status {
        200 => parse(&body).ok_or_else(|| StepError::Unavailable(format!("{url}: the reply cannot be read"))),
        429 | 500.. => Err(StepError::Unavailable(format!("{url} answers HTTP {status}"))),
        _ => Err(refused(&format!("{url} answers HTTP {status}"))),
    }
}

/// A token in the cache of the AWS tools.
struct Token {
    access_token: Secret,
    /// Expiry in milliseconds since 1970; None: it cannot be parsed.
    expires: Option<i64>,
}

/// Returns the token of a log-in; of several, the one that expires last. The tools name the files by various hashes, so
/// files are matched by their content.
fn token(cache: &Path, login: &Login) -> Option<Token> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Cached {
        start_url: String,
        access_token: String,
        expires_at: String,
        region: Option<String>,
    }
    let same = |a: &str, b: &str| a.trim_end_matches(['/', '#']) == b.trim_end_matches(['/', '#']);
    let read = |entry: fs::DirEntry| -> Option<Token> {
        let path = entry.path();
        if path.extension()? != "json" {
            return None;
        }
        let cached: Cached = serde_json::from_str(&files::read_to_string(&path).ok()?).ok()?;
        let is_of_login = same(&cached.start_url, &login.start_url)
            && cached.region.is_none_or(|region| region == login.region);
        // Older tools write `UTC` as the time zone.
        let expires = parse_rfc3339_millis(&cached.expires_at.replace("UTC", "Z"));
        is_of_login.then(|| Token { access_token: Secret::new(cached.access_token), expires })
    };
    fs::read_dir(cache)
        .ok()?
        .take(MAX_FILES)
        .filter_map(|entry| read(entry.ok()?))
        .max_by_key(|token| token.expires)
}

fn parse(body: &[u8]) -> Option<Credentials> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Reply {
        role_credentials: KeySource,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct KeySource {
        access_key_id: String,
        secret_access_key: String,
        session_token: String,
        /// Milliseconds since 1970.
        expiration: i64,
    }
    let given = serde_json::from_slice::<Reply>(body).ok()?.role_credentials;
    Some(Credentials {
        access_key: given.access_key_id,
        secret_key: Secret::new(given.secret_access_key),
        session_token: Some(Secret::new(given.session_token)),
        expires: Some(given.expiration),
    })
}
