//! One process at a time has a state file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::{StateFile, followed};
use crate::exit::{ExitCode, Failure};
use crate::files::{self, real_path};

/// Keeps other processes from the same state file as long as it lives, or as the process does.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl StateFile {
    /// Locks the state file at `path` against other processes (exit code 6 where one has it).
    ///
    /// The lock is on a file beside it, since the state file itself is replaced by every save. The kernel drops
    /// the lock with its holder, however that ends. What a killed holder was about to save is removed.
    pub fn lock(path: &Path) -> Result<Lock, Failure> {
        let state_file = followed(path)?;
        let path = lock_of(&state_file);
        let cannot = |error: &dyn std::fmt::Display| {
            Failure::run(format!(
                "the state file cannot be locked by {}: {error}; make its folder writable, or name another one in \
                 SPOOL_STATE_FILE",
                path.display()
            ))
        };
        if let Err(error) = files::check(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(cannot(&error));
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| cannot(&error))?;
        match file.try_lock() {
            Ok(()) => {
                // Where it cannot be removed, saving will say so.
                let _ = files::reap(&files::temporary_of(&state_file));
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

    /// Whether a process has locked the state file at `path`. Makes no lock file; where there is one it is locked,
    /// and let go at once.
    pub fn is_locked(path: &Path) -> io::Result<bool> {
        match files::open(&lock_of(path)) {
            Ok(file) => Ok(matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The file that is locked in the place of a state file, which itself is replaced by every save. One that is a mount
/// point stays what it is, and is all that containers share: so it is locked itself.
fn lock_of(path: &Path) -> PathBuf {
    let path = real_path(path);
    if files::is_mount_point(&path) { path } else { files::beside(&path, files::LOCK) }
}
