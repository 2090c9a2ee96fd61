//! The log on standard error: text lines for people or JSON objects, above the progress bar if there is one.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::{PoisonError, RwLock};

use indicatif::ProgressBar;
use log::kv::{self, Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};
use serde_json::value::RawValue;

use crate::common::exit::Failure;
use crate::common::timestamp::{now_millis, rfc3339_millis};
use crate::config::{LogFormat, Logging};
use crate::process::shutdown::is_lack_of_threads;

/// Name of the log field whose value is already JSON.
pub const SUMMARY: &str = "summary";

/// The log target of lines about a single archive.
pub const ARCHIVES: &str = "megastream_ingest::archives";

/// Maximum width of a line on a terminal, in columns.
const MAX_WIDTH: usize = 100;

/// Width of the part before the text, in columns: `[2025-12-18T00:00:00Z INFO ] `.
const PREFIX_WIDTH: usize = 29;

/// Returns the maximum width of the text of a line about an archive, in columns. Unlimited unless standard error is a
/// terminal.
pub fn columns() -> usize {
    if io::stderr().is_terminal() { MAX_WIDTH - PREFIX_WIDTH } else { usize::MAX }
}

/// The bar below the log.
static BAR: RwLock<Option<ProgressBar>> = RwLock::new(None);

/// Starts logging to standard error. Unless logging is `enabled`, nothing is logged, whatever `RUST_LOG` says.
///
/// `RUST_LOG` sets the levels of this program. The HTTP and TLS libraries only log warnings, since their debug output
/// shows headers and thus credentials.
///
/// A `quiet` log has no lines for archives without failures.
pub fn start(Logging { enabled, quiet, format }: Logging) {
    // If nothing is logged, only the failure that a panic leads to is reported.
    panic::set_hook(Box::new(move |panic| {
        if enabled {
            report_panic(panic, format);
        }
    }));
    if !enabled {
        return;
    }
    let mut builder = env_logger::Builder::new();
    builder.format_target(false).filter_level(LevelFilter::Info).parse_default_env();
    if quiet {
        builder.filter_module(ARCHIVES, LevelFilter::Warn);
    }
    for library in ["ureq", "ureq_proto", "rustls"] {
        builder.filter_module(library, LevelFilter::Warn);
    }
    if format == LogFormat::Json {
        builder.format(|buffer, record| buffer.write_all(json(record, now_millis()).as_bytes()));
    }
    let logger = builder.build();
    let level = logger.filter();
    // Fails only if this process has a logger already. Users could not fix that, so it is ignored.
    if log::set_boxed_logger(Box::new(AboveBar(logger))).is_ok() {
        log::set_max_level(level);
    }
}

/// Reports why the program ends. For use when nothing is logged or the log is not open yet.
pub fn report_failure(failure: &Failure, format: LogFormat) {
    write_error(&failure.message, &[("exit_code", failure.code.number())], format);
}

/// Reports where a panic happened. Bypasses the log: the panicking code may hold its locks.
fn report_panic(panic: &PanicHookInfo<'_>, format: LogFormat) {
    if is_lack_of_threads(&panic.to_string()) {
        return;
    }
    let backtrace = match Backtrace::capture() {
        trace if trace.status() == BacktraceStatus::Captured => format!("\n{trace}"),
        _ => String::new(),
    };
    write_error(&format!("an internal error: {panic}{backtrace}"), &[], format);
}

/// Writes an error to standard error, bypassing the log.
fn write_error(message: &str, fields: &[(&str, u8)], format: LogFormat) {
    let line = match format {
        LogFormat::Text => format!("megastream_ingest: {message}\n"),
        LogFormat::Json => json(
            &Record::builder()
                .level(Level::Error)
                .target("megastream_ingest")
                .key_values(&fields)
                .args(format_args!("{message}"))
                .build(),
            now_millis(),
        ),
    };
    // If standard error is closed, there is nowhere left to report to.
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Sets the bar that log lines are written above; None removes it.
pub(crate) fn set_bar(bar: Option<ProgressBar>) {
    *BAR.write().unwrap_or_else(PoisonError::into_inner) = bar;
}

/// Logger that hides the bar while a line is written.
struct AboveBar(env_logger::Logger);

impl Log for AboveBar {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.0.matches(record) {
            return;
        }
        match &*BAR.read().unwrap_or_else(PoisonError::into_inner) {
            Some(bar) => bar.suspend(|| self.0.log(record)),
            None => self.0.log(record),
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// Formats a record as one line of JSON.
fn json(record: &Record<'_>, millis: i64) -> String {
    let mut line = format!(
        "{{\"timestamp\":\"{}\",\"level\":\"{}\",\"target\":{},\"message\":{}",
        rfc3339_millis(millis),
        record.level().as_str().to_ascii_lowercase(),
        quoted(record.target()),
        quoted(&record.args().to_string()),
    );
    // Writing to a string does not fail.
    let _ = record.key_values().visit(&mut Fields(&mut line));
    line.push_str("}\n");
    line
}

/// Appends the fields of a record to its line.
struct Fields<'l>(&'l mut String);

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let text = value.to_string();
        let is_number = value.to_u64().is_some() || value.to_i64().is_some();
        let is_json = key.as_str() == SUMMARY && serde_json::from_str::<&RawValue>(&text).is_ok();
        self.0.push_str(&format!(",{}:", quoted(key.as_str())));
        if is_number || is_json {
            self.0.push_str(&text);
        } else {
            self.0.push_str(&quoted(&text));
        }
        Ok(())
    }
}

/// Quotes a text as a JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_of_json_whatever_is_in_it() {
        let fields = [("archive", Value::from("a\n\"b\".db.zip")), ("rows", Value::from(3_u64))];
        let record = Record::builder()
            .level(Level::Warn)
            .target("megastream_ingest::run")
            .key_values(&fields)
            .args(format_args!("two\nlines"))
            .build();
        let line = json(&record, 1_766_016_000_250);
        assert_eq!(
            line,
            "{\"timestamp\":\"2025-12-18T00:00:00.250Z\",\"level\":\"warn\",\"target\":\"megastream_ingest::run\",\
             \"message\":\"two\\nlines\",\"archive\":\"a\\n\\\"b\\\".db.zip\",\"rows\":3}\n"
        );
    }

    #[test]
    fn only_the_summary_is_written_as_json() {
        for (key, text, expected) in [
            (SUMMARY, "{\"rows\":1}", "{\"rows\":1}"),
            (SUMMARY, "{\"rows\"", "\"{\\\"rows\\\"\""),
            ("archive", "{}", "\"{}\""),
        ] {
            let fields = [(key, text)];
            let record = Record::builder().key_values(&fields).args(format_args!("")).build();
            let line = json(&record, 0);
            assert!(line.ends_with(&format!(",\"{key}\":{expected}}}\n")), "{line}");
        }
    }
}
