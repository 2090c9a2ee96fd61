//! The record of changed settings: a file beside the state file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Changes;
use crate::common::exit::Failure;
use crate::files;

/// Changes by index. The file on disk has them as JSON.
pub type Record = BTreeMap<String, Changes>;

/// Returns whether an earlier run has left changed settings, according to the record beside the state file.
///
/// # Errors
///
/// Returns a usage failure if the record cannot be read: that never counts as an empty one.
pub fn left_changed(state_file: &Path) -> Result<bool, Failure> {
    Ok(!read(&path(state_file))?.is_empty())
}

pub(super) fn path(state_file: &Path) -> PathBuf {
    files::beside(&files::real_path(state_file), files::LOAD_SETTINGS)
}

/// Reads the record. A missing file is an empty record.
pub(super) fn read(path: &Path) -> Result<Record, Failure> {
    let text = files::if_exists(files::read(path)).map_err(|error| {
        let text = format!("{} cannot be read: {error}", path.display());
        files::failure_that_may_pass(&error, &text).unwrap_or_else(|| unusable(path, &error))
    })?;
    let Some(text) = text else { return Ok(Record::new()) };
    serde_json::from_slice(&text).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &dyn fmt::Display) -> Failure {
    Failure::usage(format!(
        "{}, with the index settings from before a load, cannot be used: {error}; repair it, or put the settings back \
         by hand and remove it",
        path.display()
    ))
}

/// Writes the record durably.
pub(super) fn write(path: &Path, record: &Record) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(record).map_err(io::Error::from);
    text.and_then(|text| files::replace(path, &text)).map_err(|error| {
        Failure::run(format!(
            "--bulk-load-settings: no index setting is changed, because the current settings cannot be \
             saved in {}: {error}; make its folder writable",
            path.display()
        ))
    })
}

/// Removes the record.
pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    let removed = files::if_exists(fs::remove_file(path).and_then(|()| files::sync_folder(path)));
    removed.map(drop).map_err(|error| {
        Failure::run(format!(
            "the index settings are restored, but {} cannot be removed: {error}; remove it",
            path.display()
        ))
    })
}
