//! Credentials of a profile in the shared files: keys, a role, a web identity, an SSO log-in, or a program.
//!
//! The order is that of the AWS tools. A role comes before the keys of the same profile, since the role may be assumed
//! with those keys.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Assume role credential provider", "Process credential provider" and
//! "IAM Identity Center credential provider"; AWS CLI User Guide, "Using an IAM role in the AWS CLI".

use super::sso::Login;
use super::sts::Role;
use super::{Credentials, Provider, StepError, process, read_keys, sso, sts};
use crate::auth::aws::shared::{Section, set_in};
use crate::auth::aws::{CredentialSources, Profile, WebIdentity};
use crate::common::secret::Secret;

/// Maximum number of profiles in a chain of `source_profile`.
const MAX_SOURCES: usize = 8;

/// Credentials that a profile is configured with.
#[derive(Debug, PartialEq, Eq)]
enum ProfileContent {
    Keys(Credentials),
    /// A role, and the credentials that it is assumed with.
    Role(Role, RoleSource),
    /// A role that is assumed with a token.
    WebIdentity(WebIdentity),
    Login(Login),
    /// A program that prints the credentials.
    Process(String),
}

/// Credentials that a role is assumed with.
#[derive(Debug, PartialEq, Eq)]
enum RoleSource {
    /// Credentials of another profile.
    Profile(String),
    /// Keys of the same profile.
    Own(Credentials),
    Environment,
    Instance,
    Container,
}

/// Returns whether the profile is named by the user, and is a role assumed with the keys of the environment. These keys
/// are then not meant for direct use.
pub(super) fn uses_env_keys(profile: &Profile) -> bool {
    let section = || profile.section(&profile.name).ok().flatten();
    profile.asked_for
        && section().is_some_and(|section| {
            section.contains_key("role_arn")
                && section.get("credential_source").is_some_and(|source| source == "Environment")
        })
}

/// Returns the credentials of the configured profile.
pub(super) fn find(provider: &Provider) -> Result<Credentials, StepError> {
    follow(provider, &provider.sources.profile.name, &mut Vec::new())
}

/// Returns the credentials of a profile. `visited` holds the profiles whose `source_profile` led to it.
fn follow(provider: &Provider, name: &str, visited: &mut Vec<String>) -> Result<Credentials, StepError> {
    let CredentialSources { profile, keys, sts, sso_url, .. } = &provider.sources;
    let refused = |why: String| StepError::Refused(format!("the profile {name:?} {why}"));
    let is_required = profile.asked_for || !visited.is_empty();
    let absent = if is_required { StepError::Refused } else { StepError::Absent };
    let section = profile.section(name).map_err(StepError::Refused)?;
    let section = section.ok_or_else(|| absent(format!("there is no profile {name:?}")))?;
    let found = parse_section(&section, name, profile).map_err(refused)?.ok_or_else(|| {
        absent(format!(
            "the profile {name:?} has no aws_access_key_id with aws_secret_access_key, and no role"
        ))
    })?;
    let agent = &provider.agent;
    match found {
        ProfileContent::Keys(keys) => Ok(keys),
        ProfileContent::WebIdentity(identity) => sts::assume_by_token(agent, sts, &identity),
        ProfileContent::Login(login) => {
            sso::credentials(agent, sso_url.as_deref(), profile.sso_cache.as_deref(), &login).map_err(
                |step| {
                    let hint = |why| format!("{why}: log in (aws sso login --profile {name})");
                    match step {
                        StepError::Refused(why) => refused(hint(why)),
                        other => other,
                    }
                },
            )
        }
        ProfileContent::Process(command) => process::run(&command).map_err(refused),
        ProfileContent::Role(role, by) => {
            let by = match by {
                RoleSource::Own(keys) => keys,
                RoleSource::Environment => {
                    let why = "has credential_source = Environment, and AWS_ACCESS_KEY_ID is not set";
                    read_keys(keys.as_ref().ok_or_else(|| refused(why.to_owned()))?)?
                }
                RoleSource::Instance => {
                    provider.instance_credentials().map_err(StepError::for_required_step)?
                }
                RoleSource::Container => {
                    provider.container_credentials().map_err(StepError::for_required_step)?
                }
                RoleSource::Profile(source) => {
                    visited.push(name.to_owned());
                    if visited.contains(&source) || visited.len() > MAX_SOURCES {
                        return Err(refused(format!(
                            "leads in a circle: {} → {source}",
                            visited.join(" → ")
                        )));
                    }
                    follow(provider, &source, visited)?
                }
            };
            sts::assume(agent, sts, &by, &role)
        }
    }
}

