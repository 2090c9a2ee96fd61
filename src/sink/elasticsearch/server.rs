//! A connection to Elasticsearch that has passed preflight.

use std::sync::Arc;
use std::time::Duration;

use crate::common::exit::Failure;
use crate::config;
use crate::model::{Generation, Names, Senders};
use crate::observe::finding::Status;
use crate::process::shutdown::Stop;
use crate::retry::patience::Retries;
use crate::retry::throttle::Throttle;
use crate::sink::elasticsearch::answer::{NoAnswer, pages_as_outages};
use crate::sink::elasticsearch::client::{Client, RequestLimits};
use crate::sink::elasticsearch::flush::flush;
use crate::sink::elasticsearch::live_targets::LiveTargets;
use crate::sink::elasticsearch::load_settings::LoadSettings;
use crate::sink::elasticsearch::mapping::create_missing;
use crate::sink::elasticsearch::outcome::foreign_answer;
use crate::sink::elasticsearch::preflight::{self, Needs, Report};
use crate::sink::elasticsearch::retrying::{AT_ONCE, MOVING, policy, retry, retry_until_stopped};
use crate::sink::elasticsearch::targets::Targets;

/// The server that a run writes to.
pub struct Server {
    /// Client shared by all senders.
    pub client: Client,
    /// The server's health, and the limits on requests in flight.
    pub throttle: Arc<Throttle>,
    /// The indices behind the names.
    pub targets: Arc<LiveTargets>,
    /// Names to write to.
    pub names: Names,
    /// Ingest pipeline that replaces the index's default.
    pub pipeline: Option<&'static str>,
    /// Indices created for this run.
    pub created: Vec<String>,
    /// How long to wait for an unavailable server; None: without limit.
    pub budget: Option<Duration>,
}

impl Server {
    /// Connects, creates missing indices if configured, and makes all checks that precede the first document. Waits for
    /// an unavailable server within the budget.
    pub fn connect(
        settings: &config::Server,
        senders: Senders,
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
        let idle_connections = senders.max + workers + 1;
        let client =
            Client::with_limits(settings, RequestLimits { idle_connections, ..RequestLimits::default() })?
                .stopping_at(stop);
        let requests = PreflightRequests { client: &client, stop, budget, page_budget: *page_budget };
        let mut created = Vec::new();
        if *create_indices {
            created = requests.ask(move |client| create_missing(client, needs.names))?;
            created.iter().for_each(|index| log::info!("created the index {index}"));
        }
        let Report { checks, targets } = requests.ask(move |client| preflight::run(client, needs))?;
        for check in &checks {
            let level = if check.status == Status::Warning { log::Level::Warn } else { log::Level::Debug };
            log::log!(level, "preflight: {check}");
        }
        let throttle = Arc::new(Throttle::new(senders, stop.clone(), budget));
        Ok(Self {
            client,
            throttle,
            targets: Arc::new(LiveTargets::new(targets)),
            names: needs.names,
            pipeline: needs.pipeline,
            created,
            budget,
        })
    }

