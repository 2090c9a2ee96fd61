//! One object into memory: whole, or not at all.
//!
//! A body that breaks off is gone on with from where it broke off (`Range`), under the condition that the object is
//! still the same one (`If-Match`); where it is not, the download begins anew.

use std::io::{self, Read};

use ureq::Body;
use ureq::http::Response;

use super::Object;
use super::client::{Client, GetError};
use super::part::{ObjectHead, Part};
use super::service::Service;
use crate::exit::{ExitCode, Failure};
use crate::http::TransportError;
use crate::pipeline::archive::{ArchiveError, ArchiveLimits};
use crate::retry::patience::{GivenUp, Retries};
use crate::shutdown::Stop;

/// Bytes read at once, at most.
const CHUNK_BYTES: usize = 64 << 10;

/// Why an object is not there.
#[derive(Debug)]
pub(super) enum DownloadError {
    /// The archive cannot be read, now or for good.
    Archive(ArchiveError),
    /// The budget is spent on it. Others may be served.
    GivenUp(Failure),
    /// The run cannot go on.
    Run(Failure),
}

/// Downloads an object. It is asked for again as long as `service` has patience, counted from the last time that there
/// was more of it than ever before.
///
/// # Errors
///
/// [`DownloadError`]. A missing object or one that is not to be had leaves the archive as it is; credentials that are
/// refused and an S3 that serves nothing at all are the run's.
pub(super) fn download(
    client: &Client,
    object: &Object,
    stop: &Stop,
    service: &Service<'_>,
    retries: &Retries<'_>,
) -> Result<Vec<u8>, DownloadError> {
    let limit = ArchiveLimits::DEFAULT.file_bytes;
    if object.bytes > limit {
        let why = format!("the file has more than {limit} bytes");
        return Err(DownloadError::Archive(ArchiveError::Broken(why)));
    }
    let address = client.address(&object.key);
    let mut patience = retries.patience();
    let mut part = Part::default();
    let mut is_last = service.was_left(object);
    loop {
        let before = part.most();
        patience.begin();
        let (why, retry_after) = match attempt(client, object, &mut part, stop, service) {
            Ok(()) => return Ok(part.into_bytes()),
            Err(GetError::Unavailable { why, retry_after }) => (why, retry_after),
            Err(GetError::Changed) => {
                part.forget();
                ("it has changed in the meantime".to_owned(), None)
            }
            // The listing was allowed a moment ago. A run that would end some time ends; one that is to go on for ever
            // waits until the keys are renewed, or the role is given back.
            Err(GetError::Refused(why) | GetError::Credentials(why)) if service.budget.is_none() => {
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
        if part.most() > before {
            patience.progressed();
        } else if is_last && !stop.is_requested() {
            service.leave(object);
            let why =
                format!("S3 answers, but does not serve it, and is asked again at the next look: {why}");
            return Err(DownloadError::Archive(ArchiveError::Unavailable(why)));
        }
        let reason = format!("{address:?}: {why}");
        service.failed();
        match patience.away_for(&reason, retry_after) {
            Ok(()) => is_last = service.is_out_of_patience(patience.lasts()),
            Err(GivenUp(failure)) if stop.is_requested() || !service.gives_up() => {
                return Err(DownloadError::Run(failure));
            }
            Err(GivenUp(failure)) => return Err(DownloadError::GivenUp(failure)),
        }
    }
}

fn attempt(
    client: &Client,
    object: &Object,
    part: &mut Part,
    stop: &Stop,
    service: &Service<'_>,
) -> Result<(), GetError> {
    let mut response = client.get(&object.key, &[], &part.headers())?;
    let answer = ObjectHead::of(&response)?;
    part.begin(answer, object)?;
    read_on(&mut response, part, stop, service)
}

/// Reads what is missing; what has come is kept, whatever happens. A stop is noticed after every read, however little
/// that has brought: a body that trickles must not hold a run up.
fn read_on(
    response: &mut Response<Body>,
    part: &mut Part,
    stop: &Stop,
    service: &Service<'_>,
) -> Result<(), GetError> {
    let mut reader = response.body_mut().as_reader();
    let mut chunk = vec![0; CHUNK_BYTES];
    while part.missing() > 0 {
        if stop.is_requested() {
            return Err(GetError::unavailable("the run is to stop"));
        }
        let wanted = part.missing().min(CHUNK_BYTES);
        match reader.read(&mut chunk[..wanted]) {
            Ok(0) => return part.ends(),
            Ok(count) if part.take(&chunk[..count]) => service.served(),
            Ok(_) => {}
            Err(error) => return Err(GetError::unavailable(cut_off(part, error))),
        }
    }
    if part.may_go_on() {
        // There is all that was listed; the end of the body has to say that this is all. What breaks off now is whole.
        if let Ok(1..) = reader.read(&mut chunk[..1]) {
            return Err(part.goes_on());
        }
    }
    part.ends()
}

fn cut_off(part: &Part, error: io::Error) -> String {
    let why = TransportError::from(ureq::Error::from(error));
    format!("cut off after {} ({why})", part.state())
}
