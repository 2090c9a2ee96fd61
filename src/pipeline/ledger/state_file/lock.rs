//! Locks a state file, so that only one process at a time uses it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::{StateFile, resolve_links};
use crate::common::exit::{ExitCode, Failure};
use crate::files::{self, real_path};

/// The lock of a state file, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl StateFile {
    /// Locks the state file at `path`. Removes a temporary file that a killed process has left.
    ///
    /// The kernel releases the lock when the process ends, even if it is killed.
    ///
    /// # Errors
    ///
    /// Exit code 6 if another process holds the lock. Also fails if the lock file cannot be opened.
    pub fn lock(path: &Path) -> Result<Lock, Failure> {
        let state_file = resolve_links(path)?;
        let path = lock_of(&state_file);
        let cannot = |error: &dyn std::fmt::Display| {
            Failure::run(format!(
                "the state file cannot be locked by {}: {error}; make its folder writable, or name another one in \
                 SPOOL_STATE_FILE, on a file system that supports locks (flock)",
                path.display()
            ))
        };
        files::if_exists(files::check(&path)).map_err(|error| cannot(&error))?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| cannot(&error))?;
        match file.try_lock() {
            Ok(()) => {
                // If it cannot be removed, saving reports that.
                let _ = files::remove_if_exists(&files::temporary_of(&state_file));
                Ok(Lock { _file: file })
            }
            Err(TryLockError::WouldBlock) => Err(Failure::new(
                ExitCode::Locked,
                format!(
                    "another process has locked {}: wait for it to end, or give this one a state file of its own in \
                     SPOOL_STATE_FILE",
                    path.display()
                ),
            )),
            Err(TryLockError::Error(error)) => Err(cannot(&error)),
        }
    }

    /// Whether a process holds the lock of the state file at `path`. Does not create a lock file; an existing one is
    /// locked and released at once.
    pub fn is_locked(path: &Path) -> io::Result<bool> {
        let file = files::if_exists(files::open(&lock_of(path)))?;
        Ok(file.is_some_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))))
    }
}

/// Returns the file to lock: one beside the state file, since saves replace the state file itself. A state file that is a
/// mount point is locked itself: it is never replaced, and containers share nothing else.
fn lock_of(path: &Path) -> PathBuf {
    let path = real_path(path);
    if files::is_mount_point(&path) { path } else { files::beside(&path, files::LOCK) }
}
