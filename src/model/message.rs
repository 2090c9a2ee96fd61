//! The messages between the stages.

use std::borrow::Cow;
use std::iter;
use std::ops::{AddAssign, Range};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Archive, Reasons, Tally, Version};

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

/// Counts up whenever what stands behind a sink has moved, so that what was delivered before no longer counts.
pub type Generation = u64;

/// Outcomes of rows of one archive, with what explains them.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// The counters.
    pub tally: Tally,
    /// The reasons behind them.
    pub reasons: Reasons,
    /// The rejected rows; with the lines kept as many as [`Tally::rejected`].
    pub dead_letters: Vec<DeadLetter>,
    /// The generation of the sink that they were delivered to, the earliest of several; None where nothing was.
    pub generation: Option<Generation>,
    /// They are of a batch of deletions.
    pub of_deletions: bool,
    /// Lines of a replayed dead-letter file that cannot be replayed, as they stand there, each with its line end.
    pub kept_lines: Vec<u8>,
}

impl Outcomes {
    /// So many rows of which nothing is known.
    pub fn unconfirmed(rows: usize) -> Self {
        Self { tally: Tally { unconfirmed: rows as u64, ..Tally::default() }, ..Self::default() }
    }
}

impl Event {
    /// The outcomes that it tells.
    pub fn outcomes_mut(&mut self) -> &mut Outcomes {
        let (Event::Batch { outcomes, .. } | Event::Archive { outcomes, .. }) = self;
        outcomes
    }
}

impl AddAssign<Outcomes> for Outcomes {
    fn add_assign(&mut self, mut other: Outcomes) {
        self.tally += &other.tally;
        self.reasons += other.reasons;
        self.generation = self.generation.into_iter().chain(other.generation).min();
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
