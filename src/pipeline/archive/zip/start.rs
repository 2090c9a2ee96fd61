//! Finds the start of a zip in its file: a self-extracting zip has a program before it, and its offsets may count from
//! the zip's own start.

use std::io::{self, Read, Seek, SeekFrom};

/// The record at the end of a zip, without its comment. Source: APPNOTE.TXT 6.3.10, section 4.3.16.
const END: &[u8] = b"PK\x05\x06";
const END_BYTES: usize = 22;
const MAX_COMMENT_BYTES: usize = 65_535;

/// Signature of a header in the central directory.
const HEADER: &[u8] = b"PK\x01\x02";

/// Returns the offset that the zip's offsets count from, by its last end record right after the central directory that it
/// describes. 0 if there is none, as in an empty zip or a zip64.
pub(super) fn start(file: &mut (impl Read + Seek)) -> io::Result<u64> {
    let length = file.seek(SeekFrom::End(0))?;
    let beginning =
        file.seek(SeekFrom::Start(length.saturating_sub((END_BYTES + MAX_COMMENT_BYTES) as u64)))?;
    let mut tail = Vec::new();
    file.take((END_BYTES + MAX_COMMENT_BYTES) as u64).read_to_end(&mut tail)?;
    for (at, record) in
        tail.windows(END_BYTES).enumerate().rev().filter(|(_, record)| record.starts_with(END))
    {
        let Some(&[s1, s2, s3, s4, o1, o2, o3, o4]) = record.get(12..20) else { continue };
        let [size, offset] = [[s1, s2, s3, s4], [o1, o2, o3, o4]].map(u32::from_le_bytes).map(u64::from);
        let directory = (beginning + at as u64).checked_sub(size);
        let start = directory.and_then(|directory| directory.checked_sub(offset));
        if let Some((directory, start)) = directory.zip(start)
            && begins_with(file, directory, HEADER)?
        {
            return Ok(start);
        }
    }
    Ok(0)
}

/// Whether these bytes are at `offset`.
pub(super) fn begins_with(file: &mut (impl Read + Seek), offset: u64, bytes: &[u8]) -> io::Result<bool> {
    file.seek(SeekFrom::Start(offset))?;
    let mut read = Vec::new();
    file.take(bytes.len() as u64).read_to_end(&mut read)?;
    Ok(read == bytes)
}
