//! Formats the figures of a run in Prometheus' text exposition format.
//!
//! Sources: Prometheus, "Exposition formats" (text format 0.0.4) and "Metric and label naming". `docs/metrics.md`
//! explains each figure.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use crate::common::exit::ExitCode;
use crate::config::Mode;
use crate::model::{Health, MemoryFigures, ServerFigures};
use crate::observe::progress::Figures;
use crate::observe::traffic::{BOUNDS, Requests, TrafficFigures};
use crate::process::pulse::Stage;

/// Prefix of every metric name.
pub(super) const PREFIX: &str = "megastream_ingest_";

/// Name of the metric that is carried over from an earlier run's file.
pub(super) const LAST_SUCCESS: &str = "last_success_timestamp_seconds";

/// Name of the histograms of requests.
const DURATIONS: &str = "request_duration_seconds";

/// The facts about a run that are exposed besides its figures.
#[derive(Clone, Copy, Debug)]
pub struct Exposition {
    /// Mode of the run.
    pub mode: Mode,
    /// Whether the run sends nothing.
    pub dry_run: bool,
    /// The last success of earlier runs, in milliseconds since 1970. Exposed until this run has a success of its own.
    pub earlier_success: Option<i64>,
}

impl Exposition {
    /// Returns the whole text, with the exit code once the run has ended. The lines always have the same order.
    pub fn text(self, figures: &Figures, code: Option<ExitCode>) -> String {
        let mut text = Text(String::with_capacity(16 << 10));
        text.run(self, figures, code);
        text.archives(figures);
        text.rows(figures);
        text.requests(&figures.requests);
        if !self.dry_run {
            text.traffic(&figures.traffic);
            text.server(figures.server);
        }
        text.memory(figures.memory);
        text.stuck(&figures.stuck);
        text.end(figures.last_success.or(self.earlier_success), code);
        text.0
    }
}

/// Formats milliseconds as seconds.
fn seconds(millis: i64) -> String {
    format!("{:.3}", millis as f64 / 1000.0)
}

/// A text being written. Names are given without [`PREFIX`].
struct Text(String);

impl Text {
    fn run(&mut self, run: Exposition, figures: &Figures, code: Option<ExitCode>) {
        self.head("info", "Always 1; the labels describe the run.");
        let dry_run = if run.dry_run { "true" } else { "false" };
        let labels =
            [("version", env!("CARGO_PKG_VERSION")), ("mode", run.mode.name()), ("dry_run", dry_run)];
        self.sample("info", &labels, 1);
        self.one("running", "1 while the run works, 0 once it has ended.", u8::from(code.is_none()));
        self.one("start_timestamp_seconds", "When the run started.", seconds(figures.started));
    }

    fn archives(&mut self, figures: &Figures) {
        let archives = figures.archives;
        let help = "Archives found in the source that belong to this shard.";
        self.one("archives_discovered", help, archives.discovered);
        self.by("archives", "Archives found, by state.", "state", archives.states());
        if let Some(time) = figures.newest_archive {
            let help =
                "The time in the name of the newest archive that is done, by this run or an earlier one.";
            self.one("newest_archive_timestamp_seconds", help, time);
            let lag = figures.now.saturating_sub(time.saturating_mul(1000));
            self.one("lag_seconds", "Age of the newest archive that is done.", seconds(lag));
        }
    }

    fn rows(&mut self, figures: &Figures) {
        let rows = &figures.totals.rows;
        self.one("rows_read_total", "Rows of archives that were read to the end.", rows.read);
        self.by("rows_total", "Rows by their outcome.", "outcome", rows.outcomes());
        // Only a verification has findings.
        if rows.findings.total() > 0 {
            self.by("rows_verified_total", "Rows compared, by finding.", "finding", rows.findings.all());
            let help = "Rows repaired, by their earlier finding.";
            self.by("rows_repaired_total", help, "finding", rows.repaired.differences());
        }
        let reasons = &figures.totals.reasons;
        for (name, help, label, counts) in [
            ("rows_skipped_total", "Skipped rows by reason.", "reason", &reasons.skipped),
            ("rows_rejected_total", "Rejected rows by reason.", "reason", &reasons.rejected),
            ("fields_dropped_total", "Fields left out of documents.", "field", &reasons.dropped_fields),
        ] {
            self.by(name, help, label, counts.iter().map(|(reason, &count)| (reason.as_str(), count)));
        }
    }

