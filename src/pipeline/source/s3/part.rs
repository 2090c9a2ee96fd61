//! What there is of an object so far, and whether a reply goes on with it.

use libdeflater::Decompressor;
use ureq::Body;
use ureq::http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MATCH, RANGE, TRANSFER_ENCODING,
};
use ureq::http::{HeaderMap, HeaderName, Response};

use super::Object;
use super::client::GetError;

/// What the head of a successful reply says of the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ObjectHead {
    /// Where the body begins in the object; None: it is the whole object.
    start: Option<usize>,
    /// Length of the whole object, where it is told.
    length: Option<usize>,
    /// The body says itself where it ends, so that one that is cut off is never taken for whole.
    is_framed: bool,
    /// It may be compressed on its way, though that was not asked for. Objects may be stored under that name as well.
    may_be_gzip: bool,
    etag: Option<String>,
}

impl ObjectHead {
    /// Reads the head of a reply.
    ///
    /// # Errors
    ///
    /// Where it does not say which bytes of the object follow.
    pub(super) fn of(response: &Response<Body>) -> Result<Self, GetError> {
        let headers = response.headers();
        let partial = response.status().as_u16() == 206;
        Self::parse(partial, headers)
            .ok_or_else(|| GetError::unavailable("the reply does not say which bytes it has"))
    }

