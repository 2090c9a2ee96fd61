//! The sink of a dry run: writes bulk NDJSON to a file, or discards it.

use std::io::Write;

use crate::common::exit::Failure;
use crate::common::mutex::Mutex;
use crate::common::timestamp::now_millis;
use crate::model::{Action, ActionKind, Batch, Document, Generation, Outcomes};
use crate::model::{FieldChoice, Names};
use crate::process::shutdown::Stop;
use crate::sink::Sink;
use crate::sink::elasticsearch::encode::VectorEncoding;
use crate::sink::elasticsearch::encode::action::write_delete;
use crate::sink::elasticsearch::encode::document::write_action;
use crate::sink::upcoming::Upcoming;

/// Counts what would be sent, and writes it to `output` as bulk NDJSON.
///
/// The delete from `posts` follows right after its tombstone. The order of lines does not matter because of the
/// versions, so the file can be sent as it is. For a deleted account only its tombstone is written: only a server knows
/// the account's posts.
pub struct Ndjson<'r> {
    /// Names to write to.
    pub names: Names,
    /// Encoding of vectors. There is no server that could be tested.
    pub vectors: VectorEncoding,
    /// Output of the NDJSON; None: it is discarded.
    pub output: Option<Mutex<Box<dyn Write + Send + 'r>>>,
    /// Signal that stops the run; set here if the output cannot be written.
    pub stop: &'r Stop,
}

impl Ndjson<'_> {
    /// Flushes the output. The run fails if it cannot be written.
    pub fn finish(self) {
        let Some(output) = self.output else { return };
        let mut output = output.into_inner();
        if let Err(error) = output.flush() {
            self.stop.output_failed(&error);
        }
    }
}

impl Sink for Ndjson<'_> {
    fn encode(&self, body: &mut Vec<u8>, action: &Action, document: &Document<'_>) {
        write_action(body, self.names, action, document, self.vectors, now_millis());
    }

    fn deliver(&self, batch: &Batch, _: &mut Upcoming) -> Outcomes {
        let mut outcomes = Outcomes::default();
        if let Some(output) = &self.output {
            let mut output = output.lock();
            if let Err(error) = write_lines(&mut **output, self.names.posts, batch) {
                self.stop.output_failed(&error);
                outcomes.tally.unconfirmed = batch.actions.len() as u64;
                return outcomes;
            }
        }
        for action in &batch.actions {
            match action.kind {
                ActionKind::Post => outcomes.tally.indexed += 1,
                ActionKind::Tombstone | ActionKind::AccountTombstone { .. } => outcomes.tally.deleted += 1,
            }
        }
        outcomes
    }

    fn fields(&self) -> FieldChoice {
        self.names.fields
    }

    fn make_durable(&self) -> Result<Generation, Failure> {
        Ok(0)
    }
}

fn write_lines(output: &mut dyn Write, posts: &str, batch: &Batch) -> std::io::Result<()> {
    let mut written = 0;
    for action in batch.actions.iter().filter(|action| action.kind == ActionKind::Tombstone) {
        let end = action.lines.end;
        output.write_all(batch.body.get(written..end).unwrap_or_default())?;
        written = end;
        let mut delete = Vec::new();
        write_delete(&mut delete, posts, &action.id, action.version);
        output.write_all(&delete)?;
    }
    output.write_all(batch.body.get(written..).unwrap_or_default())
}
