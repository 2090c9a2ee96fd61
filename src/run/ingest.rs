//! The load: finds, selects and takes up archives, once or in spool mode.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::looks::Looks;
use super::{MOST_ROUNDS, Run, judge_holdings, needs, start};
use crate::config::{Archives, DryRun, Intake, Load, Mode, Output, VectorChoice};
use crate::exit::{ExitCode, Failure};
use crate::files;
use crate::model::{Archive, Selection};
use crate::pipeline::ledger::lines::Lines;
use crate::pipeline::ledger::state_file::StateFile;
use crate::pipeline::ledger::{Ledger, state_not_written};
use crate::pipeline::source::Source;
use crate::pipeline::stages::stages;
use crate::pipeline::worker::Workers;
use crate::pulse::Stage;
use crate::shutdown::StopReason;
use crate::sink::Sink;
use crate::sink::elasticsearch::encode::VectorEncoding;
use crate::sink::elasticsearch::load_settings::LoadSettings;
use crate::sink::elasticsearch::server::Server;
use crate::sink::ndjson::Ndjson;

/// Time for which a broken file must be unchanged before a spool run judges it: the copying may have paused.
const UNCHANGED_BEFORE_JUDGED: Duration = Duration::from_secs(60);

/// Interval of warnings about a source that cannot be read, in spool mode.
const TELL_EVERY: Duration = Duration::from_secs(60);

