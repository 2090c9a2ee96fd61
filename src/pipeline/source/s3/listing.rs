//! Lists the archives of a bucket: reads all pages and sorts them.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::io::Read;
use std::time::{Duration, Instant};

use ureq::http::HeaderName;

use self::found::Found;
use self::leap::Lead;
use self::page::Page;
use super::Object;
use super::client::{Client, GetError};
use super::watched::Watched;
use crate::config::s3::{BucketName, S3};
use crate::exit::{ExitCode, Failure};
use crate::http::TransportError;
use crate::model::Span;
use crate::pipeline::source::Discovery;
use crate::retry::patience::Retries;
use crate::shutdown::Stop;

mod found;
mod leap;
mod page;

/// Maximum size of one page, in bytes. A thousand keys of maximum length, encoded, have about 4 MB.
const PAGE_BYTES: u64 = 16 << 20;

/// Time limit for the body of one page.
const PAGE_LIMIT: Duration = Duration::from_secs(90);

/// Interval of log lines about a listing that goes on. Some servers return many pages with few keys or none, for
/// example where many objects have been deleted.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Maximum number of keys in the message that there is no archive.
const EXAMPLES: &str = "5";

/// The archives found, and their objects by archive name.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) discovery: Discovery,
    pub(super) objects: HashMap<String, Object>,
}

/// Lists all archives below the prefix. Skips archives outside the time range if their names allow it.
///
/// # Errors
///
/// Exit code 5 if the listing is refused, 4 if S3 is unavailable past the budget, 2 if the bucket does not exist, 1 if
/// replies make no sense. Also fails if the run is to stop.
pub(super) fn list(
    client: &Client,
    settings: &S3,
    stop: &Stop,
    retries: &Retries<'_>,
) -> Result<Listing, Failure> {
    let bucket = &settings.bucket;
    let mut found = Found::nothing(bucket, &settings.prefix);
    let mut pages = Pages::default();
    let mut lead = None;
    let mut is_first = true;
    let mut length = Length::begin(Instant::now());
    loop {
        // Checked here, since a listing of fast pages never waits.
        if stop.is_requested() {
            return Err(stop.as_failure());
        }
        let mut patience = retries.patience();
        let mut page = loop {
            patience.begin();
            match pages.read(client, &settings.prefix, stop) {
                Ok(page) => break page,
                Err(GetError::Unavailable { why, retry_after }) => {
                    patience.away_for(&format!("the listing of {bucket}: {why}"), retry_after)?;
                }
                Err(error) => return Err(cannot_list(bucket, error)),
            }
        };
        let mut start = None;
        if std::mem::take(&mut is_first) && page.next.is_some() && settings.span != Span::ALL {
            lead = lead_of_all(client, settings, &page, &mut found, stop);
            start = lead.as_ref().and_then(|lead| lead.start(settings.span, &page));
        }
        if lead.as_ref().is_some_and(|lead| lead.is_the_last(settings.span, &page)) {
            page.next = None;
        }
        length.add(&page);
        if let Some(so_far) = length.line_if_due(Instant::now()) {
            log::info!("the listing of {bucket} is not complete yet: {so_far}");
        }
        found.add(page.keys, page.unreadable);
        match (start, page.next) {
            (Some(start), _) => {
                log::debug!("the listing of {bucket} continues after {start:?}");
                pages.skip_to(start);
            }
            (None, Some(token)) => pages.continue_with(token).map_err(|error| cannot_list(bucket, error))?,
            (None, None) => break,
        }
    }
    let seen = found.first_keys();
    let mut listing = found.in_order();
    if listing.objects.is_empty() && listing.discovery.left_out.is_empty() {
        // If nothing matches the prefix, the message shows the first keys of the bucket.
        let elsewhere = || first_keys(client, stop).filter(|_| !settings.prefix.is_empty());
        listing.discovery.nothing = Some(found::nothing(settings, &seen, elsewhere));
    }
    Ok(listing)
}

