//! Sends signed GET requests to one bucket. No other method is implemented, so nothing can be written to it.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ureq::http::Response;
use ureq::http::header::HeaderName;
use ureq::{Agent, Body};

use self::answer::{Refusal, error_in, judge};
use self::place::Place;
use self::request::GetRequest;
use super::watched::Watched;
use crate::auth::aws::{Credentials, Provider};
use crate::common::exit::Failure;
use crate::common::mutex::Mutex;
use crate::config::s3::S3;
use crate::http::{self, TransportError};
use crate::process::shutdown::Stop;

mod answer;
mod error;
mod hints;
mod place;
mod request;

pub(super) use self::answer::{judge_late, printable};
pub(super) use self::error::GetError;
pub(super) use self::request::has_url;

/// Time limit for name lookup, TCP connection and TLS handshake.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Time limit for the head of a reply, as in other clients. Large listings and rarely requested objects are slow.
const REPLY_LIMIT: Duration = Duration::from_secs(60);

/// Time limit for the next bytes of a body. A whole body has no limit as long as bytes arrive.
const READ_LIMIT: Duration = Duration::from_secs(15);

/// Maximum number of concurrent downloads.
pub(super) const MAX_DOWNLOADS: usize = 16;

/// Maximum number of bytes read of an error reply.
const ERROR_BYTES: u64 = 64 << 10;

/// Time limit for the body of an error reply. Its status has already arrived, and is enough to classify it.
const ERROR_LIMIT: Duration = Duration::from_secs(3);

/// A client for one bucket. Clones share their connections.
#[derive(Clone)]
pub(super) struct Client {
    shared: Arc<Shared>,
    /// Tells whether the run is to stop.
    pub(super) stop: Stop,
}

struct Shared {
    agent: Agent,
    settings: S3,
    /// The known place of the bucket.
    place: Mutex<Arc<Place>>,
    requester_pays: AtomicBool,
    /// Whether a reply has arrived, so that a proxy lets requests pass.
    was_reached: AtomicBool,
    /// The credentials; None if requests are not signed.
    credentials: Option<Provider>,
}

impl Client {
    /// Creates a client for a bucket, without opening a connection yet. Requests end early if the run is to stop.
    ///
    /// # Errors
    ///
    /// A usage failure if the CA file cannot be used.
    pub(super) fn new(settings: &S3, stop: &Stop) -> Result<Self, Failure> {
        let agent = agent(settings)?;
        let provider = || Provider::new(settings.credentials.clone(), agent.clone());
        let shared = Shared {
            credentials: (!settings.anonymous).then(provider),
            place: Mutex::new(Arc::new(Place::of(settings, &settings.region.name))),
            // An anonymous client cannot pay.
            requester_pays: AtomicBool::new(settings.requester_pays && !settings.anonymous),
            was_reached: AtomicBool::new(false),
            settings: settings.clone(),
            agent,
        };
        Ok(Self { shared: Arc::new(shared), stop: stop.clone() })
    }

    /// Requests an object, or a listing if the key is empty. Returns a successful reply whose body has not been read.
    ///
    /// # Errors
    ///
    /// [`GetError`], also for any other reply.
    pub(super) fn get(
        &self,
        key: &str,
        query: Vec<(&'static str, String)>,
        headers: Vec<(HeaderName, String)>,
    ) -> Result<Response<Body>, GetError> {
        let wanted = GetRequest { key: key.to_owned(), query, headers };
        let shared = self.shared.clone();
        self.unless_stopped(move || shared.get(&wanted))
    }

    /// Does `work` on its own thread, and does not wait for it if the run is to stop: name resolution, heads of replies
    /// and credential processes may take a minute.
    pub(super) fn unless_stopped<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, GetError> + Send + 'static,
    ) -> Result<T, GetError> {
        let done = self.stop.unless_requested(work);
        let done = done
            .map_err(|error| GetError::unavailable(format!("there is no thread for the request: {error}")))?;
        done.unwrap_or_else(|| Err(GetError::stopped()))
    }

