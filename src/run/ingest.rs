//! The main job: archives are looked for, selected and taken up, once or for ever.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::Run;
use super::looks::Looks;
use crate::config::{Elasticsearch, Mode, Output, VectorChoice};
use crate::exit::Failure;
use crate::model::Selection;
use crate::pipeline::ledger::Ledger;
use crate::pipeline::ledger::state_file::StateFile;
use crate::pipeline::source::Source;
use crate::pipeline::stages::stages;
use crate::pipeline::worker::Workers;
use crate::shutdown::StopReason;
use crate::sink::Sink;
use crate::sink::elasticsearch::encode::VectorEncoding;
use crate::sink::elasticsearch::load_settings::LoadSettings;
use crate::sink::elasticsearch::server::Server;
use crate::sink::ndjson::Ndjson;

/// In spool mode a broken file is not judged before it has been unchanged for this long: the copying may have
/// paused.
const UNCHANGED_BEFORE_JUDGED: Duration = Duration::from_secs(60);

/// In spool mode a source that cannot be looked at is told this often.
const TELL_EVERY: Duration = Duration::from_secs(60);

impl Run<'_> {
    /// Takes up what there is; in spool mode, what comes later as well.
    pub(super) fn load(&self, settings: &Elasticsearch) -> Result<(), Failure> {
        let _lock = StateFile::lock(&self.config.state_file)?;
        let state = StateFile::load(&self.config.state_file)?;
        let mut looks = Looks::new(self.source()?, self.config.mode == Mode::Spool);
        let selection = self.look(&mut looks, &state)?;
        let mut load_settings = LoadSettings::open(settings, &self.config.state_file)?;
        let server = Server::connect(settings, self.config, self.stop)?;
        let done = self.stop.guard("the load", || {
            server
                .begin_load(&mut load_settings, self.config, self.stop)
                .and_then(|()| self.passes(&server, looks, state, selection))
        });
        // Before the settings are put back, so that a failure of that does not take its place.
        if let Some(Err(failure)) = done {
            self.stop.fail(failure);
        }
        self.end_load(load_settings);
        Ok(())
    }

    /// Takes up what was found; in spool mode, what comes later as well.
    fn passes(
        &self,
        server: &Server,
        mut looks: Looks,
        mut state: StateFile,
        mut selection: Selection,
    ) -> Result<(), Failure> {
        let pool = self.pool()?;
        let sink = self.sink(server);
        loop {
            let dead_letters = self.dead_letters();
            let ledger = Ledger::new(Some(&mut state), dead_letters, &sink, self.progress, self.stop);
            let taken_up = self.take_up(&looks.source, &selection, &pool, &sink, ledger);
            self.progress.passed();
            self.monitor.publish();
            taken_up?;
            if self.config.mode == Mode::Once {
                return Ok(());
            }
            let Some(next) = self.next_look(&mut looks, &state) else { return Ok(()) };
            selection = next;
        }
    }

    /// Waits, and looks again; None when the run is to stop. A source that cannot be looked at now was there before:
    /// it is looked at again after the next wait.
    fn next_look(&self, looks: &mut Looks, state: &StateFile) -> Option<Selection> {
        let mut told: Option<Instant> = None;
        while self.stop.wait(looks.pause(self.config.spool_interval)) {
            match self.look(looks, state) {
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

    /// Puts the index settings back, whatever has ended the load. A failure to do so is the run's, unless that has
    /// another reason to end; it is logged in any case.
    fn end_load(&self, load_settings: LoadSettings) {
        if let Err(failure) = load_settings.end()
            && !self.stop.request(StopReason::Fatal(failure.clone()))
        {
            log::error!("{failure}");
        }
    }

    /// Takes up what there is, and writes nothing but what is asked for.
    pub(super) fn dry_run(&self, output: Option<&Output>) -> Result<(), Failure> {
        let state = StateFile::load(&self.config.state_file)?;
        let mut looks = Looks::new(self.source()?, false);
        let selection = self.look(&mut looks, &state)?;
        let pool = self.pool()?;
        let output = output.map(open).transpose()?.map(Mutex::new);
        let vectors = match self.config.vectors {
            VectorChoice::Base64 => VectorEncoding::Base64,
            VectorChoice::Auto | VectorChoice::Array => VectorEncoding::Array,
        };
        let sink = Ndjson { vectors, output, stop: self.stop };
        let ledger = Ledger::new(None, self.dead_letters(), &sink, self.progress, self.stop);
        let taken_up = self.take_up(&looks.source, &selection, &pool, &sink, ledger);
        sink.finish();
        taken_up
    }

    fn source(&self) -> Result<Source, Failure> {
        Source::open(&self.config.source, self.config.retry_budget, self.stop)
    }

    fn look(&self, looks: &mut Looks, state: &StateFile) -> Result<Selection, Failure> {
        let selection = looks.look(self.config, state)?;
        self.progress.looked(&selection);
        Ok(selection)
    }

    /// Whether files may still be being written, and there is a later look at them. Objects of a bucket are whole.
    fn judges_late(&self, source: &Source) -> bool {
        self.config.mode == Mode::Spool && !self.config.is_dry_run() && source.is_local()
    }

    fn pool(&self) -> Result<ThreadPool, Failure> {
        ThreadPoolBuilder::new()
            .num_threads(self.config.workers)
            .thread_name(|n| format!("worker-{n}"))
            .build()
            .map_err(|error| Failure::run(format!("cannot start {} workers: {error}", self.config.workers)))
    }

    /// Runs all stages until the last of the selected archives is read and delivered. An error is told after that: of
    /// those archives that the source could not be waited for.
    fn take_up(
        &self,
        source: &Source,
        selection: &Selection,
        pool: &ThreadPool,
        sink: &dyn Sink,
        ledger: Ledger<'_>,
    ) -> Result<(), Failure> {
        let config = self.config;
        let mut handed_out = Ok(());
        stages(config, sink, ledger, self.stop, |batches, events, buffers| {
            let workers = Workers {
                pool,
                progress: self.progress,
                limits: config.batch,
                sink,
                account_deletions: config.account_deletions,
                buffers,
                unchanged: self.judges_late(source).then_some(UNCHANGED_BEFORE_JUDGED),
                stop: self.stop,
            };
            handed_out = source.hand_out(&selection.take, config.workers, config.spool_interval, |next| {
                workers.run(next, batches, events);
            });
        });
        handed_out
    }
}

fn open(output: &Output) -> Result<Box<dyn Write + Send>, Failure> {
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
