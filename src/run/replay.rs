//! `--replay`: sends the documents of a dead-letter file again.

use std::sync::Arc;

use super::{MAX_ROUNDS, Run, start};
use crate::common::exit::Failure;
use crate::config::{self, VectorChoice};
use crate::model::Archive;
use crate::pipeline::ledger::moves_for_ever;
use crate::pipeline::replay::Replay;
use crate::pipeline::replay::dead_letters::DeadLetterLines;
use crate::pipeline::stages::stages;
use crate::sink::elasticsearch::preflight::Needs;
use crate::sink::elasticsearch::server::Server;

/// Number of threads that read the file.
const READERS: usize = 1;

impl Run<'_> {
    /// Sends the documents of a dead-letter file again. The state file is neither read nor written.
    pub(super) fn replay(&self, task: &config::Replay) -> Result<(), Failure> {
        let config::Replay { path, senders, batch: limits, account_deletions, .. } = task;
        let unreadable = |error| {
            Failure::usage(format!("--replay names {}, which cannot be read: {error}", path.display()))
        };
        let open = || DeadLetterLines::open(path).map_err(unreadable);
        let dead_letters = self.stop.pulse().while_using(path, || {
            open().and_then(|mut lines| Ok(lines.are_dead_letters().map_err(unreadable)?.then_some(lines)))
        })?;
        // Lines that cannot be sent are copied to another file. A file of anything else is refused: it may hold secrets.
        let Some(mut lines) = dead_letters else {
            return Err(Failure::usage(format!(
                "--replay names {}, which has no dead letters: name a file that --dead-letter has written",
                path.display()
            )));
        };
        log::info!("{}", start::of_replay(task));
        let needs = Needs {
            search_by_author: *account_deletions,
            offer: true,
            base64: task.vectors == VectorChoice::Base64,
            names: task.server.names,
            pipeline: task.server.pipeline,
            ..Needs::default()
        };
        let server = Server::connect(&task.server, *senders, READERS, needs, self.stop)?;
        // The dead letters may come from a load into another server. Vectors are sent as arrays, unless base64 is
        // requested, which preflight has tested.
        let vectors = if needs.base64 { VectorChoice::Base64 } else { VectorChoice::Array };
        let sink = self.sink(&server, *limits, vectors);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = Arc::new(Archive { name, path: path.to_owned(), ..Archive::default() });
        let (limits, account_deletions, stop) = (*limits, *account_deletions, self.stop);
        for _ in 0..=MAX_ROUNDS {
            let ledger = self.ledger(None, &sink)?;
            let file = file.clone();
            let again = stages(senders.max, READERS, &sink, limits, ledger, stop, |outlets| {
                Replay { file, names: needs.names, account_deletions, stop }.run(lines, outlets);
            });
            if again.is_empty() || stop.is_requested() {
                return Ok(());
            }
            lines = open()?;
        }
        Err(moves_for_ever())
    }
}