impl Run<'_> {
    /// Takes up the archives that are there; in spool mode, also those that come later.
    pub(super) fn load(&self, task: &Load) -> Result<(), Failure> {
        let Load { archives, intake, server: settings, .. } = task;
        let _lock = StateFile::lock(&archives.state_file)?;
        let mut state = StateFile::load(&archives.state_file)?;
        files::try_to_replace(state.path()).map_err(|error| state_not_written(state.path(), &error))?;
        let mut looks = Looks::new(self.source(archives)?, archives.mode == Mode::Spool, intake);
        let selection = self.look(&mut looks, archives, &state)?;
        log::info!("{}", start::of_load(task, &selection));
        let mut load_settings = LoadSettings::open(&settings.elasticsearch, &archives.state_file)?;
        let server = Server::connect(settings, intake.senders, intake.workers, needs(task), self.stop)?;
        if let Some(lost) = judge_holdings(&server, &state) {
            log::warn!("{lost}");
        }
        let done = self.stop.guard("the load", || {
            server
                .begin_load(&mut load_settings, task.bulk_load_settings, self.stop)
                .and_then(|()| self.passes(task, &server, looks, &mut state, selection))
        });
        // Reported before the settings are put back, so that a failure to do that does not replace this one.
        if let Some(Err(failure)) = done {
            self.stop.fail(failure);
        }
        self.finish(&mut state);
        self.end_load(load_settings);
        Ok(())
    }

    /// Takes up the selected archives; in spool mode, also those that come later.
    fn passes(
        &self,
        task: &Load,
        server: &Server,
        mut looks: Looks,
        state: &mut StateFile,
        mut selection: Selection,
    ) -> Result<(), Failure> {
        let Load { archives, intake, vectors, .. } = task;
        let pool = pool(intake.workers)?;
        let sink = self.sink(server, intake.batch, *vectors);
        let lines = Lines::default();
        let mut rounds = 0;
        loop {
            let dead_letters = self.dead_letters();
            let ledger = Ledger::new(Some(&mut *state), dead_letters, &sink, self.progress, self.stop)
                .watched_by(&self.refusals)
                .logs_once(&lines);
            let taken_up = self.take_up(intake, &looks, &selection, &pool, &sink, ledger);
            lines.next_look();
            self.progress.passed();
            self.monitor.publish();
            let again = taken_up?;
            rounds = if again.is_empty() { 0 } else { rounds + 1 };
            if !again.is_empty() && !self.stop.is_requested() {
                if rounds > MOST_ROUNDS && archives.mode == Mode::Once {
                    return Err(moves_for_ever());
                }
                selection.take = again;
                continue;
            }
            if archives.mode == Mode::Once {
                return Ok(());
            }
            let Some(next) = self.next_look(task, &mut looks, state) else { return Ok(()) };
            server.look(!next.take.is_empty())?;
            selection = next;
        }
    }

    /// Writes all marks into the state file. If that fails, its journal keeps them for the next run.
    fn finish(&self, state: &mut StateFile) {
        if matches!(self.stop.reason(), Some(StopReason::Fatal(_))) {
            return;
        }
        if let Err(error) = state.finish() {
            self.stop.fail(state_not_written(state.path(), &error));
        }
    }

    /// Waits, and looks again; None when the run is to stop. The source has been readable before, so a look that fails
    /// is repeated after the next wait.
    fn next_look(&self, task: &Load, looks: &mut Looks, state: &StateFile) -> Option<Selection> {
        let mut told: Option<Instant> = None;
        while self.stop.wait(looks.pause(task.intake.spool_interval)) {
            match self.look(looks, &task.archives, state) {
                Ok(selection) => return Some(selection),
                Err(_) if self.stop.is_requested() => return None,
                Err(failure) => {
                    if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                        told = Some(Instant::now());
                        log::error!("{failure}; it is looked for again");
                    }
                }
            }
        }
        None
    }

    /// Puts the index settings back, however the load has ended. A failure to do so ends the run, unless it ends for
    /// another reason; it is logged in either case.
    fn end_load(&self, load_settings: LoadSettings) {
        if let Err(failure) = load_settings.end()
            && !self.stop.request(StopReason::Fatal(failure.clone()))
        {
            log::error!("{failure}");
        }
    }

    /// Takes up the archives that are there, and sends nothing to Elasticsearch.
    pub(super) fn dry_run(&self, task: &DryRun) -> Result<(), Failure> {
        let DryRun { archives, intake, names, .. } = task;
        let state = StateFile::load(&archives.state_file)?;
        let mut looks = Looks::new(self.source(archives)?, false, intake);
        let selection = self.look(&mut looks, archives, &state)?;
        log::info!("{}", start::of_dry_run(task, &selection));
        let pool = pool(intake.workers)?;
        let output = task.output.as_ref().map(open).transpose()?.map(Mutex::new);
        let vectors = match task.vectors {
            VectorChoice::Base64 => VectorEncoding::Base64,
            VectorChoice::Auto | VectorChoice::Array => VectorEncoding::Array,
        };
        let sink = Ndjson { names: *names, vectors, output, stop: self.stop };
        let ledger = Ledger::new(None, self.dead_letters(), &sink, self.progress, self.stop)
            .watched_by(&self.refusals);
        let taken_up = self.take_up(intake, &looks, &selection, &pool, &sink, ledger);
        sink.finish();
        taken_up.map(drop)
    }

    pub(super) fn source(&self, archives: &Archives) -> Result<Source, Failure> {
        Source::open(&archives.source, archives.retry_budget, self.stop)
    }

    pub(super) fn look(
        &self,
        looks: &mut Looks,
        archives: &Archives,
        state: &StateFile,
    ) -> Result<Selection, Failure> {
        let _watch = self.stop.pulse().watch(Stage::Look);
        let selection = looks.look(archives, state, self.stop)?;
        self.progress.looked(&selection);
        Ok(selection)
    }

    /// Runs all stages until the last selected archive is read and delivered. Returns the archives that have to be done
    /// again. If the source stays unavailable for some archives past the budget, the error is returned after all others
    /// are done.
    pub(super) fn take_up(
        &self,
        intake: &Intake,
        looks: &Looks,
        selection: &Selection,
        pool: &ThreadPool,
        sink: &dyn Sink,
        ledger: Ledger<'_>,
    ) -> Result<Vec<Arc<Archive>>, Failure> {
        self.progress.lets_in(looks.admission.figures());
        let Intake { workers, senders, batch, account_deletions, spool_interval, .. } = *intake;
        let mut handed_out = Ok(());
        let again = stages(senders, workers, sink, ledger, self.stop, |batches, events, buffers| {
            let stage = Workers {
                pool,
                admission: &looks.admission,
                progress: self.progress,
                limits: batch,
                sink,
                account_deletions,
                fields: sink.fields(),
                buffers,
                unchanged: looks.judges_late().then_some(UNCHANGED_BEFORE_JUDGED),
                stop: self.stop,
            };
            handed_out =
                looks.source.hand_out(&selection.take, workers, &looks.admission, spool_interval, |next| {
                    stage.run(next, batches, events);
                });
        });
        handed_out.map(|()| again)
    }
}

pub(super) fn pool(workers: usize) -> Result<ThreadPool, Failure> {
    ThreadPoolBuilder::new()
        .num_threads(workers)
        .thread_name(|n| format!("worker-{n}"))
        .build()
        .map_err(|error| Failure::run(format!("cannot start {workers} workers: {error}")))
}

pub(super) fn moves_for_ever() -> Failure {
    let message = "what stands behind the names of the indices moves again and again before archives can be marked: look \
                   at who changes the aliases, and run again";
    Failure::new(ExitCode::Unavailable, message)
}

pub(super) fn open(output: &Output) -> Result<Box<dyn Write + Send>, Failure> {
    const BUFFER: usize = 1 << 20;
    match output {
        Output::Stdout => Ok(Box::new(BufWriter::with_capacity(BUFFER, io::stdout()))),
        Output::File(path) => {
            let file = File::create(path).map_err(|error| {
                Failure::usage(format!("--output {} cannot be written: {error}", path.display()))
            })?;
            Ok(Box::new(BufWriter::with_capacity(BUFFER, file)))
        }
    }
}
