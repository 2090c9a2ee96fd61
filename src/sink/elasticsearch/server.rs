//! A connection to Elasticsearch that has passed preflight.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::config::{self, Config, Task};
use crate::exit::{ExitCode, Failure};
use crate::finding::{Check, Status};
use crate::retry::patience::Retries;
use crate::retry::throttle::Throttle;
use crate::shutdown::Stop;
use crate::sink::elasticsearch::bulk::Targets;
use crate::sink::elasticsearch::client::{Client, ContentType, Limits};
use crate::sink::elasticsearch::load_settings::{self, LoadSettings, LoadedIndices};
use crate::sink::elasticsearch::mapping::create_missing;
use crate::sink::elasticsearch::outcome::is_unavailable;
use crate::sink::elasticsearch::preflight::{self, Needs, Outage, PreflightError, Report, Target};
use crate::sink::elasticsearch::primaries::Primaries;
use crate::sink::elasticsearch::{POSTS, TOMBSTONES};

/// The server that a run writes to.
pub struct Server {
    /// The client shared by all senders.
    pub client: Client,
    /// The server's health as all senders see it.
    pub throttle: Arc<Throttle>,
    /// What the preflight learnt of the indices.
    pub targets: Targets,
    /// What the preflight checked, in order.
    pub checks: Vec<Check>,
    /// The name of one index in which all vectors are `dense_vector`, and which posts are written to; None where
    /// they are anything else.
    pub dense_vectors: Option<String>,
    loaded: LoadedIndices,
    /// Where Elasticsearch acknowledges before it syncs, so that it has to be flushed before anything is marked: the
    /// shards that the run writes to.
    unsynced: Option<Primaries>,
    budget: Option<Duration>,
}

impl Server {
    /// Connects, creates missing indices if asked to, and checks all that can be checked before anything is sent.
    /// An unavailable server is waited for within the budget.
    pub fn connect(settings: &config::Elasticsearch, config: &Config, stop: &Stop) -> Result<Self, Failure> {
        settings.insecurities().iter().for_each(|text| log::warn!("{text}"));
        // Posts are sent by senders, and by workers that find out how vectors are read; the ledger flushes.
        let idle_connections = config.senders + config.workers + 1;
        let client = Client::with_limits(settings, Limits { idle_connections, ..Limits::default() })?;
        let budget = config.retry_budget;
        if config.create_indices {
            let created = insist(stop, budget, |limit| create_missing(&client.within(limit)))?;
            created.iter().for_each(|index| log::info!("created the index {index}"));
        }
        let Report { checks, posts, tombstones, unsynced } =
            insist(stop, budget, |limit| preflight::run(&client.within(limit), needs(config)))?;
        for check in &checks {
            let level = if check.status == Status::Warning { log::Level::Warn } else { log::Level::Debug };
            log::log!(level, "preflight: {check}");
        }
        let dense_vectors = posts.vectors.dense.then(|| single_index(&posts));
        let is_alias = |target: &Target| !target.indices.contains(&target.name);
        let are_aliases = is_alias(&posts) && is_alias(&tombstones);
        let loaded = LoadedIndices { posts: posts.write_index, tombstones: tombstones.write_index };
        let targets = Targets {
            are_aliases,
            gc_deletes: posts.gc_deletes,
            delete_from: one_or_each(posts.indices, POSTS),
            look_up_in: one_or_each(tombstones.indices, TOMBSTONES),
        };
        let throttle = Arc::new(Throttle::new(config.senders, stop.clone(), budget));
        Ok(Self { client, throttle, targets, checks, dense_vectors, loaded, unsynced, budget })
    }

    /// Puts back what a killed run has left changed; then, where asked for, sets what a first load wants.
    ///
    /// Whatever comes of it, [`LoadSettings::end`] has to follow.
    pub fn begin_load(
        &self,
        load_settings: &mut LoadSettings,
        config: &Config,
        stop: &Stop,
    ) -> Result<(), Failure> {
        if load_settings.are_changed() {
            log::warn!("an earlier run has not put the index settings back: this is done first");
            insist(stop, self.budget, |_| load_settings.put_back())?;
            load_settings.forget()?;
        }
        if config.bulk_load_settings {
            let plan = insist(stop, self.budget, |_| load_settings.plan(&self.loaded))?;
            load_settings.record(plan)?;
            let shown = insist(stop, self.budget, |_| load_settings.apply())?;
            load_settings.confirm(shown)?;
        }
        Ok(())
    }

