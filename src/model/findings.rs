//! The findings of a verification. Source: contract, section 8.

use std::ops::AddAssign;

use serde::Serialize;

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
        match self {
            Finding::Equal => "equal",
            Finding::Newer => "newer",
            Finding::Suppressed => "suppressed",
            Finding::Missing => "missing",
            Finding::Stale => "stale",
            Finding::Different(_) => "different",
            Finding::Resurrected => "resurrected",
            Finding::Undeleted => "undeleted",
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

/// The number of rows of each finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// See [`Finding::Equal`].
    pub equal: u64,
    /// See [`Finding::Newer`].
    pub newer: u64,
    /// See [`Finding::Suppressed`].
    pub suppressed: u64,
    /// See [`Finding::Missing`].
    pub missing: u64,
    /// See [`Finding::Stale`].
    pub stale: u64,
    /// See [`Finding::Different`].
    pub different: u64,
    /// See [`Finding::Resurrected`].
    pub resurrected: u64,
    /// See [`Finding::Undeleted`].
    pub undeleted: u64,
}

impl Findings {
    /// Counts a finding.
    pub fn count(&mut self, finding: Finding) {
        *match finding {
            Finding::Equal => &mut self.equal,
            Finding::Newer => &mut self.newer,
            Finding::Suppressed => &mut self.suppressed,
            Finding::Missing => &mut self.missing,
            Finding::Stale => &mut self.stale,
            Finding::Different(_) => &mut self.different,
            Finding::Resurrected => &mut self.resurrected,
            Finding::Undeleted => &mut self.undeleted,
        } += 1;
    }

    /// Returns all counters with their names, in the order of messages.
    pub fn all(&self) -> [(&'static str, u64); 8] {
        [
            ("equal", self.equal),
            ("newer", self.newer),
            ("suppressed", self.suppressed),
            ("missing", self.missing),
            ("stale", self.stale),
            ("different", self.different),
            ("resurrected", self.resurrected),
            ("undeleted", self.undeleted),
        ]
    }

    /// Returns the counters of differences with their names.
    pub fn differences(&self) -> [(&'static str, u64); 5] {
        let [_, _, _, differences @ ..] = self.all();
        differences
    }

    /// Returns the number of rows compared.
    pub fn total(&self) -> u64 {
        self.all().iter().map(|(_, rows)| rows).sum()
    }

    /// Returns the number of rows for which the index is not as it should be.
    pub fn total_differences(&self) -> u64 {
        self.differences().iter().map(|(_, rows)| rows).sum()
    }
}

impl AddAssign<&Findings> for Findings {
    fn add_assign(&mut self, other: &Findings) {
        self.equal += other.equal;
        self.newer += other.newer;
        self.suppressed += other.suppressed;
        self.missing += other.missing;
        self.stale += other.stale;
        self.different += other.different;
        self.resurrected += other.resurrected;
        self.undeleted += other.undeleted;
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
