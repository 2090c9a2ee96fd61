//! Signed GET requests to one bucket. No other method is implemented, so nothing can be written to it.

use std::error::Error;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use s3::signing::uri_encode;
use time::OffsetDateTime;
use ureq::http::header::{ACCEPT_ENCODING, HeaderName};
use ureq::http::{HeaderMap, HeaderValue, Request, Response};
use ureq::{Agent, Body};
use url::Url;

use self::answer::{Refusal, judge};
use self::place::Place;
use super::watched::Watched;
use crate::auth::aws::signature::{Scope, sign};
use crate::auth::aws::{Credentials, Provider};
use crate::config::s3::S3;
use crate::exit::Failure;
use crate::http::{self, TransportError};
use crate::shutdown::Stop;

mod answer;
mod error;
mod hints;
mod place;

pub(super) use self::answer::{for_the_eye, judge_late};
pub(super) use self::error::GetError;

/// Time limit for name lookup, TCP connection and TLS handshake.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Time limit for the head of a reply, the same as in other clients. A page of a large listing is slow, and so is an
/// object that nobody has requested for years.
const REPLY_LIMIT: Duration = Duration::from_secs(60);

/// Time limit for the next bytes of a body. A whole body has no limit: an archive may take as long as it likes while
/// bytes arrive.
const READ_LIMIT: Duration = Duration::from_secs(15);

/// The most downloads at once.
pub(super) const MOST_DOWNLOADS: usize = 16;

/// Bytes of an error reply that are read.
const ERROR_BYTES: u64 = 64 << 10;

/// Time limit for the body of an error reply. Its status is there already, and is enough to decide.
const ERROR_LIMIT: Duration = Duration::from_secs(3);

/// The client. All threads share its connections.
#[derive(Clone)]
pub(super) struct Client {
    shared: Arc<Shared>,
    stop: Stop,
}

struct Shared {
    agent: Agent,
    settings: S3,
    /// Where the bucket is, as far as is known.
    place: RwLock<Arc<Place>>,
    requester_pays: AtomicBool,
    /// None: requests are not signed.
    credentials: Option<Provider>,
}

/// A request to make.
struct Wanted {
    /// Key of the object; empty for a listing.
    key: String,
    query: Vec<(&'static str, String)>,
    headers: Vec<(HeaderName, String)>,
}

impl Client {
    /// A client for the given bucket. Opens no connection yet. Requests end early when the run is to stop.
    ///
    /// # Errors
    ///
    /// A usage failure if the CA file cannot be used.
    pub(super) fn new(settings: &S3, stop: &Stop) -> Result<Self, Failure> {
        let agent = agent(settings)?;
        let provider = || Provider::new(settings.credentials.clone(), agent.clone());
        let shared = Shared {
            credentials: (!settings.anonymous).then(provider),
            place: RwLock::new(Arc::new(Place::of(settings, &settings.region.name))),
            // An anonymous client cannot pay.
            requester_pays: AtomicBool::new(settings.requester_pays && !settings.anonymous),
            settings: settings.clone(),
            agent,
        };
        Ok(Self { shared: Arc::new(shared), stop: stop.clone() })
    }

    /// Requests an object, or a listing if the key is empty. The reply is a success; its body is still to be read.
    ///
    /// # Errors
    ///
    /// [`GetError`].
    pub(super) fn get(
        &self,
        key: &str,
        query: &[(&'static str, &str)],
        headers: &[(HeaderName, String)],
    ) -> Result<Response<Body>, GetError> {
        let query = query.iter().map(|&(name, value)| (name, value.to_owned())).collect();
        let wanted = Wanted { key: key.to_owned(), query, headers: headers.to_vec() };
        let shared = self.shared.clone();
        self.unless_stopped(move || shared.get(&wanted))
    }

    /// Does `work` on its own thread and stops waiting for it when the run is to stop: name lookups, heads of replies
    /// and programs that provide credentials may take a minute.
    pub(super) fn unless_stopped<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, GetError> + Send + 'static,
    ) -> Result<T, GetError> {
        let done = self.stop.unless_requested(work);
        let done = done
            .map_err(|error| GetError::unavailable(format!("there is no thread for the request: {error}")))?;
        done.unwrap_or_else(|| Err(GetError::stopped()))
    }

    /// Masks the credentials wherever they appear in a server's text.
    pub(super) fn cut_credentials_out_of(&self, text: &mut Vec<u8>) {
        self.shared.credentials.iter().for_each(|credentials| credentials.cut_out_of(text));
    }

    /// The address of a key for messages: its bucket and the key.
    pub(super) fn address(&self, key: &str) -> String {
        super::address(&self.shared.settings.bucket, key)
    }

    /// The host that requests go to, for messages.
    pub(super) fn host(&self) -> String {
        self.shared.place().host().to_owned()
    }
}

impl Shared {
    /// Sends a request. If the credentials are refused, looks for new ones, and retries once if there are others.
    fn get(&self, wanted: &Wanted) -> Result<Response<Body>, GetError> {
        let Some(provider) = &self.credentials else { return self.ask(wanted, None) };
        let credentials = provider.get()?;
        let error = match self.ask(wanted, Some(&credentials)) {
            // Some servers report expired credentials only as a denial.
            Err(error @ (GetError::Credentials(_) | GetError::Denied(_))) => error,
            done => return done,
        };
        match provider.renew_refused(&credentials)? {
            Some(others) => self.ask(wanted, Some(&others)),
            None => Err(error),
        }
    }

