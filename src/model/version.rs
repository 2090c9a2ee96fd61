//! The order of events, which all stages share.

/// Bits of a version that hold the row id. The archive's time in seconds is above them.
const ROW_ID_BITS: u32 = 28;

/// Set in the version of a delete from `posts`, so that it is higher than every version of a post.
const DELETE_BIT: u64 = 1 << 62;

/// The latest archive time (seconds since 1970, exclusive) that fits into a version: the year 2514.
pub const MAX_ARCHIVE_SECONDS: i64 = 1 << (62 - ROW_ID_BITS);

/// The largest row id (exclusive) that fits into a version.
pub const MAX_ROW_ID: i64 = 1 << ROW_ID_BITS;

/// The position of an event in the order (archive time, row id), as an external Elasticsearch version.
///
/// Source: contract, section 4. Elasticsearch takes versions from 0 to 2^63 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// The version of row `row_id` of an archive with the time `archive_seconds` (seconds since 1970, UTC).
    ///
    /// None if one of the two does not fit into a version.
    pub fn new(archive_seconds: i64, row_id: i64) -> Option<Self> {
        let fits = (0..MAX_ARCHIVE_SECONDS).contains(&archive_seconds) && (0..MAX_ROW_ID).contains(&row_id);
        fits.then_some(Self((archive_seconds as u64) << ROW_ID_BITS | row_id as u64))
    }

    /// The row id in it.
    pub fn row_id(self) -> i64 {
        (self.0 % MAX_ROW_ID as u64) as i64
    }

    /// The version under which a post or a tombstone is indexed.
    pub fn of_index(self) -> u64 {
        self.0
    }

    /// The version for deleting a post: higher than that of every post.
    pub fn of_delete(self) -> u64 {
        DELETE_BIT + self.0
    }

    /// The version that an index action with this number was made from.
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
    }

    #[test]
    fn a_delete_stands_above_every_post() {
        let last_post = Version::new(MAX_ARCHIVE_SECONDS - 1, MAX_ROW_ID - 1).unwrap();
        let first_delete = Version::new(0, 0).unwrap();
        assert!(first_delete.of_delete() > last_post.of_index());
        assert!(last_post.of_delete() <= i64::MAX as u64);
    }

    #[test]
    fn the_number_of_an_index_action_is_read_back_and_no_other_is() {
        let last = Version::new(MAX_ARCHIVE_SECONDS - 1, MAX_ROW_ID - 1).unwrap();
        for version in [Version::new(0, 0).unwrap(), Version::new(7, 7).unwrap(), last] {
            assert_eq!(Version::from_index_version(version.of_index()), Some(version));
            assert_eq!(Version::from_index_version(version.of_delete()), None);
        }
        assert_eq!(Version::from_index_version(u64::MAX), None);
    }

    #[test]
    fn what_a_version_has_no_room_for_has_none() {
        assert_eq!(Version::new(-1, 1), None);
        assert_eq!(Version::new(MAX_ARCHIVE_SECONDS, 1), None);
        assert_eq!(Version::new(1, -1), None);
        assert_eq!(Version::new(1, MAX_ROW_ID), None);
    }
}
