//! The archives that a task selects.

use super::{Archive, Shard};

/// A half-open time range, `[from, to)`, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The start (inclusive). None: no lower limit.
    pub from: Option<i64>,
    /// The end (exclusive). None: no upper limit.
    pub to: Option<i64>,
}

/// Why an archive is outside a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// It is before the start.
    Before,
    /// It is at or after the end.
    After,
    /// Its name has no time.
    NoTime,
}

impl Span {
    /// All times.
    pub const ALL: Self = Self { from: None, to: None };

    /// Returns why an archive is outside the span; None if it is inside.
    pub fn excludes(&self, archive: &Archive) -> Option<Outside> {
        if *self == Self::ALL {
            return None;
        }
        let Some(millis) = archive.seconds.and_then(|seconds| seconds.checked_mul(1000)) else {
            return Some(Outside::NoTime);
        };
        if self.from.is_some_and(|from| millis < from) {
            return Some(Outside::Before);
        }
        self.to.is_some_and(|to| millis >= to).then_some(Outside::After)
    }
}

/// The criteria by which archives are selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Criteria {
    /// The share of this process.
    pub shard: Shard,
    /// The time range.
    pub span: Span,
    /// The maximum number of archives, the oldest first.
    pub limit: Option<usize>,
    /// Whether failed archives are included.
    pub retry_failed: bool,
}

impl Criteria {
    /// Selects all archives that are not done yet.
    pub const ALL: Self = Self { shard: Shard::ALL, span: Span::ALL, limit: None, retry_failed: false };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: impl Into<Option<i64>>) -> Archive {
        let seconds = seconds.into();
        Archive {
            name: "a".into(),
            path: "a".into(),
            seconds,
            bytes: 1,
            modified_ns: 5_000_000_000,
            etag: None,
        }
    }

    #[test]
    fn a_span_includes_its_start_and_excludes_its_end() {
        let span = Span { from: Some(3_000), to: Some(7_000) };
        let excluded = [2, 3, 6, 7].map(|seconds| span.excludes(&at(seconds)));
        assert_eq!(excluded, [Some(Outside::Before), None, None, Some(Outside::After)]);
        let later = Span { from: Some(2_001), to: None };
        assert_eq!((later.excludes(&at(2)), later.excludes(&at(3))), (Some(Outside::Before), None));
    }

    #[test]
    fn an_archive_without_a_time_is_only_in_the_span_of_all_times() {
        assert_eq!(Span::ALL.excludes(&at(None)), None);
        let from_the_beginning = Span { from: Some(i64::MIN), to: None };
        assert_eq!(from_the_beginning.excludes(&at(None)), Some(Outside::NoTime));
    }
}
