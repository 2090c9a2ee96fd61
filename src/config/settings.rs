//! Looking settings up, and parsing them.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use crate::cli::{Cli, parse_switch};
use crate::exit::Failure;
use crate::shard::Shard;

/// Looks settings up and parses them; every error names the setting.
pub(super) struct Settings<'a> {
    pub(super) environment: &'a dyn Fn(&str) -> Option<String>,
}

impl Settings<'_> {
    pub(super) fn get(&self, variable: &str) -> Option<String> {
        (self.environment)(variable).filter(|value| !value.is_empty())
    }

    pub(super) fn text(&self, typed: Option<&str>, variable: &str) -> Option<String> {
        typed.map(str::to_owned).or_else(|| self.get(variable))
    }

    pub(super) fn needed(&self, variable: &str, what: &str) -> Result<String, Failure> {
        self.get(variable).ok_or_else(|| {
            Failure::usage(format!("{variable} is not set: {what}, or use --dry-run to write nothing"))
        })
    }

    pub(super) fn number<T>(
        &self,
        (flag, variable): (&str, &str),
        typed: Option<&str>,
        default: T,
        least: T,
        most: T,
    ) -> Result<T, Failure>
    where
        T: FromStr + PartialOrd + Display + Copy,
    {
        let name = if typed.is_some() { flag } else { variable };
        let Some(text) = self.text(typed, variable) else { return Ok(default) };
        match text.trim().parse::<T>() {
            Ok(number) if number >= least && number <= most => Ok(number),
            _ => Err(Failure::usage(format!(
                "{name} is {text:?}: it takes a whole number from {least} to {most}"
            ))),
        }
    }

    pub(super) fn switch(&self, typed: Option<bool>, variable: &str, default: bool) -> Result<bool, Failure> {
        if let Some(typed) = typed {
            return Ok(typed);
        }
        let Some(text) = self.get(variable) else { return Ok(default) };
        parse_switch(&text)
            .ok_or_else(|| Failure::usage(format!("{variable} is {text:?}: it takes true or false")))
    }

    /// One of a few words; the first is the default.
    pub(super) fn choice<T: Copy>(
        &self,
        name: &str,
        typed: Option<&str>,
        choices: &[(&str, T)],
    ) -> Result<T, Failure> {
        let text = typed.or(choices.first().map(|choice| choice.0)).unwrap_or_default();
        choices.iter().find(|(word, _)| *word == text).map(|&(_, value)| value).ok_or_else(|| {
            let words: Vec<&str> = choices.iter().map(|c| c.0).collect();
            Failure::usage(format!("{name} is {text:?}: it takes {}", words.join(" or ")))
        })
    }

    pub(super) fn shard(&self, typed: Option<&str>) -> Result<Shard, Failure> {
        let parse = |name: &str, text: &str| {
            Shard::parse(text).map_err(|error| Failure::usage(format!("{name} is {text:?}: {error}")))
        };
        if let Some(text) = typed {
            return parse("--shard", text);
        }
        if let Some(text) = self.get("SHARD") {
            return parse("SHARD", &text);
        }
        match (self.get("JOB_COMPLETION_INDEX"), self.get("SHARD_COUNT")) {
            (Some(index), Some(count)) => {
                parse("JOB_COMPLETION_INDEX/SHARD_COUNT", &format!("{index}/{count}"))
            }
            (None, Some(_)) => Err(Failure::usage(
                "SHARD_COUNT is set, but JOB_COMPLETION_INDEX is not: set both, or SHARD, or neither",
            )),
            // Kubernetes sets the index in every indexed job, whether or not it is meant for sharding.
            (_, None) => Ok(Shard::ALL),
        }
    }

    /// Roots to trust besides the system's, for Elasticsearch and S3.
    pub(super) fn ca_cert(&self, cli: &Cli) -> Option<PathBuf> {
        self.text(cli.ca_cert.as_deref(), "ELASTICSEARCH_CA_CERT").map(PathBuf::from)
    }
}
