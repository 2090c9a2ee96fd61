//! Stage 1: finds archives and passes them to the workers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Select, TryRecvError};

use super::admission::Admission;
use super::archive::ArchiveError;
use crate::common::exit::Failure;
use crate::config;
use crate::model::Archive;
use crate::process::shutdown::{Stop, lack_of_threads};

mod local;
pub(crate) mod s3;
mod seen;
pub mod settling;

pub use self::local::{Discovery, LeftOut, as_it_is_now, discover, has_changed};
pub use self::s3::{Bucket, Download};

/// Where archives come from.
pub enum Source {
    /// Folders and files of the local file system.
    Local(Vec<PathBuf>),
    /// A bucket.
    S3(Box<Bucket>),
}

/// An archive for a worker to read.
pub struct Work {
    /// The archive.
    pub archive: Arc<Archive>,
    /// Where its file is.
    pub content: Content,
}

/// A queue of archives for the workers.
pub trait Queue: Sync {
    /// Takes the next archive, without waiting.
    ///
    /// # Errors
    ///
    /// `Empty` if there is none now, `Disconnected` if there will be no more.
    fn next(&self) -> Result<Work, TryRecvError>;

    /// Waits until there is an archive, until the queue has ended, or until `news` has a message.
    fn wait(&self, news: &Receiver<()>);
}

impl<T: Into<Work> + Send> Queue for Receiver<T> {
    fn next(&self) -> Result<Work, TryRecvError> {
        self.try_recv().map(T::into)
    }

    fn wait(&self, news: &Receiver<()>) {
        let mut select = Select::new();
        select.recv(self);
        select.recv(news);
        select.ready();
    }
}

/// A local file, which the worker reads itself.
impl From<Arc<Archive>> for Work {
    fn from(archive: Arc<Archive>) -> Self {
        Self { archive, content: Content::AtPath }
    }
}

/// Where an archive's file is.
pub enum Content {
    /// In the file system, at the archive's path.
    AtPath,
    /// In memory, or the error of its download.
    Downloaded(Result<Download, ArchiveError>),
}

impl Source {
    /// Creates the source of these settings, without looking for archives yet. Later requests wait for an unavailable
    /// server within `budget` (None: for ever), or until the run is to stop.
    ///
    /// # Errors
    ///
    /// A usage failure if the settings cannot be used.
    pub fn open(settings: &config::Source, budget: Option<Duration>, stop: &Stop) -> Result<Self, Failure> {
        Ok(match settings {
            config::Source::Local(paths) => Self::Local(paths.clone()),
            config::Source::S3(settings) => Self::S3(Box::new(Bucket::open(settings, budget, stop)?)),
        })
    }

    /// Whether archives are local files, which may be incomplete when they are found.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// Finds the archives. Goes on if one of several folders cannot be read for now; a run that `spools` takes every error
    /// of a folder for one that may pass.
    ///
    /// # Errors
    ///
    /// Fails if they cannot be listed, or if the run is to stop.
    pub fn discover(&self, spools: bool, stop: &Stop) -> Result<Discovery, Failure> {
        match self {
            Self::Local(paths) => discover_until(paths, spools, stop),
            Self::S3(bucket) => bucket.discover(),
        }
    }

    /// Returns the location of a found archive, for messages, and the storage class of an object, if known.
    pub fn whereabouts(&self, archive: &Archive) -> (String, Option<Box<str>>) {
        match self {
            Self::Local(_) => (archive.path.to_string_lossy().into_owned(), None),
            Self::S3(bucket) => bucket.whereabouts(archive),
        }
    }

    /// Calls `work` with a queue of `archives`, in order, for this many `workers`. The queue ends when the channel does.
    /// `admission` limits the memory of downloads. A source without a budget is looked at again after `next_look`.
    ///
    /// # Errors
    ///
    /// Fails after all other archives are queued, if the budget was spent on some.
    pub fn with_queue(
        &self,
        archives: &Receiver<Arc<Archive>>,
        workers: usize,
        admission: &Admission,
        next_look: Duration,
        work: impl FnOnce(&dyn Queue),
    ) -> Result<(), Failure> {
        match self {
            Self::Local(_) => {
                work(archives);
                Ok(())
            }
            Self::S3(bucket) => bucket.with_queue(archives, workers, admission, next_look, work),
        }
    }
}

/// Finds archives among `paths`. If the run is to stop, does not wait for an unresponsive file server: the listing
/// thread ends with the process.
fn discover_until(paths: &[PathBuf], spools: bool, stop: &Stop) -> Result<Discovery, Failure> {
    let paths = paths.to_vec();
    match stop.unless_requested(move || discover(&paths, spools)) {
        Ok(Some(found)) => found,
        Ok(None) => Err(stop.as_failure()),
        Err(_) => Err(lack_of_threads()),
    }
}

/// Sorts archives into processing order: by time, then by name.
fn sort(archives: &mut [Archive]) {
    archives.sort_by(|a, b| order(a).cmp(&order(b)));
}

/// Returns the sort key. An archive without a time in its name is sorted by its modification time.
fn order(archive: &Archive) -> (i128, &str) {
    let seconds = match archive.seconds {
        Some(seconds) => seconds.into(),
        None => archive.modified_ns.div_euclid(1_000_000_000),
    };
    (seconds, &archive.name)
}