    /// Returns the error if `text` is one in place of the body of a successful reply.
    pub(super) fn error_in(&self, text: &[u8]) -> Option<GetError> {
        let mut text = text.get(..ERROR_BYTES as usize).unwrap_or(text).to_vec();
        self.mask_credentials_in(&mut text);
        error_in(&self.host(), &text)
    }

    /// Returns the error if the body of a successful reply is one.
    pub(super) fn error_in_body(&self, mut response: Response<Body>) -> Option<GetError> {
        let body = self.unless_stopped(move || Ok(error_body(&mut response))).ok()?;
        self.error_in(&body)
    }

    /// Masks the credentials wherever they appear in a server's text.
    pub(super) fn mask_credentials_in(&self, text: &mut Vec<u8>) {
        self.shared.mask_credentials_in(text);
    }

    /// Returns the settings of the bucket.
    pub(super) fn settings(&self) -> &S3 {
        &self.shared.settings
    }

    /// Returns the address of a key for messages: the bucket and the key.
    pub(super) fn address(&self, key: &str) -> String {
        super::address(&self.shared.settings.bucket, key)
    }

    /// Returns the host that requests go to, for messages.
    pub(super) fn host(&self) -> String {
        self.shared.place().host().to_owned()
    }
}

impl Shared {
    /// Sends a request. If the credentials are refused, looks for new ones and retries once with those.
    fn get(&self, wanted: &GetRequest) -> Result<Response<Body>, GetError> {
        let Some(provider) = &self.credentials else { return self.ask(wanted, None) };
        let credentials = provider.get()?;
        let error = match self.ask(wanted, Some(&credentials)) {
            // Some servers report expired credentials only as a denial.
            Err(error @ (GetError::Credentials(_) | GetError::Denied(_))) => error,
            done => return done,
        };
        let is_certain = matches!(error, GetError::Credentials(_));
        match provider.renew_refused(&credentials, is_certain) {
            Ok(Some(others)) => self.ask(wanted, Some(&others)),
            Err(failed) if is_certain => Err(failed.into()),
            Ok(None) | Err(_) => Err(error),
        }
    }

    /// Sends a request. If the reply names another region for the bucket, retries there.
    fn ask(
        &self,
        wanted: &GetRequest,
        credentials: Option<&Credentials>,
    ) -> Result<Response<Body>, GetError> {
        let place = self.place();
        let refusal = match self.ask_at(&place, wanted, credentials) {
            Ok(response) => return Ok(response),
            Err(refusal) => refusal,
        };
        let Some(region) = refusal.region else { return Err(refusal.error) };
        let there = Place::of(&self.settings, &region);
        match self.ask_at(&there, wanted, credentials) {
            // If the other region names yet another one, the first reply counts.
            Err(Refusal { region: Some(_), .. }) => Err(refusal.error),
            Err(Refusal { error: GetError::Refused(_) | GetError::Other(_), .. }) => Err(refusal.error),
            Err(Refusal { error: error @ GetError::Unavailable { .. }, .. }) => Err(error),
            answer => {
                self.move_to(there);
                answer.map_err(|refusal| refusal.error)
            }
        }
    }

    fn mask_credentials_in(&self, text: &mut Vec<u8>) {
        let secrets = self.credentials.iter().flat_map(Provider::secrets);
        secrets.for_each(|secret| secret.cut_out_of(text));
    }

    fn place(&self) -> Arc<Place> {
        self.place.lock().clone()
    }

    fn move_to(&self, there: Place) {
        let mut place = self.place.lock();
        if **place != there {
            let was = match self.settings.region.setting {
                "" => "AWS_REGION is not set".to_owned(),
                setting => format!("{setting} says {:?}", place.region),
            };
            log::warn!(
                "S3: the bucket {} is in the region {:?} and is read from there, although {was}: set \
                 AWS_REGION",
                self.settings.bucket,
                there.region
            );
            *place = Arc::new(there);
        }
    }

