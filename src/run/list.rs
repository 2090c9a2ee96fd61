//! `--list`: prints which archives would be loaded, and why the others would not.

use std::io::{self, BufWriter, ErrorKind, Write};

use serde::Serialize;

use crate::common::exit::Failure;
use crate::common::text::on_one_line;
use crate::common::timestamp::{now_millis, rfc3339_millis};
use crate::config::{List, Mode};
use crate::model::Archive;
use crate::pipeline::ledger::state_file::{Mark, StateFile};
use crate::pipeline::source::settling::is_settled;
use crate::pipeline::source::{LeftOut, Source};
use crate::process::shutdown::Stop;
use crate::run::read_state;
use crate::run::selection::{self, NotTaken};

/// An archive, or a file with the name of one. `docs/operations.md` describes the fields.
#[derive(Default, Serialize)]
struct Line<'l> {
    name: &'l str,
    /// Path of the file, or address of the object.
    path: String,
    /// The time in its name.
    time: Option<String>,
    bytes: Option<u64>,
    modified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_class: Option<Box<str>>,
    /// Its mark in the state file, if there is one.
    state: Option<&'static str>,
    /// Whether it has changed since it was marked.
    changed: bool,
    take: bool,
    /// The reason why it is not taken, as a keyword.
    left: Option<&'static str>,
    /// The reason why it is not taken, for people.
    why: Option<String>,
}

/// Prints one line per archive.
pub(super) fn list(task: &List, stop: &Stop) -> Result<(), Failure> {
    let archives = &task.archives;
    let state = read_state(&archives.state_file, stop)?;
    let source = Source::open(&archives.source, archives.retry_budget, stop)?;
    let discovery = source.discover(archives.mode == Mode::Spool, stop)?;
    let judged = selection::judge(&discovery.archives, &state, &archives.criteria);
    let nothing = selection::nothing_in_span(&discovery.archives, &judged);
    discovery.nothing.iter().chain(&nothing).for_each(|nothing| log::warn!("{nothing}"));
    let waits = |archive: &Archive| {
        archives.mode == Mode::Spool && source.is_local() && !is_settled(archive, now_millis())
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let written = discovery
        .archives
        .iter()
        .zip(&judged)
        .map(|(archive, why)| line_of(archive, why.as_ref(), waits(archive), &state, &source))
        .chain(discovery.left_out.iter().map(line_of_left_out))
        .try_for_each(|line| write_line(&mut out, &line, task.json))
        .and_then(|()| out.flush());
    match written {
        // The reader has closed the pipe, as `head` does, which is not an error.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => {
            let cannot = |error| Failure::run(format!("standard output cannot be written: {error}"));
            written.map_err(cannot).and_then(|()| discovery.away.map_or(Ok(()), Err))
        }
    }
}

fn line_of<'l>(
    archive: &'l Archive,
    why: Option<&NotTaken>,
    waits: bool,
    state: &StateFile,
    source: &Source,
) -> Line<'l> {
    let (path, storage_class) = source.whereabouts(archive);
    let known = match state.get(&archive.name) {
        Some(Mark::Processed) => Some("processed"),
        Some(Mark::Failed { .. }) => Some("failed"),
        None => None,
    };
    let waits = why.is_none() && waits;
    Line {
        name: &archive.name,
        path,
        time: archive.seconds.map(|seconds| rfc3339_millis(seconds.saturating_mul(1000))),
        bytes: Some(archive.bytes),
        modified: i64::try_from(archive.modified_ns / 1_000_000).ok().map(rfc3339_millis),
        storage_class,
        state: known,
        changed: state.has_changed(archive),
        take: why.is_none(),
        left: if waits { Some("settling") } else { why.map(NotTaken::code) },
        why: if waits {
            Some("once it has stopped changing".to_owned())
        } else {
            why.map(ToString::to_string)
        },
    }
}

fn line_of_left_out(left_out: &LeftOut) -> Line<'_> {
    let LeftOut { path, reason, storage_class, .. } = left_out;
    Line {
        // Also the right part of an object's key.
        name: left_out.name(),
        path: path.to_string_lossy().into_owned(),
        storage_class: storage_class.as_deref().map(Into::into),
        left: Some("passed_over"),
        why: Some(reason.clone()),
        ..Line::default()
    }
}

/// Writes a line as a JSON object, or as name, time, size and status separated by tabs.
fn write_line(out: &mut impl Write, line: &Line<'_>, as_json: bool) -> io::Result<()> {
    if as_json {
        serde_json::to_writer(&mut *out, line)?;
        return out.write_all(b"\n");
    }
    // Reasons and storage classes may quote foreign texts.
    let shown = |text: &str| on_one_line(text, usize::MAX);
    let why = line.why.as_deref().map(shown);
    let Some(bytes) = line.bytes else {
        return writeln!(out, "{:?}\t-\t-\tleave ({})", line.path, why.unwrap_or_default());
    };
    let what = match (line.take, why) {
        (true, None) if line.state == Some("failed") => "take (failed before)".to_owned(),
        (true, None) => "take".to_owned(),
        (true, Some(why)) => format!("take ({why})"),
        (false, why) => format!("leave ({})", why.as_deref().unwrap_or_default()),
    };
    let class = line.storage_class.as_ref().map(|class| format!(", {}", shown(class))).unwrap_or_default();
    let time = line.time.as_deref().unwrap_or("-");
    writeln!(out, "{}\t{time}\t{bytes} bytes{class}\t{what}", line.name.escape_debug())
}
