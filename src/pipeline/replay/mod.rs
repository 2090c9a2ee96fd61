//! Replays a dead-letter file, in place of stages 1 to 4: reads its lines into batches.
//!
//! For the senders and the ledger, the file is a single archive. Each action carries the name of its row's archive, so
//! that a document which is refused again becomes the same dead letter.

use std::io::{self, BufRead};
use std::sync::Arc;

use self::dead_letters::{DeadLetterLines, Entry, Line, MAX_LINE_BYTES, parse};
use super::outlet::{Outlet, Outlets};
use crate::common::exit::Failure;
use crate::model::{Action, ActionKind, Archive, ArchiveEnd, DeadLetter, Document, Event, Names, Reasons};
use crate::process::shutdown::Stop;

pub mod dead_letters;

/// The reason that lines are counted under if they cannot be replayed.
pub const NOT_REPLAYABLE: &str = "not_replayable";

/// Number of bytes of kept lines that are held before they go to the ledger.
const KEPT_BYTES: usize = 1 << 20;

/// A replay.
pub struct Replay<'r> {
    /// The dead-letter file, as an archive.
    pub file: Arc<Archive>,
    /// The target indices.
    pub names: Names,
    /// Whether deletions of accounts are replayed, too.
    pub account_deletions: bool,
    /// Checked before each line.
    pub stop: &'r Stop,
}

impl Replay<'_> {
    /// Reads lines until the end of the file, or until the run is to stop. A full channel blocks, which bounds memory.
    pub fn run(&self, mut lines: DeadLetterLines<impl BufRead>, outlets: Outlets<'_>) {
        let mut reading = OpenFile { replay: self, outlet: outlets.open(&self.file), origin: "".into() };
        let end = self.stop.guard("the reading of dead letters", || reading.read(&mut lines));
        let end = end.unwrap_or_else(|| ArchiveEnd::Abandoned("an internal error (please report it)".into()));
        let (outcomes, batches) = reading.outlet.finish();
        outlets.report(Event { archive: self.file.clone(), outcomes, end: Some((end, batches)) });
    }
}

/// A dead-letter file being read.
struct OpenFile<'r> {
    replay: &'r Replay<'r>,
    outlet: Outlet<'r>,
    /// The archive of the previous line. Most lines have the same one.
    origin: Arc<str>,
}