    /// Sends a request. If the requester-pays header may have caused a refusal, retries without it.
    fn ask_at(
        &self,
        place: &Place,
        wanted: &GetRequest,
        credentials: Option<&Credentials>,
    ) -> Result<Response<Body>, Refusal> {
        let pays = self.requester_pays.load(Ordering::Relaxed);
        let refusal = match self.send(place, wanted, credentials, pays) {
            Err(refusal) if pays && refusal.may_be_a_header => refusal,
            done => return done,
        };
        let mut without = self.send(place, wanted, credentials, false);
        match &mut without {
            Err(again) if again.may_be_a_header || matches!(again.error, GetError::Unavailable { .. }) => {
                return Err(refusal);
            }
            // In a requester-pays bucket, every request without the header gets this answer. So the first refusal may be
            // about this object alone, such as one that is encrypted with its owner's key.
            Err(Refusal { error: GetError::Denied(why) | GetError::Credentials(why), .. }) => {
                if let GetError::Other(first) = refusal.error {
                    why.push_str(&format!("; with x-amz-request-payer: {first}"));
                }
                return without;
            }
            _ => {}
        }
        if self.requester_pays.swap(false, Ordering::Relaxed) {
            let why = match refusal.error {
                GetError::Other(why) => why,
                error => format!("{error:?}"),
            };
            log::warn!(
                "S3: the server refuses x-amz-request-payer, so it is left out from now on ({why}): set \
                 S3_REQUEST_PAYER=none"
            );
        }
        without
    }

    fn send(
        &self,
        place: &Place,
        wanted: &GetRequest,
        credentials: Option<&Credentials>,
        pays: bool,
    ) -> Result<Response<Body>, Refusal> {
        let request = wanted.at(place, credentials, pays)?;
        let mut response = match self.agent.run(request).map_err(TransportError::from) {
            Ok(response) => response,
            // A proxy that has let requests pass may do so again.
            Err(error @ TransportError::RefusedByProxy(_)) if self.was_reached.load(Ordering::Relaxed) => {
                return Err(GetError::unavailable(format!("{}: {error}", place.host())).into());
            }
            Err(error) => return Err(hints::of_transport(&self.settings, place, error).into()),
        };
        self.was_reached.store(true, Ordering::Relaxed);
        if response.status().is_success() {
            return Ok(response);
        }
        let mut body = error_body(&mut response);
        self.mask_credentials_in(&mut body);
        let refusal = judge(place, response.status().as_u16(), response.headers(), &body);
        Err(hints::of_answer(&self.settings, place, refusal))
    }
}

/// Reads the body of an error reply, or its beginning.
fn error_body(response: &mut Response<Body>) -> Vec<u8> {
    let mut body = Vec::new();
    let reader = Watched::new(response.body_mut().as_reader(), ERROR_LIMIT);
    if let Err(error) = reader.take(ERROR_BYTES).read_to_end(&mut body) {
        log::debug!("the reply with an error of S3 ends early: {error}");
    }
    body
}

fn agent(settings: &S3) -> Result<Agent, Failure> {
    let sources = &settings.credentials;
    let asks_others = sources.web_identity.is_some() || sources.profile.config_file.is_some();
    let is_https = settings.endpoint.as_ref().is_none_or(|url| url.starts_with("https:"))
        || asks_others && sources.sts.url.starts_with("https:")
        || sources.container.as_ref().is_some_and(|container| container.url.starts_with("https:"));
    http::agent(&http::HttpSettings {
        ca_cert: settings.ca_cert.as_ref().map(|file| (file.path.as_path(), file.setting)),
        is_https,
        head_limit: Some(REPLY_LIMIT),
        read_limit: Some(READ_LIMIT),
        idle_connections: MAX_DOWNLOADS,
        ..http::HttpSettings::new(&settings.proxies, CONNECT_LIMIT)
    })
}

#[cfg(test)]
mod tests;
