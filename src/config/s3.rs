//! How a bucket is reached, and where its credentials may come from.
//!
//! The variables are those of the AWS SDKs; only `AWS_S3_ACCESS_KEY`, `AWS_S3_SECRET_KEY` and what begins with `S3_`
//! are of this program. Nothing is read from files and no server is asked here.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Settings reference".

use std::path::PathBuf;

use ureq::http::Uri;

use crate::cli::choices::Payer;
use crate::cli::entries;
use crate::cli::settings::Settings;
use crate::exit::Failure;
use crate::http::url::{is_loopback, parse_base_url};
use crate::secret::Secret;

/// A bucket and the way to it.
#[derive(Clone, Debug)]
pub struct S3 {
    /// Name of the bucket.
    pub bucket: String,
    /// What the keys of archives begin with; empty: the whole bucket.
    pub prefix: String,
    /// Region of the bucket.
    pub region: String,
    /// Base URL of an S3-compatible server, without a trailing `/`; None: AWS.
    pub endpoint: Option<String>,
    /// Listing and downloads are paid for by who makes them (`x-amz-request-payer`).
    pub requester_pays: bool,
    /// PEM file with roots trusted besides the system's.
    pub ca_cert: Option<PathBuf>,
    /// Where credentials may come from.
    pub credentials: CredentialSources,
}

/// A pair of keys as it stands in the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The access key id.
    pub access_key: String,
    /// The secret access key.
    pub secret_key: Secret,
    /// The session token that goes with temporary keys.
    pub session_token: Option<Secret>,
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
    /// The security token service, base URL.
    pub sts_url: String,
    /// The endpoint that a container is given.
    pub container: Option<Container>,
    /// The instance metadata service, base URL; None where it is not to be asked.
    pub instance_url: Option<String>,
}

/// A profile of the shared credentials and config files.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// It was asked for by `AWS_PROFILE`, so that it has to be there.
    pub asked_for: bool,
    /// `AWS_SHARED_CREDENTIALS_FILE`, else `~/.aws/credentials`.
    pub credentials_file: Option<PathBuf>,
    /// `AWS_CONFIG_FILE`, else `~/.aws/config`.
    pub config_file: Option<PathBuf>,
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
    /// All that is said of a bucket.
    pub(super) fn s3(&self) -> Result<S3, Failure> {
        let [name, prefix] = entries::s3_sqlite_db().names();
        let bucket = self.get(name).ok_or_else(|| {
            Failure::usage(format!("{name} is not set: name the bucket that --source s3 is to read from"))
        })?;
        // Bucket and region become part of a host name.
        let of_a_host =
            |text: &str, more: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
        if !of_a_host(&bucket, "-._") || !(3..=255).contains(&bucket.len()) {
            return Err(Failure::usage(format!(
                "{name} is {bucket:?}, which is no name of a bucket: give it without s3:// or a path"
            )));
        }
        let region = self.text(entries::aws_region());
        if !of_a_host(&region, "-") {
            return Err(Failure::usage(format!("AWS_REGION is {region:?}, which is no region")));
        }
        Ok(S3 {
            prefix: self.prefix(prefix)?,
            endpoint: self.url(entries::aws_endpoint_url().variables)?,
            requester_pays: self.requester_pays()?,
            ca_cert: self.file(entries::ca_cert()),
            credentials: self.credential_sources(&region)?,
            bucket,
            region,
        })
    }

    /// Other than elsewhere, an empty variable is not as good as none: a whole bucket may be far more than was meant,
    /// and has to be asked for.
    fn prefix(&self, name: &str) -> Result<String, Failure> {
        (self.environment)(name).ok_or_else(|| {
            Failure::usage(format!(
                "{name} is not set: say what the keys of archives begin with, or set it to nothing for the whole bucket"
            ))
        })
    }

    /// Other than elsewhere, an empty variable is not as good as none: it turns the header off.
    fn requester_pays(&self) -> Result<bool, Failure> {
        let [name] = entries::s3_request_payer().names();
        let is_empty = (self.environment)(name).is_some_and(|value| value.is_empty());
        Ok(!is_empty && self.choice::<Payer>(entries::s3_request_payer())? == Payer::Requester)
    }

    fn credential_sources(&self, region: &str) -> Result<CredentialSources, Failure> {
        let [access_key, secret_key] = entries::aws_s3_keys().names();
        let keys = match self.keys(access_key, secret_key, None)? {
            Some(keys) => Some(keys),
            None => self.keys("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", Some("AWS_SESSION_TOKEN"))?,
        };
        let web_identity = self.get("AWS_WEB_IDENTITY_TOKEN_FILE").zip(self.get("AWS_ROLE_ARN"));
        let session_name =
            self.get("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "megastream_ingest".to_owned());
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        let metadata_off =
            self.get("AWS_EC2_METADATA_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let instance_url = self
            .url(&["AWS_EC2_METADATA_SERVICE_ENDPOINT"])?
            .unwrap_or_else(|| "http://169.254.169.254".to_owned());
        Ok(CredentialSources {
            keys,
            profile: self.profile(),
            web_identity: web_identity.map(|(token_file, role_arn)| WebIdentity {
                token_file: token_file.into(),
                role_arn,
                session_name,
            }),
            sts_url: self
                .url(&["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"])?
                .unwrap_or_else(|| format!("https://sts.{region}.amazonaws.com{suffix}")),
            container: self.container()?,
            instance_url: (!metadata_off).then_some(instance_url),
        })
    }

    /// A pair of keys: both or none.
    fn keys(&self, access: &str, secret: &str, token: Option<&str>) -> Result<Option<Keys>, Failure> {
        let session_token = token.and_then(|token| self.get(token)).map(Secret::new);
        match (self.get(access), self.get(secret)) {
            (Some(access_key), Some(secret_key)) => {
                Ok(Some(Keys { access_key, secret_key: Secret::new(secret_key), session_token }))
            }
            (None, None) => Ok(None),
            (Some(_), None) => Err(Failure::usage(format!("{access} is set, but {secret} is not: set both"))),
            (None, Some(_)) => Err(Failure::usage(format!("{secret} is set, but {access} is not: set both"))),
        }
    }

    fn profile(&self) -> Profile {
        let name = self.get("AWS_PROFILE");
        let file = |variable: &str, name: &str| {
            let in_home = || Some(PathBuf::from(self.get("HOME")?).join(".aws").join(name));
            self.get(variable).map(PathBuf::from).or_else(in_home)
        };
        Profile {
            asked_for: name.is_some(),
            name: name.unwrap_or_else(|| "default".to_owned()),
            credentials_file: file("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            config_file: file("AWS_CONFIG_FILE", "config"),
        }
    }

    fn container(&self) -> Result<Option<Container>, Failure> {
        let url = match self.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
            Some(path) => format!("http://169.254.170.2/{}", path.trim_start_matches('/')),
            None => match self.get("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
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
            token: self.get("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Secret::new),
            token_file: self.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(PathBuf::from),
        }))
    }

    /// The base URL in the first of these variables that is set.
    fn url(&self, variables: &[&str]) -> Result<Option<String>, Failure> {
        let set = variables.iter().find_map(|variable| Some((variable, self.get(variable)?)));
        set.map(|(variable, url)| {
            parse_base_url(&url)
                .map_err(|error| Failure::usage(format!("{variable} cannot be used: {error}")))
        })
        .transpose()
    }
}

#[cfg(test)]
mod tests;
