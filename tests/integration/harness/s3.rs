//! A scripted S3 on loopback, with the endpoints that issue credentials. It lists and serves objects under the bucket's
//! path, records every request, and fails as scripted.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::http::{Reply, Request};
use super::listener::{Answer, Listener, Serve};
use super::script::{Fault, Rule, Script};

/// The bucket.
pub(crate) const BUCKET: &str = "megastream-test";

/// The access key that is valid at first.
pub(crate) const ACCESS_KEY: &str = "AKIDTESTONLY";

/// Secrets that no output may contain: the secret key, the session token, the tokens of the container and of the web
/// identity.
pub(crate) const SECRETS: [&str; 4] =
    ["notTo/BeSeen+secret", "notToBeSeen-session", "notToBeSeen-container", "notToBeSeen-identity"];

/// The access key that may assume roles.
pub(crate) const ROLE_KEY: &str = "AKIDROLETAKER";

/// Keys per page.
const PAGE: usize = 1_000;

/// An object.
#[derive(Clone, Debug)]
struct Object {
    body: Vec<u8>,
    etag: String,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Object>,
    puts: usize,
    /// Keys per page.
    page: usize,
    /// Ignores delimiters, as servers do that support only those of one character.
    ignores_delimiters: bool,
    /// Ignores `start-after`, as some servers do.
    ignores_start_after: bool,
    /// The modification time of all objects in listings.
    modified: String,
    script: Script,
    /// Replaces an object once a reply has been cut.
    after_cut: Option<(String, Vec<u8>)>,
    access_key: String,
    /// The region that signatures must name.
    region: String,
    /// Whether unsigned requests are accepted.
    is_public: bool,
    /// The expiration of issued credentials.
    expiration: String,
    requests: Vec<Request>,
    open_gets: usize,
    peak_open_gets: usize,
    released: bool,
    stopped: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running server; dropping it stops it.
pub(crate) struct FakeS3 {
    shared: Arc<Shared>,
    listener: Listener,
}

impl FakeS3 {
    /// Starts a server with an empty bucket.
    pub(crate) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        shared.lock().page = PAGE;
        shared.lock().access_key = ACCESS_KEY.to_owned();
        shared.lock().region = "us-east-1".to_owned();
        shared.lock().modified = "2025-12-18T00:00:00.000Z".to_owned();
        shared.lock().expiration = "2099-01-01T00:00:00Z".to_owned();
        let listener = Listener::start(Arc::clone(&shared));
        Self { shared, listener }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.listener.address())
    }

    /// Puts an object into the bucket.
    pub(crate) fn put(&self, key: &str, body: impl Into<Vec<u8>>) {
        self.shared.lock().put(key, body.into());
    }

    /// Replaces the object once a reply has been cut.
    pub(crate) fn replace_after_cut(&self, key: &str, body: impl Into<Vec<u8>>) {
        self.shared.lock().after_cut = Some((key.to_owned(), body.into()));
    }

    /// After `after` requests that match, the next `times` meet this fault.
    pub(crate) fn fail(
        &self,
        condition: impl Fn(&Request) -> bool + Send + 'static,
        after: usize,
        times: usize,
        fault: Fault,
    ) {
        self.shared.lock().script.add(Rule { condition: Box::new(condition), times, after, fault });
    }

    /// Removes all faults.
    pub(crate) fn clear_faults(&self) {
        self.shared.lock().script.clear();
    }

    /// Sets the number of keys per page.
    pub(crate) fn pages_of(&self, keys: usize) {
        self.shared.lock().page = keys;
    }

    /// Ignores delimiters from now on.
    pub(crate) fn ignore_delimiters(&self) {
        self.shared.lock().ignores_delimiters = true;
    }

    /// Ignores `start-after` from now on.
    pub(crate) fn ignore_start_after(&self) {
        self.shared.lock().ignores_start_after = true;
    }

    /// Gives all objects the current time as modification time.
    pub(crate) fn touch_all(&self) {
        let now = time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339);
        self.shared.lock().modified = now.expect("a time");
    }

    /// Makes this access key the only valid one; others have expired.
    pub(crate) fn expire_all_but(&self, access_key: &str) {
        self.shared.lock().access_key = access_key.to_owned();
    }

    /// Sets the region of the bucket.
    pub(crate) fn set_region(&self, region: &str) {
        self.shared.lock().region = region.to_owned();
    }

    /// Accepts unsigned requests from now on.
    pub(crate) fn make_public(&self) {
        self.shared.lock().is_public = true;
    }

    /// Sets the expiration of credentials issued from now on.
    pub(crate) fn issue_until(&self, time: &str) {
        self.shared.lock().expiration = time.to_owned();
    }

    /// Lets hanging requests continue.
    pub(crate) fn release(&self) {
        self.shared.lock().released = true;
        self.shared.changed.notify_all();
    }

    /// All requests so far, in the order of their arrival.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// The requests to the bucket.
    pub(crate) fn to_bucket(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| key_of(request).is_some()).collect()
    }

    /// The peak number of open requests for objects.
    pub(crate) fn peak_open_gets(&self) -> usize {
        self.shared.lock().peak_open_gets
    }

    /// Waits for this number of such requests.
    pub(crate) fn wait_for(&self, wanted: impl Fn(&Request) -> bool, count: usize) {
        let missing =
            |state: &mut State| state.requests.iter().filter(|request| wanted(request)).count() < count;
        let (state, time_out) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), super::fake::PATIENCE, missing)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!time_out.timed_out(), "no {count} such requests among {}", state.requests.len());
    }
}