    /// Sends a request, and follows the bucket to the region that the reply names.
    fn ask(&self, wanted: &Wanted, credentials: Option<&Credentials>) -> Result<Response<Body>, GetError> {
        let place = self.place();
        let refusal = match self.ask_at(&place, wanted, credentials) {
            Ok(response) => return Ok(response),
            Err(refusal) => refusal,
        };
        let Some(region) = refusal.region else { return Err(refusal.error) };
        let there = Place::of(&self.settings, &region);
        let answer = self.ask_at(&there, wanted, credentials);
        match answer {
            // The other region names yet another one: the first answer counts.
            Err(Refusal { region: Some(_), .. }) => Err(refusal.error),
            Err(Refusal { error: GetError::Unavailable { .. }, .. }) => {
                answer.map_err(|refusal| refusal.error)
            }
            Err(Refusal { error: GetError::Refused(_) | GetError::Other(_), .. }) => Err(refusal.error),
            answer => {
                self.move_to(there);
                answer.map_err(|refusal| refusal.error)
            }
        }
    }

    fn place(&self) -> Arc<Place> {
        self.place.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn move_to(&self, there: Place) {
        let mut place = self.place.write().unwrap_or_else(PoisonError::into_inner);
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

    /// Sends a request. If the requester-pays header may be the cause of a refusal, retries without it.
    fn ask_at(
        &self,
        place: &Place,
        wanted: &Wanted,
        credentials: Option<&Credentials>,
    ) -> Result<Response<Body>, Refusal> {
        let pays = self.requester_pays.load(Ordering::Relaxed);
        let refusal = match self.send(place, wanted, credentials, pays) {
            Err(refusal) if pays && refusal.may_be_a_header => refusal,
            done => return done,
        };
        let without = self.send(place, wanted, credentials, false);
        match &without {
            Err(again) if again.may_be_a_header || matches!(again.error, GetError::Unavailable { .. }) => {
                return Err(refusal);
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
        wanted: &Wanted,
        credentials: Option<&Credentials>,
        pays: bool,
    ) -> Result<Response<Body>, Refusal> {
        let url = url(place, wanted)?;
        let request = request(place, &url, wanted, credentials, pays)
            .map_err(|why| GetError::Refused(format!("the request cannot be signed: {why}")))?;
        let mut response = self
            .agent
            .run(request)
            .map_err(|error| hints::of_transport(&self.settings, place, TransportError::from(error)))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let mut body = Vec::new();
        let reader = Watched::new(response.body_mut().as_reader(), ERROR_LIMIT, None);
        if let Err(error) = reader.take(ERROR_BYTES).read_to_end(&mut body) {
            log::debug!("the reply with an error of S3 ends early: {error}");
        }
        credentials.iter().for_each(|credentials| credentials.cut_out_of(&mut body));
        let refusal = judge(place, response.status().as_u16(), response.headers(), &body);
        Err(hints::of_answer(&self.settings, place, refusal))
    }
}

fn request(
    place: &Place,
    url: &Url,
    wanted: &Wanted,
    credentials: Option<&Credentials>,
    pays: bool,
) -> Result<Request<()>, Box<dyn Error>> {
    let mut all = HeaderMap::new();
    for (name, value) in &wanted.headers {
        all.insert(name.clone(), value.parse()?);
    }
    if pays {
        all.insert("x-amz-request-payer", HeaderValue::from_static("requester"));
    }
    if let Some(credentials) = credentials {
        let scope = Scope { region: &place.region, service: "s3" };
        sign(("GET", url, b""), &mut all, credentials, scope, OffsetDateTime::now_utc())?;
    }
    // Not signed, because gateways change it. Requests the bytes as they are stored.
    all.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let mut request = Request::get(url.as_str()).body(())?;
    *request.headers_mut() = all;
    Ok(request)
}

fn url(place: &Place, wanted: &Wanted) -> Result<Url, GetError> {
    let mut text = format!("{}{}", place.base, uri_encode(&wanted.key, false));
    for (n, (name, value)) in wanted.query.iter().enumerate() {
        let separator = if n == 0 { '?' } else { '&' };
        text.push_str(&format!("{separator}{name}={}", uri_encode(value, true)));
    }
    Url::parse(&text).map_err(|error| GetError::Other(error.to_string()))
}

/// Whether a key can be requested. A URL with a segment `.` or `..` means another key, so such a key has none.
pub(super) fn has_url(key: &str) -> bool {
    key.split('/').all(|segment| segment != "." && segment != "..")
}

fn agent(settings: &S3) -> Result<Agent, Failure> {
    let sources = &settings.credentials;
    let asks_others = sources.web_identity.is_some() || sources.profile.config_file.is_some();
    let is_https = settings.endpoint.as_ref().is_none_or(|url| url.starts_with("https:"))
        || asks_others && sources.sts.url.starts_with("https:")
        || sources.container.as_ref().is_some_and(|container| container.url.starts_with("https:"));
    http::agent(&http::HttpSettings {
        ca_cert: settings.ca_cert.as_ref().map(|file| file.path.as_path()),
        ca_fingerprint: None,
        client_cert: None,
        is_https,
        skip_tls_verify: false,
        proxies: &settings.proxies,
        connect_limit: CONNECT_LIMIT,
        head_limit: Some(REPLY_LIMIT),
        read_limit: Some(READ_LIMIT),
        // One for each download.
        idle_connections: MOST_DOWNLOADS,
    })
    // The failure's own text is about Elasticsearch's setting.
    .map_err(|failure| match &settings.ca_cert {
        Some(file) => {
            let message = failure.message.replace("ELASTICSEARCH_CA_CERT / --ca-cert", file.setting);
            Failure::new(failure.code, message)
        }
        None => failure,
    })
}

#[cfg(test)]
mod tests;
