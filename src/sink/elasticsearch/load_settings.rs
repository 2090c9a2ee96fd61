//! Index settings for a first load (`--bulk-load-settings`): tuned during the run, restored at its end.
//!
//! Source: Elasticsearch, "Tune for indexing speed" and "Update index settings API".
//!
//! - Before anything is changed, the old settings are recorded in a file beside the state file. The record is removed
//!   only after everything is restored. So the next run with the same state file restores the settings of a killed run.
//! - Processes that load into the same index need no communication. The refresh interval of a load is a value that
//!   nobody else would choose. If a process finds it and has no record of its own, another process will restore it, so
//!   the first one leaves the index alone. A value is restored only if it is still as the load set it.

mod changes;
mod record;
mod replies;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::answer::{NoAnswer, answer, pages_as_outages};
use super::client::{Client, RequestLimits};
use super::flat::Values;
use super::retrying::{AT_ONCE, policy, retry};
use super::targets::Targets;
use crate::common::exit::Failure;
use crate::common::text::percent_encoded;
use crate::config;
use crate::files;
use crate::process::shutdown::Stop;
use crate::retry::patience::Retries;
use crate::retry::policy::Policy;
pub(super) use changes::is_tuned;
pub use changes::{Changes, describe};
use changes::{Update, tuned};
pub use record::{Record, left_changed};
use replies::{gone, judge_update, parse_settings};

/// Time limit of a request.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// Elasticsearch gives up a little before the client does, and reports that.
const SERVER_TIMEOUTS: &str = "master_timeout=4s&timeout=4s";

/// Time limit for restoring settings at the end of a run.
const RESTORE_LIMIT: Duration = Duration::from_secs(30);

const NAME: &str = "load settings";

/// The changes made, on the server and on record.
#[derive(Debug)]
pub struct LoadSettings {
    client: Client,
    path: PathBuf,
    record: Record,
}

impl LoadSettings {
    /// Reads the record that an earlier run may have left. Opens no connection yet.
    ///
    /// # Errors
    ///
    /// Like [`left_changed`] and [`Client::with_limits`].
    pub fn open(settings: &config::Elasticsearch, state_file: &Path) -> Result<Self, Failure> {
        let client =
            Client::with_limits(settings, RequestLimits { call: CALL_LIMIT, ..RequestLimits::default() })?;
        // These requests start only after the preflight has passed.
        client.mark_nodes_answered();
        let path = record::path(state_file);
        let record = record::read(&path)?;
        // Remove the temporary file of a killed run. If that fails, the next write reports it.
        let _ = files::remove_if_exists(&files::temporary_of(&path));
        Ok(Self { client, path, record })
    }

    /// Returns whether any settings are changed, by this run or by an earlier one that did not restore them.
    pub fn are_changed(&self) -> bool {
        !self.record.is_empty()
    }

    /// Reads the current settings, and returns what a load would change. Warns about an index that another process has
    /// tuned, and leaves it out.
    ///
    /// # Errors
    ///
    /// Returns `Refused` if the key may not read the settings, `Unavailable` if the server cannot answer for now.
    pub fn plan(&self, targets: &Targets) -> Result<Record, NoAnswer> {
        let mut record = Record::new();
        for (index, during) in tuned(&targets.posts.write_index, &targets.tombstones.write_index) {
            let now = self.settings_of(index)?.ok_or_else(|| gone(index))?;
            if is_tuned(&now) {
                log::warn!(
                    "--bulk-load-settings: another process has tuned {index} and will restore its settings; if none \
                     is running, one was killed: start it again with the state file that it had"
                );
            } else {
                record.insert(index.to_owned(), Changes::new(&now, during));
            }
        }
        Ok(record)
    }

    /// Writes a plan to the record, durably, before anything is changed.
    ///
    /// # Errors
    ///
    /// Returns a failure if the record cannot be written. Then nothing must be changed.
    pub fn record(&mut self, plan: Record) -> Result<(), Failure> {
        if plan.is_empty() {
            return Ok(());
        }
        self.record = plan;
        record::write(&self.path, &self.record).inspect_err(|_| self.record.clear())
    }

    /// Makes the recorded changes, and returns them as the server shows them afterwards. Can be repeated.
    ///
    /// # Errors
    ///
    /// Returns `Refused` if the key may not change the settings, `Unavailable` if the server cannot for now.
    pub fn apply(&self) -> Result<Record, NoAnswer> {
        let shown = self.apply_once()?;
        // Another process may have ended in the meantime, and restored what it took for its own changes.
        if shown == self.record { Ok(shown) } else { self.apply_once() }
    }

    fn apply_once(&self) -> Result<Record, NoAnswer> {
        let mut shown = Record::new();
        for (index, changes) in &self.record {
            self.update(index, &changes.during())?;
            let now = self.settings_of(index)?.ok_or_else(|| gone(index))?;
            shown.insert(index.clone(), changes.as_shown(&now));
        }
        Ok(shown)
    }