impl Drop for FakeS3 {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        self.listener.end();
    }
}

/// Whether a request is for a page of the listing.
pub(crate) fn is_listing(request: &Request) -> bool {
    key_of(request) == Some("")
}

/// Whether a request is for an object.
pub(crate) fn is_object(request: &Request) -> bool {
    key_of(request).is_some_and(|key| !key.is_empty())
}

/// An S3 error reply.
pub(crate) fn error(status: u16, code: &str) -> Reply {
    let body = format!("<Error><Code>{code}</Code><Message>scripted</Message></Error>");
    Reply { status, headers: vec![("content-type", "application/xml".to_owned())], body: body.into_bytes() }
}

/// The key; the bucket is in the path or in the host name.
fn key_of(request: &Request) -> Option<&str> {
    if request.header("host").is_some_and(|host| host.starts_with(&format!("{BUCKET}."))) {
        return request.path.strip_prefix('/');
    }
    request.path.strip_prefix('/')?.strip_prefix(BUCKET)?.strip_prefix('/')
}

impl Serve for Shared {
    fn answer(&self, request: &Request) -> Answer {
        handle(self, request)
    }

    fn answered(&self, request: &Request) {
        if is_object(request) {
            self.lock().open_gets -= 1;
        }
    }
}

fn handle(shared: &Shared, request: &Request) -> Answer {
    let mut state = shared.lock();
    let fault = state.script.take(request);
    state.requests.push(request.clone());
    if is_object(request) {
        state.open_gets += 1;
        state.peak_open_gets = state.peak_open_gets.max(state.open_gets);
    }
    shared.changed.notify_all();
    if matches!(fault, Some(Fault::Hang)) {
        state = shared
            .changed
            .wait_while(state, |state| !state.released && !state.stopped)
            .unwrap_or_else(PoisonError::into_inner);
    }
    let whole = |reply: Reply| Answer { bytes: reply.bytes(false), keep_alive: true, ..Answer::default() };
    let last = |bytes: Vec<u8>| Answer { bytes, ..Answer::default() };
    match fault {
        Some(Fault::Reply(reply)) => whole(reply),
        Some(Fault::Dripping(reply)) => {
            let mut bytes = reply.bytes(false);
            let dripping = bytes.split_off(bytes.len() - reply.body.len());
            Answer { bytes, dripping, keep_alive: true }
        }
        Some(Fault::CutReply) => {
            let reply = state.answer(request);
            let bytes = reply.bytes(false);
            if let Some((key, body)) = state.after_cut.take() {
                state.put(&key, body);
            }
            Answer { bytes: bytes[..bytes.len() - reply.body.len() / 2].to_vec(), ..Answer::default() }
        }
        Some(Fault::Trickle) => {
            let reply = state.answer(request);
            let mut bytes = reply.bytes(false);
            let dripping = bytes.split_off(bytes.len() - reply.body.len() / 2);
            Answer { bytes, dripping, keep_alive: true }
        }
        Some(Fault::CloseBefore) => Answer::default(),
        Some(Fault::Chunked) => {
            Answer { bytes: state.answer(request).chunked(), keep_alive: true, ..Answer::default() }
        }
        Some(Fault::Unframed) => last(state.answer(request).unframed(usize::MAX)),
        Some(Fault::UnframedCut(bytes)) => last(state.answer(request).unframed(bytes)),
        Some(Fault::Bytes(bytes)) => last(bytes.to_vec()),
        _ => whole(state.answer(request)),
    }
}