    /// Restores the settings that a killed run has left changed. Then tunes the indices for a first load, if `tunes`.
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
            log::warn!("an earlier run has not restored the index settings: this run restores them first");
            retry(&retries, AT_ONCE, |_| load_settings.restore(None))?;
            load_settings.remove_record()?;
        }
        if tunes {
            let targets = self.targets.now();
            let plan = retry(&retries, AT_ONCE, |_| load_settings.plan(&targets))?;
            load_settings.record(plan)?;
            let shown = retry(&retries, AT_ONCE, |_| load_settings.apply())?;
            load_settings.confirm(shown)?;
        }
        Ok(())
    }

    /// Looks up whether the indices behind the names have changed. The time limit is short, because the run looks for
    /// archives even while the server hangs. An unavailable server is not an error here: the senders wait for it. Names
    /// that cannot be written to are an error only if something `is_to_send`, since they may be fixed until then, and if
    /// that lasts for [`MOVING`], or after an outage for as long as the server may be starting.
    ///
    /// # Errors
    ///
    /// Returns a failure if a name can no longer be written to.
    pub fn look(&self, is_to_send: bool, stop: &Stop) -> Result<(), Failure> {
        let (targets, throttle) = (self.targets.clone(), self.throttle.clone());
        let client = self.client.with_short_limit();
        let look = move |_| match refresh(&targets, &throttle, &client, targets.now().generation) {
            Err(error @ NoAnswer::Refused(_)) if is_to_send => Err(error),
            Ok(_) | Err(_) => Ok(()),
        };
        Ok(retry_until_stopped(&self.retries(stop), MOVING, look)?)
    }

    /// Flushes the indices if a confirmation does not mean that a document is on disk. Checks that the indices behind the
    /// names are still the same, and returns the generation that counts.
    pub fn make_durable(&self, stop: &Stop) -> Result<Generation, Failure> {
        let retries = self.retries(stop);
        let seen = self.targets.now();
        let Names { posts, tombstones, .. } = self.names;
        let both = format!("{posts},{tombstones}");
        if seen.unsynced.is_some() {
            retry(&retries, AT_ONCE, |call| {
                pages_as_outages(&self.client.within(call).recording_pages(), |client| flush(client, &both))
            })?;
        }
        let look = |call| refresh(&self.targets, &self.throttle, &self.client.within(call), seen.generation);
        Ok(retry(&retries, MOVING, look)?.generation)
    }

    /// Returns the retries of requests made while the senders are at work, which share their outages.
    pub(super) fn retries<'s>(&'s self, stop: &'s Stop) -> Retries<'s> {
        Retries::new(stop, policy(self.budget)).shared_health(&*self.throttle)
    }
}

/// Looks the targets up again, and tells the senders of an outage.
fn refresh(
    targets: &LiveTargets,
    throttle: &Throttle,
    client: &Client,
    seen: Generation,
) -> Result<Arc<Targets>, NoAnswer> {
    targets.refresh(client, seen).inspect_err(|error| {
        if matches!(error, NoAnswer::Unavailable(_)) {
            throttle.found_away();
        }
    })
}

/// How often a preflight is repeated while only some answers are pages. The server may come back during a preflight,
/// and what a page hides would count as something that the server never shows.
const MAX_DOUBTS: u32 = 5;

struct PreflightRequests<'d> {
    client: &'d Client,
    stop: &'d Stop,
    /// How long to wait for an unavailable server; None: without limit.
    budget: Option<Duration>,
    /// How long to wait while something else answers instead of the server; None: this is refused at once.
    page_budget: Option<Duration>,
}

impl PreflightRequests<'_> {
    /// Asks until Elasticsearch itself answers.
    fn ask<T: Send + 'static>(
        &self,
        ask: impl Fn(&Client) -> Result<T, NoAnswer> + Clone + Send + 'static,
    ) -> Result<T, Failure> {
        let outages = Retries::new(self.stop, policy(self.budget));
        let waits_for_pages = self.page_budget.is_some();
        let pages = Retries::new(self.stop, policy(self.page_budget));
        let mut patience = pages.patience();
        let mut doubts = 0..MAX_DOUBTS;
        loop {
            let doubts_answers = waits_for_pages && doubts.next().is_some();
            let (client, ask) = (self.client.clone(), ask.clone());
            let asked = retry_until_stopped(&outages, AT_ONCE, move |limit| {
                let client = client.within(limit).recording_pages();
                match (ask(&client), client.page()) {
                    (Err(refused @ NoAnswer::Refused(_)), Some(page)) if waits_for_pages => {
                        Ok(Err(format!("{}; {refused}", foreign_answer(&page))))
                    }
                    (Ok(_), Some(page)) if doubts_answers => Ok(Err(foreign_answer(&page))),
                    (answer, _) => answer.inspect(|_| client.expect_pages()).map(Ok),
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