/// Returns the common lead of all archives, if the first page shows one and S3 confirms it. Adds the other keys that S3
/// lists for that to `found`.
fn lead_of_all(
    client: &Client,
    settings: &S3,
    page: &Page,
    found: &mut Found<'_>,
    stop: &Stop,
) -> Option<Lead> {
    let prefix = &settings.prefix;
    let lead = Lead::of(page, prefix)?;
    let Some(delimiter) = lead.delimiter(prefix) else { return Some(lead) };
    let mut query = vec![("list-type", "2".to_owned()), ("delimiter", delimiter.to_owned())];
    if !prefix.is_empty() {
        query.push(("prefix", prefix.clone()));
    }
    // After an error all pages are listed, with retries.
    let others = self::page(client, query, None, stop).ok().filter(|others| lead.is_confirmed_by(others))?;
    found.add(others.keys, 0);
    Some(lead)
}

/// Returns the first keys of the whole bucket, if it may be listed.
fn first_keys(client: &Client, stop: &Stop) -> Option<Vec<String>> {
    let query = vec![("list-type", "2".to_owned()), ("max-keys", EXAMPLES.to_owned())];
    let page = page(client, query, None, stop).ok()?;
    Some(page.keys.into_iter().map(|key| key.key).collect())
}

fn cannot_list(bucket: &BucketName, error: GetError) -> Failure {
    let (code, why) = match error {
        GetError::Refused(why) | GetError::Denied(why) => (ExitCode::Refused, why),
        GetError::Credentials(why) => {
            (ExitCode::Refused, format!("{why}: the credentials are wrong, or have expired"))
        }
        GetError::Missing(why) => (ExitCode::Usage, why),
        GetError::Unavailable { why, .. } | GetError::Other(why) => (ExitCode::Failed, why),
        GetError::Changed => {
            (ExitCode::Failed, "S3 answers as if the request had a condition, but it had none".to_owned())
        }
    };
    Failure::new(
        code,
        format!(
            "the bucket \"{bucket}\" cannot be listed: {why}; check S3_SQLITE_DB_BUCKET, AWS_REGION and the \
             credentials, which need s3:ListBucket"
        ),
    )
}

