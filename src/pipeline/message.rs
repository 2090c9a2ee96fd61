//! The messages between the stages, and the one order of events that all of them share.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::iter;
use std::ops::{AddAssign, Range};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::elasticsearch::{POSTS, TOMBSTONES};

/// Bits of a version that hold the row id; the archive time in seconds stands above them.
const ROW_ID_BITS: u32 = 28;

/// Set in the version of a delete from `posts`, so that it stands above every version of a post.
const DELETE_BIT: u64 = 1 << 62;

/// The latest archive time (seconds since 1970, exclusive) that a version has room for: the year 2514.
pub const MAX_ARCHIVE_SECONDS: i64 = 1 << (62 - ROW_ID_BITS);

/// The largest row id (exclusive) that a version has room for.
pub const MAX_ROW_ID: i64 = 1 << ROW_ID_BITS;

/// The place of an event in the order (archive time, row id), as an external Elasticsearch version.
///
/// Source: contract, section 4. Elasticsearch takes versions from 0 to 2^63 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// The version of row `row_id` of an archive of the time `archive_seconds` (seconds since 1970, UTC).
    ///
    /// None where one of the two is outside of what a version has room for.
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

    /// The version under which a post is deleted: above that of every post.
    pub fn of_delete(self) -> u64 {
        DELETE_BIT | self.0
    }

    /// The version that an index action of the given number was made with.
    pub fn from_index_version(number: u64) -> Option<Self> {
        (number < DELETE_BIT).then_some(Self(number))
    }
}

/// An archive to take up: where it is and what identifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The file name, without a folder: what identifies the archive in the state file.
    pub name: String,
    /// Where to read it; empty for an archive in a bucket, whose key is no path.
    pub path: PathBuf,
    /// The time in its name, seconds since 1970 (UTC), where the name has one that a version has room for.
    pub seconds: Option<i64>,
    /// Size in bytes when it was discovered.
    pub bytes: u64,
    /// Modification time when it was discovered, nanoseconds since 1970.
    pub modified_ns: i128,
}

/// What a bulk action does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// Index a post into `posts`.
    Post,
    /// Index a tombstone into `post_tombstones`; the delete from `posts` follows its confirmation.
    Tombstone,
    /// Index the tombstone of an account into `post_tombstones`; the deletion of all of its posts follows its
    /// confirmation.
    AccountTombstone {
        /// When the account was deleted, milliseconds since 1970.
        deleted_at: i64,
    },
}

impl ActionKind {
    /// The index that it writes to.
    pub fn index(self) -> &'static str {
        match self {
            ActionKind::Post => POSTS,
            ActionKind::Tombstone | ActionKind::AccountTombstone { .. } => TOMBSTONES,
        }
    }
}

/// One bulk action of a [`Batch`], and the receipt of the row that it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// What it does.
    pub kind: ActionKind,
    /// The row it came from.
    pub row_id: i64,
    /// Name of the archive it came from, where that is not the batch's: a replay mixes archives.
    pub origin: Option<Arc<str>>,
    /// The place of the row's event in the order.
    pub version: Version,
    /// The `_id`, unescaped: the row's `at_uri`, or the DID of an account.
    pub id: Box<str>,
    /// The DID of a post's author, where it matters whether that account is deleted (`--account-deletions`).
    pub author: Option<Box<str>>,
    /// The bytes of its two lines in [`Batch::body`], both line ends included.
    pub lines: Range<usize>,
}

impl Action {
    /// An action of the row that the version is of, in the batch's own archive. Its lines are yet to be set.
    pub fn new(kind: ActionKind, version: Version, id: &str) -> Self {
        let row_id = version.row_id();
        Self { kind, row_id, origin: None, version, id: id.into(), author: None, lines: 0..0 }
    }

    /// The ids under which a tombstone of a post may stand: its own, and its author's.
    pub fn tombstone_ids(&self) -> impl Iterator<Item = &str> {
        iter::once(&*self.id).chain(self.author.as_deref())
    }
}

/// Bulk actions of one archive, ready to be sent. The receipt travels with the data.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The archive that all actions come from; in a replay the dead-letter file.
    pub archive: Arc<Archive>,
    /// NDJSON: the lines of all actions in order, nothing else.
    pub body: Vec<u8>,
    /// The actions, in the order of their lines. Never empty.
    pub actions: Vec<Action>,
}

