//! Which archives a bucket holds: all pages of its listing, put in order.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::BuildHasher;
use std::io::Read;
use std::time::Duration;

use s3::serde_types::ListBucketResult;

use super::client::{Client, GetError, has_url};
use super::watched::Watched;
use super::{Object, address};
use crate::config::s3::S3;
use crate::exit::{ExitCode, Failure};
use crate::http::TransportError;
use crate::model::{ARCHIVE_SUFFIX, Archive, archive_seconds, is_litter};
use crate::pipeline::source::{Discovery, LeftOut, sort};
use crate::retry::patience::Retries;
use crate::shutdown::Stop;
use crate::timestamp::parse_rfc3339_millis;

/// Bytes of one page at most: a thousand keys of the longest kind, encoded, have some 4 MB.
const PAGE_BYTES: u64 = 16 << 20;

/// Time for the body of one page. A server that takes longer is as good as none.
const PAGE_LIMIT: Duration = Duration::from_secs(90);

/// Archives, and the objects that they are, by name.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) discovery: Discovery,
    pub(super) objects: HashMap<String, Object>,
}

/// Lists all archives below the prefix.
///
/// # Errors
///
/// Where the listing is refused (exit code 5), S3 is unavailable past the budget (4), there is no such bucket or two
/// keys end in the same name (2), the listing leads nowhere (1), or the run is to stop.
pub(super) fn list(
    client: &Client,
    settings: &S3,
    stop: &Stop,
    retries: &Retries<'_>,
) -> Result<Listing, Failure> {
    let mut found = Found::nothing(&settings.bucket);
    let mut pages = Pages::default();
    loop {
        // Pages that come quickly enough would never be waited for.
        if stop.is_requested() {
            return Err(stop.as_failure());
        }
        let mut patience = retries.patience();
        let page = loop {
            patience.begin();
            match page(client, &settings.prefix, pages.token.as_deref(), stop) {
                Ok(page) => break page,
                Err(GetError::Unavailable { why, retry_after }) => {
                    patience.away_for(&format!("the listing of {}: {why}", settings.bucket), retry_after)?;
                }
                Err(error) => return Err(cannot_list(&settings.bucket, error)),
            }
        };
        found.take_up(page.keys)?;
        match page.next {
            Some(token) => pages.go_on(token).map_err(|error| cannot_list(&settings.bucket, error))?,
            None => return Ok(found.in_order()),
        }
    }
}

fn cannot_list(bucket: &str, error: GetError) -> Failure {
    let (code, why) = match error {
        GetError::Refused(why) | GetError::Denied(why) | GetError::Expired(why) => (ExitCode::Refused, why),
        GetError::Missing(why) => (ExitCode::Usage, why),
        GetError::Unavailable { why, .. } | GetError::Other(why) => (ExitCode::Failed, why),
        GetError::Changed => (ExitCode::Failed, "S3 answers a condition that was not made".to_owned()),
    };
    Failure::new(
        code,
        format!(
            "the bucket {bucket:?} cannot be listed: {why}; look at S3_SQLITE_DB_BUCKET, AWS_REGION and the \
             credentials, which need s3:ListBucket"
        ),
    )
}

/// One page of a listing.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    keys: Vec<Key>,
    /// What the next page is asked for with.
    next: Option<String>,
}

/// A key as it is listed.
#[derive(Debug, PartialEq, Eq)]
struct Key {
    key: String,
    etag: Option<String>,
    bytes: u64,
    modified: String,
}

fn page(client: &Client, prefix: &str, token: Option<&str>, stop: &Stop) -> Result<Page, GetError> {
    // No `encoding-type`: not every server that confirms it encodes, and the parser takes all that XML leaves out.
    let mut query = vec![("list-type", "2")];
    if !prefix.is_empty() {
        query.push(("prefix", prefix));
    }
    query.extend(token.map(|token| ("continuation-token", token)));
    let mut response = client.get("", &query, &[])?;
    let mut body = Vec::new();
    Watched::new(response.body_mut().as_reader(), PAGE_LIMIT, Some(stop))
        .take(PAGE_BYTES)
        .read_to_end(&mut body)
        .map_err(|error| TransportError::from(ureq::Error::from(error)))?;
    parse_page(&body)
}

