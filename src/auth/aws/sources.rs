//! Sources of credentials, as configured. Nothing is requested here.

use std::path::PathBuf;

use crate::common::secret::Secret;
use crate::files;

/// A value in a variable, or in a file that a variable names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The value itself.
    Text(Secret),
    /// A file that holds the value; it is read each time.
    File(PathBuf),
}

impl KeySource {
    /// Returns the value, trimmed.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read or is empty.
    pub fn read(&self) -> Result<Secret, String> {
        match self {
            KeySource::Text(text) => Ok(text.clone()),
            KeySource::File(path) => {
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

/// Access keys from the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Access key id.
    pub access_key: KeySource,
    /// Secret access key.
    pub secret_key: KeySource,
    /// Session token of temporary keys.
    pub session_token: Option<KeySource>,
}

/// Sources of credentials, in the order in which they are searched.
#[derive(Clone, Debug)]
pub struct CredentialSources {
    /// `AWS_S3_ACCESS_KEY` and `AWS_S3_SECRET_KEY`, else `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
    pub keys: Option<Keys>,
    /// A profile of the shared files.
    pub profile: Profile,
    /// A role that is assumed with a token.
    pub web_identity: Option<WebIdentity>,
    /// The service through which roles are assumed.
    pub sts: Sts,
    /// Base URL of the service for SSO credentials; None: the portal in the log-in's region.
    pub sso_url: Option<String>,
    /// Credentials endpoint of a container.
    pub container: Option<Container>,
    /// Base URL of the instance metadata service; None: it is disabled.
    pub instance_url: Option<String>,
}

/// The security token service (STS).
#[derive(Clone, Debug)]
pub struct Sts {
    /// Base URL of the service.
    pub url: String,
    /// Region that requests to the service are signed for.
    pub region: String,
}

/// A profile of the shared credentials and config files.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Name of the profile.
    pub name: String,
    /// Whether `AWS_PROFILE` or `AWS_DEFAULT_PROFILE` names the profile, so that it has to exist.
    pub asked_for: bool,
    /// `AWS_SHARED_CREDENTIALS_FILE`, else `~/.aws/credentials`.
    pub credentials_file: Option<PathBuf>,
    /// `AWS_CONFIG_FILE`, else `~/.aws/config`.
    pub config_file: Option<PathBuf>,
    /// Folder where the AWS tools store SSO tokens: `~/.aws/sso/cache`.
    pub sso_cache: Option<PathBuf>,
}

/// Parameters of `AssumeRoleWithWebIdentity`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebIdentity {
    /// File with the token. It is replaced before the token expires, so it is read each time.
    pub token_file: PathBuf,
    /// ARN of the role.
    pub role_arn: String,
    /// Name of the session.
    pub session_name: String,
}

/// The credentials endpoint of a container.
#[derive(Clone, Debug)]
pub struct Container {
    /// URL of the endpoint.
    pub url: String,
    /// Value of `Authorization`.
    pub token: Option<Secret>,
    /// File with the value of `Authorization`; wins over `token`.
    pub token_file: Option<PathBuf>,
}

/// Returns whether a text can be a region. It becomes part of a host name, so anything else is refused.
pub fn is_region(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}
