//! Files that are replaced as a whole, durably, wherever an operator has put them.
//!
//! Usually by a temporary file, fsync, rename, and fsync of the folder. Two places do not let that be done:
//!
//! - A file that is a mount point by itself (`docker -v state.json:/state.json`, a `subPath` of Kubernetes) cannot be
//!   renamed over. It is written in place, and a whole copy stays beside it, if there is room for one: a crash in the
//!   middle of writing would leave a torn file.
//! - Some file systems (CIFS, some of FUSE, VirtualBox) cannot sync a folder. What they do with a renamed file in a
//!   power cut is not known; that is told once, and no reason not to work.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Once;

use super::{COPY, beside, folder_of, reap, temporary_of};

/// Bytes that are copied at once.
const CHUNK_BYTES: usize = 256 << 10;

/// What the whole new content of a file is written by. May be called more than once.
pub type Writing<'w> = &'w dyn Fn(&mut dyn Write) -> io::Result<()>;

/// Replaces a file, or makes it, durably. After a crash the old or the new one is there, whole; or, where it can only be
/// written in place, a whole copy beside it.
///
/// # Errors
///
/// Where it cannot be; the old one is there still, or both are the same.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_with(path, &|out| out.write_all(content))
}

/// As [`replace`], with what `write` writes. It must not read the file itself unless the file is opened already.
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

/// Makes a file by renaming.
fn put(path: &Path, write: Writing<'_>) -> io::Result<()> {
    let write = |file: &mut File| write(file).and_then(|()| file.sync_all());
    replace_by(&temporary_of(path), path, write)?;
    sync_folder(path)
}

/// Writes a file where it is, behind a copy of what it is to hold.
fn write_in_place(path: &Path, write: Writing<'_>) -> io::Result<()> {
    static TOLD: Once = Once::new();
    let copy = beside(path, COPY);
    let copied = put(&copy, write);
    TOLD.call_once(|| {
        let beside = match &copied {
            Ok(()) => format!("a whole copy stays in {}", copy.display()),
            Err(error) => format!("there is no copy beside it ({error}), and a crash in a write may tear it"),
        };
        log::warn!("{} is a mount point by itself, so it is written in place: {beside}", path.display());
    });
    let mut content = match copied {
        Ok(()) => Content::File(File::open(copy)?),
        Err(_) => {
            // Written to memory first, since it may be read from the very file.
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

/// What a file is to hold.
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

/// Has the disk keep room for a file, so that it is not full in the middle of writing. Where the file system cannot tell,
/// it is found out by writing.
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
/// Where it cannot be read or written, or is not all there.
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

/// Replaces a file by what `write` writes to a temporary one: readers find the old or the new one, whole. Nothing is
/// made durable here.
///
/// # Errors
///
/// Where it cannot be; the old one is there still, and no temporary one.
pub fn replace_by(
    temporary: &Path,
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let written = create_temporary(temporary, path).and_then(|mut file| write(&mut file));
    let replaced = written.and_then(|()| fs::rename(temporary, path));
    if replaced.is_err() {
        // What is half written must not stay behind; the error to report is the first one.
        let _ = fs::remove_file(temporary);
    }
    replaced
}

/// Makes the renaming, creation or removal of a file durable, where its file system can do that. Where not, it says so
/// once.
///
/// # Errors
///
/// Where the folder could be synced, and was not.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    static TOLD: Once = Once::new();
    match try_to_sync_folder(path)? {
        None => {}
        Some(why) => TOLD.call_once(|| log::warn!("{}", unsynced(folder_of(path), &why))),
    }
    Ok(())
}

/// What is to be told of a folder that cannot be synced.
pub fn unsynced(folder: &Path, why: &io::Error) -> String {
    format!(
        "the folder {} cannot be synced ({why}): what a power cut leaves of a file in it is up to its file system",
        folder.display()
    )
}

/// Syncs the folder of a file. Some: it is none that can be synced.
fn try_to_sync_folder(path: &Path) -> io::Result<Option<io::Error>> {
    let folder = match File::open(folder_of(path)) {
        // One that may be written to, and not listed.
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

/// Does all that [`replace`] does, beside a file, and leaves nothing. Some: it would work, but the folder cannot be
/// synced.
///
/// # Errors
///
/// Where the file could not be replaced.
pub fn try_to_replace(path: &Path) -> io::Result<Option<io::Error>> {
    if is_mount_point(path) {
        OpenOptions::new().write(true).open(path)?.sync_all()?;
        return Ok(None);
    }
    check_replaceable(path)?;
    // Names of this process's own: another one may be at work on the file.
    let [temporary, tried] = ["try", "tried"].map(|name| beside(path, &format!(".{}.{name}", process::id())));
    let tried_out =
        replace_by(&temporary, &tried, |file| file.write_all(b"[]\n").and_then(|()| file.sync_all()))
            .and_then(|()| try_to_sync_folder(path));
    reap(&tried)?;
    tried_out
}

/// Whether a file may be renamed over, as far as that is up to the file and not to its folder.
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

/// Whether a file is a mount point by itself. Where the system does not tell, a rename will.
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

/// Makes a temporary file that is to replace the one at `path`, in the place of one that a killed run may have left.
/// It can be read by those only who could read that, and is never a link to another file.
///
/// # Errors
///
/// Where it cannot be made.
pub fn create_temporary(temporary: &Path, path: &Path) -> io::Result<File> {
    reap(temporary)?;
    let file = File::create_new(temporary)?;
    if let Ok(metadata) = fs::metadata(path) {
        let wanted = metadata.permissions();
        // Some file systems know no permissions, and refuse to set even those that there are.
        if file.metadata()?.permissions() != wanted {
            file.set_permissions(wanted)?;
        }
    }
    Ok(file)
}

/// The copy that stays beside a file which is written in place.
pub fn copy_of(path: &Path) -> PathBuf {
    beside(path, COPY)
}