/// What has become of rows: one counter for each final outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Rows read from archives.
    pub read: u64,
    /// Posts that Elasticsearch confirmed.
    pub indexed: u64,
    /// Deletions that Elasticsearch confirmed: tombstone and delete.
    pub deleted: u64,
    /// Rows that a later event of the same `at_uri` makes irrelevant: within the archive, or by a 409.
    pub superseded: u64,
    /// Posts not indexed since there is a tombstone of theirs.
    pub suppressed: u64,
    /// Rows that mean nothing for the index.
    pub skipped: u64,
    /// Rows that became dead letters.
    pub rejected: u64,
    /// Rows read whose outcome is not known, since the run ended early.
    pub unconfirmed: u64,
}

impl Tally {
    /// Whether every row read is accounted for.
    pub fn balances(&self) -> bool {
        self.read == self.settled() + self.unconfirmed
    }

    /// Rows with a final outcome.
    pub fn settled(&self) -> u64 {
        self.outcomes().iter().map(|(_, rows)| rows).sum::<u64>() - self.unconfirmed
    }

    /// What rows can come to, in the order in which it is told, and how many have.
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

    /// The counters in words: `7 indexed, 0 deleted, …`.
    pub fn words(&self) -> String {
        self.outcomes().map(|(name, rows)| format!("{rows} {name}")).join(", ")
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
    /// Fields left out of documents that were kept, by field; not a row's outcome.
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

/// What the rows of a run have come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rows of all archives.
    pub rows: Tally,
    /// Reasons behind them.
    pub reasons: Reasons,
}

/// What is kept of a row that cannot be indexed. One line of the dead-letter file.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DeadLetter {
    /// Name of the archive.
    pub archive: String,
    /// Row id within it.
    pub row_id: i64,
    /// The row's `at_uri`, `""` where it has none; for the deletion of an account its DID.
    pub at_uri: String,
    /// The stage that refused the row: `decode`, `elasticsearch` or `replay`.
    pub stage: Cow<'static, str>,
    /// Short name of the error: a reason of the decoder or Elasticsearch's `error.type`.
    pub error_type: String,
    /// What is wrong, in words.
    pub reason: String,
    /// The bulk action line of a refused document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Box<serde_json::value::RawValue>>,
    /// The refused document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<Box<serde_json::value::RawValue>>,
}

/// Outcomes of rows of one archive, with what explains them.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// The counters.
    pub tally: Tally,
    /// The reasons behind them.
    pub reasons: Reasons,
    /// The rejected rows; with the lines kept as many as [`Tally::rejected`].
    pub dead_letters: Vec<DeadLetter>,
    /// Lines of a replayed dead-letter file that cannot be replayed, as they stand there, each with its line end.
    pub kept_lines: Vec<u8>,
}

impl AddAssign<Outcomes> for Outcomes {
    fn add_assign(&mut self, mut other: Outcomes) {
        self.tally += &other.tally;
        self.reasons += other.reasons;
        self.dead_letters.append(&mut other.dead_letters);
        self.kept_lines.append(&mut other.kept_lines);
    }
}

/// What the ledger is told.
#[derive(Debug)]
pub enum Event {
    /// Every row of one batch has been judged, or the run ended first (then some are `unconfirmed`). Or a worker tells
    /// before the archive's end what rows have come to that are in no batch.
    Batch {
        /// The archive of the batch.
        archive: Arc<Archive>,
        /// Outcomes of the batch's rows. `tally.read` is 0: rows read are told with the archive's end.
        outcomes: Outcomes,
    },
    /// An archive has been read to its end, or as far as it will be in this run.
    Archive {
        /// The archive.
        archive: Arc<Archive>,
        /// Outcomes of the rows that were not handed to the senders nor told before, and the number of all rows read.
        outcomes: Outcomes,
        /// How many [`Event::Batch`]es there are of it: one for each batch handed to the senders, and those of the
        /// worker.
        batches: u64,
        /// How the reading ended.
        end: ArchiveEnd,
    },
}

/// How the reading of an archive ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchiveEnd {
    /// Every row was read.
    Complete,
    /// The archive is broken for good; the text says how.
    Broken(String),
    /// The run is ending, or the archive could not be read for now; it stays pending. The text says why.
    Abandoned(String),
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
    fn what_a_version_has_no_room_for_has_none() {
        assert_eq!(Version::new(-1, 1), None);
        assert_eq!(Version::new(MAX_ARCHIVE_SECONDS, 1), None);
        assert_eq!(Version::new(1, -1), None);
        assert_eq!(Version::new(1, MAX_ROW_ID), None);
    }
}