    fn requests(&mut self, requests: &Requests) {
        let &Requests { bulk, retried, bytes_sent, bytes_on_wire } = requests;
        self.one("bulk_requests_total", "Bulk requests sent.", bulk);
        let help = "Bulk requests that repeated actions of an earlier one.";
        self.one("bulk_requests_retried_total", help, retried);
        let help = "Bytes of bulk request bodies before compression, as far as they were sent.";
        self.one("bulk_request_bytes_total", help, bytes_sent);
        let help = "Bytes of bulk request bodies as sent, compressed or not.";
        self.one("bulk_request_bytes_on_wire_total", help, bytes_on_wire);
    }

    fn traffic(&mut self, traffic: &TrafficFigures) {
        let help = "Requests, or parts of them, that had to be sent again, by kind.";
        self.by("retries_total", help, "kind", traffic.again());
        let name = DURATIONS;
        self.head(name, "Duration of requests to Elasticsearch, by kind.");
        let (bucket, sum, count) = (format!("{name}_bucket"), format!("{name}_sum"), format!("{name}_count"));
        for (request, took) in traffic.durations() {
            let mut below = 0;
            let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            for (class, bound) in took.classes.iter().zip(bounds) {
                below += class;
                self.sample(&bucket, &[("request", request), ("le", &bound)], below);
            }
            self.sample(&sum, &[("request", request)], took.sum.as_secs_f64());
            self.sample(&count, &[("request", request)], below);
        }
    }

    fn memory(&mut self, memory: Option<MemoryFigures>) {
        let Some(MemoryFigures { limit, admitted }) = memory else { return };
        self.one("memory_limit_bytes", "Limit of the memory for all archives being read.", limit);
        self.one("memory_admitted_bytes", "Memory reserved for the archives being read.", admitted);
    }

    fn stuck(&mut self, stuck: &[(Stage, Duration)]) {
        let is_stuck = |stage| u64::from(stuck.iter().any(|(is, _)| *is == stage));
        let samples = Stage::ALL.map(|stage| (stage.name(), is_stuck(stage)));
        self.by("stuck", "1 if a thread has shown no sign of life for too long.", "stage", samples);
    }

    fn end(&mut self, success: Option<i64>, code: Option<ExitCode>) {
        if let Some(code) = code {
            self.one("exit_code", "Exit code of the run that has ended.", code.number());
        }
        if let Some(success) = success {
            let help = "When a run or look last ended with no archive pending, in this run or an earlier \
            one.";
            self.one(LAST_SUCCESS, help, seconds(success));
        }
    }

    fn server(&mut self, server: Option<ServerFigures>) {
        let health = server.map(|server| server.health);
        let states = [
            ("connecting", None),
            ("available", Some(Health::Available)),
            ("pushing_back", Some(Health::PushingBack)),
            ("unavailable", Some(Health::Unavailable)),
        ];
        let states = states.map(|(name, state)| (name, u64::from(state == health)));
        self.by("elasticsearch_state", "1 for the current state of Elasticsearch.", "state", states);
        let Some(ServerFigures { limit, since_confirmed, .. }) = server else { return };
        self.one("requests_in_flight_limit", "Current limit of concurrent requests.", limit);
        if let Some(time) = since_confirmed {
            let help = "Time since Elasticsearch last carried out a request, at least in part.";
            self.one("since_confirmed_request_seconds", help, time.as_secs_f64());
        }
    }

    /// Writes a metric family of one sample without labels.
    fn one(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help);
        self.sample(name, &[], value);
    }

    /// Writes a metric family with one sample per label value. Writes nothing if there are no values.
    fn by<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        samples: impl IntoIterator<Item = (&'v str, u64)>,
    ) {
        for (i, (value, count)) in samples.into_iter().enumerate() {
            if i == 0 {
                self.head(name, help);
            }
            self.sample(name, &[(label, value)], count);
        }
    }

    /// Begins a metric family, whose type its name shows.
    fn head(&mut self, name: &str, help: &str) {
        let kind = match name {
            name if name.ends_with("_total") => "counter",
            DURATIONS => "histogram",
            _ => "gauge",
        };
        self.push(format_args!("# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.push(format_args!("{PREFIX}{name}"));
        for (i, (label, text)) in labels.iter().enumerate() {
            let before = if i == 0 { '{' } else { ',' };
            self.push(format_args!("{before}{label}=\"{}\"", escape(text)));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        self.push(format_args!("{after} {value}\n"));
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.0.write_fmt(text);
    }
}

/// Escapes a label value for its quotes.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn milliseconds_are_written_as_seconds() {
        let written = [0, 7, 1_500, -500, -1_500].map(seconds);
        assert_eq!(written, ["0.000", "0.007", "1.500", "-0.500", "-1.500"]);
    }
}
