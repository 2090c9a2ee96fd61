//! What a run is to do: the command line over the environment over the defaults, checked as a whole.
//!
//! Each task has a struct of its own, with the settings that it has a use for, in parts that tasks share. Everything
//! that can be wrong with the settings themselves is found here; what is in the files that they name is found before the
//! first archive is opened, too.

mod elasticsearch;
mod files;
mod listen;
mod memory;
mod parts;
mod rules;
pub mod s3;
mod source;
mod tasks;

use std::path::{Path, PathBuf};

pub use self::elasticsearch::Elasticsearch;
pub use self::listen::ListenAddress;
pub use self::memory::Memory;
pub use self::parts::{Archives, BatchLimits, Intake, Job, Logging, Reports, Server};
pub use self::source::Source;
pub use self::tasks::{DryRun, List, Load, Replay, Task, Verify};
use crate::cli::Cli;
pub use crate::cli::choices::{LogFormat, Mode, Place, VectorChoice};
use crate::cli::entries;
use crate::cli::settings::Settings;
use crate::exit::Failure;

/// Where something asked for is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output, named `-`.
    Stdout,
    /// A file, replaced.
    File(PathBuf),
}

impl Output {
    fn parse(text: String) -> Self {
        if text == "-" { Output::Stdout } else { Output::File(text.into()) }
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Output::Stdout => None,
            Output::File(path) => Some(path),
        }
    }
}

/// A run's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it does.
    pub task: Task,
    /// What is logged.
    pub logging: Logging,
}

impl Config {
    /// Resolves and checks everything. `environment` looks up a variable; an empty one is as good as none.
    ///
    /// # Errors
    ///
    /// What is wrong with a setting, or with several together.
    pub fn resolve(cli: Cli, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let settings = Settings { cli: &cli, environment };
        settings.check_values()?;
        Self::read(settings)
    }

    fn read(settings: Settings<'_>) -> Result<Self, Failure> {
        rules::check_replay(settings.cli)?;
        rules::check_combination(settings)?;
        let config = Self { logging: Logging::read(settings)?, task: Task::read(settings)? };
        config.task.check_files(settings.text(entries::spool_state_file()).as_ref())?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests;
