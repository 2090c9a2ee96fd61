//! The findings of a verification. Source: contract, section 8.

use std::ops::AddAssign;

use serde::{Serialize, Serializer};

/// The result of comparing the index with the latest event of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The index is as it should be.
    Equal,
    /// The index holds a later version of the post.
    Newer,
    /// There is no post, because there is a tombstone.
    Suppressed,
    /// There is neither a post nor a tombstone.
    Missing,
    /// The post has an older version, or one that this program never writes.
    Stale,
    /// The post has the same version, but this field has another value.
    Different(&'static str),
    /// The post is there although it was deleted.
    Resurrected,
    /// The event is a deletion, but there is no tombstone.
    Undeleted,
}

impl Finding {
    /// Returns the name used in messages.
    pub fn name(self) -> &'static str {
        NAMES[self.place()]
    }

    /// Returns its place in [`NAMES`].
    fn place(self) -> usize {
        match self {
            Finding::Equal => 0,
            Finding::Newer => 1,
            Finding::Suppressed => 2,
            Finding::Missing => 3,
            Finding::Stale => 4,
            Finding::Different(_) => 5,
            Finding::Resurrected => 6,
            Finding::Undeleted => 7,
        }
    }

    /// Returns the field that differs.
    pub fn field(self) -> Option<&'static str> {
        match self {
            Finding::Different(field) => Some(field),
            _ => None,
        }
    }

    /// Whether the index is not as it should be.
    pub fn is_difference(self) -> bool {
        !matches!(self, Finding::Equal | Finding::Newer | Finding::Suppressed)
    }
}

/// The names of the findings, in the order of messages.
const NAMES: [&str; 8] =
    ["equal", "newer", "suppressed", "missing", "stale", "different", "resurrected", "undeleted"];

/// The number of rows of each finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings([u64; NAMES.len()]);

impl Findings {
    /// Counts a finding.
    pub fn count(&mut self, finding: Finding) {
        self.0[finding.place()] += 1;
    }

    /// Returns all counters with their names, in the order of messages.
    pub fn all(&self) -> [(&'static str, u64); NAMES.len()] {
        std::array::from_fn(|place| (NAMES[place], self.0[place]))
    }

    /// Returns the counters of differences with their names.
    pub fn differences(&self) -> [(&'static str, u64); 5] {
        let [_, _, _, differences @ ..] = self.all();
        differences
    }

    /// Returns the number of rows compared.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns the number of rows for which the index is not as it should be.
    pub fn total_differences(&self) -> u64 {
        self.differences().iter().map(|(_, rows)| rows).sum()
    }
}

impl AddAssign<&Findings> for Findings {
    fn add_assign(&mut self, other: &Findings) {
        self.0.iter_mut().zip(other.0).for_each(|(rows, more)| *rows += more);
    }
}

impl Serialize for Findings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_has_a_counter_of_its_name() {
        for finding in [
            Finding::Equal,
            Finding::Newer,
            Finding::Suppressed,
            Finding::Missing,
            Finding::Stale,
            Finding::Different("content"),
            Finding::Resurrected,
            Finding::Undeleted,
        ] {
            let mut findings = Findings::default();
            findings.count(finding);
            assert!(findings.all().contains(&(finding.name(), 1)), "{finding:?}");
            assert_eq!(findings.total(), 1);
            assert_eq!(findings.total_differences(), u64::from(finding.is_difference()));
        }
    }
}
