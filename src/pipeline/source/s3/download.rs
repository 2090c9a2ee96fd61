//! Downloads one object into memory.
//!
//! Interrupted downloads resume (`Range`) if the object is still the same (`If-Match`). If it has changed, the download
//! starts again.

use std::io::{self, Read};
use std::thread;

use crossbeam_channel::{Receiver, bounded, select};
use ureq::Body;
use ureq::http::Response;

use super::Object;
use super::client::{Client, GetError};
use super::part::{ObjectHead, Part};
use super::service::Service;
use crate::common::exit::{ExitCode, Failure};
use crate::http::TransportError;
use crate::pipeline::archive::{ArchiveError, ArchiveLimits};
use crate::retry::patience::{GivenUp, Retries};

/// Maximum number of bytes per read.
const CHUNK_BYTES: usize = 64 << 10;

/// A downloaded object.
#[derive(Debug)]
pub(super) struct Downloaded {
    pub(super) bytes: Vec<u8>,
    /// Its ETag, if it has been replaced since it was listed.
    pub(super) etag: Option<String>,
    /// Whether the bytes may be of different objects, since they come from several replies.
    pub(super) may_be_mixed: bool,
}

/// Why an object could not be downloaded.
#[derive(Debug)]
pub(super) enum DownloadError {
    /// The archive cannot be read, now or for good.
    Archive(ArchiveError),
    /// The retry budget is spent on the object. Other objects may still be served.
    GivenUp(Failure),
    /// The run cannot continue.
    Run(Failure),
}

/// Downloads an object. Retries as long as `service` allows, counted from the last progress: a new maximum of its bytes
/// received.
///
/// # Errors
///
/// [`DownloadError`]. A missing or unreadable object fails only its archive. Refused credentials fail the run, and so
/// does an S3 that serves nothing at all.
pub(super) fn download(
    object: &Object,
    service: &Service<'_>,
    retries: &Retries<'_>,
) -> Result<Downloaded, DownloadError> {
    let Client { stop, .. } = &service.bucket.client;
    let limit = ArchiveLimits::DEFAULT.file_bytes;
    if object.bytes > limit {
        let why = format!("the file has more than {limit} bytes");
        return Err(DownloadError::Archive(ArchiveError::Broken(why)));
    }
    let address = service.bucket.client.address(&object.key);
    let mut patience = retries.patience();
    let mut part = Part::default();
    let mut is_last = service.was_left(object);
    loop {
        let before = part.most;
        let resumes = !part.headers().is_empty();
        patience.begin();
        let (why, retry_after) = match attempt(object, &mut part, service) {
            Ok(()) => {
                let (etag, may_be_mixed) = (part.new_etag(object), part.may_be_mixed);
                return Ok(Downloaded { etag, may_be_mixed, bytes: part.bytes });
            }
            Err(GetError::Unavailable { why, retry_after }) => (why, retry_after),
            Err(GetError::Changed) => {
                part.forget();
                ("it has changed in the meantime".to_owned(), None)
            }
            // The server may not support ranges or conditions.
            Err(GetError::Other(why)) if resumes => {
                part.forget();
                (why, None)
            }
            Err(GetError::Credentials(why)) if may_be_the_key(&why, &object.key) => {
                let why = format!(
                    "{address:?}: {why}; if other objects are read, the server or a proxy signs this key in \
                     another way: rename it, with letters, digits, - and _ only"
                );
                return Err(DownloadError::Archive(ArchiveError::Unavailable(why)));
            }
            // The credentials were accepted for the listing. A run with a budget ends here. A run without one waits until
            // the keys are renewed or the role is granted again.
            Err(GetError::Refused(why) | GetError::Credentials(why)) if service.bucket.budget.is_none() => {
                (why, None)
            }
            Err(GetError::Refused(why) | GetError::Credentials(why)) => {
                return Err(DownloadError::Run(Failure::new(
                    ExitCode::Refused,
                    format!("{address:?}: {why}"),
                )));
            }
            Err(GetError::Denied(why) | GetError::Missing(why) | GetError::Other(why)) => {
                return Err(DownloadError::Archive(ArchiveError::Unavailable(format!("{address:?}: {why}"))));
            }
        };
        if part.most > before {
            patience.progressed();
        } else if is_last && !stop.is_requested() {
            service.leave(object);
            let why = format!("S3 answers, but does not serve it; the next look tries again: {why}");
            return Err(DownloadError::Archive(ArchiveError::Unavailable(why)));
        }
        let reason = format!("{address:?}: {why}");
        service.failed();
        match patience.away_for(&reason, retry_after) {
            Ok(()) => is_last = service.is_out_of_patience(patience.failing_for()),
            Err(GivenUp(failure)) if stop.is_requested() || !service.gives_up() => {
                return Err(DownloadError::Run(failure));
            }
            Err(GivenUp(failure)) => return Err(DownloadError::GivenUp(failure)),
        }
    }
}