    fn parse(partial: bool, headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
        let etag = text(ETAG).map(str::to_owned);
        let length = text(CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let is_framed = length.is_some() || headers.contains_key(TRANSFER_ENCODING);
        let encoding = text(CONTENT_ENCODING).unwrap_or_default().to_ascii_lowercase();
        let may_be_gzip = encoding.split(',').any(|coding| coding.trim().trim_start_matches("x-") == "gzip");
        if !partial {
            return Some(Self { start: None, length, is_framed, may_be_gzip, etag });
        }
        // As in `bytes 100-999/1000`; the whole length may be `*`.
        let (range, length) = text(CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('/')?;
        let (start, _) = range.split_once('-')?;
        let length = if length == "*" { None } else { Some(length.parse().ok()?) };
        Some(Self { start: Some(start.trim().parse().ok()?), length, is_framed, may_be_gzip, etag })
    }
}

/// What there is of an object so far.
#[derive(Debug, Default)]
pub(super) struct Part {
    bytes: Vec<u8>,
    /// Length of the whole object, or what it is at most.
    length: usize,
    /// The length was told by the reply itself; else it is the listed one.
    is_told: bool,
    /// The body that is being read says itself where it ends.
    is_framed: bool,
    /// The object is another one than was listed.
    is_replaced: bool,
    /// The bytes are compressed, and so many once they are not.
    inflated: Option<usize>,
    /// Which state of the object the bytes are of.
    etag: Option<String>,
    /// The most bytes that there have ever been. Bytes are thrown away where a server knows no ranges or the object
    /// has changed, and come again: only what goes beyond this is progress.
    most: usize,
}

impl Part {
    /// What is asked for: the rest of this very object, or all of any. Weak ETags fulfil no condition.
    pub(super) fn headers(&self) -> Vec<(HeaderName, String)> {
        match &self.etag {
            Some(etag) if !self.bytes.is_empty() && self.inflated.is_none() && !etag.starts_with("W/") => {
                vec![(RANGE, format!("bytes={}-", self.bytes.len())), (IF_MATCH, etag.clone())]
            }
            _ => Vec::new(),
        }
    }

    /// A body begins: either what is missing, or everything again.
    ///
    /// # Errors
    ///
    /// Where the body is of no use, since it is of another part or of another object than the listed one.
    pub(super) fn begin(&mut self, answer: ObjectHead, object: &Object) -> Result<(), GetError> {
        // Everything, though as a part of it, is everything.
        if let Some(start) = answer.start.filter(|&start| start > 0 || !self.bytes.is_empty()) {
            // A server need not repeat the ETag: it has honoured the condition that was made.
            let fits = start == self.bytes.len()
                && answer.length.is_none_or(|length| length == self.length)
                && (answer.etag.is_none() || bare(&answer.etag) == bare(&self.etag));
            self.is_framed = answer.is_framed;
            return if fits { Ok(()) } else { Err(GetError::Changed) };
        }
        let listed = object.bytes;
        let is_replaced =
            answer.etag.is_some() && object.etag.is_some() && bare(&answer.etag) != bare(&object.etag);
        if answer.may_be_gzip && answer.length.is_none_or(|length| length as u64 != listed) {
            return self.begin_compressed(answer, object);
        }
        self.inflated = None;
        if let Some(length) = answer.length.filter(|&length| length as u64 != listed) {
            if !is_replaced {
                return Err(GetError::Other(format!("it has {length} bytes, but is listed with {listed}")));
            }
            // There is room for as much as was listed, and no more.
            if length as u64 > listed {
                return Err(larger(&format!("{length} bytes"), listed));
            }
        }
        self.bytes.clear();
        self.is_told = answer.length.is_some();
        self.length = answer.length.unwrap_or(usize::try_from(listed).unwrap_or(usize::MAX));
        (self.is_framed, self.is_replaced, self.etag) = (answer.is_framed, is_replaced, answer.etag);
        self.bytes
            .try_reserve_exact(self.length)
            .map_err(|_| GetError::Other("there is no memory for it".to_owned()))
    }

    /// What is compressed on its way has its length on arrival only. What compresses no further grows a little.
    fn begin_compressed(&mut self, answer: ObjectHead, object: &Object) -> Result<(), GetError> {
        let listed = usize::try_from(object.bytes).unwrap_or(usize::MAX);
        let most = listed.saturating_add(listed / 100).saturating_add(1024);
        if answer.length.is_some_and(|length| length > most) {
            return Err(larger("compressed", object.bytes));
        }
        *self = Self { most: self.most, ..Self::default() };
        self.length = answer.length.unwrap_or(most);
        (self.is_told, self.is_framed, self.etag) = (answer.length.is_some(), answer.is_framed, answer.etag);
        self.inflated = Some(listed);
        self.bytes
            .try_reserve_exact(self.length)
            .map_err(|_| GetError::Other("there is no memory for it".to_owned()))
    }

    /// Undoes the compression. What was stored under that name and is not compressed stays as it is.
    fn inflate(&mut self, listed: usize) -> Result<(), GetError> {
        if self.bytes.len() != listed {
            let mut inflated = Vec::new();
            inflated
                .try_reserve_exact(listed)
                .map_err(|_| GetError::Other("there is no memory for it".to_owned()))?;
            inflated.resize(listed, 0);
            match Decompressor::new().gzip_decompress(&self.bytes, &mut inflated) {
                Ok(length) if length == listed => self.bytes = inflated,
                _ => {
                    let why = format!(
                        "it was compressed on its way (Content-Encoding: gzip), and {} bytes of that are not the {listed} \
                         that are listed",
                        self.bytes.len()
                    );
                    return Err(GetError::unavailable(why));
                }
            }
        }
        self.length = listed;
        Ok(())
    }

    /// The body has ended.
    ///
    /// # Errors
    ///
    /// Where that is not the end of the object.
    pub(super) fn ends(&mut self) -> Result<(), GetError> {
        if let Some(listed) = self.inflated {
            return self.inflate(listed);
        }
        if self.missing() == 0 {
            return Ok(());
        }
        if !self.is_told && self.is_replaced {
            // Where the end is known for sure, the object is that long.
            if self.is_framed {
                self.length = self.bytes.len();
                return Ok(());
            }
            return Err(GetError::Other("it has been replaced, and is left for the next listing".to_owned()));
        }
        Err(GetError::unavailable(format!("cut off after {} (end of the body)", self.state())))
    }

    /// Whether there may be more of the body than there is of the object: nobody has told its length.
    pub(super) fn may_go_on(&self) -> bool {
        !self.is_told
    }

    /// There is more of it than was listed.
    pub(super) fn goes_on(&self) -> GetError {
        if self.is_replaced {
            return larger("more bytes", self.length as u64);
        }
        GetError::Other(format!("it has more bytes than it is listed with ({})", self.length))
    }

    /// Bytes that are missing.
    pub(super) fn missing(&self) -> usize {
        self.length.saturating_sub(self.bytes.len())
    }

    /// Takes in what has come of a body. Whether there is more of the object now than ever before.
    pub(super) fn take(&mut self, came: &[u8]) -> bool {
        self.bytes.extend_from_slice(came);
        let is_progress = self.bytes.len() > self.most;
        self.most = self.most.max(self.bytes.len());
        is_progress
    }

    /// Throws away what there is.
    pub(super) fn forget(&mut self) {
        *self = Self { most: self.most, ..Self::default() };
    }

    /// How far it is, for the eye.
    pub(super) fn state(&self) -> String {
        format!("{} of {} bytes", self.bytes.len(), self.length)
    }

    /// The most bytes that there have ever been.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// The bytes of the object.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

fn larger(what: &str, listed: u64) -> GetError {
    GetError::Other(format!(
        "it has been replaced by a larger one ({what}, listed with {listed}), which is left for the next listing"
    ))
}

/// An ETag as it can be compared: servers write it with quotes, without, or as a weak one, in one place or another.
fn bare(etag: &Option<String>) -> Option<&str> {
    etag.as_deref().map(|etag| etag.trim().trim_start_matches("W/").trim_matches('"'))
}

#[cfg(test)]
mod tests;
