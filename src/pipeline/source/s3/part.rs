//! What there is of an object so far, and whether a reply goes on with it.

use ureq::Body;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MATCH, RANGE, TRANSFER_ENCODING};
use ureq::http::{HeaderMap, HeaderName, Response};

use super::Object;
use super::client::GetError;

/// What the head of a successful reply says of the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Where the body begins in the object; None: it is the whole object.
    start: Option<usize>,
    /// Length of the whole object, where it is told.
    length: Option<usize>,
    /// The body says itself where it ends, so that one that is cut off is never taken for whole.
    is_framed: bool,
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
        let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
        let etag = text(ETAG).map(str::to_owned);
        let length = text(CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let is_framed = length.is_some() || headers.contains_key(TRANSFER_ENCODING);
        if !partial {
            return Some(Self { start: None, length, is_framed, etag });
        }
        // As in `bytes 100-999/1000`; the whole length may be `*`.
        let (range, length) = text(CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('/')?;
        let (start, _) = range.split_once('-')?;
        let length = if length == "*" { None } else { Some(length.parse().ok()?) };
        Some(Self { start: Some(start.trim().parse().ok()?), length, is_framed, etag })
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
            Some(etag) if !self.bytes.is_empty() && !etag.starts_with("W/") => {
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

    /// The body has ended.
    ///
    /// # Errors
    ///
    /// Where that is not the end of the object.
    pub(super) fn ends(&mut self) -> Result<(), GetError> {
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
mod tests {
    use super::*;

    fn object(bytes: u64) -> Object {
        Object { key: "k".into(), etag: Some("\"1\"".into()), bytes }
    }

    fn whole(length: usize, etag: &str) -> Answer {
        Answer { start: None, length: Some(length), is_framed: true, etag: Some(etag.into()) }
    }

    fn half() -> Part {
        let part =
            Part { bytes: vec![0; 5], length: 10, etag: Some("\"1\"".into()), most: 5, ..Part::default() };
        Part { is_told: true, is_framed: true, ..part }
    }

    #[test]
    fn heads_of_replies_are_read() {
        let headers = |pairs: &[(HeaderName, &str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
        };
        let all = headers(&[(CONTENT_LENGTH, "10"), (ETAG, "\"1\"")]);
        assert_eq!(Answer::parse(false, &all), Some(whole(10, "\"1\"")));
        let rest = headers(&[(CONTENT_LENGTH, "5"), (CONTENT_RANGE, "bytes 5-9/10")]);
        assert_eq!(Answer::parse(true, &rest), Some(Answer { start: Some(5), etag: None, ..whole(10, "") }));
        let of_unknown_length = headers(&[(CONTENT_LENGTH, "5"), (CONTENT_RANGE, "bytes 5-9/*")]);
        let answer = Answer::parse(true, &of_unknown_length).unwrap();
        assert_eq!((answer.start, answer.length), (Some(5), None));
        assert_eq!(Answer::parse(false, &headers(&[])), Some(Answer::default()));
        let chunked = headers(&[(TRANSFER_ENCODING, "chunked")]);
        assert_eq!(Answer::parse(false, &chunked), Some(Answer { is_framed: true, ..Answer::default() }));
        for range in ["bytes */10", "5-9/10", ""] {
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
            Answer { length: Some(11), ..rest.clone() },
            Answer { etag: Some("\"2\"".into()), ..rest },
        ] {
            assert_eq!(half().begin(other, &object(10)), Err(GetError::Changed));
        }
    }

    #[test]
    fn a_server_that_has_honoured_the_condition_need_not_repeat_the_etag() {
        let mut part = half();
        part.begin(Answer { start: Some(5), etag: None, ..whole(10, "") }, &object(10)).unwrap();
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

    #[test]
    fn a_part_that_is_everything_is_the_object() {
        let mut part = Part::default();
        part.begin(Answer { start: Some(0), ..whole(10, "\"1\"") }, &object(10)).unwrap();
        assert_eq!(part.missing(), 10);
    }

    #[test]
    fn without_a_length_the_listed_one_decides() {
        let begun = |etag: &str, is_framed| {
            let mut part = Part::default();
            part.begin(Answer { length: None, is_framed, ..whole(0, etag) }, &object(10)).unwrap();
            part
        };
        for (etag, is_framed) in [("\"1\"", true), ("1", false), ("W/\"1\"", false)] {
            let mut part = begun(etag, is_framed);
            part.take(&[0; 4]);
            assert!(matches!(part.ends(), Err(GetError::Unavailable { .. })), "{etag}");
            part.take(&[0; 6]);
            assert_eq!(part.ends(), Ok(()));
            assert!(part.may_go_on());
        }
        // Replaced by a shorter one: it ends where it says so, or nobody knows.
        let mut framed = begun("\"2\"", true);
        framed.take(&[0; 4]);
        assert_eq!((framed.ends(), framed.missing()), (Ok(()), 0));
        let mut unframed = begun("\"2\"", false);
        unframed.take(&[0; 4]);
        assert!(matches!(unframed.ends(), Err(GetError::Other(_))));
    }

    #[test]
    fn weak_etags_make_no_condition() {
        assert!(Part { etag: Some("W/\"1\"".into()), ..half() }.headers().is_empty());
    }
}
