//! Possible sources of credentials, as configured; nothing is requested here.

use std::path::PathBuf;

use crate::files;
use crate::secret::Secret;

/// A value given in a variable, or in a file that a variable names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// The text itself.
    Text(Secret),
    /// A file that holds it, read each time it is needed.
    File(PathBuf),
}

impl Given {
    /// Returns the text, trimmed.
    ///
    /// # Errors
    ///
    /// Fails where the file cannot be read or is empty.
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

/// A pair of keys from the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The access key id.
    pub access_key: Given,
    /// The secret access key.
    pub secret_key: Given,
    /// The session token of temporary keys.
    pub session_token: Option<Given>,
}

/// The possible sources of credentials, in the order in which they are searched.
#[derive(Clone, Debug)]
pub struct CredentialSources {
    /// `AWS_S3_ACCESS_KEY` and `AWS_S3_SECRET_KEY`, else `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
    pub keys: Option<Keys>,
    /// A profile of the shared files.
    pub profile: Profile,
    /// A role that is assumed with a token.
    pub web_identity: Option<WebIdentity>,
    /// The service that roles are assumed through.
    pub sts: Sts,
    /// Base URL of the service for SSO credentials; None: the portal of the log-in's region.
    pub sso_url: Option<String>,
    /// The credentials endpoint of a container.
    pub container: Option<Container>,
    /// Base URL of the instance metadata service; None where it must not be asked.
    pub instance_url: Option<String>,
}

/// The security token service.
#[derive(Clone, Debug)]
pub struct Sts {
    /// Base URL.
    pub url: String,
    /// Region that requests to it are signed for.
    pub region: String,
}

/// A profile of the shared credentials and config files.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Whether `AWS_PROFILE` or `AWS_DEFAULT_PROFILE` names it, so that it has to exist.
    pub asked_for: bool,
    /// `AWS_SHARED_CREDENTIALS_FILE`, else `~/.aws/credentials`.
    pub credentials_file: Option<PathBuf>,
    /// `AWS_CONFIG_FILE`, else `~/.aws/config`.
    pub config_file: Option<PathBuf>,
    /// Where the AWS tools store SSO tokens: `~/.aws/sso/cache`.
    pub sso_cache: Option<PathBuf>,
}

/// Parameters of `AssumeRoleWithWebIdentity`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebIdentity {
    /// File with the token; read anew each time, since it is replaced before it expires.
    pub token_file: PathBuf,
    /// The role.
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

/// Whether a text can be a region. It becomes part of a host name, so anything else is refused.
pub fn is_region(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}
