//! Where credentials may come from.

use std::path::{Path, PathBuf};

use ureq::http::Uri;

use super::Variant;
use crate::cli::entries;
use crate::cli::settings::Settings;
use crate::exit::Failure;
use crate::files;
use crate::http::url::is_loopback;
use crate::secret::Secret;

/// What stands in a variable, or in a file that a variable names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// The text itself.
    Text(Secret),
    /// A file with it, read each time that it is asked for.
    File(PathBuf),
}

impl Given {
    /// The text without white space around it.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read or is empty.
    pub fn read(&self) -> Result<Secret, String> {
        match self {
            Given::Text(text) => Ok(text.clone()),
            Given::File(path) => {
                let refused = |why: String| format!("{} cannot be used: {why}", path.display());
                let text = files::read_to_string(path).map_err(|error| refused(error.to_string()))?;
                match text.trim() {
                    "" => Err(refused("it is empty".to_owned())),
                    text => Ok(Secret::new(text)),
                }
            }
        }
    }
}

/// A pair of keys as the environment gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The access key id.
    pub access_key: Given,
    /// The secret access key.
    pub secret_key: Given,
    /// The session token that goes with temporary keys.
    pub session_token: Option<Given>,
}

/// Where credentials may come from, in the order in which they are looked for.
#[derive(Clone, Debug)]
pub struct CredentialSources {
    /// `AWS_S3_ACCESS_KEY` and `AWS_S3_SECRET_KEY`, else `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
    pub keys: Option<Keys>,
    /// A profile of the shared files.
    pub profile: Profile,
    /// A token that a role is given for.
    pub web_identity: Option<WebIdentity>,
    /// Where roles are given out.
    pub sts: Sts,
    /// Where those who have logged in by SSO are given credentials, base URL; None: the portal of their region.
    pub sso_url: Option<String>,
    /// The endpoint that a container is given.
    pub container: Option<Container>,
    /// The instance metadata service, base URL; None where it is not to be asked.
    pub instance_url: Option<String>,
}

/// The security token service.
#[derive(Clone, Debug)]
pub struct Sts {
    /// Base URL.
    pub url: String,
    /// What requests to it are signed for.
    pub region: String,
}

/// A profile of the shared credentials and config files.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// It was asked for by `AWS_PROFILE` or `AWS_DEFAULT_PROFILE`, so that it has to be there.
    pub asked_for: bool,
    /// `AWS_SHARED_CREDENTIALS_FILE`, else `~/.aws/credentials`.
    pub credentials_file: Option<PathBuf>,
    /// `AWS_CONFIG_FILE`, else `~/.aws/config`.
    pub config_file: Option<PathBuf>,
    /// Where tokens of SSO are kept by who gets them: `~/.aws/sso/cache`.
    pub sso_cache: Option<PathBuf>,
}

/// What `AssumeRoleWithWebIdentity` is asked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebIdentity {
    /// File with the token; read anew each time, since it is replaced before it expires.
    pub token_file: PathBuf,
    /// The role.
    pub role_arn: String,
    /// A name for the session.
    pub session_name: String,
}

/// The credentials endpoint of a container.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its URL.
    pub url: String,
    /// What is sent as `Authorization`.
    pub token: Option<Secret>,
    /// File with what is sent as `Authorization`; wins over `token`.
    pub token_file: Option<PathBuf>,
}

/// Hosts that may be asked for a container's credentials over plain http, besides this machine: those of ECS and EKS.
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

    /// The keys of the environment. A session token that stands beside this program's own keys is theirs, unless it
    /// goes with others.
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

    /// A pair of keys: both or none.
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

    /// What a variable holds, or the file that is named by the variable with `_FILE` behind its name.
    fn given(&self, variable: &str) -> Result<Option<Given>, Failure> {
        let by_file = format!("{variable}_FILE");
        match (self.trimmed(variable), self.trimmed(&by_file)) {
            (Some(_), Some(_)) => {
                Err(Failure::usage(format!("{variable} and {by_file} are both set: set one of them")))
            }
            (Some(text), None) if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(Failure::usage(format!(
                    "{variable} holds white space or other characters that no key has: look at what it was set with"
                )))
            }
            (Some(text), None) => Ok(Some(Given::Text(Secret::new(text)))),
            (None, Some(path)) => Ok(Some(Given::File(path.into()))),
            (None, None) => Ok(None),
        }
    }

    pub(super) fn profile(&self) -> Profile {
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
        Profile {
            asked_for: name.is_some(),
            name: name.unwrap_or_else(|| "default".to_owned()),
            credentials_file: file("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            config_file: file("AWS_CONFIG_FILE", "config"),
            sso_cache: in_home("sso/cache"),
        }
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