/// Whether a refused signature may be about this key alone. The signature covers the key, and some servers and proxies
/// encode special characters in another way, or remove repeated slashes.
fn may_be_the_key(why: &str, key: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    why.contains("SignatureDoesNotMatch") && (!key.bytes().all(is_plain) || key.contains("//"))
}

fn attempt(object: &Object, part: &mut Part, service: &Service<'_>) -> Result<(), GetError> {
    let response = service.bucket.client.get(&object.key, Vec::new(), part.headers())?;
    // Without that, the server cannot resume a download: the next attempt requests the whole object.
    let answer = ObjectHead::of(&response).inspect_err(|_| part.forget())?;
    if let Err(error) = part.begin(answer, object) {
        return Err(service.bucket.client.error_in_body(response).unwrap_or(error));
    }
    let read = read_on(response, part, service);
    // S3 may report an error after a successful status. Its text is not a part of the object.
    match part.as_text(&read).and_then(|text| service.bucket.client.error_in(text)) {
        Some(error) => {
            part.forget();
            Err(error)
        }
        None => read,
    }
}

/// Reads the missing bytes, and keeps those received even if it fails.
fn read_on(response: Response<Body>, part: &mut Part, service: &Service<'_>) -> Result<(), GetError> {
    // One byte more shows that the body is longer than the object.
    let most = part.missing().saturating_add(usize::from(part.may_be_longer()));
    let pieces = pieces(response.into_body(), most)
        .map_err(|error| GetError::unavailable(format!("there is no thread for the download: {error}")))?;
    while part.missing() > 0 || part.may_be_longer() {
        let piece = select! {
            recv(pieces) -> piece => piece.unwrap_or_else(|_| Ok(Vec::new())),
            recv(service.bucket.client.stop.channel()) -> _ => return Err(GetError::stopped()),
        };
        match piece {
            Ok(piece) if piece.is_empty() => break,
            Ok(piece) => {
                let (wanted, more) = piece.split_at(piece.len().min(part.missing()));
                if part.take(wanted) {
                    service.served();
                }
                if !more.is_empty() {
                    return Err(part.too_long());
                }
            }
            // All listed bytes are there, so an error does not matter.
            Err(_) if part.missing() == 0 => break,
            Err(error) => return Err(GetError::unavailable(cut_off(part, error))),
        }
    }
    part.ends()
}

/// Reads up to `most` bytes of a body on a thread of its own, so that a body that hangs does not delay the end of a run.
/// The last piece is empty if the body ends before that.
fn pieces(body: Body, most: usize) -> io::Result<Receiver<io::Result<Vec<u8>>>> {
    let (sender, pieces) = bounded(1);
    thread::Builder::new().spawn(move || {
        let mut reader = body.into_reader();
        let mut left = most;
        while left > 0 {
            let mut piece = vec![0; left.min(CHUNK_BYTES)];
            let read = reader.read(&mut piece).map(|count| {
                piece.truncate(count);
                piece
            });
            left = read.as_ref().map_or(0, |piece| if piece.is_empty() { 0 } else { left - piece.len() });
            if left == 0 {
                // Before the last piece, so that the next request finds the connection free.
                drop(reader);
                let _ = sender.send(read);
                return;
            }
            // The receiver is gone once the run is to stop.
            if sender.send(read).is_err() {
                return;
            }
        }
    })?;
    Ok(pieces)
}

fn cut_off(part: &Part, error: io::Error) -> String {
    let why = TransportError::from(ureq::Error::from(error));
    format!("cut off after {} ({why})", part.state())
}
