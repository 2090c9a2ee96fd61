//! Metadata files that macOS and Windows add to folders and zips.

/// Whether a path in a zip, folder or bucket is a metadata file of macOS or Windows: anything in `__MACOSX`, `._*`
/// (AppleDouble), `.DS_Store` or `Thumbs.db`.
pub fn is_metadata_file(path: &[u8]) -> bool {
    let mut segments = path.rsplit(|byte| matches!(byte, b'/' | b'\\'));
    let name = segments.next().unwrap_or_default();
    name.starts_with(b"._")
        || [b".DS_Store".as_slice(), b"Thumbs.db"].iter().any(|known| name.eq_ignore_ascii_case(known))
        || segments.any(|folder| folder == b"__MACOSX")
}

#[cfg(test)]
mod tests {
    use super::is_metadata_file;

    #[test]
    fn metadata_files_of_operating_systems_are_recognized_by_their_path() {
        for path in
            ["__MACOSX/._a.db", "__MACOSX/a.db", "x/__MACOSX/y/a.db", "._a.db.zip", "x/._a.db", "x\\._a.db"]
        {
            assert!(is_metadata_file(path.as_bytes()), "{path}");
        }
        for path in ["Thumbs.db", "thumbs.db", "x/THUMBS.DB", ".DS_Store", "x/.DS_Store"] {
            assert!(is_metadata_file(path.as_bytes()), "{path}");
        }
        for path in [
            "",
            "a.db",
            "_a.db",
            ".a.db",
            "__MACOSX",
            "__MACOSX.db",
            "my__MACOSX/a.db",
            "xThumbs.db",
            "._x/a.db",
        ] {
            assert!(!is_metadata_file(path.as_bytes()), "{path}");
        }
    }
}
