//! Loads and dry runs: looks for archives and runs the stages.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::looker::Looker;
use super::looks::{Looks, Store};
use super::{MAX_ROUNDS, Run, judge_holdings, needs, read_state, start};
use crate::common::exit::Failure;
use crate::common::mutex::Mutex;
use crate::config::{Archives, DryRun, Intake, Load, Mode, Output};
use crate::files;
use crate::model::{Archive, Model, Selection};
use crate::pipeline::ledger::books::Books;
use crate::pipeline::ledger::lines::Lines;
use crate::pipeline::ledger::state_file::StateFile;
use crate::pipeline::ledger::{Ledger, state_not_written};
use crate::pipeline::source::Source;
use crate::pipeline::stages::stages;
use crate::pipeline::worker::Workers;
use crate::process::pulse::Stage;
use crate::process::shutdown::{Stop, StopReason};
use crate::sink::Sink;
use crate::sink::elasticsearch::encode::VectorEncoding;
use crate::sink::elasticsearch::load_settings::LoadSettings;
use crate::sink::elasticsearch::server::Server;
use crate::sink::ndjson::Ndjson;

/// Time for which a damaged file must be unchanged before a spool run marks it as failed: copying may have paused.
const UNCHANGED_BEFORE_JUDGED: Duration = Duration::from_secs(60);

impl Run<'_> {
    /// Loads the archives that are there and, in spool mode, those that come later.
    pub(super) fn load(&self, task: &Load) -> Result<(), Failure> {
        let Load { archives, intake, server: settings, .. } = task;
        let path = &archives.state_file;
        let (_lock, state) = self.stop.pulse().while_using(path, || {
            StateFile::lock(path).and_then(|lock| Ok((lock, StateFile::load(path)?)))
        })?;
        let replaced = self.stop.pulse().while_using(state.path(), || files::try_to_replace(state.path()));
        replaced.map_err(|error| state_not_written(state.path(), &error))?;
        let store = Store::new(self.source(archives)?, archives.mode == Mode::Spool, intake);
        let mut looks = Looks::new(&store);
        // A spool run never gives up.
        let (books, queue) = Books::new(state, (archives.mode == Mode::Once).then_some(MAX_ROUNDS));
        let lines = Lines::default();
        let first = self.look(&mut looks, archives, &books, &lines)?;
        log::info!("{}", start::of_load(task, &first));
        let mut load_settings = LoadSettings::open(&settings.elasticsearch, &archives.state_file)?;
        let server = Server::connect(settings, intake.senders, intake.workers, needs(task), self.stop)?;
        if let Some(lost) = judge_holdings(&server, &books.open().state, self.stop) {
            log::warn!("preflight: {lost}");
        }
        let done = self.stop.guard("the load", || {
            server.begin_load(&mut load_settings, task.bulk_load_settings, self.stop)?;
            let looker = Looker { run: self, task, server: &server, books: &books, lines: &lines };
            self.load_all(&looker, &store, &queue, looks, first.take)
        });
        // Reported before the settings are restored, so that a failure to do so does not replace this one.
        if let Some(Err(failure)) = done {
            self.stop.fail(failure);
        }
        self.finish(&mut books.into_state());
        self.end_load(load_settings);
        Ok(())
    }

    /// Loads all archives that the looks find, until the looks end.
    fn load_all(
        &self,
        looker: &Looker<'_>,
        store: &Store,
        queue: &Receiver<Arc<Archive>>,
        looks: Looks<'_>,
        first: Vec<Arc<Archive>>,
    ) -> Result<(), Failure> {
        let Looker { task, server, books, lines, .. } = *looker;
        let Load { intake, vectors, .. } = task;
        let pool = pool(intake.workers)?;
        let sink = self.sink(server, intake.batch, *vectors);
        let ledger = self.ledger(Some(books), &sink)?.logs_once(lines);
        let ended = self.run_stages(intake, store, queue, &pool, &sink, ledger, || looker.run(looks, first));
        self.progress.passed();
        self.monitor.publish();
        ended.map(drop)
    }

    /// Writes all marks to the state file. If that fails, the journal keeps them for the next run.
    fn finish(&self, state: &mut StateFile) {
        if matches!(self.stop.reason(), Some(StopReason::Fatal(_))) {
            return;
        }
        let path = state.path().to_owned();
        if let Err(error) = self.stop.pulse().while_using(&path, || state.finish()) {
            self.stop.fail(state_not_written(&path, &error));
        }
    }

    /// Restores the index settings, however the load has ended. A failure to do so is the failure of the run, or is
    /// logged if the run has failed for another reason.
    fn end_load(&self, load_settings: LoadSettings) {
        if let Err(failure) = load_settings.end()
            && !self.stop.fail(failure.clone())
        {
            log::error!("{failure}");
        }
    }

    /// Reads the archives that are there as a load does, but sends nothing to Elasticsearch.
    pub(super) fn dry_run(&self, task: &DryRun) -> Result<(), Failure> {
        let DryRun { archives, intake, names, .. } = task;
        let state = read_state(&archives.state_file, self.stop)?;
        let store = Store::new(self.source(archives)?, false, intake);
        let selection = self.look_once(&store, archives, &state)?;
        log::info!("{}", start::of_dry_run(task, &selection));
        let pool = pool(intake.workers)?;
        let output = task.output.as_ref().map(|output| open(output, self.stop)).transpose()?.map(Mutex::new);
        let vectors = VectorEncoding::untested(task.vectors);
        let sink = Ndjson { names: *names, vectors, output, stop: self.stop };
        let ledger = self.ledger(None, &sink)?;
        let ended = self.run_stages(intake, &store, &queue_of(selection.take), &pool, &sink, ledger, || {});
        sink.finish();
        ended.map(drop)
    }

    pub(super) fn source(&self, archives: &Archives) -> Result<Source, Failure> {
        Source::open(&archives.source, archives.retry_budget, self.stop)
    }

    /// Looks for archives, and enters those to load into the books.
    pub(super) fn look(
        &self,
        looks: &mut Looks<'_>,
        archives: &Archives,
        books: &Books,
        lines: &Lines,
    ) -> Result<Selection, Failure> {
        let _watch = self.stop.pulse().watch(Stage::Look);
        let found = looks.find(self.stop)?;
        // Locked until the selection is entered, so that no archive is marked in between.
        let mut open = books.open();
        let mut selection = looks.select(found, archives, &open.state, |name| open.has(name));
        selection.under_way = open.under_way();
        open.enter(&selection.take);
        lines.forget_unless(|name| open.has(name));
        self.progress.looked(&selection);
        Ok(selection)
    }

    /// Looks for archives, for a run that marks none.
    pub(super) fn look_once(
        &self,
        store: &Store,
        archives: &Archives,
        state: &StateFile,
    ) -> Result<Selection, Failure> {
        let _watch = self.stop.pulse().watch(Stage::Look);
        let mut looks = Looks::new(store);
        let found = looks.find(self.stop)?;
        let selection = looks.select(found, archives, state, |_| false);
        self.progress.looked(&selection);
        Ok(selection)
    }

    /// Runs all stages until the queue has ended and its last archive is delivered. Runs `looks` at the same time.
    /// Returns the archives to do again if there are no books to enter them in.
    ///
    /// # Errors
    ///
    /// Fails after all other archives are done, if the source was unavailable past the budget for some.
    #[expect(clippy::too_many_arguments, reason = "the parts of a run come together here")]
    pub(super) fn run_stages(
        &self,
        intake: &Intake,
        store: &Store,
        queue: &Receiver<Arc<Archive>>,
        pool: &ThreadPool,
        sink: &dyn Sink,
        ledger: Ledger<'_>,
        looks: impl FnOnce() + Send,
    ) -> Result<Vec<Arc<Archive>>, Failure> {
        self.progress.set_memory_source(store.admission.figures());
        let Intake { workers, senders, batch, account_deletions, spool_interval, .. } = *intake;
        let mut queued = Ok(());
        let again = stages(senders.max, workers, sink, batch, ledger, self.stop, |outlets| {
            let stage = Workers {
                pool,
                admission: &store.admission,
                progress: self.progress,
                account_deletions,
                fields: sink.fields(),
                unchanged: store.judges_late().then_some(UNCHANGED_BEFORE_JUDGED),
                stop: self.stop,
            };
            thread::scope(|scope| {
                scope.spawn(looks);
                queued = store.source.with_queue(queue, workers, &store.admission, spool_interval, |next| {
                    stage.run(next, outlets);
                });
            });
        });
        if self.progress.figures().totals.rows.read > 0 {
            let missing = sink.fields().models.iter().filter_map(Model::missing);
            missing.for_each(|warning| log::warn!("{warning}"));
        }
        queued.map(|()| again)
    }
}

