//! Writes differences, one JSON object per line.

use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use super::judge::Verdict;
use crate::common::mutex::Mutex;
use crate::model::Action;

/// Output of differences, if any. Shared by all senders.
pub(super) struct Differences(pub(super) Option<Mutex<Box<dyn Write + Send>>>);

/// One difference. Source: contract, section 8.
#[derive(Serialize)]
struct Line<'l> {
    archive: &'l str,
    row_id: i64,
    at_uri: &'l str,
    finding: &'static str,
    expected_version: u64,
    found_version: Option<u64>,
    field: Option<&'static str>,
    /// With `--repair`: whether the row is correct now.
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<bool>,
}

impl Differences {
    pub(super) fn write(
        &self,
        archive: &str,
        action: &Action,
        verdict: &Verdict,
        repaired: Option<bool>,
    ) -> io::Result<()> {
        let Some(output) = &self.0 else { return Ok(()) };
        let line = Line {
            archive,
            row_id: action.row_id,
            at_uri: &action.id,
            finding: verdict.finding.name(),
            expected_version: action.version.of_index(),
            found_version: verdict.version,
            field: verdict.finding.field(),
            repaired,
        };
        let mut output = output.lock();
        let written = write_line(&mut **output, &line);
        if repaired.is_some() && written.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
            // A repair goes on even if nobody reads its output any more.
            *output = Box::new(io::sink());
            return Ok(());
        }
        written
    }

    pub(super) fn finish(self) -> io::Result<()> {
        let Some(output) = self.0 else { return Ok(()) };
        output.into_inner().flush()
    }
}

fn write_line(output: &mut dyn Write, line: &Line<'_>) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    output.write_all(&text)
}
