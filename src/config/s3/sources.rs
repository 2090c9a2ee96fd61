//! The possible sources of credentials.

use std::path::{Path, PathBuf};

use ureq::http::Uri;

use super::Variant;
use crate::auth::aws::shared::Section;
use crate::auth::aws::{Container, CredentialSources, KeySource, Keys, Profile, Sts, WebIdentity};
use crate::cli::entries;
use crate::cli::settings::Settings;
use crate::common::exit::Failure;
use crate::common::secret::Secret;
use crate::http::url::is_loopback;

/// Credential endpoints of ECS and EKS. Besides this machine, only these may be used over plain http.
const CONTAINER_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];

impl Settings<'_> {
    pub(super) fn credential_sources(
        &self,
        region: &str,
        variant: Variant,
        profile: Profile,
    ) -> Result<CredentialSources, Failure> {
        let web_identity = self.trimmed("AWS_WEB_IDENTITY_TOKEN_FILE").zip(self.trimmed("AWS_ROLE_ARN"));
        let session_name =
            self.trimmed("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "megastream_ingest".to_owned());
        let metadata_off = self.switch("AWS_EC2_METADATA_DISABLED")?;
        let instance_url = self
            .url(&["AWS_EC2_METADATA_SERVICE_ENDPOINT"])?
            .unwrap_or_else(|| "http://169.254.169.254".to_owned());
        let (suffix, fips) =
            (if region.starts_with("cn-") { ".cn" } else { "" }, if variant.fips { "-fips" } else { "" });
        let sts_url = self
            .endpoint(&["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"], || None)?
            .unwrap_or_else(|| format!("https://sts{fips}.{region}.amazonaws.com{suffix}"));
        Ok(CredentialSources {
            keys: self.all_keys()?,
            profile,
            web_identity: web_identity.map(|(token_file, role_arn)| WebIdentity {
                token_file: token_file.into(),
                role_arn,
                session_name,
            }),
            sts: Sts { url: sts_url, region: region.to_owned() },
            sso_url: self.endpoint(&["AWS_ENDPOINT_URL_SSO", "AWS_ENDPOINT_URL"], || None)?,
            container: self.container()?,
            instance_url: (!metadata_off).then_some(instance_url),
        })
    }

    /// Reads the keys of the environment. A session token belongs to this program's own keys if they are set, unless AWS
    /// keys with another access key are set as well.
    fn all_keys(&self) -> Result<Option<Keys>, Failure> {
        let of_aws = self.keys("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
        let token = self.given("AWS_SESSION_TOKEN")?.or(self.given("AWS_SECURITY_TOKEN")?);
        let [access_key, secret_key] = entries::aws_s3_keys().names();
        let Some(own) = self.keys(access_key, secret_key)? else {
            return Ok(of_aws?.map(|keys| Keys { session_token: token, ..keys }));
        };
        let is_of_others =
            of_aws.is_ok_and(|others| others.is_some_and(|others| others.access_key != own.access_key));
        Ok(Some(Keys { session_token: token.filter(|_| !is_of_others), ..own }))
    }

    /// Reads a pair of keys, of which both or none must be set.
    fn keys(&self, access: &str, secret: &str) -> Result<Option<Keys>, Failure> {
        let half = |set: &str, missing: &str| {
            Err(Failure::usage(format!("{set} is set, but {missing} is not: set both")))
        };
        match (self.given(access)?, self.given(secret)?) {
            (Some(access_key), Some(secret_key)) => {
                Ok(Some(Keys { access_key, secret_key, session_token: None }))
            }
            (None, None) => Ok(None),
            (Some(_), None) => half(access, secret),
            (None, Some(_)) => half(secret, access),
        }
    }

    /// Reads a variable, or the file named by the same variable with `_FILE` appended.
    fn given(&self, variable: &str) -> Result<Option<KeySource>, Failure> {
        let by_file = format!("{variable}_FILE");
        match (self.trimmed(variable), self.trimmed(&by_file)) {
            (Some(_), Some(_)) => {
                Err(Failure::usage(format!("{variable} and {by_file} are both set: set one of them")))
            }
            (Some(text), None) if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(Failure::usage(format!(
                    "{variable} has white space or other characters that a key cannot have: set it again"
                )))
            }
            (Some(text), None) if is_quoted(&text) => Err(Failure::usage(format!(
                "{variable} is in quotes, as docker --env-file keeps them: remove the quotes"
            ))),
            (Some(text), None) => Ok(Some(KeySource::Text(Secret::new(text)))),
            (None, Some(path)) => Ok(Some(KeySource::File(path.into()))),
            (None, None) => Ok(None),
        }
    }

    /// Returns the profile and its settings. None of them counts as set if the file cannot be read, which is reported when
    /// credentials are looked up.
    pub(super) fn profile(&self) -> (Profile, Section) {
        let name = self.trimmed("AWS_PROFILE").or_else(|| self.trimmed("AWS_DEFAULT_PROFILE"));
        let in_home = |name: &str| {
            let home = self.get("HOME")?;
            Some(Path::new(&home).join(".aws").join(name))
        };
        let file = |variable: &str, name: &str| match self.trimmed(variable) {
            Some(path) => match path.strip_prefix("~/") {
                Some(below) => Some(Path::new(&self.get("HOME")?).join(below)),
                None => Some(path.into()),
            },
            None => in_home(name),
        };
        let profile = Profile {
            asked_for: name.is_some(),
            name: name.unwrap_or_else(|| "default".to_owned()),
            credentials_file: file("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            config_file: file("AWS_CONFIG_FILE", "config"),
            sso_cache: in_home("sso/cache"),
        };
        let section = profile.section(&profile.name).ok().flatten().unwrap_or_default();
        (profile, section)
    }

    fn container(&self) -> Result<Option<Container>, Failure> {
        let url = match self.trimmed("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
            Some(path) => format!("http://169.254.170.2/{}", path.trim_start_matches('/')),
            None => match self.trimmed("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
                Some(url) => url,
                None => return Ok(None),
            },
        };
        let host = url.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default();
        let is_near = is_loopback(&url) || CONTAINER_HOSTS.contains(&host.as_str());
        let is_known = url.starts_with("https://") || url.starts_with("http://") && is_near;
        if !is_known {
            return Err(Failure::usage(
                "AWS_CONTAINER_CREDENTIALS_FULL_URI names a foreign host over plain http: use https",
            ));
        }
        Ok(Some(Container {
            url,
            token: self.trimmed("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Secret::new),
            token_file: self.trimmed("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(PathBuf::from),
        }))
    }
}

fn is_quoted(text: &str) -> bool {
    ['"', '\''].iter().any(|quote| text.len() > 1 && text.starts_with(*quote) && text.ends_with(*quote))
}
