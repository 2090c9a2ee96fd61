//! A connection to Elasticsearch that has passed preflight.

use std::sync::Arc;
use std::time::Duration;

use crate::config;
use crate::exit::Failure;
use crate::model::Generation;
use crate::model::Names;
use crate::observe::finding::{Check, Status};
use crate::retry::patience::Retries;
use crate::retry::throttle::Throttle;
use crate::shutdown::Stop;
use crate::sink::elasticsearch::client::{Client, RequestLimits};
use crate::sink::elasticsearch::flush::flush;
use crate::sink::elasticsearch::insist::{insist, insist_until_stopped, policy};
use crate::sink::elasticsearch::load_settings::{LoadSettings, LoadedIndices};
use crate::sink::elasticsearch::mapping::create_missing;
use crate::sink::elasticsearch::outcome::not_elasticsearchs;
use crate::sink::elasticsearch::preflight::{self, Needs, PreflightError, Report, Target, past_pages};
use crate::sink::elasticsearch::targets::{LiveTargets, Targets};

/// The server that a run writes to.
pub struct Server {
    /// The client shared by all senders.
    pub client: Client,
    /// The server's health as all senders see it.
    pub throttle: Arc<Throttle>,
    /// The indices behind the names.
    pub targets: LiveTargets,
    /// The checks of the preflight, in order.
    pub checks: Vec<Check>,
    /// The name under which posts are written to one index whose vectors are all `dense_vector`; None otherwise.
    pub dense_vectors: Option<String>,
    /// The names to write to.
    pub names: Names,
    /// The ingest pipeline that replaces the index's default.
    pub pipeline: Option<&'static str>,
    /// The indices created for this run.
    pub created: Vec<String>,
    loaded: LoadedIndices,
    /// How long to wait for an unavailable server; None: for ever.
    pub budget: Option<Duration>,
}

impl Server {
    /// Connects, creates missing indices if asked to, and makes all checks that precede the first document. Waits for
    /// an unavailable server within the budget.
    pub fn connect(
        settings: &config::Server,
        senders: usize,
        workers: usize,
        needs: Needs,
        stop: &Stop,
    ) -> Result<Self, Failure> {
        let config::Server {
            elasticsearch: settings, create_indices, retry_budget: budget, page_budget, ..
        } = settings;
        let budget = *budget;
        settings.insecurities().iter().for_each(|text| log::warn!("{text}"));
        // Senders send posts, workers find out how vectors are read, and the ledger flushes.
        let idle_connections = senders + workers + 1;
        let client =
            Client::with_limits(settings, RequestLimits { idle_connections, ..RequestLimits::default() })?;
        let door = Door { client: &client, stop, budget, page_budget: *page_budget };
        let mut created = Vec::new();
        if *create_indices {
            created = door.ask(move |client| create_missing(client, needs.names))?;
            created.iter().for_each(|index| log::info!("created the index {index}"));
        }
        let Report { checks, posts, tombstones, unsynced } =
            door.ask(move |client| preflight::run(client, needs))?;
        for check in &checks {
            let level = if check.status == Status::Warning { log::Level::Warn } else { log::Level::Debug };
            log::log!(level, "preflight: {check}");
        }
        let dense_vectors = posts.vectors.dense.then(|| single_index(&posts));
        let loaded =
            LoadedIndices { posts: posts.write_index.clone(), tombstones: tombstones.write_index.clone() };
        let Needs { names, reads_only, .. } = needs;
        let targets =
            LiveTargets::new(Targets { generation: 0, names, reads_only, posts, tombstones, unsynced });
        let throttle = Arc::new(Throttle::new(senders, stop.clone(), budget));
        Ok(Self {
            client,
            throttle,
            targets,
            checks,
            dense_vectors,
            names: needs.names,
            pipeline: needs.pipeline,
            created,
            loaded,
            budget,
        })
    }

