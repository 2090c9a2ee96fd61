//! Which of the existing archives a task selects.

use super::{Archive, Shard};

/// A range of times, `[from, to)`, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first time in the range. None: no lower limit.
    pub from: Option<i64>,
    /// The first time after the range. None: no upper limit.
    pub to: Option<i64>,
}

/// Why an archive is outside of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// It is older.
    Before,
    /// It is at the end or newer.
    Behind,
    /// Its name has no time.
    NoTime,
}

impl Span {
    /// All times.
    pub const ALL: Self = Self { from: None, to: None };

    /// Why an archive is outside of the span. None: it is inside.
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
        self.to.is_some_and(|to| millis >= to).then_some(Outside::Behind)
    }
}

/// A selection of archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Those of this process.
    pub shard: Shard,
    /// Those of these times.
    pub span: Span,
    /// At most this many, the oldest first.
    pub limit: Option<usize>,
    /// Whether failed ones are included.
    pub retry_failed: bool,
}

impl Wanted {
    /// All that are not done yet.
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
    fn a_span_has_its_first_time_and_not_its_last() {
        let span = Span { from: Some(3_000), to: Some(7_000) };
        let excluded = [2, 3, 6, 7].map(|seconds| span.excludes(&at(seconds)));
        assert_eq!(excluded, [Some(Outside::Before), None, None, Some(Outside::Behind)]);
        let later = Span { from: Some(2_001), to: None };
        assert_eq!((later.excludes(&at(2)), later.excludes(&at(3))), (Some(Outside::Before), None));
    }

    #[test]
    fn an_archive_without_a_time_is_in_no_span_but_that_of_all_times() {
        assert_eq!(Span::ALL.excludes(&at(None)), None);
        let from_the_beginning = Span { from: Some(i64::MIN), to: None };
        assert_eq!(from_the_beginning.excludes(&at(None)), Some(Outside::NoTime));
    }
}
