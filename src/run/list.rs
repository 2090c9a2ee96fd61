//! `--list`: what would be taken up, and why the rest is not.

use std::io::{self, Write};

use crate::config::{List, Mode};
use crate::exit::Failure;
use crate::model::Archive;
use crate::pipeline::ledger::state_file::StateFile;
use crate::pipeline::source::Source;
use crate::pipeline::source::settling::is_settled;
use crate::run::selection;
use crate::shutdown::Stop;
use crate::timestamp::now_millis;

/// Prints a line for each archive: name, size and what would be done, separated by tabs.
pub(super) fn list(task: &List, stop: &Stop) -> Result<(), Failure> {
    let archives = &task.archives;
    let state = StateFile::load(&archives.state_file)?;
    let mut source = Source::open(&archives.source, archives.retry_budget, stop)?;
    let discovery = source.discover(stop)?;
    let waits = |archive: &Archive| {
        archives.mode == Mode::Spool && source.is_local() && !is_settled(archive, now_millis())
    };
    let mut text = String::new();
    for archive in &discovery.archives {
        let why = selection::left_alone(archive, &state, archives.shard, archives.retry_failed);
        let why = match why {
            Some(why) => format!("leave ({why})"),
            None if waits(archive) => "take (once it has stopped changing)".to_owned(),
            None => "take".to_owned(),
        };
        text.push_str(&format!("{}\t{} bytes\t{why}\n", archive.name.escape_debug(), archive.bytes));
    }
    for left_out in &discovery.left_out {
        text.push_str(&format!("{:?}\t\tleave ({})\n", left_out.path, left_out.reason));
    }
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::run(format!("standard output cannot be written: {error}")))
}
