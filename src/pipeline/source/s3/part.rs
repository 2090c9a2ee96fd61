//! The bytes of an object received so far, and whether a reply continues them.

use libdeflater::Decompressor;
use ureq::Body;
use ureq::http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MATCH, LAST_MODIFIED, RANGE, TRANSFER_ENCODING,
};
use ureq::http::{HeaderMap, HeaderName, Response};

use super::Object;
use super::client::GetError;
use crate::model::bare_etag;

/// The facts about an object in the head of a successful reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ObjectHead {
    /// Offset of the body in the object. None if the body is the whole object.
    start: Option<usize>,
    /// Length of the whole object, if the head has it.
    length: Option<usize>,
    /// Whether the body marks its own end, so that a body cut off is recognized.
    is_framed: bool,
    /// Whether the body has `Content-Encoding: gzip`. It may be compressed in transit although that was not requested, or
    /// the object may be stored with this header.
    may_be_gzip: bool,
    etag: Option<String>,
    modified: Option<String>,
}

impl ObjectHead {
    /// Reads the head of a reply.
    ///
    /// # Errors
    ///
    /// Fails if it does not say which bytes of the object follow, or contradicts itself.
    pub(super) fn of(response: &Response<Body>) -> Result<Self, GetError> {
        let headers = response.headers();
        let partial = response.status().as_u16() == 206;
        Self::parse(partial, headers)
            .ok_or_else(|| GetError::unavailable("the reply does not say which bytes it has"))
    }

    fn parse(partial: bool, headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
        let etag = text(ETAG).filter(|etag| !bare_etag(etag).is_empty()).map(str::to_owned);
        let modified = text(LAST_MODIFIED).map(str::to_owned);
        // A transfer coding makes a length void. Source: RFC 9112, section 6.3.
        let is_coded = headers.contains_key(TRANSFER_ENCODING);
        let length: Option<usize> =
            text(CONTENT_LENGTH).filter(|_| !is_coded).and_then(|length| length.parse().ok());
        let is_framed = length.is_some() || is_coded;
        let encoding = text(CONTENT_ENCODING).unwrap_or_default().to_ascii_lowercase();
        let may_be_gzip = encoding.split(',').any(|coding| coding.trim().trim_start_matches("x-") == "gzip");
        if !partial {
            return Some(Self { start: None, length, is_framed, may_be_gzip, etag, modified });
        }
        // For example `bytes 100-999/1000`. The total length may be `*`.
        let (range, total) = text(CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('/')?;
        let (start, end) = range.split_once('-')?;
        let [start, end]: [usize; 2] = [start.trim().parse().ok()?, end.trim().parse().ok()?];
        let of_range = end.checked_sub(start)?.checked_add(1)?;
        if length.is_some_and(|length| length != of_range) {
            return None;
        }
        let length = if total == "*" { None } else { Some(total.parse().ok()?) };
        Some(Self { start: Some(start), length, is_framed, may_be_gzip, etag, modified })
    }
}

/// The bytes of an object received so far.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) bytes: Vec<u8>,
    /// Length of the whole object, or an upper limit.
    length: usize,
    /// The facts about the object that the bytes belong to, and whether the current body marks its own end.
    head: ObjectHead,
    /// Whether the object has been replaced since it was listed.
    is_replaced: bool,
    /// The inflated length, if the bytes are compressed.
    inflated: Option<usize>,
    /// Whether the bytes are of several bodies, and no strong ETag says that these are of the same object.
    pub(super) may_be_mixed: bool,
    /// The maximum of bytes received. If a server does not support ranges, or if the object has changed, bytes are
    /// discarded and arrive again. Only bytes beyond the maximum count as progress.
    pub(super) most: usize,
}

impl Part {
    /// Returns the request headers for the rest of the same object, or none to request the whole object. Weak ETags never
    /// match a condition, so they cannot be used.
    pub(super) fn headers(&self) -> Vec<(HeaderName, String)> {
        match &self.head.etag {
            Some(etag) if !self.bytes.is_empty() && self.inflated.is_none() && !etag.starts_with("W/") => {
                vec![(RANGE, format!("bytes={}-", self.bytes.len())), (IF_MATCH, etag.clone())]
            }
            _ => Vec::new(),
        }
    }

    /// Starts a body, which is the rest or the whole object.
    ///
    /// # Errors
    ///
    /// Fails if the body is of another part, or of an object that does not fit the listed size.
    pub(super) fn begin(&mut self, answer: ObjectHead, object: &Object) -> Result<(), GetError> {
        // If there are no bytes yet, a range from 0 is the whole object.
        if let Some(start) = answer.start.filter(|&start| start > 0 || !self.bytes.is_empty()) {
            // A server may leave the ETag out, since it has honoured the request's condition. If it has not, the
            // modification time may tell.
            let is_same = match &answer.etag {
                Some(_) => bare(&answer.etag) == bare(&self.head.etag),
                None => answer.modified.is_none() || answer.modified == self.head.modified,
            };
            let fits = start == self.bytes.len()
                && answer.length.is_none_or(|length| length == self.length)
                && answer.may_be_gzip == self.head.may_be_gzip
                && is_same;
            let is_proven = answer.etag.as_deref().is_some_and(|etag| !etag.starts_with("W/"));
            self.head.is_framed = answer.is_framed;
            self.may_be_mixed |= !is_proven;
            return if fits { Ok(()) } else { Err(GetError::Changed) };
        }
        let listed = object.bytes;
        let is_replaced =
            answer.etag.is_some() && object.etag.is_some() && bare(&answer.etag) != bare(&object.etag);
        if answer.may_be_gzip && answer.length.is_none_or(|length| length as u64 != listed) {
            return self.begin_compressed(answer, object);
        }
        (self.inflated, self.may_be_mixed) = (None, false);
        if let Some(length) = answer.length.filter(|&length| length as u64 != listed) {
            if !is_replaced {
                return Err(GetError::Other(format!("it has {length} bytes, but is listed with {listed}")));
            }
            // Memory is reserved for the listed length only.
            if length as u64 > listed {
                return Err(larger(&format!("{length} bytes"), listed));
            }
        }
        self.bytes.clear();
        self.length = answer.length.unwrap_or(usize::try_from(listed).unwrap_or(usize::MAX));
        (self.is_replaced, self.head) = (is_replaced, answer);
        reserve(&mut self.bytes, self.length)
    }

