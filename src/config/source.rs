//! Where archives come from.

use std::path::{Path, PathBuf};

use super::s3::S3;
use super::settings::Settings;
use crate::cli::Cli;
use crate::exit::Failure;

/// Where archives come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Folders and files of the local file system.
    Local(Vec<PathBuf>),
    /// A bucket.
    S3(Box<S3>),
}

impl Source {
    /// The name, as on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Source::Local(_) => "local",
            Source::S3(_) => "s3",
        }
    }
}

impl Settings<'_> {
    /// The source asked for by `--source`, given the paths of the command line.
    pub(super) fn source(&self, cli: &Cli) -> Result<Source, Failure> {
        if self.choice("--source", cli.source.as_deref(), &[("local", true), ("s3", false)])? {
            return self.paths(&cli.paths).map(Source::Local);
        }
        if let Some(path) = cli.paths.first() {
            return Err(Failure::usage(format!(
                "{path:?} is a path, and --source s3 takes archives from S3_SQLITE_DB_BUCKET alone: leave one of \
                 them away"
            )));
        }
        Ok(Source::S3(Box::new(self.s3(cli)?)))
    }

    fn paths(&self, typed: &[String]) -> Result<Vec<PathBuf>, Failure> {
        let (name, paths) = if typed.is_empty() {
            ("LOCAL_SQLITE_DB_PATH", self.get("LOCAL_SQLITE_DB_PATH").into_iter().collect())
        } else {
            ("the command line", typed.to_vec())
        };
        if paths.is_empty() {
            return Err(Failure::usage(
                "no archives are named: give folders or *.db.zip files as arguments, or set LOCAL_SQLITE_DB_PATH",
            ));
        }
        match paths.iter().find(|path| !Path::new(path).exists()) {
            Some(missing) => Err(Failure::usage(format!("{name} names {missing:?}, which does not exist"))),
            None => Ok(paths.into_iter().map(PathBuf::from).collect()),
        }
    }
}
