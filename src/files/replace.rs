//! Replaces whole files durably.
//!
//! Usually: write a temporary file, fsync it, rename it, and fsync the folder. That does not work in two cases:
//!
//! - A file that is itself a mount point (`docker -v state.json:/state.json`, a `subPath` of Kubernetes) cannot be
//!   replaced by a rename. It is written in place, and a crash may leave it torn. So a copy stays beside it if possible.
//! - Some file systems (CIFS, some of FUSE, VirtualBox) cannot sync a folder. A renamed file may not survive a power cut
//!   there. That is logged once, and the run continues.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Once;

use super::{COPY, beside, folder_of, remove_if_exists, temporary_of};

/// Number of bytes copied at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Writes the new content of a file. May be called more than once.
pub type Writing<'w> = &'w dyn Fn(&mut dyn Write) -> io::Result<()>;

/// Replaces or creates a file durably. After a crash, the file has either its old or its new content. A file that can
/// only be written in place may be torn, but then the copy beside it is complete.
///
/// # Errors
///
/// Fails if the file cannot be replaced. The files are then in a state as after a crash.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_with(path, &|out| out.write_all(content))
}

/// Like [`replace`], with content from `write`, which may read the file through a handle opened before but must not
/// open it.
///
/// # Errors
///
/// See [`replace`].
pub fn replace_with(path: &Path, write: Writing<'_>) -> io::Result<()> {
    if is_mount_point(path) {
        return write_in_place(path, write);
    }
    match put(path, write) {
        Err(error) if error.kind() == ErrorKind::ResourceBusy => write_in_place(path, write),
        put => put,
    }
}

/// Writes a file by renaming a temporary one.
fn put(path: &Path, write: Writing<'_>) -> io::Result<()> {
    let write = |file: &mut File| write(file).and_then(|()| file.sync_all());
    replace_by(&temporary_of(path), path, write)?;
    sync_folder(path)
}

/// Writes a file in place, after a copy of the new content has been written beside it.
fn write_in_place(path: &Path, write: Writing<'_>) -> io::Result<()> {
    static LOGGED: Once = Once::new();
    let copy = copy_of(path);
    let copied = put(&copy, write);
    LOGGED.call_once(|| {
        let beside = match &copied {
            Ok(()) => format!("there is a copy of it in {}", copy.display()),
            Err(error) => {
                format!("there is no copy beside it ({error}), and a crash during a write may damage it")
            }
        };
        log::warn!("{} is itself a mount point, so it is written in place: {beside}", path.display());
    });
    let copy = copied.is_ok().then(|| File::open(copy)).transpose()?;
    // Without a copy it is collected in memory first, since `write` may read from the file itself.
    let mut bytes = Vec::new();
    let length = match &copy {
        Some(copy) => copy.metadata()?.len(),
        None => write(&mut bytes).map(|()| bytes.len() as u64)?,
    };
    let mut file = OpenOptions::new().write(true).open(path)?;
    reserve(&file, length)?;
    match &copy {
        Some(copy) => copy_bytes(copy, 0..length, &mut file)?,
        None => file.write_all(&bytes)?,
    }
    file.set_len(length)?;
    file.sync_all()
}

/// Reserves disk space for a file, so that the disk does not fill up in the middle of writing. Does nothing if the file
/// system does not support it.
#[cfg(target_os = "linux")]
fn reserve(file: &File, length: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, length.max(1)) {
        Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(_: &File, _: u64) -> io::Result<()> {
    Ok(())
}

/// Copies a range of a file.
///
/// # Errors
///
/// Fails if it cannot be read or written, or if the file is too short.
pub fn copy_bytes(mut from: &File, range: std::ops::Range<u64>, to: &mut dyn Write) -> io::Result<()> {
    from.seek(SeekFrom::Start(range.start))?;
    let mut left = range.end.saturating_sub(range.start);
    let at_once = |left: u64| usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
    // State files with many edits are copied in many short ranges.
    let mut chunk = vec![0; at_once(left)];
    while left > 0 {
        let wanted = at_once(left);
        let part = chunk.get_mut(..wanted).unwrap_or_default();
        from.read_exact(part)?;
        to.write_all(part)?;
        left -= wanted as u64;
    }
    Ok(())
}

/// Replaces a file atomically by a temporary one that `write` writes. Does not sync anything.
///
/// # Errors
///
/// Fails if the file cannot be replaced. The old one is then still there, and the temporary one is removed.
pub fn replace_by(
    temporary: &Path,
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let written = create_temporary(temporary, path).and_then(|mut file| write(&mut file));
    let replaced = written.and_then(|()| fs::rename(temporary, path));
    if replaced.is_err() {
        // The first error is the one to report, so an error here is ignored.
        let _ = fs::remove_file(temporary);
    }
    replaced
}

/// Makes the renaming, creation or removal of a file durable. If its file system cannot do that, logs it once.
///
/// # Errors
///
/// Fails if the file system can sync folders, but syncing failed.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    static LOGGED: Once = Once::new();
    match try_to_sync_folder(path)? {
        None => {}
        Some(why) => LOGGED.call_once(|| log::warn!("{}", unsynced(folder_of(path), &why))),
    }
    Ok(())
}

