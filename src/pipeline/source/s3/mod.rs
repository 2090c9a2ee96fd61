//! Archives in a bucket of S3, or of an S3-compatible server.
//!
//! ```text
//! listing ──▶ archives (name: the last segment of the key) ──▶ read_ahead ──▶ download ──▶ memory
//!     └────────────── client: signed GETs ◀── signature ◀── credentials ────────┘
//! ```
//!
//! Nothing is written to the bucket or to disk, and no key is used as a path. Every listing begins at the first key, even
//! in a spool run: `start-after` would miss archives that arrive late under an earlier name. Only times outside `--from`
//! and `--to` are skipped, if names allow it; see `listing::leap`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::Receiver;
use ureq::http::header::RANGE;

mod client;
mod download;
mod listing;
mod part;
mod read_ahead;
mod service;
mod watched;

pub use self::read_ahead::Download;

use self::client::{Client, GetError};
use self::read_ahead::ReadAhead;
use self::service::Service;
use super::{Discovery, Queue};
use crate::common::exit::{ExitCode, Failure};
use crate::common::mutex::Mutex;
use crate::config::s3::{BucketName, S3};
use crate::model::{Archive, bare_etag};
use crate::pipeline::admission::Admission;
use crate::process::shutdown::Stop;
use crate::retry::patience::Retries;
use crate::retry::policy::Policy;

/// A listed object.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Object {
    key: String,
    etag: Option<String>,
    bytes: u64,
    /// The storage class, if the listing has it.
    storage_class: Option<Box<str>>,
    /// The key of an SQLite log beside it, which holds changes that are not in the database.
    log: Option<Box<str>>,
}

impl Object {
    /// Whether the object has not changed since the archive was found.
    fn is_state_of(&self, archive: &Archive) -> bool {
        let tags = self.etag.as_deref().zip(archive.etag.as_deref());
        self.bytes == archive.bytes && tags.is_none_or(|(now, found)| bare_etag(now) == bare_etag(found))
    }
}

/// Objects by archive name.
type Objects = HashMap<String, Object>;

/// A bucket, and the objects that the last look found in it.
pub struct Bucket {
    client: Client,
    /// How long to wait for an unavailable S3. None: for ever.
    budget: Option<Duration>,
    objects: Mutex<Arc<Objects>>,
    /// Keys that S3 did not serve and that were left for a later look.
    left: Mutex<HashSet<String>>,
}

impl Bucket {
    /// Creates the bucket of these settings, without sending requests yet. Later requests wait for an unavailable S3
    /// within `budget` (None: for ever), or until the run is to stop.
    ///
    /// # Errors
    ///
    /// A usage failure if the CA file cannot be used.
    pub fn open(settings: &S3, budget: Option<Duration>, stop: &Stop) -> Result<Self, Failure> {
        let client = Client::new(settings, stop)?;
        Ok(Self { client, budget, objects: Mutex::default(), left: Mutex::default() })
    }

    /// Finds the archives in the bucket.
    ///
    /// # Errors
    ///
    /// Exit code 2 if the bucket does not exist, 4 if S3 is unavailable past the budget, 5 if it refuses.
    pub fn discover(&self) -> Result<Discovery, Failure> {
        let listing = listing::list(&self.client, &self.retries())?;
        self.forget_left(&listing.objects);
        *self.objects.lock() = Arc::new(listing.objects);
        Ok(listing.discovery)
    }

    /// Forgets left keys that are no longer listed.
    fn forget_left(&self, objects: &Objects) {
        let mut left = self.left.lock();
        if !left.is_empty() {
            let keys: HashSet<&str> = objects.values().map(|object| object.key.as_str()).collect();
            left.retain(|key| keys.contains(key.as_str()));
        }
    }

    fn retries(&self) -> Retries<'_> {
        Retries::new(&self.client.stop, Policy::new("S3", self.budget))
    }

    /// Returns the objects of the last look.
    fn objects(&self) -> Arc<Objects> {
        self.objects.lock().clone()
    }

    /// Returns the address of a found archive, and its storage class.
    pub fn whereabouts(&self, archive: &Archive) -> (String, Option<Box<str>>) {
        match self.objects().get(&archive.name) {
            Some(object) => (self.client.address(&object.key), object.storage_class.clone()),
            None => (self.client.address(&archive.name), None),
        }
    }

    /// Downloads `archives`, which [`Bucket::discover`] has found, and queues them for `work`. Without a budget, the next
    /// look at the bucket comes after `next_look`.
    ///
    /// # Errors
    ///
    /// Exit code 4 if the budget was spent on some archives, after all others have been queued.
    pub fn with_queue(
        &self,
        archives: &Receiver<Arc<Archive>>,
        workers: usize,
        admission: &Admission,
        next_look: Duration,
        work: impl FnOnce(&dyn Queue),
    ) -> Result<(), Failure> {
        let ahead =
            ReadAhead { service: Service::new(self, next_look), given_up: OnceLock::new(), admission };
        ahead.run(archives, workers, work);
        ahead.given_up.into_inner().map_or(Ok(()), Err)
    }

    /// Checks whether an archive can be read, by requesting its first byte.
    ///
    /// # Errors
    ///
    /// Exit code 4 if S3 is unavailable, 5 if it refuses, 1 for anything else.
    pub fn try_to_read(&self, archive: &Archive) -> Result<(), Failure> {
        let objects = self.objects();
        let Some(object) = objects.get(&archive.name).filter(|object| object.bytes > 0) else {
            return Ok(());
        };
        let mut answer = self.client.get(&object.key, Vec::new(), vec![(RANGE, "bytes=0-0".to_owned())]);
        // The server may not support ranges. The whole object is then requested, but not read.
        if let Err(GetError::Other(_) | GetError::Changed) = answer {
            answer = self.client.get(&object.key, Vec::new(), Vec::new());
        }
        let Err(error) = answer else { return Ok(()) };
        let (code, why) = match error {
            GetError::Refused(why) | GetError::Credentials(why) | GetError::Denied(why) => {
                (ExitCode::Refused, why)
            }
            GetError::Unavailable { why, .. } => (ExitCode::Unavailable, why),
            GetError::Missing(why) | GetError::Other(why) => (ExitCode::Failed, why),
            GetError::Changed => (ExitCode::Failed, "it has changed".to_owned()),
        };
        let address = self.client.address(&object.key);
        Err(Failure::new(
            code,
            format!("{address:?} cannot be read: {why}; the credentials need s3:GetObject"),
        ))
    }
}

/// Formats the address of a key, for messages.
fn address(bucket: &BucketName, key: &str) -> String {
    format!("s3://{bucket}/{key}")
}