impl State {
    fn put(&mut self, key: &str, body: Vec<u8>) {
        self.puts += 1;
        let etag = format!("\"{:032x}\"", self.puts);
        self.objects.insert(key.to_owned(), Object { body, etag });
    }

    fn answer(&self, request: &Request) -> Reply {
        let Some(key) = key_of(request) else { return self.issue_credentials(request) };
        if request.method != "GET" {
            return error(405, "MethodNotAllowed");
        }
        if let Some(refusal) = self.refuse(request) {
            return refusal;
        }
        if key.is_empty() { self.list(request) } else { self.get(key, request) }
    }

    /// The error for a request without a valid signature.
    fn refuse(&self, request: &Request) -> Option<Reply> {
        let authorization = request.header("authorization").unwrap_or_default();
        if self.is_public && authorization.is_empty() {
            return None;
        }
        let part = |name: &str| {
            let rest = authorization.split_once(&format!("{name}="))?.1;
            rest.split(',').next().map(str::to_owned)
        };
        let signed = part("SignedHeaders").unwrap_or_default();
        let unsigned = request.headers.iter().any(|(name, _)| {
            let has_to_be =
                name.starts_with("x-amz-") || ["host", "range", "if-match"].contains(&name.as_str());
            has_to_be && !signed.split(';').any(|signed| signed == name)
        });
        let signature = part("Signature").unwrap_or_default();
        if !authorization.starts_with("AWS4-HMAC-SHA256 ") || signature.len() != 64 || unsigned {
            return Some(error(403, "AccessDenied"));
        }
        let credential = part("Credential").unwrap_or_default();
        let words: Vec<&str> = credential.split('/').collect();
        match words[..] {
            [key, _, region, "s3", "aws4_request"] if key == self.access_key && region == self.region => None,
            [key, _, _, "s3", "aws4_request"] if key == self.access_key => {
                Some(error(301, "PermanentRedirect").with_header("x-amz-bucket-region", &self.region))
            }
            [key, ..] if key.starts_with("ASIA") || key.starts_with("AKID") => {
                Some(error(400, "ExpiredToken"))
            }
            _ => Some(error(403, "InvalidAccessKeyId")),
        }
    }

    fn list(&self, request: &Request) -> Reply {
        if request.param("list-type") != Some("2") {
            return error(400, "InvalidArgument");
        }
        let prefix = request.param("prefix").unwrap_or_default();
        let after = request.param("continuation-token").and_then(|token| token.strip_prefix("after+/="));
        let start = request.param("start-after").filter(|_| !self.ignores_start_after);
        let after = after.or(start).unwrap_or_default();
        let keys = self
            .objects
            .range::<str, _>((Bound::Excluded(after), Bound::Unbounded))
            .skip_while(|(key, _)| key.as_str() < prefix)
            .take_while(|(key, _)| key.starts_with(prefix));
        let delimiter = request.param("delimiter").filter(|_| !self.ignores_delimiters);
        let group_of = |key: &str| {
            let delimiter = delimiter?;
            let at = key.get(prefix.len()..)?.find(delimiter)?;
            key.get(..prefix.len() + at + delimiter.len()).map(str::to_owned)
        };
        let mut groups: Vec<String> = Vec::new();
        let mut keys = keys.filter(|(key, _)| match group_of(key) {
            None => true,
            Some(group) => {
                if groups.last() != Some(&group) {
                    groups.push(group);
                }
                false
            }
        });
        let page: Vec<_> = keys.by_ref().take(self.page).collect();
        let is_truncated = keys.next().is_some();
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        xml += "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">";
        xml += &format!("<Name>{BUCKET}</Name><Prefix>{prefix}</Prefix>");
        xml += &format!("<KeyCount>{}</KeyCount><MaxKeys>{}</MaxKeys>", page.len(), self.page);
        xml += &format!("<IsTruncated>{is_truncated}</IsTruncated>");
        if let Some((last, _)) = page.last().filter(|_| is_truncated) {
            xml += &format!("<NextContinuationToken>after+/={last}</NextContinuationToken>");
        }
        for (key, object) in page {
            xml += &format!("<Contents><Key>{key}</Key><LastModified>{}</LastModified>", self.modified);
            xml += &format!("<ETag>{}</ETag><Size>{}</Size>", object.etag, object.body.len());
            xml += "<StorageClass>STANDARD</StorageClass></Contents>";
        }
        for group in groups {
            xml += &format!("<CommonPrefixes><Prefix>{group}</Prefix></CommonPrefixes>");
        }
        xml += "</ListBucketResult>";
        Reply { status: 200, headers: vec![], body: xml.into_bytes() }
    }

