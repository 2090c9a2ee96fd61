//! The summary for people: failures with advice, then a table of all counters.

use std::path::Path;

use indicatif::HumanCount;

use super::Summary;
use crate::common::exit::{EXIT_CODES, ExitCode};
use crate::common::text::{plain, wrap};
use crate::config::{Job, Mode, Reports};
use crate::model::Reasons;

/// Maximum width of the table, in columns: fits a narrow window.
const MAX_WIDTH: usize = 50;

/// Columns between a name and its number, and before a block.
const GAP: usize = 2;

impl Summary {
    /// Returns the summary for people: failures first, with advice, then all counters.
    pub fn table(&self, reports: &Reports) -> String {
        let mut text = "\n".to_owned();
        wrap(&mut text, "", &format!("Exit code {}: {}", self.exit_code.number(), meaning(self, reports)));
        for advice in advice(self, reports) {
            let mut lines = String::new();
            wrap(&mut lines, "    ", &advice);
            text.push_str(&format!("  - {}", lines.trim_start()));
        }
        if !self.is_empty() {
            text.push('\n');
            text.push_str(&columns(&blocks(self, reports.job)));
        }
        text
    }
}

/// Returns what the exit code means for this run.
fn meaning(summary: &Summary, reports: &Reports) -> String {
    if summary.exit_code == ExitCode::Done {
        let meaning = match reports.job {
            Job::Verify | Job::Repair => "the index matches the archives",
            Job::Load if reports.mode == Mode::Spool => "a signal stopped the spooler",
            Job::Load | Job::DryRun | Job::Replay => "everything asked for is done",
        };
        return meaning.to_owned();
    }
    let meaning = EXIT_CODES.iter().find(|(code, _)| *code == summary.exit_code);
    plain(meaning.map_or("", |(_, meaning)| meaning))
}

/// Lists failures, each with what to do about it, most serious first.
fn advice(summary: &Summary, reports: &Reports) -> Vec<String> {
    let Summary { archives, rows, reasons, .. } = summary;
    let mut advice = Vec::new();
    if archives.failed > 0 {
        advice.push(failed_advice(reports.job, archives.failed));
    }
    if rows.rejected > 0 {
        advice.push(rejected_advice(reports, rows.rejected, reasons));
    }
    if archives.pending > 0 {
        advice.push(format!(
            "{} pending: run again{}",
            counted(archives.pending, "archive"),
            when_to_run_again(summary)
        ));
    } else if rows.unconfirmed > 0 {
        advice.push(format!(
            "{} unconfirmed: run again; that does not change confirmed rows",
            counted(rows.unconfirmed, "row")
        ));
    }
    if let Some(findings) = &summary.findings {
        advice.extend(difference_advice(reports.job, findings.total_differences()));
    }
    if let Some(repaired) = summary.repaired.as_ref().filter(|repaired| repaired.total() > 0) {
        let counts = format_counts(&repaired.differences());
        advice.push(format!("{} repaired: {counts}", counted(repaired.total(), "row")));
    }
    if summary.dry_run && !summary.is_empty() {
        advice
            .push("dry run: nothing was written; the counters say what a load would have written".to_owned());
    }
    advice
}

/// Says how many archives are broken, and what to do about it.
fn failed_advice(job: Job, archives: u64) -> String {
    let what_to_do = match job {
        Job::Load | Job::Replay => {
            "--list says why; replace broken files with whole ones, or try again with --retry-failed"
        }
        // The state file does not have what a dry run finds.
        Job::DryRun => "the log or --list says why; replace broken files with whole ones",
        // A verification ignores the state file, so neither --list nor --retry-failed helps.
        Job::Verify | Job::Repair => {
            "the log says why, and some rows were not compared; replace broken files with whole ones, and verify again"
        }
    };
    format!("{} failed: {what_to_do}", counted(archives, "archive"))
}

/// Says how many rows differ from the archives, and what to do about it.
fn difference_advice(job: Job, rows: u64) -> Option<String> {
    let what_to_do = if job == Job::Repair {
        "sending them again did not help, see the log"
    } else {
        "--output PATH lists them, --repair corrects them"
    };
    let differ = if rows == 1 { "differs" } else { "differ" };
    (rows > 0).then(|| format!("{} {differ} from the archives: {what_to_do}", counted(rows, "row")))
}

