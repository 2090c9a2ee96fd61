//! What there is of an object so far, and whether a reply goes on with it.

use ureq::Body;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MATCH, RANGE};
use ureq::http::{HeaderMap, HeaderName, Response};

use super::Object;
use super::client::GetError;

/// What the head of a successful reply says of the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Where the body begins in the object; None: it is the whole object.
    start: Option<usize>,
    /// Length of the whole object.
    length: usize,
    etag: Option<String>,
}

impl Answer {
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
        let text = |name| headers.get(name)?.to_str().ok();
        let etag = text(ETAG).map(str::to_owned);
        if !partial {
            return Some(Self { start: None, length: text(CONTENT_LENGTH)?.parse().ok()?, etag });
        }
        // As in `bytes 100-999/1000`.
        let (range, length) = text(CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('/')?;
        let (start, _) = range.split_once('-')?;
        Some(Self { start: Some(start.parse().ok()?), length: length.parse().ok()?, etag })
    }
}

/// What there is of an object so far.
#[derive(Debug, Default)]
pub(super) struct Part {
    bytes: Vec<u8>,
    /// Length of the whole object.
    length: usize,
    /// Which state of the object the bytes are of.
    etag: Option<String>,
    /// The most bytes that there have ever been. Bytes are thrown away where a server knows no ranges or the object
    /// has changed, and come again: only what goes beyond this is progress.
    most: usize,
}

impl Part {
    /// What is asked for: the rest of this very object, or all of any.
    pub(super) fn headers(&self) -> Vec<(HeaderName, String)> {
        match &self.etag {
            Some(etag) if !self.bytes.is_empty() => {
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
    pub(super) fn begin(&mut self, answer: Answer, object: &Object) -> Result<(), GetError> {
        if answer.start.is_some() {
            // A server need not repeat the ETag: it has honoured the condition that was made.
            let fits = answer.start == Some(self.bytes.len())
                && answer.length == self.length
                && (answer.etag.is_none() || answer.etag == self.etag);
            return if fits { Ok(()) } else { Err(GetError::Changed) };
        }
        let replaced = answer.etag.is_some() && object.etag.is_some() && answer.etag != object.etag;
        let (length, listed) = (answer.length, object.bytes);
        if !replaced && length as u64 != listed {
            return Err(GetError::Other(format!("it has {length} bytes, but is listed with {listed}")));
        }
        // There is room for as much as was listed, and no more.
        if length as u64 > listed {
            return Err(GetError::Other(format!(
                "it has been replaced by a larger one ({length} bytes, listed with {listed}), which is left for the \
                 next listing"
            )));
        }
        self.bytes.clear();
        (self.length, self.etag) = (length, answer.etag);
        self.bytes
            .try_reserve_exact(self.length)
            .map_err(|_| GetError::Other("there is no memory for it".to_owned()))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn object(bytes: u64) -> Object {
        Object { key: "k".into(), etag: Some("\"1\"".into()), bytes }
    }

    fn whole(length: usize, etag: &str) -> Answer {
        Answer { start: None, length, etag: Some(etag.into()) }
    }

    fn half() -> Part {
        Part { bytes: vec![0; 5], length: 10, etag: Some("\"1\"".into()), most: 5 }
    }

    #[test]
    fn heads_of_replies_are_read() {
        let headers = |pairs: &[(HeaderName, &str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
        };
        let all = headers(&[(CONTENT_LENGTH, "10"), (ETAG, "\"1\"")]);
        assert_eq!(Answer::parse(false, &all), Some(whole(10, "\"1\"")));
        let rest = headers(&[(CONTENT_LENGTH, "5"), (CONTENT_RANGE, "bytes 5-9/10")]);
        assert_eq!(Answer::parse(true, &rest), Some(Answer { start: Some(5), length: 10, etag: None }));
        assert_eq!(Answer::parse(false, &headers(&[])), None);
        for range in ["bytes */10", "bytes 5-9/*", "5-9/10", ""] {
            assert_eq!(Answer::parse(true, &headers(&[(CONTENT_RANGE, range)])), None, "{range}");
        }
    }

    #[test]
    fn the_rest_is_asked_for_only_of_the_same_object() {
        assert_eq!(half().headers(), [(RANGE, "bytes=5-".into()), (IF_MATCH, "\"1\"".into())]);
        assert!(Part::default().headers().is_empty());
        assert!(Part { etag: None, ..half() }.headers().is_empty());
    }

    #[test]
    fn the_rest_goes_on_where_it_fits_and_nowhere_else() {
        let rest = Answer { start: Some(5), ..whole(10, "\"1\"") };
        let mut part = half();
        part.begin(rest.clone(), &object(10)).unwrap();
        assert_eq!(part.bytes.len(), 5);
        for other in [
            Answer { start: Some(4), ..rest.clone() },
            Answer { length: 11, ..rest.clone() },
            Answer { etag: Some("\"2\"".into()), ..rest },
        ] {
            assert_eq!(half().begin(other, &object(10)), Err(GetError::Changed));
        }
    }

    #[test]
    fn a_server_that_has_honoured_the_condition_need_not_repeat_the_etag() {
        let mut part = half();
        part.begin(Answer { start: Some(5), length: 10, etag: None }, &object(10)).unwrap();
        assert_eq!(part.missing(), 5);
        assert_eq!(part.etag.as_deref(), Some("\"1\""));
    }

    #[test]
    fn what_comes_again_is_no_progress() {
        let mut part = half();
        part.forget();
        assert!(part.headers().is_empty() && part.missing() == 0);
        part.begin(whole(10, "\"1\""), &object(10)).unwrap();
        assert!(!part.take(&[0; 5]));
        part.begin(whole(10, "\"1\""), &object(10)).unwrap();
        assert!(!part.take(&[0; 4]) && part.take(&[0; 2]));
        assert_eq!((part.most(), part.missing()), (6, 4));
    }

    #[test]
    fn a_server_that_knows_no_ranges_sends_everything_again() {
        let mut part = half();
        part.begin(whole(10, "\"1\""), &object(10)).unwrap();
        assert!(part.bytes.is_empty() && part.bytes.capacity() >= 10);
    }

    #[test]
    fn the_length_has_to_be_the_listed_one_unless_the_object_was_replaced_by_one_that_fits() {
        let other = Part::default().begin(whole(9, "\"1\""), &object(10));
        assert!(matches!(other, Err(GetError::Other(why)) if why.contains("9 bytes")));
        assert_eq!(Part::default().begin(whole(9, "\"2\""), &object(10)), Ok(()));
        for length in [11, usize::MAX] {
            let larger = Part::default().begin(whole(length, "\"2\""), &object(10));
            assert!(matches!(larger, Err(GetError::Other(why)) if why.contains("a larger one")));
        }
    }
}
