//! Reads and replaces files that the operator names. Only regular files are read, since a pipe or device may block a run
//! for ever. Files are replaced as a whole, by temporary files that nobody else can tamper with.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::common::exit::Failure;

mod replace;

pub use replace::*;

/// The maximum number of links followed in a row, as in the kernel.
const MAX_LINKS: usize = 40;

/// Returns the path of a file with all links resolved, even if the file does not exist yet. A path that leads nowhere is
/// resolved as far as possible.
pub fn real_path(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        if let Ok(real) = fs::canonicalize(&path) {
            return real;
        }
        let Ok(target) = fs::read_link(&path) else { break };
        path = folder_of(&path).join(target);
    }
    match (fs::canonicalize(folder_of(&path)), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path,
    }
}

/// Returns the folder of a file.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Opens a file for reading.
///
/// # Errors
///
/// Fails if it cannot be read or is not a regular file.
pub fn open(path: &Path) -> io::Result<File> {
    check(path)?;
    File::open(path)
}

/// Reads a whole file.
///
/// # Errors
///
/// See [`open`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    check(path)?;
    fs::read(path)
}

/// Reads a whole file as UTF-8.
///
/// # Errors
///
/// See [`open`]; also fails if it is not UTF-8.
pub fn read_to_string(path: &Path) -> io::Result<String> {
    check(path)?;
    fs::read_to_string(path)
}

/// Checks that a path is a regular file before it is opened: opening a pipe would wait for its other end.
///
/// # Errors
///
/// Fails if there is no such file, or if it is not a regular one.
pub fn check(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.is_file() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
}

/// Whether there is something other than a regular file at the path, such as a device or pipe.
pub fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.is_file())
}

/// Opens a device or pipe for writing that does not wait. A pipe that nobody reads is an error at once.
///
/// # Errors
///
/// Fails if it cannot be opened.
pub fn open_device(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().write(true).custom_flags(flags).open(path);
    opened.map_err(|error| match error.raw_os_error() {
        errno if errno == Some(Errno::NXIO.raw_os_error()) => io::Error::other("nobody reads the pipe"),
        _ => error,
    })
}

/// Whether an error may pass without a change of the settings: a disk or file server is away, or the system has run out
/// of something. A path that leads nowhere, or that this user may not use, stays as it is until somebody acts.
pub fn may_pass(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound, PermissionDenied};
    let of_system = error.raw_os_error().filter(|errno| *errno != Errno::LOOP.raw_os_error());
    of_system.is_some()
        && !matches!(
            error.kind(),
            NotFound | NotADirectory | PermissionDenied | InvalidInput | InvalidFilename
        )
}

/// Returns the failure for an error that may pass, so that a scheduler tries again; None: the error stays until somebody
/// acts. `text` says what cannot be read, and why.
pub fn failure_that_may_pass(error: &io::Error, text: &str) -> Option<Failure> {
    may_pass(error).then(|| Failure::run(format!("{text}; run again once its disk or file server answers")))
}

/// Suffix of the lock beside the state file, which keeps a second process out.
pub const LOCK: &str = ".lock";

/// Suffix of the temporary file that the next state is written to.
const TEMPORARY: &str = ".tmp";

/// Suffix of the copy of a file that can only be written in place.
const COPY: &str = ".copy";

/// Suffix of the journal: the marks that a run has not written to the state file yet.
pub const JOURNAL: &str = ".journal";

/// Suffix of the file with the index settings that a run has changed and has to restore.
pub const LOAD_SETTINGS: &str = ".load_settings.json";

/// All suffixes of files beside the state file.
pub const STATE_FILE_SUFFIXES: [&str; 5] = [LOCK, TEMPORARY, COPY, JOURNAL, LOAD_SETTINGS];

/// Returns the path of a file beside another: its path with a suffix.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Returns the path of the temporary file that replaces a file. It is always the same, so that the next one overwrites
/// one that a crash has left.
pub fn temporary_of(path: &Path) -> PathBuf {
    beside(path, TEMPORARY)
}

/// Removes a file if it exists.
///
/// # Errors
///
/// Fails if it exists and cannot be removed.
pub fn remove_if_exists(path: &Path) -> io::Result<()> {
    if_exists(fs::remove_file(path)).map(drop)
}

/// Turns the error of a file that does not exist into None.
///
/// # Errors
///
/// Any other error.
pub fn if_exists<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    use super::*;

    #[test]
    fn only_regular_files_and_links_to_them_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link, fifo] = ["file", "link", "fifo"].map(|name| folder.path().join(name));
        fs::write(&file, "text").unwrap();
        symlink(&file, &link).unwrap();
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        for path in [&file, &link] {
            assert_eq!(read(path).unwrap(), b"text");
            assert_eq!(read_to_string(path).unwrap(), "text");
            assert!(open(path).is_ok());
        }
        for path in [&fifo, folder.path(), Path::new("/dev/zero")] {
            assert!(read(path).unwrap_err().to_string().contains("not a regular file"), "{}", path.display());
            assert!(open(path).is_err() && read_to_string(path).is_err());
        }
        assert_eq!(read(&folder.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn an_error_may_pass_if_nothing_is_wrong_with_the_path() {
        for errno in [Errno::IO, Errno::STALE, Errno::NOTCONN, Errno::TIMEDOUT, Errno::NOMEM, Errno::MFILE] {
            assert!(may_pass(&errno.into()), "{errno}");
        }
        for errno in
            [Errno::NOENT, Errno::NOTDIR, Errno::ACCESS, Errno::PERM, Errno::LOOP, Errno::NAMETOOLONG]
        {
            assert!(!may_pass(&errno.into()), "{errno}");
        }
        assert!(!may_pass(&io::Error::new(io::ErrorKind::InvalidData, "not a state file")));
    }

    #[test]
    fn a_file_has_one_real_path_whether_or_not_it_exists() {
        let folder = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(folder.path()).unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("below")).unwrap();
        fs::write(at("there"), "").unwrap();
        symlink("below/../not_there", at("link")).unwrap();
        symlink(at("link"), at("below/link")).unwrap();
        symlink("loop", at("loop")).unwrap();
        for (name, expected) in [
            ("there", "there"),
            ("below/../there", "there"),
            ("not_there", "not_there"),
            ("below/../not_there", "not_there"),
            ("link", "not_there"),
            ("below/link", "not_there"),
            ("loop", "loop"),
        ] {
            assert_eq!(real_path(&at(name)), real.join(expected), "{name}");
        }
        assert_eq!(real_path(&at("no/folder")), at("no/folder"));
        let here = fs::canonicalize(".").unwrap();
        assert_eq!(real_path(Path::new("no such file")), here.join("no such file"));
        assert_eq!(real_path(Path::new("")), Path::new(""));
    }

    #[test]
    fn a_temporary_file_has_the_permissions_of_the_file_it_replaces_and_follows_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let [path, temporary, other] = ["state", "state.tmp", "other"].map(|name| folder.path().join(name));
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&other, "not to be touched").unwrap();
        symlink(&other, &temporary).unwrap();
        let file = create_temporary(&temporary, &path).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::symlink_metadata(&temporary).unwrap().is_file());
        assert_eq!(fs::read_to_string(other).unwrap(), "not to be touched");
        remove_if_exists(&temporary).unwrap();
        remove_if_exists(&temporary).unwrap();
        assert!(!temporary.exists());
    }
}