fn format_counts(counts: &[(&'static str, u64)]) -> String {
    let counts = counts.iter().filter(|(_, rows)| *rows > 0);
    counts.map(|(name, rows)| format!("{} {name}", HumanCount(*rows))).collect::<Vec<_>>().join(", ")
}

/// Says where the rejected rows are, and how to send their documents again.
fn rejected_advice(reports: &Reports, rows: u64, reasons: &Reasons) -> String {
    let mut counts: Vec<_> = reasons.rejected.iter().collect();
    counts.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let mut why: Vec<_> = counts.iter().take(3).map(|(reason, count)| format!("{reason} {count}")).collect();
    if counts.len() > why.len() {
        let others = counts.len() - why.len();
        why.push(format!("{others} other {}", if others == 1 { "reason" } else { "reasons" }));
    }
    let mut text = format!("{} rejected ({}): ", counted(rows, "row"), why.join(", "));
    let Some(path) = reports.dead_letters.as_deref().map(shown) else {
        return text + "name a file with --dead-letter to see the rows";
    };
    text.push_str(&format!("see {path}"));
    if matches!(reports.job, Job::DryRun | Job::Verify) {
        return text;
    }
    let documents = reasons.can_be_replayed.min(rows);
    let others = rows - documents;
    if documents > 0 {
        let which =
            if others > 0 { format!(" {}", counted(documents, "document")) } else { " them".to_owned() };
        text.push_str(&format!("; once the cause is corrected, send{which} again with --replay {path}"));
    }
    if others > 0 {
        let (be, hold) = if others == 1 { ("is", "holds") } else { ("are", "hold") };
        text.push_str(&match reports.job {
            // Most of these rows are damaged in their archive; RUST_LOG=debug shows why the others are kept.
            Job::Replay => {
                format!(
                    "; {} {hold} no document, or one for other indices (RUST_LOG=debug says why)",
                    counted(others, "line")
                )
            }
            Job::Load | Job::DryRun | Job::Verify | Job::Repair => format!(
                "; {} {be} damaged in the archive: there is nothing to send again",
                counted(others, "row")
            ),
        });
    }
    text
}

fn when_to_run_again(summary: &Summary) -> &'static str {
    match summary.exit_code {
        ExitCode::Unavailable => " once the server is back",
        ExitCode::Refused | ExitCode::Usage => " once the cause of the refusal is corrected",
        _ if summary.interrupted => " to continue",
        _ => ", the log says why",
    }
}

/// Quotes a path for a shell.
fn shown(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if path.chars().all(is_plain) { path } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", HumanCount(count), if count == 1 { "" } else { "s" })
}

/// A title, and rows of a name and a number.
type Block = (&'static str, Vec<(&'static str, String)>);

fn blocks(summary: &Summary, job: Job) -> Vec<Block> {
    let Summary { archives: a, rows, requests, elapsed_seconds, .. } = summary;
    // Failures come first.
    let [done @ .., rejected, unconfirmed] = rows.outcomes();
    let done: Vec<_> = match &summary.findings {
        None => done.to_vec(),
        // A verification writes nothing, and the findings show the result of a repair, so the counts of writes are left
        // out.
        Some(findings) => {
            let written = ["indexed", "deleted", "suppressed"];
            let [equal, newer, suppressed, differences @ ..] = findings.all();
            let others = done.into_iter().filter(|(name, _)| !written.contains(name));
            differences.into_iter().chain([equal, newer, suppressed]).chain(others).collect()
        }
    };
    let rows: Vec<_> = [rejected, unconfirmed].into_iter().chain(done).chain([("read", rows.read)]).collect();
    let mut run = numbers(&[("bulk requests", requests.bulk), ("retried", requests.retried)]);
    let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    if requests.bytes_sent > 0 {
        run.push(("MB sent", megabytes(requests.bytes_sent)));
    }
    if requests.bytes_on_wire != requests.bytes_sent {
        run.push(("MB compressed", megabytes(requests.bytes_on_wire)));
    }
    run.push(("seconds", format!("{elapsed_seconds:.1}")));
    run.extend(numbers(&[("rows/s", summary.rows_per_second().round() as u64)]));
    let archives = numbers(&[
        ("failed", a.failed),
        ("pending", a.pending),
        ("processed", a.processed),
        ("already done", a.already_done),
        ("discovered", a.discovered),
    ]);
    let mut blocks = vec![("Rows", numbers(&rows)), ("Run", run)];
    // A replay has no archives.
    if job != Job::Replay {
        blocks.insert(0, ("Archives", archives));
    }
    blocks
}

/// Formats counts for people. Leaves zeros out, except for the counts that everybody expects.
fn numbers(counts: &[(&'static str, u64)]) -> Vec<(&'static str, String)> {
    let is_shown = |name: &str, count| count > 0 || ["processed", "discovered", "read"].contains(&name);
    let shown = counts.iter().filter(|(name, count)| is_shown(name, *count));
    shown.map(|&(name, count)| (name, HumanCount(count).to_string())).collect()
}

/// Lays blocks out side by side as far as they fit, and the others below them.
fn columns(blocks: &[Block]) -> String {
    let mut text = String::new();
    let mut left = blocks;
    while !left.is_empty() {
        let fitting = (1..=left.len()).rev().find(|n| width(left.get(..*n).unwrap_or_default()) <= MAX_WIDTH);
        let (first, others) = left.split_at(fitting.unwrap_or(1));
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&side_by_side(first));
        left = others;
    }
    text
}

/// Returns the widths of a block's names and numbers, in columns.
fn widths((title, rows): &Block) -> (usize, usize) {
    let name = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let number = rows.iter().map(|(_, number)| number.len()).max().unwrap_or_default();
    (name.max(title.len().saturating_sub(number + GAP)), number)
}

/// Returns the width of blocks side by side, in columns.
fn width(blocks: &[Block]) -> usize {
    let of_block = |block| {
        let (name, number) = widths(block);
        name + number + 2 * GAP
    };
    blocks.iter().map(of_block).sum::<usize>() + blocks.len().saturating_sub(1) * GAP
}

/// Lays blocks out side by side, names aligned to the left and numbers to the right.
fn side_by_side(blocks: &[Block]) -> String {
    let height = blocks.iter().map(|(_, rows)| rows.len()).max().unwrap_or_default();
    let mut lines = vec![String::new(); height + 1];
    for (nth, block) in blocks.iter().enumerate() {
        let (name, number) = widths(block);
        let (title, rows) = block;
        let width = name + GAP + number;
        let cells = std::iter::once(format!("{title:<width$}"))
            .chain(rows.iter().map(|(n, value)| format!("{n:<name$}{:GAP$}{value:>number$}", "")))
            .chain(std::iter::repeat(" ".repeat(width)));
        let indent = if nth == 0 { GAP } else { 2 * GAP };
        for (line, cell) in lines.iter_mut().zip(cells) {
            line.push_str(&format!("{:indent$}{cell}", ""));
        }
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests;