/// Reads a page. What cannot be read may be cut off, and is asked for again.
fn parse_page(body: &[u8]) -> Result<Page, GetError> {
    let result: ListBucketResult = std::str::from_utf8(body)
        .map_err(|error| error.to_string())
        .and_then(|text| quick_xml::de::from_str(text).map_err(|error| error.to_string()))
        .map_err(|why| GetError::unavailable(format!("a page of the listing cannot be read: {why}")))?;
    if result.is_truncated && result.next_continuation_token.is_none() {
        let why =
            "there are more keys, but no token to ask for them with (does the server know list-type=2?)";
        return Err(GetError::Other(why.to_owned()));
    }
    let keys = result.contents.into_iter().map(|object| Key {
        key: object.key,
        etag: object.e_tag,
        bytes: object.size,
        modified: object.last_modified,
    });
    Ok(Page { keys: keys.collect(), next: result.next_continuation_token.filter(|_| result.is_truncated) })
}

/// Archives among the keys that have been listed so far. The others are many in some buckets, and are not kept.
struct Found<'b> {
    bucket: &'b str,
    /// By name.
    archives: HashMap<String, Key>,
    left_out: BTreeSet<String>,
}

impl<'b> Found<'b> {
    fn nothing(bucket: &'b str) -> Self {
        Self { bucket, archives: HashMap::new(), left_out: BTreeSet::new() }
    }

    /// Takes up what is an archive by its name. A key that is listed again is one object, and what is told of it
    /// last counts.
    ///
    /// # Errors
    ///
    /// A usage failure where two keys end in the same name.
    fn take_up(&mut self, keys: Vec<Key>) -> Result<(), Failure> {
        for key in keys {
            let name = key.key.rsplit('/').next().unwrap_or_default();
            if !name.ends_with(ARCHIVE_SUFFIX) || is_litter(key.key.as_bytes()) {
                continue;
            }
            if !has_url(&key.key) {
                self.left_out.insert(address(self.bucket, &key.key));
                continue;
            }
            if let Some(first) = self.archives.get(name).filter(|first| first.key != key.key) {
                return Err(Failure::usage(format!(
                    "{:?} and {:?} are different objects of the same name, by which archives are told apart: rename \
                     one, or narrow S3_SQLITE_DB_PREFIX",
                    address(self.bucket, &first.key),
                    address(self.bucket, &key.key)
                )));
            }
            self.archives.insert(name.to_owned(), key);
        }
        Ok(())
    }

    /// The archives in the order in which they are taken up.
    fn in_order(self) -> Listing {
        let mut listing = Listing::default();
        for (name, Key { key, etag, bytes, modified }) in self.archives {
            listing.objects.insert(name.clone(), Object { key, etag, bytes });
            listing.discovery.archives.push(Archive {
                seconds: archive_seconds(&name),
                name,
                path: Default::default(),
                bytes,
                modified_ns: i128::from(parse_rfc3339_millis(&modified).unwrap_or_default()) * 1_000_000,
            });
        }
        sort(&mut listing.discovery.archives);
        let reason = "no URL leads to a key with . or .. between its slashes";
        let left_out = |address: String| LeftOut { path: address.into(), reason: reason.to_owned() };
        listing.discovery.left_out = self.left_out.into_iter().map(left_out).collect();
        listing
    }
}

/// Where a listing goes on, page by page.
#[derive(Default)]
struct Pages {
    /// What the next page is asked for with; None: it is the first.
    token: Option<String>,
    /// Hashes of all tokens so far: a listing may have very many pages.
    seen: HashSet<u64>,
}

impl Pages {
    /// Goes on to the page of this token.
    ///
    /// # Errors
    ///
    /// Where there was such a page before: a server that goes in a circle would be asked for ever.
    fn go_on(&mut self, token: String) -> Result<(), GetError> {
        if !self.seen.insert(self.seen.hasher().hash_one(&token)) {
            return Err(GetError::Other("the next page is one that there was already".to_owned()));
        }
        self.token = Some(token);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
