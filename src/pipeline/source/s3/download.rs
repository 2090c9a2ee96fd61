//! One object into memory: whole, or not at all.
//!
//! A body that breaks off is gone on with from where it broke off (`Range`), under the condition that the object is
//! still the same one (`If-Match`); where it is not, the download begins anew.

use std::io::{self, Read};
use std::time::Duration;

use ureq::Body;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MATCH, RANGE};
use ureq::http::{HeaderMap, HeaderName, Response};

use super::Object;
use super::client::{Client, GetError};
use super::insistence::Insistence;
use crate::exit::{ExitCode, Failure};
use crate::http::TransportError;
use crate::pipeline::archive::{ArchiveError, Limits};
use crate::shutdown::Stop;

/// Bytes read at a time; between two reads a stop is noticed.
const CHUNK_BYTES: usize = 256 << 10;

/// Why an object is not there.
#[derive(Debug)]
pub(super) enum DownloadError {
    /// The archive cannot be read, now or for good.
    Archive(ArchiveError),
    /// The run cannot go on.
    Run(Failure),
}

/// Downloads an object. Waits for an unavailable S3 within the budget, counted from the last byte that came.
///
/// # Errors
///
/// [`DownloadError`]. A missing object or one that is not to be had leaves the archive as it is; credentials that are
/// refused and an S3 that stays unavailable are the run's.
pub(super) fn download(
    client: &Client,
    object: &Object,
    stop: &Stop,
    budget: Option<Duration>,
) -> Result<Vec<u8>, DownloadError> {
    let limit = Limits::DEFAULT.file_bytes;
    if object.bytes > limit {
        let why = format!("the file has more than {limit} bytes");
        return Err(DownloadError::Archive(ArchiveError::Broken(why)));
    }
    let mut insistence = Insistence::new(stop, budget);
    let mut part = Part::default();
    loop {
        let before = part.bytes.len();
        let (why, retry_after) = match attempt(client, object, &mut part, stop) {
            Ok(()) => return Ok(part.bytes),
            Err(GetError::Unavailable { why, retry_after }) => (why, retry_after),
            Err(GetError::Changed) => {
                part = Part::default();
                ("it has changed in the meantime".to_owned(), None)
            }
            // The listing was allowed a moment ago. A run that would end some time ends; one that is to go on for ever
            // waits until the keys are renewed, or the role is given back.
            Err(GetError::Refused(why) | GetError::Expired(why)) if budget.is_none() => (why, None),
            Err(GetError::Refused(why) | GetError::Expired(why)) => {
                return Err(DownloadError::Run(Failure::new(ExitCode::Refused, why)));
            }
            Err(GetError::Denied(why) | GetError::Missing(why) | GetError::Other(why)) => {
                return Err(DownloadError::Archive(ArchiveError::Unavailable(why)));
            }
        };
        if part.bytes.len() > before {
            insistence.start_anew();
        }
        insistence.failed(&format!("{:?}: {why}", object.key), retry_after).map_err(DownloadError::Run)?;
    }
}

fn attempt(client: &Client, object: &Object, part: &mut Part, stop: &Stop) -> Result<(), GetError> {
    let mut response = client.get(&object.key, &[], &part.headers())?;
    let answer = Answer::of(&response)?;
    part.begin(answer, object)?;
    read_on(&mut response, part, stop)
}

/// Reads what is missing; what has come is kept, whatever happens.
fn read_on(response: &mut Response<Body>, part: &mut Part, stop: &Stop) -> Result<(), GetError> {
    let mut reader = response.body_mut().as_reader();
    while part.bytes.len() < part.length {
        if stop.is_requested() {
            return Err(GetError::unavailable("the run is to stop"));
        }
        let wanted = (part.length - part.bytes.len()).min(CHUNK_BYTES) as u64;
        match reader.by_ref().take(wanted).read_to_end(&mut part.bytes) {
            Ok(0) => return Err(GetError::unavailable(cut_off(part, None))),
            Ok(_) => {}
            Err(error) => return Err(GetError::unavailable(cut_off(part, Some(error)))),
        }
    }
    Ok(())
}

fn cut_off(part: &Part, error: Option<io::Error>) -> String {
    let why = error.map_or("end of the body".to_owned(), |error| {
        TransportError::from(ureq::Error::from(error)).to_string()
    });
    format!("cut off after {} of {} bytes ({why})", part.bytes.len(), part.length)
}

/// What the head of a successful reply says of the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Answer {
    /// Where the body begins in the object; None: it is the whole object.
    start: Option<usize>,
    /// Length of the whole object.
    length: usize,
    etag: Option<String>,
}

impl Answer {
    fn of(response: &Response<Body>) -> Result<Self, GetError> {
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
struct Part {
    bytes: Vec<u8>,
    /// Length of the whole object.
    length: usize,
    /// Which state of the object the bytes are of.
    etag: Option<String>,
}

impl Part {
    /// What is asked for: the rest of this very object, or all of any.
    fn headers(&self) -> Vec<(HeaderName, String)> {
        match &self.etag {
            Some(etag) if !self.bytes.is_empty() => {
                vec![(RANGE, format!("bytes={}-", self.bytes.len())), (IF_MATCH, etag.clone())]
            }
            _ => Vec::new(),
        }
    }

    /// A body begins: either what is missing, or everything again.
    fn begin(&mut self, answer: Answer, object: &Object) -> Result<(), GetError> {
        if answer.start.is_some() {
            let fits = answer.start == Some(self.bytes.len())
                && answer.length == self.length
                && answer.etag == self.etag;
            return if fits { Ok(()) } else { Err(GetError::Changed) };
        }
        let replaced = answer.etag.is_some() && object.etag.is_some() && answer.etag != object.etag;
        if !replaced && answer.length as u64 != object.bytes {
            let (length, listed) = (answer.length, object.bytes);
            return Err(GetError::Other(format!("it has {length} bytes, but is listed with {listed}")));
        }
        let limit = Limits::DEFAULT.file_bytes;
        if answer.length as u64 > limit {
            return Err(GetError::Other(format!("it has been replaced by one of more than {limit} bytes")));
        }
        self.bytes.clear();
        (self.length, self.etag) = (answer.length, answer.etag);
        self.bytes
            .try_reserve_exact(self.length)
            .map_err(|_| GetError::Other("there is no memory for it".to_owned()))
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
        Part { bytes: vec![0; 5], length: 10, etag: Some("\"1\"".into()) }
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
    fn a_server_that_knows_no_ranges_sends_everything_again() {
        let mut part = half();
        part.begin(whole(10, "\"1\""), &object(10)).unwrap();
        assert!(part.bytes.is_empty() && part.bytes.capacity() >= 10);
    }

    #[test]
    fn the_length_has_to_be_the_listed_one_unless_the_object_was_replaced() {
        let other = Part::default().begin(whole(9, "\"1\""), &object(10));
        assert!(matches!(other, Err(GetError::Other(why)) if why.contains("9 bytes")));
        assert_eq!(Part::default().begin(whole(9, "\"2\""), &object(10)), Ok(()));
        let huge = Part::default().begin(whole(usize::MAX, "\"2\""), &object(10));
        assert!(matches!(huge, Err(GetError::Other(_))));
    }
}
