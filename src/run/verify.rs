//! `--verify`: compares the index with the archives. `--repair` sends rows that differ again.

use super::ingest::{open, pool, queue_of};
use super::looks::Store;
use super::{MAX_ROUNDS, Run, start};
use crate::common::exit::Failure;
use crate::config::{VectorChoice, Verify};
use crate::pipeline::ledger::moves_for_ever;
use crate::pipeline::ledger::state_file::StateFile;
use crate::sink::elasticsearch::encode::VectorEncoding;
use crate::sink::elasticsearch::preflight::Needs;
use crate::sink::elasticsearch::server::Server;
use crate::sink::elasticsearch::verify::Verifier;

impl Run<'_> {
    /// Reads all archives as a load does, whatever the state file says, and compares their rows with the index.
    pub(super) fn verify(&self, task: &Verify) -> Result<(), Failure> {
        let Verify { archives, intake, server: settings, .. } = task;
        let nothing_done = StateFile::empty(&archives.state_file);
        let store = Store::new(self.source(archives)?, false, intake);
        let selection = self.look_once(&store, archives, &nothing_done)?;
        log::info!("{}", start::of_verification(task, &selection));
        let mut take = selection.take;
        let server = Server::connect(settings, intake.senders, intake.workers, needs(task), self.stop)?;
        let output = task.output.as_ref().map(|output| open(output, self.stop)).transpose()?;
        let pool = pool(intake.workers)?;
        let sink = self.sink(&server, intake.batch, VectorChoice::Array);
        // Few rows are sent again, so base64 is used only if the setting requires it. Preflight has then tested it.
        let repairs = task.repair.then(|| VectorEncoding::untested(task.vectors));
        let verifier = Verifier::new(sink, repairs, output);
        for _ in 0..=MAX_ROUNDS {
            let ledger = self.ledger(None, &verifier)?;
            let again = self.run_stages(intake, &store, &queue_of(take), &pool, &verifier, ledger, || {})?;
            // Repaired rows may have gone to an index that has been replaced since. Their archives are verified again,
            // against the new index.
            if again.is_empty() || self.stop.is_requested() {
                self.progress.passed();
                verifier.finish();
                return Ok(());
            }
            take = again;
        }
        Err(moves_for_ever())
    }
}

/// Returns the privileges that the task needs. A verification without repair only needs to read.
fn needs(task: &Verify) -> Needs {
    let Verify { server, repair, intake, .. } = task;
    Needs {
        reads_only: !repair,
        offer: *repair,
        base64: *repair && task.vectors == VectorChoice::Base64,
        search_by_author: *repair && intake.account_deletions,
        names: server.names,
        pipeline: server.pipeline,
        ..Needs::default()
    }
}
