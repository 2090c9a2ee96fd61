//! AWS credentials: finds them by the usual chain, and renews them before they expire.
//!
//! The order is: environment, profile, web identity, container, instance. A step that is not configured is skipped. A
//! configured step that fails ends the search, so that a run never uses credentials that the user did not mean. Errors
//! list every step.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Standardized credential providers".

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ureq::Agent;

use crate::auth::aws::signature::Credentials;
use crate::auth::aws::{CredentialSources, KeySource, Keys};
use crate::common::mutex::Mutex;
use crate::common::secret::Secret;
use crate::common::timestamp::now_millis;
use crate::files;

mod nearby;
mod process;
mod profile;
mod request;
mod sso;
mod sts;

/// Remaining validity below which credentials are renewed, in milliseconds.
const RENEWAL_MARGIN: i64 = 5 * 60 * 1000;

/// Minimum interval between two searches after a server's refusal, and between two renewals while the current credentials
/// are valid. Their provider may be busy, and must not be flooded.
const MIN_INTERVAL: Duration = Duration::from_secs(30);

/// Reads the keys of the environment. Keys in files are read again each time.
fn read_keys(keys: &Keys) -> Result<Credentials, StepError> {
    let read = |given: &KeySource| given.read().map_err(StepError::Refused);
    Ok(Credentials {
        access_key: read(&keys.access_key)?.expose().to_owned(),
        secret_key: read(&keys.secret_key)?,
        session_token: keys.session_token.as_ref().map(read).transpose()?,
        expires: None,
    })
}

/// Reads a file that holds a token.
fn read_token(file: &Path) -> Result<Secret, StepError> {
    let text = files::read_to_string(file).map_err(|error| {
        StepError::Refused(format!("the token file {} cannot be read: {error}", file.display()))
    })?;
    Ok(Secret::new(text.trim()))
}

/// Why there are no credentials, with every step of the chain that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CredentialError {
    /// Retrying may help.
    Unavailable(String),
    /// Retrying does not help.
    Refused(String),
}

/// Why a step of the chain has no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
enum StepError {
    /// The step is not configured.
    Absent(String),
    /// The step is configured, and is refused or wrong.
    Refused(String),
    /// The step is configured, but does not answer for now.
    Unavailable(String),
}

impl StepError {
    /// Returns the error of a step that the user chose by name, so that it has to be configured.
    fn for_required_step(self) -> Self {
        match self {
            StepError::Absent(why) => StepError::Refused(why),
            other => other,
        }
    }
}

/// Finds credentials, caches them, and renews them. Shared by all threads.
pub(crate) struct Provider {
    sources: CredentialSources,
    agent: Agent,
    current: Mutex<Current>,
    /// Whether this machine is an instance that has provided credentials before.
    is_instance: AtomicBool,
    /// The secrets of all credentials found so far. A server's text may quote a request, and with it the session token.
    known: Mutex<Vec<Secret>>,
}

#[derive(Default)]
struct Current {
    credentials: Option<Arc<Credentials>>,
    searched_after_refusal: Option<Instant>,
    /// Start of the last renewal while the credentials were valid.
    renewed: Option<Instant>,
}

impl Current {
    /// Returns whether the caller has to renew credentials that are still valid. One caller gets true; all others keep
    /// using the current credentials.
    fn claim_renewal(&mut self, now: Instant) -> bool {
        let is_due = self.renewed.is_none_or(|last| now.saturating_duration_since(last) >= MIN_INTERVAL);
        if is_due {
            self.renewed = Some(now);
        }
        is_due
    }
}

impl Provider {
    /// Creates a provider that has not searched yet.
    pub(crate) fn new(sources: CredentialSources, agent: Agent) -> Self {
        let is_instance = AtomicBool::new(false);
        Self { sources, agent, current: Mutex::default(), is_instance, known: Mutex::default() }
    }

