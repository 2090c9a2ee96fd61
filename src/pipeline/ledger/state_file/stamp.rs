//! Detects whether an archive has changed since it was marked.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU64;

use crate::model::{Archive, bare_etag};

/// A hash of an archive's size and of its ETag or modification time, in one number.
///
/// An object is compared by its ETag, since its copies have other times. A file is compared by its time. An archive that
/// was a file when it was marked and is now an object, or the reverse, cannot be compared.
///
/// Times are recorded in whole microseconds: tools that edit a state file, such as `jq`, may read numbers as floats and
/// change the last digits of nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(NonZeroU64);

/// What is compared besides the size, stored in the lowest bits of a stamp.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Time = 1,
    Tag = 2,
}

impl Stamp {
    /// Computes the stamp of an archive as it was found.
    pub fn of(archive: &Archive) -> Option<Self> {
        Self::recorded(Some(archive.bytes), recorded_ns(archive), archive.etag.as_deref())
    }

    /// Computes the stamp from recorded values. None if too little is recorded.
    pub(super) fn recorded(size: Option<u64>, modified_ns: Option<i64>, etag: Option<&str>) -> Option<Self> {
        let size = size?;
        match (etag, modified_ns) {
            (Some(etag), _) => Some(Self::by(By::Tag, (size, bare_etag(etag)))),
            (None, Some(time)) => Some(Self::by(By::Time, (size, time.saturating_add(500).div_euclid(1000)))),
            (None, None) => None,
        }
    }

    fn by(by: By, state: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        state.hash(&mut hasher);
        let number = hasher.finish() & !0b11 | by as u64;
        // The lowest bits are never all zero, so the fallback is never used.
        Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
    }

    /// Whether an archive differs from the stamp. False if they cannot be compared.
    pub fn differs(self, archive: &Archive) -> bool {
        Self::of(archive).is_some_and(|now| now.0.get() & 0b11 == self.0.get() & 0b11 && now != self)
    }
}

/// Returns the modification time to record for an archive: nanoseconds since 1970, rounded to microseconds.
pub(super) fn recorded_ns(archive: &Archive) -> Option<i64> {
    i64::try_from(archive.modified_ns.div_euclid(1000) * 1000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: u64, modified_ns: i128) -> Archive {
        Archive { name: "a".into(), path: "a".into(), seconds: None, bytes, modified_ns, etag: None }
    }

    fn object(bytes: u64, modified_ns: i128, etag: &str) -> Archive {
        Archive { etag: Some(etag.into()), ..file(bytes, modified_ns) }
    }

    #[test]
    fn a_file_has_changed_if_its_size_or_time_has() {
        let stamp = Stamp::of(&file(7, 9_000)).unwrap();
        assert!(!stamp.differs(&file(7, 9_000)) && !stamp.differs(&file(7, 9_999)));
        assert!(stamp.differs(&file(8, 9_000)) && stamp.differs(&file(7, 10_000)));
    }

    #[test]
    fn a_time_that_an_editor_has_read_as_a_float_counts_as_unchanged() {
        for ns in (1_766_016_000_000_000_000..).step_by(123_457).take(10_000) {
            let recorded = recorded_ns(&file(7, ns)).unwrap();
            // As `jq` writes it: 17 digits of the nearest float.
            let edited = format!("{:.16e}", recorded as f64).parse::<f64>().unwrap() as i64;
            assert!(!Stamp::recorded(Some(7), Some(edited), None).unwrap().differs(&file(7, ns)), "{ns}");
        }
    }

    #[test]
    fn an_object_has_changed_if_its_size_or_etag_has() {
        let stamp = Stamp::of(&object(7, 9, "e")).unwrap();
        assert!(!stamp.differs(&object(7, 10, "e")));
        assert!(stamp.differs(&object(8, 9, "e")) && stamp.differs(&object(7, 9, "f")));
        assert!(!stamp.differs(&object(7, 9, "\"e\"")) && !stamp.differs(&object(7, 9, "W/\"e\"")));
    }

    #[test]
    fn an_archive_that_cannot_be_compared_counts_as_unchanged() {
        assert!(!Stamp::of(&object(7, 9, "e")).unwrap().differs(&file(8, 10)));
        assert!(!Stamp::of(&file(7, 9)).unwrap().differs(&object(8, 10, "e")));
        assert_eq!(Stamp::recorded(None, Some(9), Some("e")), None);
        assert_eq!(Stamp::recorded(Some(7), None, None), None);
    }
}