    /// Starts a compressed body. Its length may be known only at its end. Incompressible content grows a little.
    fn begin_compressed(&mut self, answer: ObjectHead, object: &Object) -> Result<(), GetError> {
        let listed = usize::try_from(object.bytes).unwrap_or(usize::MAX);
        let most = listed.saturating_add(listed / 100).saturating_add(1024);
        if answer.length.is_some_and(|length| length > most) {
            return Err(larger("compressed", object.bytes));
        }
        let length = answer.length.unwrap_or(most);
        *self = Self { most: self.most, length, head: answer, inflated: Some(listed), ..Self::default() };
        reserve(&mut self.bytes, self.length)
    }

    /// Inflates the bytes, unless they already have the listed length: then only the header says that they are
    /// compressed.
    fn inflate(&mut self, listed: usize) -> Result<(), GetError> {
        if self.bytes.len() != listed {
            let mut inflated = Vec::new();
            reserve(&mut inflated, listed)?;
            inflated.resize(listed, 0);
            match Decompressor::new().gzip_decompress(&self.bytes, &mut inflated) {
                Ok(length) if length == listed => self.bytes = inflated,
                _ => {
                    let why = format!(
                        "it was compressed on its way (Content-Encoding: gzip), but has {} bytes inflated \
                         instead of the listed {listed}",
                        self.bytes.len()
                    );
                    return Err(GetError::unavailable(why));
                }
            }
        }
        self.length = listed;
        Ok(())
    }

    /// Ends a body.
    ///
    /// # Errors
    ///
    /// Fails if the object is not complete.
    pub(super) fn ends(&mut self) -> Result<(), GetError> {
        if let Some(listed) = self.inflated {
            return self.inflate(listed);
        }
        if self.missing() == 0 {
            return Ok(());
        }
        if self.may_be_longer() && self.is_replaced {
            // The body has marked its own end, so the object has this length.
            if self.head.is_framed {
                self.length = self.bytes.len();
                return Ok(());
            }
            return Err(GetError::Other(
                "it has been replaced, so it is left for the next listing".to_owned(),
            ));
        }
        // A body that marks its own end is complete. So it was not a part of this object, and must not be continued.
        if self.may_be_longer() && self.head.is_framed {
            self.head.etag = None;
        }
        Err(GetError::unavailable(format!("cut off after {} (end of the body)", self.state())))
    }

    /// Whether the body may be longer than the object, because no reply gave its length.
    pub(super) fn may_be_longer(&self) -> bool {
        self.head.length.is_none()
    }

    /// Returns the error for an object longer than listed.
    pub(super) fn too_long(&self) -> GetError {
        if self.is_replaced {
            return larger("more bytes", self.length as u64);
        }
        GetError::Other(format!("it has more bytes than listed ({})", self.length))
    }

    /// Returns the number of missing bytes.
    pub(super) fn missing(&self) -> usize {
        self.length.saturating_sub(self.bytes.len())
    }

    /// Appends bytes of a body. Returns whether that is progress: a new maximum.
    pub(super) fn take(&mut self, received: &[u8]) -> bool {
        self.bytes.extend_from_slice(received);
        let is_progress = self.bytes.len() > self.most;
        self.most = self.most.max(self.bytes.len());
        is_progress
    }

    /// Discards the bytes.
    pub(super) fn forget(&mut self) {
        *self = Self { most: self.most, ..Self::default() };
    }

    /// Formats the progress, for messages.
    pub(super) fn state(&self) -> String {
        format!("{} of {} bytes", self.bytes.len(), self.length)
    }

    /// Returns the bytes if they may be an error text in place of the object. `read` says how their body ended.
    pub(super) fn as_text(&self, read: &Result<(), GetError>) -> Option<&[u8]> {
        (read.is_err() || self.is_replaced).then_some(self.bytes.as_slice())
    }

    /// Returns the ETag of the object, in the form of the listing, if it has been replaced since it was `listed`.
    pub(super) fn new_etag(&self, listed: &Object) -> Option<String> {
        let (new, old) = (bare(&self.head.etag)?, bare(&listed.etag)?);
        self.is_replaced.then(|| listed.etag.as_deref().unwrap_or_default().replace(old, new))
    }
}

fn reserve(bytes: &mut Vec<u8>, length: usize) -> Result<(), GetError> {
    bytes.try_reserve_exact(length).map_err(|_| GetError::Other("there is no memory for it".to_owned()))
}

fn larger(what: &str, listed: u64) -> GetError {
    GetError::Other(format!(
        "it has been replaced by a larger one ({what}, listed with {listed}), so it is left for the next \
         listing"
    ))
}

fn bare(etag: &Option<String>) -> Option<&str> {
    etag.as_deref().map(bare_etag)
}

#[cfg(test)]
mod tests;
