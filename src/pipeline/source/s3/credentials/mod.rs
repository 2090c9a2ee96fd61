//! Credentials: found by the usual chain, renewed before they expire.
//!
//! The order is: the environment, a profile, a web identity, the container, the instance. A step that nobody has set
//! up is passed over; one that is set up and does not work ends the search, so that a run is never made with other
//! credentials than those meant. An error tells every step.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Standardized credential providers".

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ureq::Agent;

use crate::config::s3::{CredentialSources, Keys};
use crate::secret::Secret;
use crate::timestamp::now_millis;

mod profile;
mod remote;

/// Credentials are renewed when less than this is left of them, in milliseconds.
const RENEWED_AHEAD: i64 = 5 * 60 * 1000;

/// What requests are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// The access key id.
    pub(crate) access_key: String,
    /// The secret access key.
    pub(crate) secret_key: Secret,
    /// The session token that goes with temporary keys.
    pub(crate) session_token: Option<Secret>,
    /// When they expire, milliseconds since 1970; None where nobody says.
    pub(crate) expires: Option<i64>,
}

impl Credentials {
    /// Whether they expire within so many milliseconds.
    fn expire_within(&self, now: i64, millis: i64) -> bool {
        self.expires.is_some_and(|expires| expires.saturating_sub(now) < millis)
    }
}

impl From<Keys> for Credentials {
    fn from(Keys { access_key, secret_key, session_token }: Keys) -> Self {
        Self { access_key, secret_key, session_token, expires: None }
    }
}

/// Why there are no credentials, with every step of the chain that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CredentialError {
    /// Asking again may help.
    Unavailable(String),
    /// It will not.
    Refused(String),
}

/// Why one step of the chain has none.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// It is not set up.
    Absent(String),
    /// It is set up, and refuses or is wrong.
    Refused(String),
    /// It is set up, and does not answer for now.
    Unavailable(String),
}

/// Finds credentials, keeps them, and renews them. Shared by all threads.
pub(crate) struct Provider {
    sources: CredentialSources,
    agent: Agent,
    current: Mutex<Option<Arc<Credentials>>>,
    /// Whether this machine is an instance that has given out credentials before.
    is_instance: AtomicBool,
}

impl Provider {
    /// Nothing is looked for yet.
    pub(crate) fn new(sources: CredentialSources, agent: Agent) -> Self {
        Self { sources, agent, current: Mutex::new(None), is_instance: AtomicBool::new(false) }
    }

    /// Credentials that are valid for some minutes, as far as is known.
    ///
    /// # Errors
    ///
    /// [`CredentialError`], where there are none, or none that are valid still.
    pub(crate) fn get(&self) -> Result<Arc<Credentials>, CredentialError> {
        // Held while they are looked for, so that one thread does and the others wait for it.
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now_millis();
        if let Some(credentials) = &*current
            && !credentials.expire_within(now, RENEWED_AHEAD)
        {
            return Ok(credentials.clone());
        }
        match (self.find(), &*current) {
            (Ok(found), _) => Ok(current.insert(Arc::new(found)).clone()),
            (Err(error), Some(old)) if !old.expire_within(now, 0) => {
                let (CredentialError::Unavailable(why) | CredentialError::Refused(why)) = error;
                log::warn!("the S3 credentials expire soon and cannot be renewed: {why}");
                Ok(old.clone())
            }
            (Err(error), _) => Err(error),
        }
    }

