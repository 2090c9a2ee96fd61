//! Says why a file is not a valid zip, and what it is instead.

use std::io::ErrorKind;

use ::zip::result::ZipError;

use crate::pipeline::archive::ArchiveError;

/// The beginning of all these messages.
const NOT_A_ZIP: &str = "not a valid zip";

/// Number of bytes from the beginning of a file that tell what it is.
pub(super) const QUOTED_BYTES: usize = 60;

/// First bytes of files that are named like a zip by mistake, and what they are.
const OTHER_FORMATS: [(&[u8], &str); 7] = [
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\0", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"PK\x07\x08PK\x03\x04", "the first part of a split zip"),
];

/// The first bytes of a zip.
pub(super) const FIRST_ENTRY: &[u8] = b"PK\x03\x04";

/// Turns an error of the `zip` crate into one of the archive.
pub(super) fn invalid(error: ZipError) -> ArchiveError {
    match error {
        // A read error of the disk says nothing about the archive.
        ZipError::Io(error)
            if !matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput
            ) =>
        {
            ArchiveError::unreadable(error)
        }
        // The library's own text of this error only repeats that the zip is not valid.
        ZipError::InvalidArchive(why) => ArchiveError::broken(format!("{NOT_A_ZIP}: {why}")),
        error => ArchiveError::broken(format!("{NOT_A_ZIP}: {error}")),
    }
}

/// Replaces an error of [`invalid`] by a plainer one if the beginning of the file tells what is wrong.
pub(super) fn by_beginning(error: ArchiveError, file: &[u8]) -> ArchiveError {
    let ArchiveError::Broken(defect) = &error else { return error };
    let beginning = file.get(..QUOTED_BYTES).unwrap_or(file);
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    let what = if !defect.starts_with(NOT_A_ZIP) {
        return error;
    } else if beginning.is_empty() {
        "the file is empty".to_owned()
    } else if let Some((_, format)) = OTHER_FORMATS.iter().find(|(magic, _)| beginning.starts_with(magic)) {
        format!("it is {format}: zip the database itself")
    } else if beginning.starts_with(FIRST_ENTRY)
        && ["EOCD", "Unexpected end"].iter().any(|of_end| defect.contains(of_end))
    {
        "its end is missing: if a copy was interrupted, copy it again".to_owned()
    } else if beginning.iter().all(|byte| *byte == 0) {
        "it begins with zeros: if a copy was interrupted, copy it again".to_owned()
    } else if beginning.iter().all(is_text) {
        let text = String::from_utf8_lossy(beginning);
        format!("it is a text that begins with {text:?}: get the archive again")
    } else {
        return error;
    };
    ArchiveError::broken(format!("{NOT_A_ZIP}: {what}"))
}
