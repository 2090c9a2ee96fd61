//! Requests the pages of a listing, one after the other.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::io::Read;
use std::time::Duration;

use ureq::http::HeaderName;

use super::found::is_archived_archive;
use super::page::{Page, parse};
use crate::http::TransportError;
use crate::http::encoding::gunzip;
use crate::pipeline::source::s3::client::{Client, GetError};
use crate::pipeline::source::s3::watched::Watched;

/// Maximum size of one page, in bytes. A thousand keys of maximum length, encoded, have about 4 MB.
const PAGE_BYTES: u64 = 16 << 20;

/// Time limit for the body of one page.
const PAGE_LIMIT: Duration = Duration::from_secs(90);

/// The position in a listing, and how pages are requested.
#[derive(Default)]
pub(super) struct Pages {
    /// The token for the next page. None for the first page.
    pub(super) token: Option<String>,
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
    pub(super) fn continue_with(&mut self, token: String) -> Result<(), GetError> {
        if !self.seen.insert(self.seen.hasher().hash_one(&token)) {
            return Err(GetError::Other("the next page has been read before".to_owned()));
        }
        self.token = Some(token);
        Ok(())
    }

    /// Restarts the listing after a key.
    pub(super) fn skip_to(&mut self, key: String) {
        (self.token, self.start_after, self.last_keys) = (None, Some(key), None);
    }

    /// Refuses a page with the very keys of the page before: a server that ignores tokens, and makes up a new one each
    /// time, would be asked for ever.
    pub(super) fn check_moves_on(&mut self, page: &Page) -> Result<(), GetError> {
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
    pub(super) fn read(&mut self, client: &Client) -> Result<Page, GetError> {
        let prefix = &client.settings().prefix;
        let mut query = Vec::new();
        if !prefix.is_empty() {
            query.push(("prefix", prefix.clone()));
        }
        match (&self.token, &self.start_after) {
            (Some(token), _) => query.push(("continuation-token", token.clone())),
            (None, Some(key)) => query.push(("start-after", key.clone())),
            (None, None) => {}
        }
        let mut page = self.ask(client, &query)?;
        if !self.asks_for_copies && page.keys.iter().any(is_archived_archive) {
            self.asks_for_copies = true;
            page = self.ask(client, &query)?;
        }
        if page.may_need_encoding() {
            query.push(("encoding-type", "url".to_owned()));
            match self.ask(client, &query) {
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

    fn ask(&self, client: &Client, query: &[(&'static str, String)]) -> Result<Page, GetError> {
        if self.asks_for_copies {
            let header = HeaderName::from_static("x-amz-optional-object-attributes");
            match ask(client, query.to_vec(), Some((header, "RestoreStatus".to_owned()))) {
                // Servers other than AWS may not know this header.
                Err(GetError::Other(why)) => {
                    log::debug!("the server does not report restored copies of archived objects: {why}")
                }
                done => return done,
            }
        }
        ask(client, query.to_vec(), None)
    }
}

/// Requests a page and parses it.
pub(super) fn ask(
    client: &Client,
    query: Vec<(&'static str, String)>,
    header: Option<(HeaderName, String)>,
) -> Result<Page, GetError> {
    let asking = client.clone();
    client.unless_stopped(move || {
        let mut response = asking.get("", query, header.into_iter().collect())?;
        let mut body = Vec::new();
        let host = asking.host();
        Watched::new(response.body_mut().as_reader(), PAGE_LIMIT)
            .take(PAGE_BYTES)
            .read_to_end(&mut body)
            .map_err(|error| {
                GetError::unavailable(format!("{host}: {}", TransportError::from(ureq::Error::from(error))))
            })?;
        let mut body = inflated(body);
        parse(&host, &body).or_else(|_| {
            // The error message quotes the reply, which may in turn quote the request.
            asking.mask_credentials_in(&mut body);
            parse(&host, &body)
        })
    })
}

/// Inflates a page that a gateway has compressed although that was not requested.
fn inflated(body: Vec<u8>) -> Vec<u8> {
    if !body.starts_with(b"\x1f\x8b") {
        return body;
    }
    gunzip(&body, PAGE_BYTES).unwrap_or(body)
}