    /// Checks that the applied settings read back as they were sent. Otherwise the end of the run could not distinguish
    /// them from settings that a user changes in the meantime.
    ///
    /// # Errors
    ///
    /// Returns a failure if they differ. The settings as shown are then recorded, so that they are recognised and
    /// restored.
    pub fn confirm(&mut self, shown: Record) -> Result<(), Failure> {
        if shown == self.record {
            let indices = self.record.iter();
            indices.for_each(|(index, changes)| {
                log::info!("--bulk-load-settings: {index} now has {changes}; this is restored at the end");
            });
            return Ok(());
        }
        let differing = shown.iter().filter(|(index, changes)| self.record.get(*index) != Some(*changes));
        let texts: Vec<_> = differing.map(|(index, changes)| format!("{index} has {changes}")).collect();
        self.record = shown;
        record::write(&self.path, &self.record)?;
        let text = format!(
            "--bulk-load-settings: the server does not show the settings as they were sent ({}), so they \
             could not be restored safely at the end: run without --bulk-load-settings on this server",
            texts.join("; ")
        );
        Err(NoAnswer::refused(NAME, text).into())
    }

    /// Restores the recorded settings that are still as the load set them. Continues with the next index after a
    /// failure. Can be repeated. No request starts that might take longer than until `end`.
    ///
    /// # Errors
    ///
    /// Returns the first error: `Refused` if the key may not change the settings, `Unavailable` if the server cannot
    /// for now.
    pub fn restore(&self, end: Option<Instant>) -> Result<(), NoAnswer> {
        let results = self.record.iter().map(|(index, changes)| self.restore_index(index, changes, end));
        results.reduce(Result::and).unwrap_or(Ok(()))
    }

    /// Removes the record after everything is restored.
    ///
    /// # Errors
    ///
    /// Returns a failure if the file cannot be removed.
    pub fn remove_record(&mut self) -> Result<(), Failure> {
        self.record = Record::new();
        record::remove(&self.path)
    }

    /// Restores everything at the end of a run, however it ended.
    ///
    /// Tries for at most half a minute, also after a signal. A second signal ends the process at once; the record stays
    /// for the next run.
    ///
    /// # Errors
    ///
    /// Returns a failure if something is not restored. Its text says what to do by hand.
    pub fn end(mut self) -> Result<(), Failure> {
        if !self.are_changed() {
            return Ok(());
        }
        let end = Instant::now() + RESTORE_LIMIT;
        // A stop of the run does not stop this, and the last attempt has the full time of its requests.
        let never = Stop::new();
        let server = "restoring the index settings: Elasticsearch";
        let budget = Some(RESTORE_LIMIT.saturating_sub(2 * CALL_LIMIT));
        let retries = Retries::new(&never, Policy { server, ..policy(budget) });
        if let Err(unanswered) = retry(&retries, AT_ONCE, |_| self.restore(Some(end))) {
            return Err(self.not_restored(&unanswered.last));
        }
        self.remove_record()
    }

    fn restore_index(&self, index: &str, changes: &Changes, end: Option<Instant>) -> Result<(), NoAnswer> {
        has_time(end)?;
        let Some(now) = self.settings_of(index)? else {
            log::warn!("the index {index}, whose settings a load had changed, no longer exists");
            return Ok(());
        };
        let update = changes.to_restore(&now);
        if update.is_empty() {
            log::info!("the settings of {index} have been changed since the load began: they are left alone");
            return Ok(());
        }
        has_time(end)?;
        self.update(index, &update)?;
        log::info!("the settings of {index} are restored: {}", json(&update));
        Ok(())
    }

    /// Returns the settings of an index; None: there is no such index.
    fn settings_of(&self, index: &str) -> Result<Option<Values>, NoAnswer> {
        let path = format!("/{}/_settings?flat_settings=true&master_timeout=4s", percent_encoded(index));
        self.ask(|client| parse_settings(index, &answer(client, client.get(&path))?))
    }

    fn update(&self, index: &str, update: &Update<'_>) -> Result<(), NoAnswer> {
        let path = format!("/{}/_settings?{SERVER_TIMEOUTS}", percent_encoded(index));
        let body = json(update);
        self.ask(|client| judge_update(index, &answer(client, client.put(&path, body.as_bytes()))?))
    }

    /// Makes a request. The preflight has passed, so a page is an outage.
    fn ask<T>(&self, ask: impl FnOnce(&Client) -> Result<T, NoAnswer>) -> Result<T, NoAnswer> {
        pages_as_outages(&self.client.recording_pages(), ask)
    }

    /// Returns the failure for settings that could not be restored, with what to do.
    fn not_restored(&self, error: &NoAnswer) -> Failure {
        let requests: Vec<_> = self
            .record
            .iter()
            .map(|(index, changes)| format!("PUT /{index}/_settings {}", json(&changes.before())))
            .collect();
        Failure::run(format!(
            "--bulk-load-settings: the index settings could not be restored ({error}): the next run with this state \
             file does it, or do it by hand, with {}, then remove {}",
            requests.join(" and "),
            self.path.display()
        ))
    }
}

/// Fails if a request that starts now might end too late.
fn has_time(end: Option<Instant>) -> Result<(), NoAnswer> {
    match end {
        Some(end) if Instant::now() + CALL_LIMIT > end => {
            Err(NoAnswer::unavailable("there is no time left for another request"))
        }
        _ => Ok(()),
    }
}

fn json(update: &Update<'_>) -> String {
    // Names and texts can always be written as JSON.
    serde_json::to_string(update).unwrap_or_default()
}

#[cfg(test)]
mod tests;
