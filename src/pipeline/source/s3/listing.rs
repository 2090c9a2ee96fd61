//! Lists the archives of a bucket: reads all pages and sorts them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use self::found::Found;
use self::leap::{AFTER_DAY, Lead, Leap};
use self::page::Page;
use self::pages::{Pages, ask};
use super::Object;
use super::client::{Client, GetError};
use crate::common::exit::{ExitCode, Failure};
use crate::config::s3::BucketName;
use crate::model::Span;
use crate::pipeline::source::Discovery;
use crate::retry::patience::Retries;

mod found;
mod leap;
mod page;
mod pages;

/// Interval of log lines about a listing that goes on. Some servers return many pages with few keys or none, for
/// example where many objects have been deleted.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Minimum number of keys on a first page whose order is trusted. On a shorter one it may be by chance.
const KEYS_IN_ORDER: usize = 10;

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
pub(super) fn list(client: &Client, retries: &Retries<'_>) -> Result<Listing, Failure> {
    let (settings, stop) = (client.settings(), &client.stop);
    let bucket = &settings.bucket;
    let mut found = Found::nothing(bucket, &settings.prefix);
    let mut pages = Pages::default();
    let mut lead = None;
    // The key behind which the listing continues.
    let mut behind: Option<String> = None;
    let mut length = Length::begin(Instant::now());
    'pages: loop {
        // Checked here, since a listing of fast pages never waits.
        if stop.is_requested() {
            return Err(stop.as_failure());
        }
        let mut patience = retries.patience();
        let page = loop {
            patience.begin();
            match pages.read(client) {
                Ok(page) => break page,
                Err(GetError::Unavailable { why, retry_after }) => {
                    patience.away_for(&format!("the listing of {bucket}: {why}"), retry_after)?;
                }
                Err(GetError::Other(why)) if behind.take().is_some() => {
                    log::debug!("the server of {bucket} refuses start-after ({why}): all pages are listed");
                    (lead, pages) = (None, Pages::default());
                    continue 'pages;
                }
                Err(error) => return Err(cannot_list(bucket, error)),
            }
        };
        if length.pages == 0 && page.next.is_some() && settings.span != Span::ALL {
            lead = lead_of_all(client, &page, &mut found);
        }
        if behind.take().is_some_and(|behind| page.keys.first().is_some_and(|first| first.key <= behind)) {
            log::debug!("the server of {bucket} does not support start-after");
            lead = None;
        }
        let leap = lead.as_ref().map_or(Leap::NextPage, |lead| lead.leap(settings.span, &page));
        length.add(&page);
        if let Some(so_far) = length.line_if_due(Instant::now()) {
            log::info!("the listing of {bucket} is not complete yet: {so_far}");
        }
        found.add(page.keys, page.unreadable);
        match (page.next, leap) {
            (None, _) | (_, Leap::End) => break,
            (Some(_), Leap::After(key)) => {
                log::debug!("the listing of {bucket} continues after {key:?}");
                pages.skip_to(key.clone());
                behind = Some(key);
            }
            (Some(token), Leap::NextPage) => {
                pages.continue_with(token).map_err(|error| cannot_list(bucket, error))?;
            }
        }
    }
    let seen = found.first_keys();
    let mut listing = found.in_order();
    if listing.objects.is_empty() && listing.discovery.left_out.is_empty() {
        // If nothing matches the prefix, the message shows the first keys of the bucket.
        let elsewhere = || first_keys(client).filter(|_| !settings.prefix.is_empty());
        listing.discovery.nothing = Some(found::nothing(settings, &seen, elsewhere));
    }
    Ok(listing)
}

/// Returns the common lead of all archives, if the first page shows one and S3 confirms it. Adds the other keys that S3
/// lists for that to `found`.
fn lead_of_all(client: &Client, page: &Page, found: &mut Found<'_>) -> Option<Lead> {
    let prefix = &client.settings().prefix;
    let lead = Lead::of(page, prefix).filter(|_| page.keys.len() >= KEYS_IN_ORDER)?;
    if let Some(delimiter) = lead.delimiter(prefix) {
        let others = grouped(client, prefix, delimiter).filter(|others| lead.is_confirmed_by(others))?;
        found.add(others.keys, 0);
    }
    let days = grouped(client, &lead.text, AFTER_DAY)?;
    lead.with_days(&days, page)
}

/// Requests the keys below a prefix, grouped by a delimiter. None after an error: then all pages are listed, with
/// retries.
fn grouped(client: &Client, prefix: &str, delimiter: &str) -> Option<Page> {
    let mut query = vec![("delimiter", delimiter.to_owned())];
    if !prefix.is_empty() {
        query.push(("prefix", prefix.to_owned()));
    }
    ask(client, query, None).ok()
}

/// Returns the first keys of the whole bucket, if it may be listed.
fn first_keys(client: &Client) -> Option<Vec<String>> {
    let page = ask(client, vec![("max-keys", EXAMPLES.to_owned())], None).ok()?;
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

#[cfg(test)]
mod tests;
