//! Where credentials may come from: what is set, before anybody is asked.

use std::path::PathBuf;

use crate::files;
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

/// Whether a text can be a region. It becomes part of a host's name.
pub fn is_region(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}
