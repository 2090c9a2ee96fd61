//! What can be asked for, and what each of it is done with.

use std::path::PathBuf;

use super::parts::{Archives, BatchLimits, Intake, Job, Reports, Server, read_names};
use super::{Mode, Output, VectorChoice, rules};
use crate::cli::entries;
use crate::cli::settings::Settings;
use crate::exit::Failure;
use crate::files::beside;
use crate::model::Names;

/// What the run does.
#[derive(Clone, Debug)]
pub enum Task {
    /// Write archives to Elasticsearch.
    Load(Box<Load>),
    /// Do everything but write to Elasticsearch.
    DryRun(Box<DryRun>),
    /// Send the documents of a dead-letter file again.
    Replay(Box<Replay>),
    /// Compare the index with the archives.
    Verify(Box<Verify>),
    /// Check whether a load could do its work, then end.
    Check(Box<Load>),
    /// Print which archives would be taken up.
    List(Box<List>),
}

/// A load.
#[derive(Clone, Debug)]
pub struct Load {
    /// Which archives are taken up.
    pub archives: Archives,
    /// How they are taken up.
    pub intake: Intake,
    /// How vectors are written.
    pub vectors: VectorChoice,
    /// Where the documents go.
    pub server: Server,
    /// Refresh and replicas are tuned for a first load, and put back at the end.
    pub bulk_load_settings: bool,
    /// What is told of it.
    pub reports: Reports,
}

/// A dry run.
#[derive(Clone, Debug)]
pub struct DryRun {
    /// Which archives are taken up.
    pub archives: Archives,
    /// How they are taken up.
    pub intake: Intake,
    /// How vectors are written.
    pub vectors: VectorChoice,
    /// What would be written to.
    pub names: Names,
    /// Where the bulk NDJSON goes; None: nowhere.
    pub output: Option<Output>,
    /// What is told of it.
    pub reports: Reports,
}

/// A replay.
#[derive(Clone, Debug)]
pub struct Replay {
    /// The dead-letter file; never changed.
    pub path: PathBuf,
    /// Where its documents go.
    pub server: Server,
    /// How vectors are written.
    pub vectors: VectorChoice,
    /// Concurrent bulk requests at most.
    pub senders: usize,
    /// Limits of one bulk request.
    pub batch: BatchLimits,
    /// The deletion of an account means that of all its posts.
    pub account_deletions: bool,
    /// What is told of it.
    pub reports: Reports,
}

/// A verification.
#[derive(Clone, Debug)]
pub struct Verify {
    /// Which archives the index is compared with.
    pub archives: Archives,
    /// How they are read, and how much is asked for at once.
    pub intake: Intake,
    /// What is compared with them.
    pub server: Server,
    /// What differs is sent again, and looked at again.
    pub repair: bool,
    /// How vectors are written that are sent again.
    pub vectors: VectorChoice,
    /// Where differences go, one JSON object a line; None: nowhere but into the counters.
    pub output: Option<Output>,
    /// What is told of it.
    pub reports: Reports,
}

/// A list of archives.
#[derive(Clone, Debug)]
pub struct List {
    /// Which archives would be taken up.
    pub archives: Archives,
    /// It is one JSON object a line.
    pub json: bool,
}

impl Task {
    /// The task that was asked for. What excludes each other has been refused before.
    pub(super) fn read(settings: Settings<'_>) -> Result<Self, Failure> {
        let cli = settings.cli;
        Ok(match &cli.replay {
            _ if cli.list => {
                Task::List(Box::new(List { archives: Archives::read(settings)?, json: cli.json }))
            }
            _ if cli.dry_run => Task::DryRun(Box::new(DryRun::read(settings)?)),
            _ if cli.verify => Task::Verify(Box::new(Verify::read(settings)?)),
            _ if cli.check => Task::Check(Box::new(Load::read(settings)?)),
            Some(path) => Task::Replay(Box::new(Replay::read(path.into(), settings)?)),
            None => Task::Load(Box::new(Load::read(settings)?)),
        })
    }

    /// Whether the run ends by itself.
    pub fn mode(&self) -> Mode {
        match self {
            Task::Load(load) | Task::Check(load) => load.archives.mode,
            Task::DryRun(dry_run) => dry_run.archives.mode,
            Task::Verify(_) | Task::Replay(_) => Mode::Once,
            Task::List(list) => list.archives.mode,
        }
    }
}

impl Load {
    fn read(settings: Settings<'_>) -> Result<Self, Failure> {
        let server = Server::read(settings)?;
        let bulk_load_settings = settings.is_on(entries::bulk_load_settings())?;
        rules::check_fields(&server, settings.is_on(entries::account_deletions())?)?;
        rules::check_load(bulk_load_settings, settings.choice(entries::mode())?)?;
        Ok(Self {
            archives: Archives::read(settings)?,
            intake: Intake::read(settings)?,
            vectors: settings.choice(entries::vector_encoding())?,
            server,
            bulk_load_settings,
            reports: Reports::read(Job::Load, Some(entries::dead_letter().default.into()), settings)?,
        })
    }
}

impl DryRun {
    fn read(settings: Settings<'_>) -> Result<Self, Failure> {
        let output = settings.asked_for(entries::output()).map(Output::parse);
        // It leaves nothing behind that was not asked for by name.
        let reports = Reports::read(Job::DryRun, None, settings)?;
        Ok(Self {
            archives: Archives::read(settings)?,
            intake: Intake::read(settings)?,
            names: read_names(settings)?,
            vectors: settings.choice(entries::vector_encoding())?,
            reports: Reports { shows_documents: output == Some(Output::Stdout), ..reports },
            output,
        })
    }
}

impl Replay {
    fn read(path: PathBuf, settings: Settings<'_>) -> Result<Self, Failure> {
        Ok(Self {
            server: Server::read(settings)?,
            vectors: settings.choice(entries::vector_encoding())?,
            senders: settings.number(entries::senders())?,
            batch: BatchLimits::read(settings)?,
            account_deletions: settings.is_on(entries::account_deletions())?,
            reports: Reports::read(Job::Replay, Some(beside(&path, ".failed")), settings)?,
            path,
        })
    }
}

impl Verify {
    fn read(settings: Settings<'_>) -> Result<Self, Failure> {
        rules::check_verify(settings)?;
        let repair = settings.cli.repair;
        let output = settings.asked_for(entries::output()).map(Output::parse);
        let server = Server::read(settings)?;
        let (job, dead_letters) = match repair {
            true => (Job::Repair, Some(entries::dead_letter().default.into())),
            // It leaves nothing behind that was not asked for by name.
            false => (Job::Verify, None),
        };
        let reports = Reports::read(job, dead_letters, settings)?;
        Ok(Self {
            archives: Archives::read(settings)?,
            intake: Intake::read(settings)?,
            server: which_makes_indices_if(repair, server),
            repair,
            vectors: settings.choice(entries::vector_encoding())?,
            reports: Reports { shows_documents: output == Some(Output::Stdout), ..reports },
            output,
        })
    }
}

/// What only reads makes no index, also where a variable says so for other runs.
fn which_makes_indices_if(repair: bool, server: Server) -> Server {
    Server { create_indices: server.create_indices && repair, ..server }
}
