//! Archives in a bucket of S3, or of a server that speaks its language.
//!
//! ```text
//! listing ──▶ archives (name: the last segment of the key) ──▶ read_ahead ──▶ download ──▶ memory
//!     └────────────── client: signed GETs ◀── signature ◀── credentials ────────┘
//! ```
//!
//! Nothing is ever written to the bucket, nothing goes to disk, and no key is used as a path. Listings begin
//! at the first key, also in a spooler: `start-after` would pass over archives that are put in late under an earlier name.
//! Only times that are not asked for (`--from`, `--to`) are leapt over, where names allow it; see `listing::leap`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

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
use super::{Discovery, Work};
use crate::config::s3::{BucketName, S3};
use crate::exit::{ExitCode, Failure};
use crate::model::Archive;
use crate::pipeline::admission::Admission;
use crate::retry::patience::Retries;
use crate::retry::policy::Policy;
use crate::shutdown::Stop;

/// An object as it was listed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Object {
    key: String,
    /// Which state of the object was listed.
    etag: Option<String>,
    bytes: u64,
    /// Where it is told.
    storage_class: Option<Box<str>>,
    /// The key of what SQLite keeps changes in that are not in the database, where that lies beside it.
    log: Option<Box<str>>,
}

/// Objects by the name of the archive that they are.
type Objects = HashMap<String, Object>;

/// A bucket, and what it was last found to hold.
pub struct Bucket {
    settings: S3,
    client: Client,
    stop: Stop,
    budget: Option<Duration>,
    objects: Objects,
    /// Keys that the last look has left for the next one, since S3 did not serve them.
    left: Mutex<HashSet<String>>,
}

impl Bucket {
    /// The bucket of these settings; it is not asked for anything yet. An unavailable S3 is waited for within the
    /// budget (None: for ever), or until the run is to stop.
    ///
    /// # Errors
    ///
    /// A usage failure where the CA file cannot be used.
    pub fn open(settings: &S3, budget: Option<Duration>, stop: &Stop) -> Result<Self, Failure> {
        let client = Client::new(settings, stop)?;
        Ok(Self {
            settings: settings.clone(),
            client,
            stop: stop.clone(),
            budget,
            objects: Objects::new(),
            left: Mutex::default(),
        })
    }

    /// Finds the archives in the bucket.
    ///
    /// # Errors
    ///
    /// Exit code 2 for a bucket that is not there, 4 where S3 is unavailable past
    /// the budget, 5 where it refuses.
    pub fn discover(&mut self) -> Result<Discovery, Failure> {
        let retries = Retries::new(&self.stop, policy(self.budget));
        let listing = listing::list(&self.client, &self.settings, &self.stop, &retries)?;
        self.objects = listing.objects;
        Ok(listing.discovery)
    }

    /// The address of an archive that was found, and its storage class.
    pub fn whereabouts(&self, archive: &Archive) -> (String, Option<&str>) {
        match self.objects.get(&archive.name) {
            Some(object) => (address(&self.settings.bucket, &object.key), object.storage_class.as_deref()),
            None => (address(&self.settings.bucket, &archive.name), None),
        }
    }

    /// Hands out `archives`, which [`Bucket::discover`] has found, downloaded. Where there is no budget, the bucket is
    /// looked at again after `next_look`.
    ///
    /// # Errors
    ///
    /// Exit code 4 where the budget was spent on some of them, once all others have been handed out.
    pub fn hand_out(
        &self,
        archives: &[Arc<Archive>],
        workers: usize,
        admission: &Admission,
        next_look: Duration,
        work: impl FnOnce(&(dyn Fn() -> Option<Work> + Sync)),
    ) -> Result<(), Failure> {
        let ahead = ReadAhead {
            client: &self.client,
            objects: &self.objects,
            stop: &self.stop,
            service: Service::new(&self.client, &self.settings.prefix, self.budget, next_look, &self.left),
            given_up: OnceLock::new(),
            at_once: read_ahead::downloads_at_once(workers),
            admission,
        };
        ahead.run(archives, work);
        ahead.given_up.into_inner().map_or(Ok(()), Err)
    }

    /// Whether an archive can be read, tried with its first byte.
    ///
    /// # Errors
    ///
    /// Exit code 4 where S3 is unavailable, 5 where it refuses, 1 for anything else.
    pub fn try_to_read(&self, archive: &Archive) -> Result<(), Failure> {
        let Some(object) = self.objects.get(&archive.name).filter(|object| object.bytes > 0) else {
            return Ok(());
        };
        let Err(error) = self.client.get(&object.key, &[], &[(RANGE, "bytes=0-0".to_owned())]) else {
            return Ok(());
        };
        let (code, why) = match error {
            GetError::Refused(why) | GetError::Credentials(why) | GetError::Denied(why) => {
                (ExitCode::Refused, why)
            }
            GetError::Unavailable { why, .. } => (ExitCode::Unavailable, why),
            GetError::Missing(why) | GetError::Other(why) => (ExitCode::Failed, why),
            GetError::Changed => (ExitCode::Failed, "it has changed".to_owned()),
        };
        let address = address(&self.settings.bucket, &object.key);
        Err(Failure::new(
            code,
            format!("{address:?} cannot be read: {why}; the credentials need s3:GetObject"),
        ))
    }
}

/// How S3 is waited for. What it refuses is refused.
fn policy(budget: Option<Duration>) -> Policy {
    Policy::new("S3", budget)
}

/// A key for the eye.
fn address(bucket: &BucketName, key: &str) -> String {
    format!("s3://{bucket}/{key}")
}