    /// Returns the secrets of all credentials so far, which have to be masked.
    pub(crate) fn secrets(&self) -> Vec<Secret> {
        self.known.lock().clone()
    }

    /// Returns credentials that are valid for some minutes, as far as is known.
    ///
    /// # Errors
    ///
    /// Returns [`CredentialError`] if there are no valid credentials.
    pub(crate) fn get(&self) -> Result<Arc<Credentials>, CredentialError> {
        let mut current = self.current.lock();
        let now = now_millis();
        let valid = current.credentials.clone().filter(|credentials| !credentials.expire_within(now, 0));
        let Some(valid) = valid else {
            // Locked during the search: one thread searches, the others wait for its result.
            return Ok(current.credentials.insert(Arc::new(self.find()?)).clone());
        };
        if !valid.expire_within(now, RENEWAL_MARGIN) || !current.claim_renewal(Instant::now()) {
            return Ok(valid);
        }
        drop(current);
        match self.find() {
            Ok(found) => Ok(self.current.lock().credentials.insert(Arc::new(found)).clone()),
            Err(CredentialError::Unavailable(why) | CredentialError::Refused(why)) => {
                log::warn!("the AWS credentials expire soon and cannot be renewed: {why}");
                Ok(valid)
            }
        }
    }

    /// Returns new credentials after a server refused `refused`, even if these have not expired. None: there are no new
    /// ones yet. Temporary credentials count as new even if they are the same.
    ///
    /// `is_certain`: the server says that they are wrong. If it has only denied a request, they may be valid, and are
    /// kept if the search fails.
    ///
    /// # Errors
    ///
    /// Returns [`CredentialError`] if the search fails.
    pub(crate) fn renew_refused(
        &self,
        refused: &Arc<Credentials>,
        is_certain: bool,
    ) -> Result<Option<Arc<Credentials>>, CredentialError> {
        let mut current = self.current.lock();
        match &current.credentials {
            // Another thread has already found new ones.
            Some(others) if !Arc::ptr_eq(others, refused) => return Ok(Some(others.clone())),
            _ if current.searched_after_refusal.is_some_and(|last| last.elapsed() < MIN_INTERVAL) => {
                return Ok(None);
            }
            _ => {}
        }
        log::debug!("the AWS credentials are refused, so they are looked up again");
        current.searched_after_refusal = Some(Instant::now());
        current.credentials = None;
        let found = self.find().inspect_err(|_| {
            if !is_certain {
                current.credentials = Some(refused.clone());
            }
        })?;
        let found = Arc::new(found);
        if *found == **refused && found.expires.is_none() {
            current.credentials = Some(refused.clone());
            return Ok(None);
        }
        Ok(Some(current.credentials.insert(found).clone()))
    }