/// Creates a queue of these archives, which ends after the last one.
pub(super) fn queue_of(archives: Vec<Arc<Archive>>) -> Receiver<Arc<Archive>> {
    let (sender, queue) = unbounded();
    // Cannot fail, since the receiver exists.
    archives.into_iter().for_each(|archive| drop(sender.send(archive)));
    queue
}

pub(super) fn pool(workers: usize) -> Result<ThreadPool, Failure> {
    ThreadPoolBuilder::new()
        .num_threads(workers)
        .thread_name(|n| format!("worker-{n}"))
        .build()
        .map_err(|error| Failure::run(format!("cannot start {workers} workers: {error}")))
}

/// Opens `--output`. Opening a pipe waits for its reader, or until the run is to stop.
pub(super) fn open(output: &Output, stop: &Stop) -> Result<Box<dyn Write + Send>, Failure> {
    const BUFFER: usize = 1 << 20;
    match output {
        Output::Stdout => Ok(Box::new(BufWriter::with_capacity(BUFFER, io::stdout()))),
        Output::File(path) => {
            let to_create = path.clone();
            let created = stop.unless_requested(move || File::create(to_create));
            let file = created.and_then(Option::transpose).map_err(|error| {
                Failure::usage(format!("--output {} cannot be written: {error}", path.display()))
            })?;
            let file = file.ok_or_else(|| stop.as_failure())?;
            Ok(Box::new(BufWriter::with_capacity(BUFFER, file)))
        }
    }
}
