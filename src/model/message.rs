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
    /// Index the tombstone of an account into `post_tombstones`; deleting all its posts follows its confirmation.
    AccountTombstone {
        /// When the account was deleted, in milliseconds since 1970.
        deleted_at: i64,
    },
}

/// One bulk action of a [`Batch`], with the receipt of its row: archive, row id and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// What it does.
    pub kind: ActionKind,
    /// The row it came from.
    pub row_id: i64,
    /// The name of the row's archive if it is not the batch's: a replay mixes archives.
    pub origin: Option<Arc<str>>,
    /// The version of the row's event.
    pub version: Version,
    /// The `_id`, unescaped: the row's `at_uri`, or the DID of an account.
    pub id: Box<str>,
    /// The DID of a post's author. Set only with `--account-deletions`, where a deleted account suppresses its posts.
    pub author: Option<Box<str>>,
    /// The byte range of its two lines in [`Batch::body`], including both line ends.
    pub lines: Range<usize>,
}

impl Action {
    /// Creates an action for the row in `version`, from the batch's own archive. Its lines are not set yet.
    pub fn new(kind: ActionKind, version: Version, id: &str) -> Self {
        let row_id = version.row_id();
        Self { kind, row_id, origin: None, version, id: id.into(), author: None, lines: 0..0 }
    }

    /// Returns the ids of the tombstones that would suppress a post: its own id and its author's DID.
    pub fn tombstone_ids(&self) -> impl Iterator<Item = &str> {
        iter::once(&*self.id).chain(self.author.as_deref())
    }
}

/// Bulk actions of one archive, ready to send.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The archive of all actions. In a replay, the dead-letter file.
    pub archive: Arc<Archive>,
    /// NDJSON: the lines of all actions in order, and nothing else.
    pub body: Vec<u8>,
    /// The actions, in the order of their lines. Never empty.
    pub actions: Vec<Action>,
}

impl Batch {
    /// Returns the line of an action and that of its document, without their ends.
    pub fn lines_of(&self, action: &Action) -> (&[u8], &[u8]) {
        let lines = self.body.get(action.lines.clone()).unwrap_or_default();
        let mut lines = lines.split(|&byte| byte == b'\n');
        (lines.next().unwrap_or_default(), lines.next().unwrap_or_default())
    }

    /// Returns its posts, in the order of their lines.
    pub fn posts(&self) -> impl Iterator<Item = &Action> {
        self.actions.iter().filter(|action| action.kind == ActionKind::Post)
    }
}

/// A row that cannot be indexed: one line of the dead-letter file.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DeadLetter {
    /// Name of the archive.
    pub archive: String,
    /// Row id within it.
    pub row_id: i64,
    /// The row's `at_uri`, `""` if it has none. For the deletion of an account, its DID.
    pub at_uri: String,
    /// The stage that refused the row: `decode`, `elasticsearch` or `replay`.
    pub stage: Cow<'static, str>,
    /// The short name of the error: a reason of the decoder, or Elasticsearch's `error.type`.
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

/// Error type of a row whose post is in an older index that takes no writes, so that it cannot be deleted there.
pub const INDEX_TAKES_NO_WRITES: &str = "index_takes_no_writes";

impl DeadLetter {
    /// Returns whether the server refused the row's own document. The block of an older index says nothing about other
    /// documents. (The server's error type for a block that was set during the run is the second one.)
    pub fn is_of_refused_document(&self) -> bool {
        let is_of_block = [INDEX_TAKES_NO_WRITES, "cluster_block_exception"].contains(&&*self.error_type);
        self.stage == "elasticsearch" && !is_of_block
    }
}

/// A counter that increases whenever the indices behind a sink's names have changed or may have lost writes. Deliveries
/// to an earlier generation no longer count.
pub type Generation = u64;

/// Outcomes of some rows of one archive, and the reasons for them.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// The counters.
    pub tally: Tally,
    /// The reasons for skipped and rejected rows.
    pub reasons: Reasons,
    /// The rejected rows. Dead letters and kept lines together are as many as [`Tally::rejected`].
    pub dead_letters: Vec<DeadLetter>,
    /// The sink's generation that the rows were delivered to, the earliest if several. None: nothing was delivered.
    pub generation: Option<Generation>,
    /// Whether the rows belong to a batch of deletions.
    pub of_deletions: bool,
    /// Lines of a replayed dead-letter file that cannot be sent again: unchanged, each with its line end.
    pub kept_lines: Vec<u8>,
}

impl Outcomes {
    /// Creates outcomes for `rows` rows whose outcome is unknown.
    pub fn unconfirmed(rows: usize) -> Self {
        Self { tally: Tally { unconfirmed: rows as u64, ..Tally::default() }, ..Self::default() }
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

/// A message to the ledger: outcomes of some rows of an archive.
#[derive(Debug)]
pub struct Event {
    /// The archive.
    pub archive: Arc<Archive>,
    /// The outcomes; `unconfirmed` if the run ended first. Rows are counted as read by the last event only.
    pub outcomes: Outcomes,
    /// None: every row of a batch has an outcome. A worker also sends such an event for rows that are in no batch.
    ///
    /// Some: the reading of the archive has ended, in this way, and this many other events belong to it. The outcomes are
    /// those of rows that are in no batch and not reported yet.
    pub end: Option<(ArchiveEnd, u64)>,
}

/// How the reading of an archive ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchiveEnd {
    /// Every row was read.
    Complete,
    /// The archive is damaged for good; the text says how.
    Broken(String),
    /// The run is ending, or the archive cannot be read for now; the text says why. The archive stays pending.
    Abandoned(String),
}
