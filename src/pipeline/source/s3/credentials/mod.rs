//! Credentials: found by the usual chain, renewed before they expire.
//!
//! The order is: the environment, a profile, a web identity, the container, the instance. A step that nobody has set
//! up is passed over; one that is set up and does not work ends the search, so that a run is never made with other
//! credentials than those meant. An error tells every step.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Standardized credential providers".

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ureq::Agent;

use crate::config::s3::{CredentialSources, Given, Keys};
use crate::secret::Secret;
use crate::timestamp::now_millis;

mod nearby;
mod process;
mod profile;
mod request;
mod sso;
mod sts;

/// Credentials are renewed when less than this is left of them, in milliseconds.
const RENEWED_AHEAD: i64 = 5 * 60 * 1000;

/// Credentials that a server refuses are looked for anew no more often than this: where they stay wrong, who gives
/// them out is to be left alone.
const ANEW_EVERY: Duration = Duration::from_secs(30);

/// While there are valid ones, credentials are asked for no more often than this: who gives them out may be busy.
const RENEWED_EVERY: Duration = Duration::from_secs(30);

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
    /// Replaces them wherever they stand in a text of a server's: it may quote the request, and with it the session
    /// token.
    pub(crate) fn cut_out_of(&self, text: &mut Vec<u8>) {
        self.secret_key.cut_out_of(text);
        self.session_token.iter().for_each(|token| token.cut_out_of(text));
    }

    /// Whether they expire within so many milliseconds.
    fn expire_within(&self, now: i64, millis: i64) -> bool {
        self.expires.is_some_and(|expires| expires.saturating_sub(now) < millis)
    }
}

