//! Tests of the summary for people.

use std::time::Duration;

use super::*;
use crate::config::Place;
use crate::model::{Tally, Totals};
use crate::observe::progress::{Archives, Figures};
use crate::observe::traffic::Requests;

fn reports(dead_letter: &str) -> Reports {
    Reports {
        job: Job::Load,
        mode: Mode::Once,
        source: Place::Local,
        shows_documents: false,
        dead_letters: Some(dead_letter.into()),
        summary: None,
        max_rejected: None,
        metrics_file: None,
        listen: None,
    }
}

fn text(code: ExitCode, archives: Archives, rows: Tally, reports: &Reports) -> String {
    let rejected = [("mapper_exception".to_owned(), rows.rejected)].into_iter().filter(|(_, n)| *n > 0);
    let can_be_replayed = rows.rejected;
    let reasons = Reasons { rejected: rejected.collect(), can_be_replayed, ..Reasons::default() };
    let totals = Totals { rows, reasons };
    let requests = Requests { bulk: 1200, retried: 1, bytes_sent: 1_500_000, bytes_on_wire: 1_500_000 };
    let elapsed = Duration::from_secs(2);
    let figures = Figures { archives, totals, requests, elapsed, ..Figures::default() };
    Summary::new(reports, false, code, figures).table(reports)
}

#[test]
fn a_run_without_failures_has_no_advice() {
    let archives = Archives { discovered: 8, processed: 8, ..Archives::default() };
    let rows = Tally { read: 12_000, indexed: 12_000, ..Tally::default() };
    let text = text(ExitCode::Done, archives, rows, &reports("dead"));
    assert_eq!(
        text,
        "
Exit code 0: everything asked for is done

  Archives         Rows
  processed   8    indexed  12,000
  discovered  8    read     12,000

  Run
  bulk requests  1,200
  retried            1
  MB sent          1.5
  seconds          2.0
  rows/s         6,000
"
    );
}

#[test]
fn exit_code_0_is_explained_for_the_task() {
    for (job, mode, meaning) in [
        (Job::Load, Mode::Once, "everything asked for is done"),
        (Job::Load, Mode::Spool, "a signal stopped the spooler"),
        (Job::Verify, Mode::Once, "the index matches the archives"),
    ] {
        let reports = Reports { job, mode, ..reports("dead") };
        let text = text(ExitCode::Done, Archives::default(), Tally::default(), &reports);
        assert!(text.starts_with(&format!("\nExit code 0: {meaning}\n")), "{text}");
    }
}

#[test]
fn the_table_fits_a_narrow_window_and_names_what_went_wrong() {
    let n = 1_234_567_890;
    let archives = Archives { discovered: n, already_done: n, processed: n, failed: n, pending: n };
    let rows = Tally { read: n, indexed: n, deleted: n, superseded: n, suppressed: n, ..Tally::default() };
    let rows = Tally { skipped: n, rejected: n, unconfirmed: n, ..rows };
    let text = text(ExitCode::Failed, archives, rows, &reports("dead"));
    let table = &text[text.find("  Archives").unwrap()..];
    assert!(table.lines().all(|line| line.len() <= MAX_WIDTH), "{table}");
    for name in ["failed", "pending", "already done", "rejected", "unconfirmed", "suppressed"] {
        assert!(table.contains(&format!("{name} ")), "{name}: {table}");
    }
}

#[test]
fn a_run_that_did_nothing_has_no_table_of_zeros() {
    let table = |code, rows| {
        let figures = Figures { totals: Totals { rows, ..Totals::default() }, ..Figures::default() };
        let summary = Summary::new(&reports("dead"), false, code, figures);
        summary.table(&reports("dead")).contains("Rows")
    };
    for code in [ExitCode::Usage, ExitCode::Refused, ExitCode::Locked] {
        assert!(!table(code, Tally::default()), "{code:?}");
        assert!(table(code, Tally { read: 1, indexed: 1, ..Tally::default() }), "{code:?}");
    }
    assert!(table(ExitCode::Done, Tally::default()));
}

#[test]
fn failures_come_first_and_say_what_to_do() {
    let archives = Archives { discovered: 5, failed: 1, pending: 2, processed: 2, ..Archives::default() };
    let rows = Tally { read: 12, rejected: 12, ..Tally::default() };
    let reports = reports("my dead");
    let text = text(ExitCode::Unavailable, archives, rows, &reports);
    let advice = "
  - 1 archive failed: --list says why; replace broken files with whole ones, or
    try again with --retry-failed
  - 12 rows rejected (mapper_exception 12): see 'my dead'; once the cause is
    corrected, send them again with --replay 'my dead'
  - 2 archives pending: run again once the server is back
";
    assert!(text.contains(advice), "{text}");
}

#[test]
fn the_advice_on_broken_archives_fits_the_task() {
    assert!(failed_advice(Job::Load, 2).ends_with("or try again with --retry-failed"));
    for job in [Job::Verify, Job::Repair] {
        let advice = failed_advice(job, 1);
        assert!(advice.contains("the log says why") && !advice.contains("--"), "{advice}");
    }
}

#[test]
fn the_most_frequent_reasons_are_named_and_the_others_counted() {
    let reasons = |count: u64| Reasons {
        rejected: (1..=count).map(|n| (format!("r{n}"), n)).collect(),
        ..Reasons::default()
    };
    let reports = reports("dead");
    assert!(rejected_advice(&reports, 9, &reasons(3)).contains("(r3 3, r2 2, r1 1)"));
    assert!(rejected_advice(&reports, 9, &reasons(4)).contains("(r4 4, r3 3, r2 2, 1 other reason)"));
    assert!(rejected_advice(&reports, 9, &reasons(5)).contains("(r5 5, r4 4, r3 3, 2 other reasons)"));
}

#[test]
fn the_advice_to_replay_covers_only_rows_with_a_document() {
    let advice = |reports: &Reports, rows, can_be_replayed| {
        rejected_advice(reports, rows, &Reasons { can_be_replayed, ..Reasons::default() })
    };
    let mut reports = reports("dead");
    assert_eq!(
        advice(&reports, 3, 1),
        "3 rows rejected (): see dead; once the cause is corrected, send 1 document again with --replay dead; 2 rows are \
             damaged in the archive: there is nothing to send again"
    );
    let nothing = advice(&reports, 1, 0);
    assert!(nothing.ends_with("see dead; 1 row is damaged in the archive: there is nothing to send again"));
    reports.job = Job::Replay;
    let nothing = advice(&reports, 2, 0);
    assert!(
        nothing.ends_with("2 lines hold no document, or one for other indices (RUST_LOG=debug says why)")
    );
    reports.job = Job::DryRun;
    assert!(advice(&reports, 2, 0).ends_with(": see dead"));
}

#[test]
fn digits_are_grouped_by_three() {
    let numbers = [0, 999, 1_000, 12_345, 1_234_567].map(|number| HumanCount(number).to_string());
    assert_eq!(numbers, ["0", "999", "1,000", "12,345", "1,234,567"]);
}
