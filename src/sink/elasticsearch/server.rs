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
    /// What stands behind the names of the indices.
    pub targets: LiveTargets,
    /// What the preflight checked, in order.
    pub checks: Vec<Check>,
    /// The name of one index in which all vectors are `dense_vector`, and which posts are written to; None where
    /// they are anything else.
    pub dense_vectors: Option<String>,
    /// What is written to.
    pub names: Names,
    /// The ingest pipeline that is named in place of the index's default.
    pub pipeline: Option<&'static str>,
    /// The indices that were made for this run.
    pub created: Vec<String>,
    loaded: LoadedIndices,
    /// How long it is waited for while it is unavailable; None: for ever.
    pub budget: Option<Duration>,
}

impl Server {
    /// Connects, creates missing indices if asked to, and checks all that can be checked before anything is sent.
    /// An unavailable server is waited for within the budget.
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
        // Posts are sent by senders, and by workers that find out how vectors are read; the ledger flushes.
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

    /// Puts back what a killed run has left changed; then, where the load tunes them, sets what a first load wants.
    ///
    /// Whatever comes of it, [`LoadSettings::end`] has to follow.
    pub fn begin_load(
        &self,
        load_settings: &mut LoadSettings,
        tunes: bool,
        stop: &Stop,
    ) -> Result<(), Failure> {
        let retries = Retries::new(stop, policy(self.budget));
        if load_settings.are_changed() {
            log::warn!("an earlier run has not put the index settings back: this is done first");
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

    /// Looks once whether something else stands behind the names by now. A server that is away is waited for by whoever
    /// sends to it, and as long as nothing `is_to_send`, names that nothing can be written to may be mended.
    ///
    /// # Errors
    ///
    /// Where nothing can be written to a name any more.
    pub fn look(&self, is_to_send: bool) -> Result<(), Failure> {
        match self.targets.look(&self.client, self.targets.now().generation) {
            Err(error @ PreflightError::Refused(_)) if is_to_send => Err(error.into()),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Brings to disk what Elasticsearch has confirmed, where its confirmation does not mean that already, and looks
    /// whether what it was written to is still what stands behind the names. Returns the generation that counts.
    pub fn make_durable(&self, stop: &Stop) -> Result<Generation, Failure> {
        let retries = Retries::new(stop, policy(self.budget));
        let seen = self.targets.now();
        if seen.unsynced.is_some() {
            let Names { posts, tombstones, .. } = self.names;
            let both = format!("{posts},{tombstones}");
            insist(&retries, |call| {
                past_pages(&self.client.within(call).noting_pages(), |client| flush(client, &both))
            })?;
        }
        let look = |call| self.targets.look(&self.client.within(call), seen.generation);
        Ok(insist(&retries, look)?.generation)
    }
}

/// Where only some answers are pages, the preflight is repeated so often: the server may come back in the middle of it, and
/// what a page does not tell would be taken for what the server never tells.
const DOUBTS: u32 = 5;

/// How the questions of a preflight are asked.
struct Door<'d> {
    client: &'d Client,
    stop: &'d Stop,
    /// How long an unavailable server is waited for; None: for ever.
    budget: Option<Duration>,
    /// The same for one in whose place something else answers; None: that is refused at once.
    page_budget: Option<Duration>,
}

impl Door<'_> {
    /// Asks until there is an answer of Elasticsearch.
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

/// The name under which documents are read that were written to the target. The alias is preferred to the index
/// behind it, which the key may not be made for.
fn single_index(target: &Target) -> String {
    let name = if target.members.len() > 1 { &target.write_index } else { &target.name };
    name.clone()
}