    /// These have expired, whatever was said of them: the next look finds others. Has no effect where another thread
    /// has found others already.
    pub(crate) fn forget(&self, expired: &Arc<Credentials>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|credentials| Arc::ptr_eq(credentials, expired)) {
            *current = None;
        }
    }

    fn find(&self) -> Result<Credentials, CredentialError> {
        let CredentialSources { keys, profile, web_identity, sts_url, container, instance_url } =
            &self.sources;
        let agent = &self.agent;
        let from_keys = || {
            let none = || Step::Absent("AWS_S3_ACCESS_KEY and AWS_ACCESS_KEY_ID are not set".to_owned());
            keys.clone().map(Credentials::from).ok_or_else(none)
        };
        let from_profile = || match profile::read(profile)? {
            profile::Found::Keys(keys) => Ok(keys.into()),
            profile::Found::WebIdentity(identity) => remote::assume_role(agent, sts_url, &identity),
        };
        let from_web_identity = || match web_identity {
            Some(identity) => remote::assume_role(agent, sts_url, identity),
            None => Err(Step::Absent("AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN are not both set".into())),
        };
        let from_container = || match container {
            Some(container) => remote::ask_container(agent, container),
            None => Err(Step::Absent("AWS_CONTAINER_CREDENTIALS_… is not set".into())),
        };
        let from_instance = || match instance_url {
            Some(url) => {
                let found = remote::ask_instance(agent, url, self.is_instance.load(Ordering::Relaxed))?;
                self.is_instance.store(true, Ordering::Relaxed);
                Ok(found)
            }
            None => Err(Step::Absent("AWS_EC2_METADATA_DISABLED is set".into())),
        };
        first_of(&[
            ("environment", &from_keys as Look<'_>),
            ("profile", &from_profile),
            ("web identity", &from_web_identity),
            ("container", &from_container),
            ("instance", &from_instance),
        ])
    }
}

/// One step of the chain: it looks, and finds credentials or has a reason to have none.
type Look<'f> = &'f dyn Fn() -> Result<Credentials, Step>;

/// The credentials of the first step that is set up.
fn first_of(steps: &[(&str, Look<'_>)]) -> Result<Credentials, CredentialError> {
    let mut tried: Vec<String> = Vec::new();
    for (name, look) in steps {
        let mut tell = |why: &str| {
            tried.push(format!("{name}: {why}"));
            format!("no credentials for S3: {}", tried.join("; "))
        };
        match look() {
            Ok(credentials) => {
                log::debug!("S3 credentials: {name}");
                return Ok(credentials);
            }
            Err(Step::Absent(why)) => drop(tell(&why)),
            Err(Step::Refused(why)) => return Err(CredentialError::Refused(tell(&why))),
            Err(Step::Unavailable(why)) => return Err(CredentialError::Unavailable(tell(&why))),
        }
    }
    Err(CredentialError::Refused(format!("no credentials for S3: {}", tried.join("; "))))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn credentials(expires: Option<i64>) -> Credentials {
        let secret_key = Secret::new("hunter2");
        Credentials { access_key: "A".into(), secret_key, session_token: None, expires }
    }

    #[test]
    fn the_first_step_that_is_set_up_decides_and_all_before_it_are_told() {
        let absent = || Err(Step::Absent("not set".into()));
        let refused = || Err(Step::Refused("no such profile".into()));
        let found = || Ok(credentials(None));
        assert_eq!(first_of(&[("a", &absent), ("b", &found), ("c", &refused)]), Ok(credentials(None)));
        assert_eq!(
            first_of(&[("a", &absent), ("b", &refused), ("c", &found)]),
            Err(CredentialError::Refused("no credentials for S3: a: not set; b: no such profile".into()))
        );
        assert_eq!(
            first_of(&[("a", &absent), ("b", &absent)]),
            Err(CredentialError::Refused("no credentials for S3: a: not set; b: not set".into()))
        );
        let silent = || Err(Step::Unavailable("no reply".into()));
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
        assert!(!credentials(None).expire_within(0, RENEWED_AHEAD));
        assert!(!credentials(Some(300_000)).expire_within(0, RENEWED_AHEAD));
        assert!(credentials(Some(299_999)).expire_within(0, RENEWED_AHEAD));
        assert!(credentials(Some(1)).expire_within(2, 0));
    }

    #[test]
    fn no_credentials_print_their_secret() {
        assert!(!format!("{:?}", credentials(None)).contains("hunter2"));
    }
}