/// Reads the section of a profile; None: it has no credentials.
///
/// # Errors
///
/// Says what is wrong with the section, or not supported.
fn parse_section(section: &Section, name: &str, profile: &Profile) -> Result<Option<ProfileContent>, String> {
    let get = |setting: &str| set_in(section, setting);
    let keys = match (get("aws_access_key_id"), get("aws_secret_access_key")) {
        (Some(access_key), Some(secret_key)) => {
            let token = get("aws_session_token").or_else(|| get("aws_security_token"));
            let secret_key = Secret::new(secret_key);
            Some(Credentials { access_key, secret_key, session_token: token.map(Secret::new), expires: None })
        }
        (None, None) => None,
        (Some(_), None) => return Err("has aws_access_key_id without aws_secret_access_key".to_owned()),
        (None, Some(_)) => return Err("has aws_secret_access_key without aws_access_key_id".to_owned()),
    };
    let session_name = get("role_session_name").unwrap_or_else(|| "megastream_ingest".to_owned());
    if let Some(role_arn) = get("role_arn") {
        if let Some(token_file) = get("web_identity_token_file") {
            let token_file = token_file.into();
            return Ok(Some(ProfileContent::WebIdentity(WebIdentity { token_file, role_arn, session_name })));
        }
        if get("mfa_serial").is_some() {
            return Err(unsupported("asks for a code of a device (mfa_serial)", name));
        }
        let by = match (get("source_profile"), get("credential_source")) {
            (Some(_), Some(_)) => {
                return Err("has both source_profile and credential_source: remove one of them".to_owned());
            }
            (Some(source), None) if source != name => RoleSource::Profile(source),
            (None, Some(source)) => credential_source(&source)?,
            (_, None) => {
                RoleSource::Own(keys.ok_or("has role_arn without source_profile or credential_source")?)
            }
        };
        let number = |text: String| {
            text.parse().map_err(|_| format!("has duration_seconds {text:?}, which is not a number"))
        };
        let duration_seconds = get("duration_seconds").map(number).transpose()?;
        let role = Role { role_arn, session_name, external_id: get("external_id"), duration_seconds };
        return Ok(Some(ProfileContent::Role(role, by)));
    }
    if let Some(login) = Login::of(section, profile)? {
        return Ok(Some(ProfileContent::Login(login)));
    }
    if let Some(keys) = keys {
        return Ok(Some(ProfileContent::Keys(keys)));
    }
    if let Some(command) = get("credential_process") {
        return Ok(Some(ProfileContent::Process(command)));
    }
    match UNSUPPORTED.iter().find(|setting| get(setting).is_some()) {
        Some(setting) => {
            Err(unsupported(&format!("asks for {setting}, which this program does not support"), name))
        }
        None => Ok(None),
    }
}

/// Settings that ask for credentials of unsupported kinds.
const UNSUPPORTED: [&str; 3] = ["login_session", "credential_source", "source_profile"];

/// Returns the advice for an unsupported setting.
fn unsupported(why: &str, name: &str) -> String {
    format!(
        "{why}: use another profile with credential_process = aws configure export-credentials --profile \
         {name} --format process"
    )
}

fn credential_source(text: &str) -> Result<RoleSource, String> {
    match text {
        "Environment" => Ok(RoleSource::Environment),
        "Ec2InstanceMetadata" => Ok(RoleSource::Instance),
        "EcsContainer" => Ok(RoleSource::Container),
        _ => Err(format!(
            "has credential_source {text:?}: it takes Environment, Ec2InstanceMetadata or EcsContainer"
        )),
    }
}

#[cfg(test)]
mod tests;
