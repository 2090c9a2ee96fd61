//! The indices behind the names as last looked up, which all senders share.

use std::sync::Arc;

use super::agreement::disagreement;
use super::answer::{NoAnswer, pages_as_outages};
use super::client::Client;
use super::outcome::foreign_answer;
use super::preflight;
use super::targets::Targets;
use crate::common::mutex::Mutex;
use crate::model::Generation;

/// The targets as last looked up, shared by all senders.
pub struct LiveTargets {
    now: Mutex<Arc<Targets>>,
    /// Locked during a look-up, so that other threads wait for its result. Whether the nodes have shown different indices
    /// since the last change: rows may have gone to another cluster.
    refreshing: Mutex<bool>,
}

impl LiveTargets {
    /// Starts with the targets that the preflight found.
    pub fn new(targets: Targets) -> Self {
        Self { now: Mutex::new(Arc::new(targets)), refreshing: Mutex::new(false) }
    }

    /// Returns the targets as last looked up.
    pub fn now(&self) -> Arc<Targets> {
        self.now.lock().clone()
    }

    /// Looks the targets up again, unless another thread has done so since `seen`.
    ///
    /// # Errors
    ///
    /// Returns `Refused` if a name can no longer be written to, `Unavailable` if there is no answer for now.
    pub fn refresh(&self, client: &Client, seen: Generation) -> Result<Arc<Targets>, NoAnswer> {
        let mut have_disagreed = self.refreshing.lock();
        let before = self.now();
        if before.generation != seen {
            return Ok(before);
        }
        if let Some(why) = disagreement(client, before.names) {
            *have_disagreed = true;
            return Err(NoAnswer::unavailable(why));
        }
        let client = client.recording_pages();
        let mut now = pages_as_outages(&client, |client| preflight::look(client, &before))?;
        let disagreed = || have_disagreed.then(|| "the nodes have shown different indices".to_owned());
        if let Some(why) = before.change_to(&now).or_else(disagreed) {
            // A page shows nothing about an index, and does not replace the earlier answers.
            if let Some(page) = client.page() {
                return Err(NoAnswer::unavailable(foreign_answer(&page)));
            }
            let what = if before.reads_only {
                "the present ones are searched from now on"
            } else {
                "archives that are not marked yet are loaded again"
            };
            log::warn!("{why}: {what}");
            now.generation = before.generation + 1;
            *have_disagreed = false;
        }
        let now = Arc::new(now);
        *self.now.lock() = now.clone();
        Ok(now)
    }
}