    fn find(&self) -> Result<Credentials, CredentialError> {
        let CredentialSources { keys, web_identity, sts, .. } = &self.sources;
        let from_keys = || match keys {
            Some(_) if profile::uses_env_keys(&self.sources.profile) => {
                Err(StepError::Absent("the profile assumes a role with these keys".to_owned()))
            }
            Some(keys) => read_keys(keys),
            None => Err(StepError::Absent("AWS_S3_ACCESS_KEY and AWS_ACCESS_KEY_ID are not set".to_owned())),
        };
        let from_web_identity = || match web_identity {
            Some(identity) => sts::assume_by_token(&self.agent, sts, identity),
            None => {
                Err(StepError::Absent("AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN are not both set".into()))
            }
        };
        let found = first_of(&[
            ("environment", &from_keys as LookUp<'_>),
            ("profile", &|| profile::find(self)),
            ("web identity", &from_web_identity),
            ("container", &|| self.container_credentials()),
            ("instance", &|| self.instance_credentials()),
        ])?;
        let mut known = self.known.lock();
        for secret in [Some(&found.secret_key), found.session_token.as_ref()].into_iter().flatten() {
            if !known.contains(secret) {
                known.push(secret.clone());
            }
        }
        Ok(found)
    }

    fn container_credentials(&self) -> Result<Credentials, StepError> {
        match &self.sources.container {
            Some(container) => nearby::ask_container(&self.agent, container),
            None => Err(StepError::Absent("AWS_CONTAINER_CREDENTIALS_… is not set".into())),
        }
    }

    fn instance_credentials(&self) -> Result<Credentials, StepError> {
        match &self.sources.instance_url {
            Some(url) => {
                let is_known = self.is_instance.load(Ordering::Relaxed);
                let found = nearby::ask_instance(&self.agent, url, is_known)?;
                self.is_instance.store(true, Ordering::Relaxed);
                Ok(found)
            }
            None => Err(StepError::Absent("AWS_EC2_METADATA_DISABLED is set".into())),
        }
    }
}

type LookUp<'f> = &'f dyn Fn() -> Result<Credentials, StepError>;

/// Returns the credentials of the first configured step.
fn first_of(steps: &[(&str, LookUp<'_>)]) -> Result<Credentials, CredentialError> {
    let mut tried: Vec<String> = Vec::new();
    for (name, look) in steps {
        let mut explain = |why: &str| {
            tried.push(format!("{name}: {why}"));
            format!("no AWS credentials: {}", tried.join("; "))
        };
        match look() {
            Ok(credentials) => {
                log::debug!("AWS credentials: {name}");
                return Ok(credentials);
            }
            Err(StepError::Absent(why)) => drop(explain(&why)),
            Err(StepError::Refused(why)) => return Err(CredentialError::Refused(explain(&why))),
            Err(StepError::Unavailable(why)) => return Err(CredentialError::Unavailable(explain(&why))),
        }
    }
    Err(CredentialError::Refused(format!("no AWS credentials: {}", tried.join("; "))))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::common::secret::Secret;

    fn credentials(expires: Option<i64>) -> Credentials {
        let secret_key = Secret::new("hunter2");
        Credentials { access_key: "A".into(), secret_key, session_token: None, expires }
    }

    #[test]
    fn the_first_configured_step_decides_and_errors_list_the_earlier_ones() {
        let absent = || Err(StepError::Absent("not set".into()));
        let refused = || Err(StepError::Refused("no such profile".into()));
        let found = || Ok(credentials(None));
        assert_eq!(first_of(&[("a", &absent), ("b", &found), ("c", &refused)]), Ok(credentials(None)));
        assert_eq!(
            first_of(&[("a", &absent), ("b", &refused), ("c", &found)]),
            Err(CredentialError::Refused("no AWS credentials: a: not set; b: no such profile".into()))
        );
        assert_eq!(
            first_of(&[("a", &absent), ("b", &absent)]),
            Err(CredentialError::Refused("no AWS credentials: a: not set; b: not set".into()))
        );
        let silent = || Err(StepError::Unavailable("no reply".into()));
        let later_ones_asked = AtomicUsize::new(0);
        let later = || {
            later_ones_asked.fetch_add(1, Ordering::Relaxed);
            found()
        };
        assert!(matches!(first_of(&[("a", &silent), ("b", &later)]), Err(CredentialError::Unavailable(_))));
        assert_eq!(later_ones_asked.into_inner(), 0);
    }

    #[test]
    fn credentials_are_renewed_five_minutes_ahead() {
        assert!(!credentials(None).expire_within(0, RENEWAL_MARGIN));
        assert!(!credentials(Some(300_000)).expire_within(0, RENEWAL_MARGIN));
        assert!(credentials(Some(299_999)).expire_within(0, RENEWAL_MARGIN));
        assert!(credentials(Some(1)).expire_within(2, 0));
    }

    #[test]
    fn no_credentials_print_their_secret() {
        assert!(!format!("{:?}", credentials(None)).contains("hunter2"));
    }
}