    /// Brings to disk what Elasticsearch has confirmed, where its confirmation does not mean that already.
    pub fn make_durable(&self, stop: &Stop) -> Result<(), Failure> {
        let Some(primaries) = &self.unsynced else { return Ok(()) };
        insist(stop, self.budget, |call| flush(&self.client.within(call)))?;
        if insist(stop, self.budget, |call| Primaries::find(&self.client.within(call)))? == *primaries {
            return Ok(());
        }
        Err(Failure::new(
            ExitCode::Unavailable,
            "a shard has been started anew or moved since the run began, and index.translog.durability is async: \
             Elasticsearch may have lost what it had confirmed, so nothing is marked; run again, or set the durability \
             to request",
        ))
    }
}

/// What the run needs of its privileges, beyond reading and writing documents. A replay leaves index settings alone.
pub fn needs(config: &Config) -> Needs {
    let left_changed = || load_settings::left_changed(&config.state_file).unwrap_or(true);
    let is_replay = matches!(config.task, Task::Replay { .. });
    Needs {
        manage: !is_replay && (config.bulk_load_settings || left_changed()),
        search_by_author: config.account_deletions,
        // A load has made them by then.
        create: config.create_indices && matches!(config.task, Task::Check(_)),
    }
}

fn flush(client: &Client) -> Result<(), PreflightError> {
    let reply = match client.post(&format!("/{POSTS},{TOMBSTONES}/_flush"), ContentType::Json, b"") {
        Ok(reply) => reply,
        Err(error) => return Err(PreflightError::unavailable(error.to_string())),
    };
    match reply.status {
        200 if all_shards_flushed(&reply.body) => Ok(()),
        401 | 403 if !is_unavailable(&reply) => Err(PreflightError::Refused(vec![Check {
            name: "flush",
            status: Status::Failed,
            text:
                "index.translog.durability is async, so the indices have to be flushed before archives are \
                   marked, but this run lacks the privilege maintenance: grant it, or set the durability to \
                   request"
                    .into(),
        }])),
        status => Err(PreflightError::unavailable_as(format!("the flush answers status {status}"), &reply)),
    }
}

fn all_shards_flushed(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Flushed {
        #[serde(rename = "_shards")]
        shards: Shards,
    }
    #[derive(Deserialize)]
    struct Shards {
        failed: u64,
    }
    serde_json::from_slice::<Flushed>(body).is_ok_and(|flushed| flushed.shards.failed == 0)
}

/// Ids are unique per index only: where an alias has several, each of them is meant.
fn one_or_each(indices: Vec<String>, alias: &str) -> Vec<String> {
    if indices.len() > 1 { indices } else { vec![alias.to_owned()] }
}

/// The name under which documents are read that were written to the target. The alias is preferred to the index
/// behind it, which the key may not be made for.
fn single_index(target: &Target) -> String {
    let name = if target.indices.len() > 1 { &target.write_index } else { &target.name };
    name.clone()
}

/// Asks until the answer is not "unavailable", within the budget; a server that asks to be left alone for a while is.
/// `ask` is told how long a request may take.
fn insist<T>(
    stop: &Stop,
    budget: Option<Duration>,
    ask: impl Fn(Duration) -> Result<T, PreflightError>,
) -> Result<T, Failure> {
    let retries = Retries::new(stop, budget);
    let mut patience = retries.patience();
    loop {
        match ask(patience.begin()) {
            Ok(answer) => return Ok(answer),
            Err(PreflightError::Unavailable(Outage { why, retry_after })) => {
                if patience.away_for(&why, retry_after).is_err() {
                    return Err(stop.as_failure());
                }
            }
            Err(refused) => {
                let refused = Failure::from(refused);
                if patience.refused(refused.clone()).is_err() {
                    return Err(refused);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_counts_only_where_no_shard_failed() {
        assert!(all_shards_flushed(br#"{"_shards":{"total":4,"successful":2,"failed":0}}"#));
        assert!(!all_shards_flushed(br#"{"_shards":{"total":4,"successful":1,"failed":1}}"#));
        assert!(!all_shards_flushed(b"{}"));
    }

    #[test]
    fn an_alias_of_several_indices_means_each_of_them() {
        assert_eq!(one_or_each(vec!["posts_v1".into()], POSTS), ["posts"]);
        assert_eq!(one_or_each(vec!["a".into(), "b".into()], POSTS), ["a", "b"]);
    }
}