    fn get(&self, key: &str, request: &Request) -> Reply {
        let Some(object) = self.objects.get(key) else { return error(404, "NoSuchKey") };
        if request.header("if-match").is_some_and(|etag| etag != object.etag) {
            return error(412, "PreconditionFailed");
        }
        let reply = Reply { status: 200, headers: vec![("etag", object.etag.clone())], body: Vec::new() };
        let Some(range) = request.header("range").and_then(|range| range.strip_prefix("bytes=")) else {
            return reply.with_body(&object.body);
        };
        let (start, end) = range.split_once('-').expect("a range");
        let length = object.body.len();
        let start: usize = start.parse().expect("a start");
        let end = end.parse().unwrap_or(usize::MAX).min(length - 1);
        let told = format!("bytes {start}-{end}/{length}");
        let mut reply = reply.with_header("content-range", &told).with_body(&object.body[start..=end]);
        reply.status = 206;
        reply
    }

    /// The endpoints of a container, the token service, and the metadata service.
    fn issue_credentials(&self, request: &Request) -> Reply {
        let [secret, session, container, identity] = SECRETS;
        let text = |body: &str| Reply { status: 200, headers: vec![], body: body.as_bytes().to_vec() };
        let State { access_key, expiration, .. } = self;
        let document = format!(
            "{{\"AccessKeyId\":\"{access_key}\",\"SecretAccessKey\":\"{secret}\",\"Token\":\"{session}\",\
             \"Expiration\":\"{expiration}\"}}"
        );
        let metadata = request.header("x-aws-ec2-metadata-token") == Some(container);
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/container") if request.header("authorization") == Some(container) => text(&document),
            ("PUT", "/imds/latest/api/token") => text(container),
            ("GET", "/imds/latest/meta-data/iam/security-credentials/") if metadata => text("a-role"),
            ("GET", "/imds/latest/meta-data/iam/security-credentials/a-role") if metadata => text(&document),
            ("POST", "/sts/") if String::from_utf8_lossy(&request.body).contains(identity) => {
                text(&role_reply("AssumeRoleWithWebIdentity", access_key, expiration))
            }
            // Only ROLE_KEY may assume the role.
            ("POST", "/roles/") if is_by_role_key(request) => {
                text(&role_reply("AssumeRole", access_key, expiration))
            }
            ("GET", "/sso/federation/credentials")
                if request.header("x-amz-sso_bearer_token") == Some(identity)
                    && request.param("role_name") == Some("a role")
                    && request.param("account_id") == Some("1") =>
            {
                text(&format!(
                    "{{\"roleCredentials\":{{\"accessKeyId\":\"{access_key}\",\"secretAccessKey\":\"{secret}\",\
                     \"sessionToken\":\"{session}\",\"expiration\":4070908800000}}}}"
                ))
            }
            _ => error(404, "NotFound"),
        }
    }
}

fn is_by_role_key(request: &Request) -> bool {
    let authorization = request.header("authorization").unwrap_or_default();
    let body = String::from_utf8_lossy(&request.body);
    authorization.contains(&format!("Credential={ROLE_KEY}/"))
        && authorization.contains("/sts/aws4_request")
        && body.contains("Action=AssumeRole&")
        && body.contains("RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr")
}

fn role_reply(action: &str, access_key: &str, expiration: &str) -> String {
    let [secret, session, ..] = SECRETS;
    format!(
        "<{action}Response><{action}Result><Credentials><AccessKeyId>{access_key}</AccessKeyId>\
         <SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{session}</SessionToken>\
         <Expiration>{expiration}</Expiration></Credentials></{action}Result></{action}Response>"
    )
}