/// Keys of the environment, read anew where they are in files.
fn of_keys(keys: &Keys) -> Result<Credentials, Step> {
    let read = |given: &Given| given.read().map_err(Step::Refused);
    Ok(Credentials {
        access_key: read(&keys.access_key)?.expose().to_owned(),
        secret_key: read(&keys.secret_key)?,
        session_token: keys.session_token.as_ref().map(read).transpose()?,
        expires: None,
    })
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

impl Step {
    /// The same of a step that was asked for by name.
    fn when_asked_for(self) -> Self {
        match self {
            Step::Absent(why) => Step::Refused(why),
            other => other,
        }
    }
}

/// Finds credentials, keeps them, and renews them. Shared by all threads.
pub(crate) struct Provider {
    sources: CredentialSources,
    agent: Agent,
    current: Mutex<Current>,
    /// Whether this machine is an instance that has given out credentials before.
    is_instance: AtomicBool,
}

#[derive(Default)]
struct Current {
    credentials: Option<Arc<Credentials>>,
    /// When credentials were last looked for since a server had refused those that there were.
    anew: Option<Instant>,
    /// When somebody last began to renew them while they were valid.
    renewed: Option<Instant>,
}

impl Current {
    /// Whether it is time to renew credentials that are still valid. Who hears so is to do it; the others go on with
    /// what there is.
    fn is_to_be_renewed(&mut self, now: Instant) -> bool {
        let is_due = self.renewed.is_none_or(|last| now.saturating_duration_since(last) >= RENEWED_EVERY);
        if is_due {
            self.renewed = Some(now);
        }
        is_due
    }
}

impl Provider {
    /// Nothing is looked for yet.
    pub(crate) fn new(sources: CredentialSources, agent: Agent) -> Self {
        Self { sources, agent, current: Mutex::default(), is_instance: AtomicBool::new(false) }
    }

    /// Replaces the credentials that there are now wherever they stand in a text of a server's.
    pub(crate) fn cut_out_of(&self, text: &mut Vec<u8>) {
        if let Some(credentials) = &self.current().credentials {
            credentials.cut_out_of(text);
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Credentials that are valid for some minutes, as far as is known.
    ///
    /// # Errors
    ///
    /// [`CredentialError`], where there are none, or none that are valid still.
    pub(crate) fn get(&self) -> Result<Arc<Credentials>, CredentialError> {
        let mut current = self.current();
        let now = now_millis();
        let valid = current.credentials.clone().filter(|credentials| !credentials.expire_within(now, 0));
        let Some(valid) = valid else {
            // Held while they are looked for, so that one thread does and the others wait for it.
            return Ok(current.credentials.insert(Arc::new(self.find()?)).clone());
        };
        if !valid.expire_within(now, RENEWED_AHEAD) || !current.is_to_be_renewed(Instant::now()) {
            return Ok(valid);
        }
        drop(current);
        match self.find() {
            Ok(found) => Ok(self.current().credentials.insert(Arc::new(found)).clone()),
            Err(CredentialError::Unavailable(why) | CredentialError::Refused(why)) => {
                log::warn!("the AWS credentials expire soon and cannot be renewed: {why}");
                Ok(valid)
            }
        }
    }

    /// A server has refused these, whatever was said of them: others, if there are any by now. Those that somebody
    /// gives out for a while count as others even if they are the same.
    ///
    /// # Errors
    ///
    /// [`CredentialError`], where there are none any more.
    pub(crate) fn anew(
        &self,
        refused: &Arc<Credentials>,
    ) -> Result<Option<Arc<Credentials>>, CredentialError> {
        let mut current = self.current();
        match &current.credentials {
            // Another thread has found others already.
            Some(others) if !Arc::ptr_eq(others, refused) => return Ok(Some(others.clone())),
            _ if current.anew.is_some_and(|last| last.elapsed() < ANEW_EVERY) => return Ok(None),
            _ => {}
        }
        log::debug!("the AWS credentials are refused, and looked for anew");
        current.anew = Some(Instant::now());
        current.credentials = None;
        let found = Arc::new(self.find()?);
        if *found == **refused && found.expires.is_none() {
            current.credentials = Some(refused.clone());
            return Ok(None);
        }
        Ok(Some(current.credentials.insert(found).clone()))
    }

    fn find(&self) -> Result<Credentials, CredentialError> {
        let CredentialSources { keys, web_identity, sts, .. } = &self.sources;
        let from_keys = || match keys {
            Some(_) if profile::takes_keys(&self.sources.profile) => {
                Err(Step::Absent("the profile takes a role with them".to_owned()))
            }
            Some(keys) => of_keys(keys),
            None => Err(Step::Absent("AWS_S3_ACCESS_KEY and AWS_ACCESS_KEY_ID are not set".to_owned())),
        };
        let from_web_identity = || match web_identity {
            Some(identity) => sts::assume_by_token(&self.agent, sts, identity),
            None => Err(Step::Absent("AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN are not both set".into())),
        };
        first_of(&[
            ("environment", &from_keys as Look<'_>),
            ("profile", &|| profile::find(self)),
            ("web identity", &from_web_identity),
            ("container", &|| self.of_container()),
            ("instance", &|| self.of_instance()),
        ])
    }

    fn of_container(&self) -> Result<Credentials, Step> {
        match &self.sources.container {
            Some(container) => nearby::ask_container(&self.agent, container),
            None => Err(Step::Absent("AWS_CONTAINER_CREDENTIALS_… is not set".into())),
        }
    }

    fn of_instance(&self) -> Result<Credentials, Step> {
        match &self.sources.instance_url {
            Some(url) => {
                let is_known = self.is_instance.load(Ordering::Relaxed);
                let found = nearby::ask_instance(&self.agent, url, is_known)?;
                self.is_instance.store(true, Ordering::Relaxed);
                Ok(found)
            }
            None => Err(Step::Absent("AWS_EC2_METADATA_DISABLED is set".into())),
        }
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
            format!("no AWS credentials: {}", tried.join("; "))
        };
        match look() {
            Ok(credentials) => {
                log::debug!("AWS credentials: {name}");
                return Ok(credentials);
            }
            Err(Step::Absent(why)) => drop(tell(&why)),
            Err(Step::Refused(why)) => return Err(CredentialError::Refused(tell(&why))),
            Err(Step::Unavailable(why)) => return Err(CredentialError::Unavailable(tell(&why))),
        }
    }
    Err(CredentialError::Refused(format!("no AWS credentials: {}", tried.join("; "))))
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
            Err(CredentialError::Refused("no AWS credentials: a: not set; b: no such profile".into()))
        );
        assert_eq!(
            first_of(&[("a", &absent), ("b", &absent)]),
            Err(CredentialError::Refused("no AWS credentials: a: not set; b: not set".into()))
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
