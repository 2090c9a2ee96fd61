//! The tasks, each with its configuration.

use std::path::PathBuf;

use super::parts::{Archives, BatchLimits, Intake, Server, read_names, read_senders};
use super::{Job, Mode, Output, Reports, VectorChoice, rules};
use crate::cli::entries;
use crate::cli::settings::Settings;
use crate::common::exit::Failure;
use crate::files::beside;
use crate::model::{Names, Senders};

/// The task of a run.
#[derive(Clone, Debug)]
pub enum Task {
    /// Writes archives to Elasticsearch.
    Load(Box<Load>),
    /// Does everything but write to Elasticsearch.
    DryRun(Box<DryRun>),
    /// Sends the documents of a dead-letter file again.
    Replay(Box<Replay>),
    /// Compares the index with the archives.
    Verify(Box<Verify>),
    /// Checks whether a load could work.
    Check(Box<Load>),
    /// Prints which archives a load would take.
    List(Box<List>),
}

/// Configuration of a load.
#[derive(Clone, Debug)]
pub struct Load {
    /// Selection of the archives.
    pub archives: Archives,
    /// Settings of reading, decoding and sending.
    pub intake: Intake,
    /// Encoding of vectors.
    pub vectors: VectorChoice,
    /// Where the documents go.
    pub server: Server,
    /// Whether index settings are tuned for a first load, and restored at its end.
    pub bulk_load_settings: bool,
    /// Reports of the run.
    pub reports: Reports,
}

/// Configuration of a dry run.
#[derive(Clone, Debug)]
pub struct DryRun {
    /// Selection of the archives.
    pub archives: Archives,
    /// Settings of reading and decoding.
    pub intake: Intake,
    /// Encoding of vectors.
    pub vectors: VectorChoice,
    /// Names of the indices or aliases that a load would write to.
    pub names: Names,
    /// Destination of the bulk NDJSON; None: it is discarded.
    pub output: Option<Output>,
    /// Reports of the run.
    pub reports: Reports,
}

/// Configuration of a replay.
#[derive(Clone, Debug)]
pub struct Replay {
    /// The dead-letter file to read. It is never changed.
    pub path: PathBuf,
    /// Where the documents go.
    pub server: Server,
    /// Encoding of vectors.
    pub vectors: VectorChoice,
    /// Maximum number of concurrent bulk requests.
    pub senders: Senders,
    /// Limits of one bulk request.
    pub batch: BatchLimits,
    /// Whether the deletion of an account deletes all its posts.
    pub account_deletions: bool,
    /// Reports of the run.
    pub reports: Reports,
}

/// Configuration of a verification.
#[derive(Clone, Debug)]
pub struct Verify {
    /// Selection of the archives that the index is compared with.
    pub archives: Archives,
    /// Settings of reading and decoding, and limits of requests.
    pub intake: Intake,
    /// The server to compare.
    pub server: Server,
    /// Whether rows that differ are sent again and then compared again.
    pub repair: bool,
    /// Encoding of vectors in rows that are sent again.
    pub vectors: VectorChoice,
    /// Destination of the differences, one JSON object per line; None: they are only counted.
    pub output: Option<Output>,
    /// Reports of the run.
    pub reports: Reports,
}

/// Configuration of `--list`.
#[derive(Clone, Debug)]
pub struct List {
    /// Selection of the archives.
    pub archives: Archives,
    /// Whether each line is a JSON object.
    pub json: bool,
}

impl Task {
    /// Reads the task. Contradicting flags have already been refused.
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

    /// Returns the mode of the run.
    pub fn mode(&self) -> Mode {
        self.archives().map_or(Mode::Once, |archives| archives.mode)
    }

    /// Returns the selection of archives; None for a replay, which uses neither archives nor a state file.
    pub(super) fn archives(&self) -> Option<&Archives> {
        match self {
            Task::Load(load) | Task::Check(load) => Some(&load.archives),
            Task::DryRun(dry_run) => Some(&dry_run.archives),
            Task::Verify(verify) => Some(&verify.archives),
            Task::List(list) => Some(&list.archives),
            Task::Replay(_) => None,
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
        Ok(Self {
            // A dry run writes no file unless it is named.
            reports: Reports::read(Job::DryRun, None, settings)?,
            archives: Archives::read(settings)?,
            intake: Intake::read(settings)?,
            names: read_names(settings)?,
            vectors: settings.choice(entries::vector_encoding())?,
            output: settings.value(entries::output()).map(Output::parse),
        })
    }
}

impl Replay {
    fn read(path: PathBuf, settings: Settings<'_>) -> Result<Self, Failure> {
        Ok(Self {
            server: Server::read(settings)?,
            vectors: settings.choice(entries::vector_encoding())?,
            senders: read_senders(settings)?,
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
        let server = Server::read(settings)?;
        let (job, dead_letters) = match repair {
            true => (Job::Repair, Some(entries::dead_letter().default.into())),
            // A verification writes no file unless it is named.
            false => (Job::Verify, None),
        };
        Ok(Self {
            reports: Reports::read(job, dead_letters, settings)?,
            archives: Archives::read(settings)?,
            intake: Intake::read(settings)?,
            // A verification that only reads creates no index, even if a variable asks for it for other runs.
            server: Server { create_indices: server.create_indices && repair, ..server },
            repair,
            vectors: settings.choice(entries::vector_encoding())?,
            output: settings.value(entries::output()).map(Output::parse),
        })
    }
}