/// Requests a page and parses it.
fn page(
    client: &Client,
    query: Vec<(&'static str, String)>,
    header: Option<(HeaderName, String)>,
    stop: &Stop,
) -> Result<Page, GetError> {
    let (asking, stop) = (client.clone(), stop.clone());
    client.unless_stopped(move || {
        let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut response = asking.get("", &query, header.as_slice())?;
        let mut body = Vec::new();
        let host = asking.host();
        Watched::new(response.body_mut().as_reader(), PAGE_LIMIT, Some(&stop))
            .take(PAGE_BYTES)
            .read_to_end(&mut body)
            .map_err(|error| {
                GetError::unavailable(format!("{host}: {}", TransportError::from(ureq::Error::from(error))))
            })?;
        page::parse(&host, &body).or_else(|_| {
            // The error message quotes the reply, which may in turn quote the request.
            asking.mask_credentials_in(&mut body);
            page::parse(&host, &body)
        })
    })
}

/// The length of a listing so far, and when it was last logged.
struct Length {
    pages: u64,
    keys: u64,
    logged: Instant,
}

impl Length {
    fn begin(now: Instant) -> Self {
        Self { pages: 0, keys: 0, logged: now }
    }

    fn add(&mut self, page: &Page) {
        self.pages += 1;
        self.keys += page.keys.len() as u64;
    }

    /// Returns the text of a log line, if one is due.
    fn line_if_due(&mut self, now: Instant) -> Option<String> {
        if now.duration_since(self.logged) < LOG_EVERY {
            return None;
        }
        self.logged = now;
        Some(format!("{} pages with {} keys so far", self.pages, self.keys))
    }
}

/// The position in a listing, and how pages are requested.
#[derive(Default)]
struct Pages {
    /// The token for the next page. None for the first page.
    token: Option<String>,
    /// The key after which the first page begins.
    start_after: Option<String>,
    /// The tokens so far, as hashes, since a listing may have very many pages.
    seen: HashSet<u64>,
    /// Hash of the keys of the last page, if it had any and was not leapt from.
    last_keys: Option<u64>,
    /// Whether pages are requested with the restore status, because there are archived objects.
    asks_for_copies: bool,
}

impl Pages {
    /// Continues with the page of this token.
    ///
    /// # Errors
    ///
    /// Fails if the token has occurred before, since the listing would never end.
    fn continue_with(&mut self, token: String) -> Result<(), GetError> {
        if !self.seen.insert(self.seen.hasher().hash_one(&token)) {
            return Err(GetError::Other("the next page has been read before".to_owned()));
        }
        self.token = Some(token);
        Ok(())
    }

    /// Restarts the listing after a key.
    fn skip_to(&mut self, key: String) {
        (self.token, self.start_after, self.last_keys) = (None, Some(key), None);
    }

    /// Refuses a page with the very keys of the page before: a server that ignores tokens, and makes up a new one each
    /// time, would be asked for ever.
    fn check_moves_on(&mut self, page: &Page) -> Result<(), GetError> {
        let keys = (!page.keys.is_empty()).then(|| {
            let keys: Vec<&str> = page.keys.iter().map(|key| key.key.as_str()).collect();
            self.seen.hasher().hash_one(keys)
        });
        if keys.is_some() && keys == self.last_keys {
            return Err(GetError::Other(
                "the next page has the same keys as the page before (does the server support list-type=2?)"
                    .to_owned(),
            ));
        }
        self.last_keys = keys;
        Ok(())
    }

    /// Requests the next page.
    ///
    /// Some servers confirm `encoding-type=url` without encoding, so that encoded and literal text cannot be told apart.
    /// So encoding is requested only if keys have characters that a page cannot hold otherwise.
    fn read(&mut self, client: &Client, prefix: &str, stop: &Stop) -> Result<Page, GetError> {
        let mut query = vec![("list-type", "2".to_owned())];
        if !prefix.is_empty() {
            query.push(("prefix", prefix.to_owned()));
        }
        match (&self.token, &self.start_after) {
            (Some(token), _) => query.push(("continuation-token", token.clone())),
            (None, Some(key)) => query.push(("start-after", key.clone())),
            (None, None) => {}
        }
        let mut page = self.ask(client, &query, stop)?;
        if !self.asks_for_copies && page.keys.iter().any(found::is_archived_archive) {
            self.asks_for_copies = true;
            page = self.ask(client, &query, stop)?;
        }
        if page.may_need_encoding() {
            query.push(("encoding-type", "url".to_owned()));
            match self.ask(client, &query, stop) {
                Ok(encoded) => page = encoded,
                Err(error @ GetError::Unavailable { .. }) => return Err(error),
                Err(error) => log::debug!("the server cannot encode the listing: {error:?}"),
            }
            page.mark_garbled();
        }
        match page.broken.take() {
            Some(why) => Err(GetError::unavailable(why)),
            None => self.check_moves_on(&page).map(|()| page),
        }
    }

    fn ask(&self, client: &Client, query: &[(&'static str, String)], stop: &Stop) -> Result<Page, GetError> {
        if self.asks_for_copies {
            let header = HeaderName::from_static("x-amz-optional-object-attributes");
            match page(client, query.to_vec(), Some((header, "RestoreStatus".to_owned())), stop) {
                // Servers other than AWS may not know this header.
                Err(GetError::Other(why)) => {
                    log::debug!("the server does not report restored copies of archived objects: {why}")
                }
                done => return done,
            }
        }
        page(client, query.to_vec(), None, stop)
    }
}

#[cfg(test)]
mod tests;
