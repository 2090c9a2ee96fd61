//! `--replay`: the documents of a dead-letter file are sent again.

use std::path::Path;
use std::sync::Arc;

use super::Run;
use crate::config::Elasticsearch;
use crate::exit::Failure;
use crate::model::Archive;
use crate::pipeline::ledger::Ledger;
use crate::pipeline::replay::Replay;
use crate::pipeline::replay::dead_letters::Lines;
use crate::pipeline::stages::stages;
use crate::sink::elasticsearch::server::Server;

impl Run<'_> {
    /// Sends the documents of a dead-letter file again. The state file has no part in it: archives stay as they
    /// are marked.
    pub(super) fn replay(&self, settings: &Elasticsearch, path: &Path) -> Result<(), Failure> {
        let unreadable = |error| {
            Failure::usage(format!("--replay names {}, which cannot be read: {error}", path.display()))
        };
        let mut lines = Lines::open(path).map_err(unreadable)?;
        // Lines that cannot be replayed are copied. A file of something else may hold secrets.
        if !lines.are_dead_letters().map_err(unreadable)? {
            return Err(Failure::usage(format!(
                "--replay names {}, which holds no dead letters: name a file that was written by --dead-letter",
                path.display()
            )));
        }
        let server = Server::connect(settings, self.config, self.stop)?;
        let sink = self.sink(&server);
        let ledger = Ledger::new(None, self.dead_letters(), &sink, self.progress, self.stop);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = Arc::new(Archive { name, path: path.to_owned(), seconds: None, bytes: 0, modified_ns: 0 });
        let (limits, account_deletions, stop) = (self.config.batch, self.config.account_deletions, self.stop);
        stages(self.config, &sink, ledger, self.stop, |batches, events, buffers| {
            Replay { file, sink: &sink, limits, buffers, account_deletions, stop }
                .run(lines, batches, events);
        });
        Ok(())
    }
}
