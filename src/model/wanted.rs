//! Which archives a task is about, of those that are there.

use super::{Archive, Shard};

/// Times from one to another: `[from, to)`, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first time that counts; None: all times before `to`.
    pub from: Option<i64>,
    /// The first time that counts no more; None: all times from `from` on.
    pub to: Option<i64>,
}

/// Where an archive lies that is not in a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// It is older.
    Before,
    /// It is as new as the end, or newer.
    Behind,
    /// Its name has no time.
    NoTime,
}

impl Span {
    /// All times.
    pub const ALL: Self = Self { from: None, to: None };

    /// Why an archive is not in the span; None where it is.
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

/// What is wanted of all archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Those of this process.
    pub shard: Shard,
    /// Those of these times.
    pub span: Span,
    /// So many at most, the oldest of them.
    pub limit: Option<usize>,
    /// Failed ones, too.
    pub retry_failed: bool,
}

impl Wanted {
    /// All that have not been done before.
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
