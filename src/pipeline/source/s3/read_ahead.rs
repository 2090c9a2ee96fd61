//! Downloads archives ahead of the workers, on separate threads.
//!
//! ```text
//! dispatcher ══ jobs, in order ══▶ N downloaders ══ downloads ══▶ workers
//!      ▲                                                             │
//!      └──────────────── memory that is free again ──────────────────┘
//! ```
//!
//! The dispatcher starts a download only if there is memory for all of it. So the objects that are being downloaded, wait
//! for a worker or are being unzipped stay within the share of `--memory` for downloads. A larger object is admitted
//! alone: nothing else is downloaded or read meanwhile.
//!
//! If an object has changed or vanished by the time of its download, it is left for the next look.

use std::sync::{Arc, OnceLock};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::client::MAX_DOWNLOADS;
use super::download::{DownloadError, Downloaded, download};
use super::service::Service;
use super::{Object, Objects};
use crate::common::exit::Failure;
use crate::model::Archive;
use crate::pipeline::admission::Admission;
use crate::pipeline::archive::{self, ArchiveError, ArchiveLimits, Room};
use crate::pipeline::source::{Content, Queue, Work};
use crate::process::shutdown::{Stop, lack_of_threads};
use crate::retry::patience::Retries;

/// The bytes of a file, and the memory reserved for them until drop.
#[derive(Debug)]
pub struct Download {
    /// The bytes of the archive's file.
    pub bytes: Vec<u8>,
    /// The reservation of all memory, if this archive is read alone.
    pub alone: Option<Room>,
    /// Whether the bytes come from several replies, and nothing proves that these are of the same object.
    pub may_be_mixed: bool,
    _room: Room,
}

#[cfg(test)]
impl Download {
    /// Creates a download of these bytes.
    #[allow(clippy::unwrap_used)]
    pub fn of(bytes: Vec<u8>, alone: Option<Room>) -> Self {
        let _room = archive::Rooms::unlimited().acquire(0, &Stop::new()).unwrap();
        Self { bytes, alone, may_be_mixed: false, _room }
    }
}

/// A download to make.
struct Job {
    archive: Arc<Archive>,
    object: Object,
    room: Room,
    /// The reservation of all other memory, for an object larger than the share for downloads.
    alone: Option<Room>,
}

/// Everything that downloading needs.
pub(super) struct ReadAhead<'r> {
    pub(super) service: Service<'r>,
    /// The failure of the first object whose budget was spent.
    pub(super) given_up: OnceLock<Failure>,
    /// Limits the memory of downloads.
    pub(super) admission: &'r Admission,
}

