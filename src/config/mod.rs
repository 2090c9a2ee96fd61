//! The configuration of a run. The command line overrides the environment, which overrides the defaults.
//!
//! Each task has its own struct with the settings that it uses, made of parts that tasks share. All errors in settings
//! are found here, and errors in the files that they name before the first archive is opened.

mod elasticsearch;
mod fields;
mod files;
mod listen;
mod memory;
mod parts;
mod reports;
mod rules;
pub mod s3;
mod source;
mod tasks;

use std::path::{Path, PathBuf};

pub use self::elasticsearch::Elasticsearch;
pub use self::listen::ListenAddress;
pub use self::memory::Memory;
pub use self::parts::{Archives, BatchLimits, Intake, Logging, Server};
pub use self::reports::{Job, RejectedLimit, Reports};
pub use self::source::Source;
pub use self::tasks::{DryRun, List, Load, Replay, Task, Verify};
use crate::cli::Cli;
pub use crate::cli::choices::{LogFormat, Mode, Place, VectorChoice};
use crate::cli::entries;
use crate::cli::settings::Settings;
use crate::common::exit::Failure;

/// Destination of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output, written `-`.
    Stdout,
    /// A file, which is overwritten.
    File(PathBuf),
}

impl Output {
    fn parse(text: String) -> Self {
        if text == "-" { Output::Stdout } else { Output::File(text.into()) }
    }

    /// Returns the file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Output::Stdout => None,
            Output::File(path) => Some(path),
        }
    }
}

/// The configuration of a run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The task.
    pub task: Task,
    /// Settings of the log.
    pub logging: Logging,
}

impl Config {
    /// Resolves and checks all settings. `environment` looks up a variable; an empty one counts as unset.
    ///
    /// # Errors
    ///
    /// Says what is wrong with a setting, or with a combination of settings.
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
