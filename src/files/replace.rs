//! Replaces whole files durably, wherever an operator has put them.
//!
//! Usually: write a temporary file, fsync, rename, and fsync the folder. Two kinds of places do not allow that:
//!
//! - A file that is itself a mount point (`docker -v state.json:/state.json`, a `subPath` of Kubernetes) cannot be
//!   replaced by a rename. It is written in place, which a crash may interrupt and leave a torn file. So a whole copy
//!   stays beside it, if there is room for one.
//! - Some file systems (CIFS, some of FUSE, VirtualBox) cannot sync a folder. Whether a renamed file survives a power
//!   cut there is unknown. That is logged once, and the work goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Once;

use super::{COPY, beside, folder_of, reap, temporary_of};

/// Bytes copied at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Writes the whole new content of a file. May be called more than once.
pub type Writing<'w> = &'w dyn Fn(&mut dyn Write) -> io::Result<()>;

/// Replaces or creates a file durably. After a crash either the old or the new content is there, complete; or, where
/// the file can only be written in place, a whole copy beside it.
///
/// # Errors
///
/// Fails where the file cannot be replaced. The files are then in the same state as after a crash.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_with(path, &|out| out.write_all(content))
}

/// As [`replace`], with the content that `write` writes. It must not open the file itself; a file opened before may be
/// read.
///
/// # Errors
///
/// As [`replace`].
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
    static TOLD: Once = Once::new();
    let copy = beside(path, COPY);
    let copied = put(&copy, write);
    TOLD.call_once(|| {
        let beside = match &copied {
            Ok(()) => format!("a whole copy stays in {}", copy.display()),
            Err(error) => format!("there is no copy beside it ({error}), and a crash in a write may tear it"),
        };
        log::warn!("{} is itself a mount point, so it is written in place: {beside}", path.display());
    });
    let mut content = match copied {
        Ok(()) => Content::File(File::open(copy)?),
        Err(_) => {
            // Collected in memory first, since `write` may read from this very file.
            let mut bytes = Vec::new();
            write(&mut bytes)?;
            Content::Bytes(bytes)
        }
    };
    let length = content.length()?;
    let mut file = OpenOptions::new().write(true).open(path)?;
    reserve(&file, length)?;
    match &mut content {
        Content::File(copy) => copy_bytes(copy, 0..length, &mut file)?,
        Content::Bytes(bytes) => file.write_all(bytes)?,
    }
    file.set_len(length)?;
    file.sync_all()
}

/// The new content of a file.
enum Content {
    File(File),
    Bytes(Vec<u8>),
}

impl Content {
    fn length(&self) -> io::Result<u64> {
        Ok(match self {
            Content::File(file) => file.metadata()?.len(),
            Content::Bytes(bytes) => bytes.len() as u64,
        })
    }
}

/// Reserves disk space for a file, so that the disk does not fill up in the middle of writing. Where the file system
/// does not support it, writing will tell.
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
/// Fails where it cannot be read or written, or where the file is too short.
pub fn copy_bytes(mut from: &File, range: std::ops::Range<u64>, to: &mut dyn Write) -> io::Result<()> {
    from.seek(SeekFrom::Start(range.start))?;
    let mut left = range.end.saturating_sub(range.start);
    let mut chunk = vec![0; CHUNK_BYTES];
    while left > 0 {
        let wanted = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        let part = chunk.get_mut(..wanted).unwrap_or_default();
        from.read_exact(part)?;
        to.write_all(part)?;
        left -= wanted as u64;
    }
    Ok(())
}

/// Replaces a file by a temporary one that `write` writes: readers find either the old or the new one, complete.
/// Nothing is synced here.
///
/// # Errors
///
/// Fails where the file cannot be replaced; the old one is still there, and the temporary one is removed.
pub fn replace_by(
    temporary: &Path,
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let written = create_temporary(temporary, path).and_then(|mut file| write(&mut file));
    let replaced = written.and_then(|()| fs::rename(temporary, path));
    if replaced.is_err() {
        // The temporary file must not stay behind; the error to report is the first one.
        let _ = fs::remove_file(temporary);
    }
    replaced
}

/// Makes the renaming, creation or removal of a file durable, where its file system can. Where it cannot, logs so once.
///
/// # Errors
///
/// Fails where the folder can be synced, but syncing failed.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    static TOLD: Once = Once::new();
    match try_to_sync_folder(path)? {
        None => {}
        Some(why) => TOLD.call_once(|| log::warn!("{}", unsynced(folder_of(path), &why))),
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

/// Syncs the folder of a file. Some: the folder cannot be synced.
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

/// Does everything that [`replace`] does on files beside `path`, and leaves nothing. Some: it would work, but the
/// folder cannot be synced.
///
/// # Errors
///
/// Fails where the file could not be replaced.
pub fn try_to_replace(path: &Path) -> io::Result<Option<io::Error>> {
    if is_mount_point(path) {
        OpenOptions::new().write(true).open(path)?.sync_all()?;
        return Ok(None);
    }
    check_replaceable(path)?;
    // Uses names of this process only: another one may be working on the file.
    let [temporary, tried] = ["try", "tried"].map(|name| beside(path, &format!(".{}.{name}", process::id())));
    let tried_out =
        replace_by(&temporary, &tried, |file| file.write_all(b"[]\n").and_then(|()| file.sync_all()))
            .and_then(|()| try_to_sync_folder(path));
    reap(&tried)?;
    tried_out
}

/// Whether a file can be replaced by a rename, as far as that depends on the file and not on its folder.
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
        let why = "it is another user's, in a folder where only its owner may replace it";
        return Err(io::Error::new(ErrorKind::PermissionDenied, why));
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn check_replaceable(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Whether a file is itself a mount point. False where the system does not tell; the rename will show it.
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

/// Creates a temporary file that is to replace the one at `path`; removes one that a killed run may have left. It gets
/// the permissions of the file at `path`, if there is one, and is never a link to another file.
///
/// # Errors
///
/// Fails where it cannot be created.
pub fn create_temporary(temporary: &Path, path: &Path) -> io::Result<File> {
    reap(temporary)?;
    let file = File::create_new(temporary)?;
    if let Ok(metadata) = fs::metadata(path) {
        let wanted = metadata.permissions();
        // Some file systems know no permissions, and refuse to set even those already in place.
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
