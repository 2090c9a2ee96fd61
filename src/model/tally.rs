//! Counters of row outcomes, for an archive or a run. Every row is in exactly one counter.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::Serialize;

use super::Findings;

/// Numbers of rows by final outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Rows read from archives.
    pub read: u64,
    /// Posts that Elasticsearch confirmed.
    pub indexed: u64,
    /// Deletions that Elasticsearch confirmed: tombstone and delete.
    pub deleted: u64,
    /// Rows that a later event of the same `at_uri` makes irrelevant, within the archive or by a version conflict (409).
    pub superseded: u64,
    /// Posts not indexed because there is a tombstone for them.
    pub suppressed: u64,
    /// Rows that have no effect on the index.
    pub skipped: u64,
    /// Rows that became dead letters.
    pub rejected: u64,
    /// Rows whose outcome is unknown because the run ended early.
    pub unconfirmed: u64,
    /// The findings of a verification; empty in a load. The summary reports them separately.
    #[serde(skip)]
    pub findings: Findings,
    /// The findings before the repair, for rows that `--repair` has repaired.
    #[serde(skip)]
    pub repaired: Findings,
}

impl Tally {
    /// Returns the number of rows with a final outcome.
    pub fn settled(&self) -> u64 {
        self.outcomes().iter().map(|(_, rows)| rows).sum::<u64>() - self.unconfirmed + self.findings.total()
    }

    /// Returns the outcomes with their numbers of rows, in the order of messages.
    pub fn outcomes(&self) -> [(&'static str, u64); 7] {
        [
            ("indexed", self.indexed),
            ("deleted", self.deleted),
            ("superseded", self.superseded),
            ("suppressed", self.suppressed),
            ("skipped", self.skipped),
            ("rejected", self.rejected),
            ("unconfirmed", self.unconfirmed),
        ]
    }

    /// Returns the counters that are not zero, failures first.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let [done @ .., rejected, unconfirmed] = self.outcomes();
        let [equal, newer, suppressed, differences @ ..] = self.findings.all();
        let wrong = [rejected, unconfirmed].into_iter().chain(differences);
        let right = [equal, newer, suppressed].into_iter().chain(done);
        wrong.chain(right).filter(|(_, rows)| *rows > 0).collect()
    }

    /// Formats the counters: `7 indexed, 0 deleted, …`.
    pub fn words(&self) -> String {
        let counts: Vec<(&str, u64)> = if self.findings.total() == 0 {
            self.outcomes().to_vec()
        } else {
            // A verification writes nothing, so outcomes without rows are left out.
            let others = self.outcomes().into_iter().filter(|(_, rows)| *rows > 0);
            self.findings.all().into_iter().chain(others).collect()
        };
        counts.iter().map(|(name, rows)| format!("{rows} {name}")).collect::<Vec<_>>().join(", ")
    }
}

impl AddAssign<&Tally> for Tally {
    fn add_assign(&mut self, other: &Tally) {
        self.read += other.read;
        self.indexed += other.indexed;
        self.deleted += other.deleted;
        self.superseded += other.superseded;
        self.suppressed += other.suppressed;
        self.skipped += other.skipped;
        self.rejected += other.rejected;
        self.unconfirmed += other.unconfirmed;
        self.findings += &other.findings;
        self.repaired += &other.repaired;
    }
}

/// Counters by reason, sorted by name.
pub type ReasonCounts = BTreeMap<String, u64>;

/// Why rows were skipped or rejected, and which fields were left out of documents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reasons {
    /// Skipped rows by reason; adds up to [`Tally::skipped`].
    pub skipped: ReasonCounts,
    /// Rejected rows by reason; adds up to [`Tally::rejected`].
    pub rejected: ReasonCounts,
    /// Rejected rows whose dead letter holds a document, which can be sent again. Only used for the advice at the end
    /// of a run.
    #[serde(skip)]
    pub can_be_replayed: u64,
    /// Fields left out of documents that were still indexed, by field. These are not outcomes of rows.
    pub dropped_fields: ReasonCounts,
}

impl Reasons {
    /// Adds one to a counter.
    pub fn count(counts: &mut ReasonCounts, reason: &str) {
        match counts.get_mut(reason) {
            Some(n) => *n += 1,
            None => {
                counts.insert(reason.to_owned(), 1);
            }
        }
    }
}

impl AddAssign<Reasons> for Reasons {
    fn add_assign(&mut self, other: Reasons) {
        self.can_be_replayed += other.can_be_replayed;
        for (mine, theirs) in [
            (&mut self.skipped, other.skipped),
            (&mut self.rejected, other.rejected),
            (&mut self.dropped_fields, other.dropped_fields),
        ] {
            for (reason, n) in theirs {
                *mine.entry(reason).or_default() += n;
            }
        }
    }
}

/// The outcomes of the rows of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rows of all archives.
    pub rows: Tally,
    /// The reasons for skipped and rejected rows.
    pub reasons: Reasons,
}
