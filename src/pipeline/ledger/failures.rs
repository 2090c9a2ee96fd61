//! Failures of a run that cannot mark archives, with advice.

use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::io::Errno;

use crate::common::exit::{ExitCode, Failure};

/// Returns the failure of a run that cannot mark its archives, or end its replay, however often it repeats them.
pub fn moves_for_ever() -> Failure {
    let message = "the indices keep changing, so no archive can be marked and no replay can end: an alias moves, \
    shards restart, or requests fail at a server that does not show its shards; find out which, and run again";
    Failure::new(ExitCode::Unavailable, message)
}

/// Returns the failure of a run whose state file cannot be written.
pub fn state_not_written(path: &Path, error: &io::Error) -> Failure {
    cannot_write("the state file", path, error)
}

/// Returns the failure of a run whose dead-letter file cannot be written.
pub fn dead_letters_not_written(path: &Path, error: &io::Error) -> Failure {
    cannot_write("the dead-letter file", path, error)
}

fn cannot_write(what: &str, path: &Path, error: &io::Error) -> Failure {
    let what_to_do = match error.kind() {
        ErrorKind::InvalidInput => "name another one",
        ErrorKind::NotFound => "create its folder",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => "free the disk",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "make it and its folder writable",
        _ if is(error, &[Errno::MFILE]) => "raise the limit of open files (ulimit -n)",
        _ if is(error, &[Errno::IO, Errno::STALE]) => "check its disk or file server",
        // Not of the system, but of this program: see `Text::write`.
        ErrorKind::Other => "edit it only while no run uses it",
        _ => "free the disk or make its folder writable",
    };
    Failure::run(format!(
        "{what} {} cannot be written: {error}; {what_to_do}, then run again: archives that are not marked \
         are loaded again, nothing is lost",
        path.display()
    ))
}

fn is(error: &io::Error, errnos: &[Errno]) -> bool {
    errnos.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
