//! The version of an event, which orders events.

/// Number of low bits of a version that hold the row id. The bits above hold the archive's time, in seconds.
const ROW_ID_BITS: u32 = 28;

/// The bit set in the version of a delete from `posts`, which makes it higher than every version of a post.
const DELETE_BIT: u64 = 1 << 62;

/// The limit of archive times that fit into a version (exclusive), in seconds since 1970: in the year 2514.
pub const MAX_ARCHIVE_SECONDS: i64 = 1 << (62 - ROW_ID_BITS);

/// The limit of row ids that fit into a version (exclusive).
pub const MAX_ROW_ID: i64 = 1 << ROW_ID_BITS;

/// The position of an event in the order (archive time, row id), as an external Elasticsearch version.
///
/// Elasticsearch accepts versions from 0 to 2^63 - 1. Source: contract, section 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// Creates the version of row `row_id` in an archive of the time `archive_seconds` (seconds since 1970, UTC).
    ///
    /// None if either number does not fit.
    pub fn new(archive_seconds: i64, row_id: i64) -> Option<Self> {
        let fits = (0..MAX_ARCHIVE_SECONDS).contains(&archive_seconds) && (0..MAX_ROW_ID).contains(&row_id);
        fits.then_some(Self((archive_seconds as u64) << ROW_ID_BITS | row_id as u64))
    }

    /// Returns the row id.
    pub fn row_id(self) -> i64 {
        (self.0 % MAX_ROW_ID as u64) as i64
    }

    /// Returns the time of the archive, in seconds since 1970.
    pub fn archive_seconds(self) -> i64 {
        (self.0 >> ROW_ID_BITS) as i64
    }

    /// Returns the version number for indexing a post or a tombstone.
    pub fn of_index(self) -> u64 {
        self.0
    }

    /// Returns the version number for deleting a post: higher than that of every post.
    pub fn of_delete(self) -> u64 {
        DELETE_BIT + self.0
    }

    /// Converts the version number of an indexed document back. None if it is not one of [`Self::of_index`].
    pub fn from_index_version(number: u64) -> Option<Self> {
        (number < DELETE_BIT).then_some(Self(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_by_archive_time_then_row() {
        let a = Version::new(1_766_016_000, MAX_ROW_ID - 1).unwrap();
        let b = Version::new(1_766_016_001, 0).unwrap();
        assert!(a < b);
        assert_eq!(a.of_index(), 474_061_310_263_296_000 + MAX_ROW_ID as u64 - 1);
        assert_eq!((a.row_id(), b.row_id()), (MAX_ROW_ID - 1, 0));
        assert_eq!((a.archive_seconds(), b.archive_seconds()), (1_766_016_000, 1_766_016_001));
    }

    #[test]
    fn a_delete_has_a_higher_version_than_every_post() {
        let last_post = Version::new(MAX_ARCHIVE_SECONDS - 1, MAX_ROW_ID - 1).unwrap();
        let first_delete = Version::new(0, 0).unwrap();
        assert!(first_delete.of_delete() > last_post.of_index());
        assert!(last_post.of_delete() <= i64::MAX as u64);
    }

    #[test]
    fn only_versions_of_index_actions_are_converted_back() {
        let last = Version::new(MAX_ARCHIVE_SECONDS - 1, MAX_ROW_ID - 1).unwrap();
        for version in [Version::new(0, 0).unwrap(), Version::new(7, 7).unwrap(), last] {
            assert_eq!(Version::from_index_version(version.of_index()), Some(version));
            assert_eq!(Version::from_index_version(version.of_delete()), None);
        }
        assert_eq!(Version::from_index_version(u64::MAX), None);
    }

    #[test]
    fn numbers_that_do_not_fit_have_no_version() {
        assert_eq!(Version::new(-1, 1), None);
        assert_eq!(Version::new(MAX_ARCHIVE_SECONDS, 1), None);
        assert_eq!(Version::new(1, -1), None);
        assert_eq!(Version::new(1, MAX_ROW_ID), None);
    }
}
