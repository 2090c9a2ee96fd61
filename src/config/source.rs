//! The source of archives.

use std::path::PathBuf;

use super::Place;
use super::rules::check_exists;
use super::s3::S3;
use crate::cli::entries;
use crate::cli::settings::Settings;
use crate::common::exit::{ExitCode, Failure};

/// The source of archives.
#[derive(Clone, Debug)]
pub enum Source {
    /// Folders and files of the local file system.
    Local(Vec<PathBuf>),
    /// A bucket.
    S3(Box<S3>),
}

impl Source {
    /// Reads the source that `--source` names, and the paths of the command line.
    pub(super) fn read(settings: Settings<'_>) -> Result<Self, Failure> {
        if settings.choice::<Place>(entries::source())? == Place::Local {
            return read_paths(settings).map(Source::Local);
        }
        if let Some(path) = settings.cli.paths.first() {
            return Err(Failure::usage(format!(
                "{path:?} is a path, but --source s3 reads archives only from S3_SQLITE_DB_BUCKET: remove \
                 one of them"
            )));
        }
        Ok(Source::S3(Box::new(settings.s3()?)))
    }
}

fn read_paths(settings: Settings<'_>) -> Result<Vec<PathBuf>, Failure> {
    let (name, given) = match &settings.cli.paths {
        typed if typed.is_empty() => {
            settings.set(entries::paths()).map(|(name, path)| (name, vec![path])).ok_or_else(|| {
                Failure::usage(
                    "no archives are named: give folders or *.db.zip files as arguments, or set LOCAL_SQLITE_DB_PATH",
                )
            })?
        }
        typed => ("the command line".to_owned(), typed.clone()),
    };
    for path in &given {
        match check_exists(&name, path) {
            // One whose disk or file server is away is left to the search: it reads the others.
            Err(failure) if failure.code == ExitCode::Failed => {}
            checked => checked?,
        }
    }
    Ok(given.into_iter().map(PathBuf::from).collect())
}
