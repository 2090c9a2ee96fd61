//! From what was typed and what is set to what a run is to do.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

use super::settings::Settings;
use super::{BatchLimits, Config, LogFormat, Mode, Output, Source, Task, VectorChoice, rules};
use crate::cli::Cli;
use crate::exit::Failure;
use crate::files::beside;

impl Config {
    /// Resolves and checks everything. `environment` looks up a variable; an empty one is as good as none.
    pub fn resolve(cli: Cli, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let (cli, settings) = (&cli, Settings { environment });
        rules::check_paths(cli)?;
        rules::check_replay(cli)?;
        let mode = settings.mode(cli)?;
        let summary = settings.text(cli.summary_json.as_deref(), "SUMMARY_JSON").map(Output::parse);
        rules::check_combination(cli, summary.as_ref())?;
        let task = settings.task(cli)?;
        let bulk_load_settings = settings.bulk_load_settings(cli, &task)?;
        rules::check_load(bulk_load_settings, mode)?;
        let config = Self {
            mode,
            source: settings.source_of(cli, &task)?,
            workers: settings.workers(cli)?,
            senders: settings.number(("--senders", "SENDERS"), cli.senders.as_deref(), 4, 1, 256)?,
            batch: settings.batch(cli)?,
            vectors: settings.vectors(cli)?,
            state_file: settings.get("SPOOL_STATE_FILE").unwrap_or(".processed_files.json".into()).into(),
            dead_letters: settings.dead_letters(cli, &task),
            summary,
            retry_failed: cli.retry_failed,
            retry_budget: settings.retry_budget(cli, mode)?,
            shard: settings.shard(cli.shard.as_deref())?,
            create_indices: cli.create_indices,
            account_deletions: settings.switch(cli.account_deletions, "ACCOUNT_DELETIONS", false)?,
            bulk_load_settings,
            metrics_file: settings.text(cli.metrics_file.as_deref(), "METRICS_FILE").map(PathBuf::from),
            spool_interval: settings.spool_interval()?,
            logging: settings.switch(None, "LOGGING_ENABLED", true)?,
            log_format: settings.log_format()?,
            task,
        };
        config.check_files()?;
        Ok(config)
    }
}

impl Output {
    fn parse(text: String) -> Self {
        if text == "-" { Output::Stdout } else { Output::File(text.into()) }
    }
}

impl Settings<'_> {
    fn mode(&self, cli: &Cli) -> Result<Mode, Failure> {
        self.choice("--mode", cli.mode.as_deref(), &[("once", Mode::Once), ("spool", Mode::Spool)])
    }

    fn task(&self, cli: &Cli) -> Result<Task, Failure> {
        if cli.list {
            return Ok(Task::List);
        }
        if cli.dry_run {
            return Ok(Task::DryRun { output: cli.output.clone().map(Output::parse) });
        }
        let elasticsearch = self.elasticsearch(cli)?;
        Ok(match &cli.replay {
            _ if cli.check => Task::Check(elasticsearch),
            Some(path) => Task::Replay { elasticsearch, path: path.into() },
            None => Task::Ingest(elasticsearch),
        })
    }

    fn source_of(&self, cli: &Cli, task: &Task) -> Result<Source, Failure> {
        match task {
            // The only file that it reads is the task's.
            Task::Replay { .. } => Ok(Source::Local(Vec::new())),
            _ => self.source(cli),
        }
    }

    fn workers(&self, cli: &Cli) -> Result<usize, Failure> {
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        self.number(("--workers", "WORKERS"), cli.workers.as_deref(), cores, 1, 1024)
    }

    fn batch(&self, cli: &Cli) -> Result<BatchLimits, Failure> {
        let docs = ("--batch-docs", "BATCH_DOCS");
        let bytes = ("--batch-bytes", "BATCH_BYTES");
        Ok(BatchLimits {
            docs: self.number(docs, cli.batch_docs.as_deref(), 100, 1, 100_000)?,
            bytes: self.number(bytes, cli.batch_bytes.as_deref(), 8 << 20, 1 << 10, 1 << 30)?,
        })
    }

    fn vectors(&self, cli: &Cli) -> Result<VectorChoice, Failure> {
        let text = self.text(cli.vector_encoding.as_deref(), "VECTOR_ENCODING");
        self.choice(
            "--vector-encoding (VECTOR_ENCODING)",
            text.as_deref(),
            &[("auto", VectorChoice::Auto), ("base64", VectorChoice::Base64), ("array", VectorChoice::Array)],
        )
    }

    fn dead_letters(&self, cli: &Cli, task: &Task) -> Option<PathBuf> {
        let named = self.text(cli.dead_letter.as_deref(), "DEAD_LETTER_FILE").map(PathBuf::from);
        named.or_else(|| match task {
            Task::Replay { path, .. } => Some(beside(path, ".failed")),
            // A dry run leaves nothing behind that was not asked for by name.
            Task::DryRun { .. } => None,
            _ => Some(".dead_letters.ndjson".into()),
        })
    }

    /// A spool run waits for ever.
    fn retry_budget(&self, cli: &Cli, mode: Mode) -> Result<Option<Duration>, Failure> {
        let names = ("--retry-budget", "RETRY_BUDGET_SEC");
        let seconds = self.number(names, cli.retry_budget.as_deref(), 600, 0, u64::MAX)?;
        Ok((mode == Mode::Once).then_some(Duration::from_secs(seconds)))
    }

    /// A replay is no load.
    fn bulk_load_settings(&self, cli: &Cli, task: &Task) -> Result<bool, Failure> {
        let asked_for = self.switch(cli.bulk_load_settings, "BULK_LOAD_SETTINGS", false)?;
        Ok(asked_for && !matches!(task, Task::Replay { .. }))
    }

    fn spool_interval(&self) -> Result<Duration, Failure> {
        let names = ("SPOOL_INTERVAL_SEC", "SPOOL_INTERVAL_SEC");
        Ok(Duration::from_secs(self.number(names, None, 60, 1, u64::MAX)?))
    }

    fn log_format(&self) -> Result<LogFormat, Failure> {
        let text = self.get("LOG_FORMAT");
        self.choice("LOG_FORMAT", text.as_deref(), &[("text", LogFormat::Text), ("json", LogFormat::Json)])
    }
}