impl OpenFile<'_> {
    fn read(&mut self, lines: &mut DeadLetterLines<impl BufRead>) -> ArchiveEnd {
        loop {
            let line = match lines.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => return ArchiveEnd::Complete,
                Err(error) => return self.unreadable(&error),
            };
            if self.replay.stop.is_requested() {
                let tally = &mut self.outlet.outcomes.tally;
                tally.read += 1;
                tally.unconfirmed += 1;
                return ArchiveEnd::Abandoned("the run was stopped".into());
            }
            match line.content.map(|line| parse(line, self.replay.names)) {
                Some(Ok(Entry { kind: ActionKind::AccountTombstone { .. }, .. }))
                    if !self.replay.account_deletions =>
                {
                    self.keep(line, "it deletes an account: add --account-deletions");
                }
                Some(Ok(entry)) => self.push(entry),
                Some(Err(reason)) => self.keep(line, &reason),
                None => self.keep(line, &format!("it is over {} MiB", MAX_LINE_BYTES >> 20)),
            }
            // Counted last: if a line causes a panic, it is not counted without an outcome.
            self.outlet.outcomes.tally.read += 1;
        }
    }

    fn unreadable(&self, error: &io::Error) -> ArchiveEnd {
        let path = self.replay.file.path.display();
        let message =
            format!("--replay {path} cannot be read to its end: {error}; nothing is lost: run again");
        self.replay.stop.fail(Failure::run(message));
        ArchiveEnd::Abandoned(error.to_string())
    }

    /// Adds a document to a batch, under its original version.
    fn push(&mut self, entry: Entry) {
        let Entry { archive, row_id, kind, version, id, author, document } = entry;
        if *self.origin != *archive {
            self.origin = archive.into();
        }
        let (id, origin) = (id.as_str().into(), Some(self.origin.clone()));
        let author = author.filter(|_| self.replay.account_deletions).map(String::into_boxed_str);
        let action = Action { kind, row_id, origin, version, id, author, lines: 0..0 };
        self.outlet.push(action, &Document::Replayed(document.get()));
    }

    /// Rejects a line that cannot be replayed, and copies it to the dead-letter file. A line too long for memory is not
    /// copied; a dead letter says where it is.
    fn keep(&mut self, Line { number, content }: Line<'_>, reason: &str) {
        let name = &self.replay.file.name;
        log::debug!("{name:?}, line {number} cannot be replayed: {reason}");
        let outcomes = &mut self.outlet.outcomes;
        outcomes.tally.rejected += 1;
        Reasons::count(&mut outcomes.reasons.rejected, NOT_REPLAYABLE);
        match content {
            Some(line) => {
                outcomes.kept_lines.extend_from_slice(line);
                outcomes.kept_lines.push(b'\n');
            }
            None => outcomes.dead_letters.push(DeadLetter {
                archive: name.clone(),
                row_id: i64::try_from(number).unwrap_or(i64::MAX),
                at_uri: String::new(),
                stage: "replay".into(),
                error_type: NOT_REPLAYABLE.into(),
                reason: format!("line {number} of the replayed file: {reason}; it stays only in that file"),
                action: None,
                document: None,
            }),
        }
        if outcomes.kept_lines.len() >= KEPT_BYTES {
            self.outlet.report_outcomes();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use crossbeam_channel::unbounded;
    use serde_json::json;

    use super::*;
    use crate::config::BatchLimits;
    use crate::model::{Batch, Outcomes};
    use crate::pipeline::buffers::BufferPool;
    use crate::pipeline::tests::NullSink;
    use crate::process::shutdown::StopReason;

    /// Formats a line as the ledger does.
    fn line(archive: &str, index: &str, row_id: u64) -> String {
        let id = format!("at://x/{row_id}");
        let letter = json!({
            "archive": archive, "row_id": row_id, "at_uri": id, "stage": "elasticsearch", "error_type": "bad",
            "reason": "since", "document": {"at_uri": id},
            "action": {"index": {"_index": index, "_id": id, "version": row_id, "version_type": "external_gte"}},
        });
        format!("{letter}\n")
    }

    struct Observed {
        batches: Vec<Batch>,
        /// Outcomes reported before the end.
        chunks: Vec<Outcomes>,
        /// Outcomes reported at the end.
        outcomes: Outcomes,
        end: ArchiveEnd,
    }

    fn replay(reader: impl BufRead, longest: usize, stop: &Stop) -> Observed {
        let file = Archive { name: "dead".into(), path: "dead".into(), ..Archive::default() };
        let limits = BatchLimits { docs: 2, bytes: 1 << 20 };
        let buffers = &BufferPool::new(1);
        let (batch_sender, batches) = unbounded();
        let (event_sender, events) = unbounded();
        let replay = Replay { file: Arc::new(file), names: Names::default(), account_deletions: false, stop };
        let outlets =
            Outlets { sink: &NullSink, limits, batches: batch_sender, events: event_sender, buffers };
        replay.run(DeadLetterLines::new(reader, longest), outlets);
        let batches: Vec<Batch> = batches.iter().collect();
        let mut chunks = Vec::new();
        for event in events {
            match event {
                Event { outcomes, end: None, .. } => chunks.push(outcomes),
                Event { outcomes, end: Some((end, reported)), .. } => {
                    assert_eq!(reported as usize, batches.len() + chunks.len());
                    return Observed { batches, chunks, outcomes, end };
                }
            }
        }
        panic!("no end event");
    }

    #[test]
    fn documents_are_sent_unchanged_with_their_versions_and_archives() {
        let text = [line("a", "posts", 1), line("b", "posts", 2), line("a", "post_tombstones", 3)].concat();
        let observed = replay(text.as_bytes(), 1000, &Stop::new());
        let bodies: String =
            observed.batches.iter().map(|batch| String::from_utf8(batch.body.clone()).unwrap()).collect();
        let lines = |index: &str, row_id: u64| {
            format!(
                "{{\"index\":{{\"_index\":\"{index}\",\"_id\":\"at://x/{row_id}\",\"version\":{row_id},\
                 \"version_type\":\"external_gte\"}}}}\n{{\"at_uri\":\"at://x/{row_id}\"}}\n"
            )
        };
        assert_eq!(bodies, [lines("posts", 1), lines("posts", 2), lines("post_tombstones", 3)].concat());
        let actions: Vec<&Action> = observed.batches.iter().flat_map(|batch| &batch.actions).collect();
        let origins: Vec<_> = actions.iter().map(|action| action.origin.as_deref()).collect();
        assert_eq!(origins, [Some("a"), Some("b"), Some("a")]);
        assert_eq!(actions[2].kind, ActionKind::Tombstone);
        assert_eq!((observed.outcomes.tally.read, observed.outcomes.tally.settled()), (3, 0));
        assert_eq!(observed.end, ArchiveEnd::Complete);
    }

    #[test]
    fn lines_that_cannot_be_replayed_are_counted_and_copied_to_the_byte() {
        let long = vec![b'x'; KEPT_BYTES];
        let text = [b"\xff{\r\n", &long[..], b"\n\nlast"].concat();
        let observed = replay(&text[..], 2 * KEPT_BYTES, &Stop::new());
        assert_eq!(observed.chunks.len(), 1);
        let all = observed.chunks.iter().chain([&observed.outcomes]);
        let kept: Vec<u8> = all.clone().flat_map(|outcomes| outcomes.kept_lines.clone()).collect();
        assert!(kept == [b"\xff{\r\n", &long[..], b"\nlast\n"].concat());
        assert_eq!(all.clone().map(|outcomes| outcomes.tally.rejected).sum::<u64>(), 3);
        assert_eq!(all.map(|outcomes| outcomes.reasons.rejected[NOT_REPLAYABLE]).sum::<u64>(), 3);
        assert_eq!(observed.outcomes.tally.read, 3);
    }

    #[test]
    fn a_line_too_long_for_memory_leaves_a_letter_that_says_where_it_is() {
        let text = format!("\n{}{}", "x".repeat(1001) + "\n", line("a", "posts", 1));
        let observed = replay(text.as_bytes(), 1000, &Stop::new());
        let letter = &observed.outcomes.dead_letters[0];
        assert_eq!((letter.row_id, &*letter.error_type), (2, NOT_REPLAYABLE));
        assert_eq!(
            (observed.batches.len(), observed.outcomes.tally.rejected, observed.outcomes.tally.read),
            (1, 1, 2)
        );
    }

    #[test]
    fn the_next_line_after_a_stop_is_unconfirmed() {
        let stop = Stop::new();
        stop.request(StopReason::Terminate);
        let text = line("a", "posts", 1) + &line("a", "posts", 2);
        let observed = replay(text.as_bytes(), 1000, &stop);
        assert!(matches!(observed.end, ArchiveEnd::Abandoned(_)));
        assert_eq!((observed.outcomes.tally.read, observed.outcomes.tally.unconfirmed), (1, 1));
        assert!(observed.batches.is_empty());
    }

    #[test]
    fn a_read_error_fails_the_run() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the disk is gone"))
            }
        }
        let stop = Stop::new();
        let observed = replay(BufReader::new(line("a", "posts", 1).as_bytes().chain(Broken)), 1000, &stop);
        assert_eq!(observed.batches.len(), 1);
        assert!(stop.as_failure().message.contains("the disk is gone"));
        assert!(matches!(observed.end, ArchiveEnd::Abandoned(_)));
    }
}