impl ReadAhead<'_> {
    /// Downloads `archives` in order, while `work` takes the downloads for this many `workers`. Once the run is to stop, no
    /// more downloads begin, and the remaining archives are never queued.
    pub(super) fn run(
        &self,
        archives: &Receiver<Arc<Archive>>,
        workers: usize,
        work: impl FnOnce(&dyn Queue),
    ) {
        // A download is about as fast as a worker. The maximum keeps S3 from throttling.
        let at_once = workers.clamp(2, MAX_DOWNLOADS);
        let retries = &self.service.bucket.retries().shared_health(&self.service);
        let (job_sender, jobs) = bounded(0);
        let (done_sender, done) = bounded(at_once);
        thread::scope(|scope| {
            let left = done_sender.clone();
            let dispatch = move || {
                self.stop().guard("the downloads", || {
                    let objects = || self.service.bucket.objects();
                    dispatch(archives, &objects, self.admission, self.stop(), &job_sender, &left);
                });
            };
            let mut started = thread::Builder::new().spawn_scoped(scope, dispatch).map(drop);
            for _ in 0..at_once {
                let (jobs, done) = (jobs.clone(), done_sender.clone());
                let download = move || self.download_all(&jobs, &done, retries);
                started = started.and(thread::Builder::new().spawn_scoped(scope, download).map(drop));
            }
            // A panic would wait for the threads that have started, and these wait for the run to stop.
            if started.is_err() {
                self.stop().fail(lack_of_threads());
            }
            drop((jobs, done_sender));
            work(&done);
            // Unblocks downloaders that still have a download to pass on.
            drop(done);
        });
    }

    fn stop(&self) -> &Stop {
        &self.service.bucket.client.stop
    }

    fn download_all(&self, jobs: &Receiver<Job>, done: &Sender<Work>, retries: &Retries<'_>) {
        for Job { mut archive, object, room, alone } in jobs {
            let downloaded = self.stop().guard("a download", || {
                if self.admission.excludes_file(object.bytes)
                    && object.bytes <= ArchiveLimits::DEFAULT.file_bytes
                {
                    return Err(DownloadError::Archive(ArchiveError::NoRoom(object.bytes)));
                }
                download(&object, &self.service, retries)
            });
            let content = match downloaded {
                Some(Ok(Downloaded { bytes, etag, may_be_mixed })) => {
                    // A mark made from it is of the content that is read.
                    if let Some(etag) = etag {
                        let now = Archive {
                            bytes: bytes.len() as u64,
                            etag: Some(etag.into()),
                            ..(*archive).clone()
                        };
                        archive = Arc::new(now);
                    }
                    archive::check_downloaded(&bytes, object.log.as_deref()).map(|()| Download {
                        bytes,
                        alone,
                        may_be_mixed,
                        _room: room,
                    })
                }
                Some(Err(DownloadError::Archive(error))) => Err(error),
                Some(Err(DownloadError::GivenUp(failure))) => {
                    // Keeps the first failure, the only one that is reported.
                    let _ = self.given_up.set(failure.clone());
                    Err(ArchiveError::Unavailable(failure.message))
                }
                Some(Err(DownloadError::Run(failure))) => {
                    self.stop().fail(failure.clone());
                    Err(ArchiveError::Unavailable(failure.message))
                }
                None => Err(ArchiveError::Unavailable("an internal error ended its download".to_owned())),
            };
            if done.send(Work { archive, content: Content::Downloaded(content) }).is_err() {
                return;
            }
        }
    }
}

/// Sends jobs in order, each as soon as there is memory for it. Archives that have changed since they were found go to
/// `left`.
fn dispatch(
    archives: &Receiver<Arc<Archive>>,
    objects: &dyn Fn() -> Arc<Objects>,
    admission: &Admission,
    stop: &Stop,
    jobs: &Sender<Job>,
    left: &Sender<Work>,
) {
    let downloads = admission.downloads();
    let limit = downloads.total();
    loop {
        let archive = select! {
            recv(archives) -> next => match next {
                Ok(archive) => archive,
                Err(_) => return,
            },
            recv(stop.channel()) -> _ => return,
        };
        let object = objects().get(&archive.name).filter(|object| object.is_state_of(&archive)).cloned();
        let Some(object) = object else {
            let why = "it has changed or vanished since it was found; the next look checks it again";
            let content = Content::Downloaded(Err(ArchiveError::Unavailable(why.to_owned())));
            select! {
                send(left, Work { archive, content }) -> sent => if sent.is_err() { return },
                recv(stop.channel()) -> _ => return,
            }
            continue;
        };
        let Ok(room) = downloads.acquire(object.bytes.min(limit), stop) else { return };
        // No download is in memory at this point, so none waits for memory behind this one.
        let is_alone = object.bytes > limit && !admission.excludes_file(object.bytes);
        let alone = if is_alone { admission.admit_alone(stop) } else { None };
        if is_alone && alone.is_none() {
            return;
        }
        let job = Job { archive, object, room, alone };
        select! {
            send(jobs, job) -> sent => if sent.is_err() { return },
            recv(stop.channel()) -> _ => return,
        }
    }
}

#[cfg(test)]
mod tests;