/// Returns the message for a folder that cannot be synced.
pub fn unsynced(folder: &Path, why: &io::Error) -> String {
    format!(
        "the folder {} cannot be synced ({why}): after a power cut an older version of a file in it may be \
         left",
        folder.display()
    )
}

/// Syncs the folder of a file. Returns the error if the folder cannot be synced at all.
fn try_to_sync_folder(path: &Path) -> io::Result<Option<io::Error>> {
    let folder = match File::open(folder_of(path)) {
        // The folder may be writable, but not readable.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(Some(error)),
        folder => folder?,
    };
    match folder.sync_all() {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
            Ok(Some(error))
        }
        synced => synced.map(|()| None),
    }
}

/// Tries every step of [`replace`] on temporary files beside `path`, and removes them again. Returns the error if the
/// folder cannot be synced, which does not prevent a replacement.
///
/// # Errors
///
/// Fails if the file could not be replaced.
pub fn try_to_replace(path: &Path) -> io::Result<Option<io::Error>> {
    if is_mount_point(path) {
        OpenOptions::new().write(true).open(path)?.sync_all()?;
        return Ok(None);
    }
    check_replaceable(path)?;
    // The names hold the process id, since another process may be working on the file.
    let [temporary, tried] = ["try", "tried"].map(|name| beside(path, &format!(".{}.{name}", process::id())));
    let tried_out =
        replace_by(&temporary, &tried, |file| file.write_all(b"[]\n").and_then(|()| file.sync_all()))
            .and_then(|()| try_to_sync_folder(path));
    remove_if_exists(&tried)?;
    tried_out
}

/// Checks whether a rename may replace a file, as far as that depends on the file's attributes and owner.
#[cfg(target_os = "linux")]
fn check_replaceable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;

    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

    const STICKY: u32 = 0o1000;
    let (Ok(file), Ok(folder)) = (fs::symlink_metadata(path), fs::metadata(folder_of(path))) else {
        return Ok(());
    };
    let fixed = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    if statx(CWD, path, flags, StatxFlags::BASIC_STATS)
        .is_ok_and(|stat| stat.stx_attributes.intersects(fixed))
    {
        return Err(io::Error::new(ErrorKind::PermissionDenied, "it is immutable (chattr -i)"));
    }
    let user = rustix::process::geteuid().as_raw();
    if folder.mode() & STICKY != 0 && ![0, file.uid(), folder.uid()].contains(&user) {
        let why = "it belongs to another user, and in this folder only its owner may replace it";
        return Err(io::Error::new(ErrorKind::PermissionDenied, why));
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn check_replaceable(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Whether a file is itself a mount point. False if the system does not report it; then the rename fails.
#[cfg(target_os = "linux")]
pub fn is_mount_point(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS)
        .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(not(target_os = "linux"))]
pub fn is_mount_point(_: &Path) -> bool {
    false
}

/// Creates a temporary file that is to replace the file at `path`, with its permissions if it exists. Removes one that a
/// killed run has left, and never follows a link.
///
/// # Errors
///
/// Fails if it cannot be created.
pub fn create_temporary(temporary: &Path, path: &Path) -> io::Result<File> {
    remove_if_exists(temporary)?;
    let file = File::create_new(temporary)?;
    if let Ok(metadata) = fs::metadata(path) {
        let wanted = metadata.permissions();
        // Some file systems have no permissions, and refuse to set even the present ones.
        if file.metadata()?.permissions() != wanted {
            file.set_permissions(wanted)?;
        }
    }
    Ok(file)
}

/// Returns the path of the copy beside a file that is written in place.
pub fn copy_of(path: &Path) -> PathBuf {
    beside(path, COPY)
}