    /// Restores the settings that a killed run has left changed. Then tunes the indices for a first load, if asked to.
    ///
    /// [`LoadSettings::end`] must follow, whatever the result.
    pub fn begin_load(
        &self,
        load_settings: &mut LoadSettings,
        tunes: bool,
        stop: &Stop,
    ) -> Result<(), Failure> {
        let retries = Retries::new(stop, policy(self.budget));
        if load_settings.are_changed() {
            log::warn!("an earlier run has not put the index settings back: this run puts them back first");
            insist(&retries, |_| load_settings.put_back())?;
            load_settings.forget()?;
        }
        if tunes {
            let plan = insist(&retries, |_| load_settings.plan(&self.loaded))?;
            load_settings.record(plan)?;
            let shown = insist(&retries, |_| load_settings.apply())?;
            load_settings.confirm(shown)?;
        }
        Ok(())
    }

    /// Looks once whether the indices behind the names have changed, in haste: looks for archives go on while the server
    /// hangs. An unavailable server is no error here: the senders wait for it. Names that cannot be written to are no error while nothing `is_to_send`: they may be fixed
    /// until then.
    ///
    /// # Errors
    ///
    /// If a name can no longer be written to.
    pub fn look(&self, is_to_send: bool) -> Result<(), Failure> {
        match self.targets.look(&self.client.in_haste(), self.targets.now().generation) {
            Err(error @ PreflightError::Refused(_)) if is_to_send => Err(error.into()),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Flushes the indices if a confirmation does not mean that a document is on disk, and checks that the indices behind
    /// the names are still the same. Returns the generation that counts.
    pub fn make_durable(&self, stop: &Stop) -> Result<Generation, Failure> {
        let retries = Retries::new(stop, policy(self.budget));
        let seen = self.targets.now();
        let Names { posts, tombstones, .. } = self.names;
        let both = format!("{posts},{tombstones}");
        if seen.unsynced.is_some() {
            insist(&retries, |call| {
                past_pages(&self.client.within(call).noting_pages(), |client| flush(client, &both))
            })?;
        }
        let look = |call| self.targets.look(&self.client.within(call), seen.generation);
        Ok(insist(&retries, look)?.generation)
    }
}

/// Limits how often a preflight is repeated while only some answers are pages. The server may come back during a
/// preflight, and what a page hides would be taken for what the server never tells.
const DOUBTS: u32 = 5;

/// Asks the questions of a preflight.
struct Door<'d> {
    client: &'d Client,
    stop: &'d Stop,
    /// How long to wait for an unavailable server; None: for ever.
    budget: Option<Duration>,
    /// How long to wait while something else answers in its place; None: refused at once.
    page_budget: Option<Duration>,
}

impl Door<'_> {
    /// Asks until Elasticsearch itself answers.
    fn ask<T: Send + 'static>(
        &self,
        ask: impl Fn(&Client) -> Result<T, PreflightError> + Clone + Send + 'static,
    ) -> Result<T, Failure> {
        let outages = Retries::new(self.stop, policy(self.budget));
        let Some(page_budget) = self.page_budget else {
            let client = self.client.clone();
            return Ok(insist_until_stopped(&outages, move |limit| ask(&client.within(limit)))?);
        };
        let pages = Retries::new(self.stop, policy(Some(page_budget)));
        let mut patience = pages.patience();
        let mut doubts = 0..DOUBTS;
        loop {
            let doubts_answers = doubts.next().is_some();
            let (client, ask) = (self.client.clone(), ask.clone());
            let asked = insist_until_stopped(&outages, move |limit| {
                let client = client.within(limit).noting_pages();
                match (ask(&client), client.page()) {
                    (Err(refused @ PreflightError::Refused(_)), Some(page)) => {
                        Ok(Err(format!("{}; {refused}", not_elasticsearchs(&page))))
                    }
                    (Ok(_), Some(page)) if doubts_answers => Ok(Err(not_elasticsearchs(&page))),
                    (answer, _) => answer.map(Ok),
                }
            })?;
            match asked {
                Ok(answer) => return Ok(answer),
                Err(why) => {
                    patience.begin();
                    patience.away(&why)?;
                }
            }
        }
    }
}

/// The name under which documents written to the target are read. The alias is preferred if there is one index behind
/// it, since the key may cover the alias only.
fn single_index(target: &Target) -> String {
    let name = if target.members.len() > 1 { &target.write_index } else { &target.name };
    name.clone()
}
