//! Tests of the metrics. A strict parser of the format reads the text back.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;
use crate::model::{Finding, Health, MemoryFigures, Reasons, ServerFigures, Tally, Totals};
use crate::observe::progress::Archives;
use crate::observe::traffic::{Again, Request, Requests, Traffic, TrafficFigures};
use crate::process::pulse::Stage;

const RUN: Exposition = Exposition { mode: Mode::Spool, dry_run: false, earlier_success: None };

/// A metric family: its type, and its samples by their labels as text.
#[derive(Debug, Default, PartialEq)]
struct Family {
    kind: String,
    samples: BTreeMap<String, f64>,
}

/// Parses the format strictly: HELP, then TYPE, then samples. Each family and each sample occurs once, and every line has
/// an end.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut open: Option<String> = None;
    let mut lines = text.strip_suffix('\n').expect("the last line is ended").split('\n');
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a help text");
            assert!(!help.is_empty() && !help.contains('\\'), "{line}");
            let kind = lines.next().and_then(|l| l.strip_prefix(&format!("# TYPE {name} "))).expect("a type");
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{kind}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            let family = Family { kind: kind.to_owned(), ..Family::default() };
            assert!(families.insert(name.to_owned(), family).is_none(), "{name} is there twice");
            open = Some(name.to_owned());
        } else {
            let (name, labels, value) = sample(line);
            let family = open.as_ref().and_then(|open| Some((open, families.get_mut(open)?)));
            let (open, family) = family.expect("a family");
            let ending = name.strip_prefix(open.as_str()).expect("the name of the family");
            let endings: &[&str] =
                if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(endings.contains(&ending), "{line}");
            let labels = format!("{ending}{}{labels}", if ending.is_empty() { "" } else { " " });
            assert!(family.samples.insert(labels, value).is_none(), "{line} is there twice");
        }
    }
    assert!(families.values().all(|family| !family.samples.is_empty()));
    families
}

/// Returns the name, labels (`name=value`, unescaped, separated by commas) and value of a sample.
fn sample(line: &str) -> (&str, String, f64) {
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let end = line.find(['{', ' ']).expect("a name");
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name) && name.starts_with(PREFIX), "{line}");
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, text) = rest.split_once("=\"").expect("a label");
            assert!(is_name(label), "{line}");
            let (value, after) = quoted(text);
            labels.push(format!("{label}={value}"));
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None => {
                    rest = after.strip_prefix('}').expect("the end of the labels");
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ').expect("one space").parse().expect("a number");
    (name, labels.join(","), value)
}

/// Returns the unescaped text up to the closing quote, and the rest after the quote.
fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('\\' | '"'))) => value.push(c),
                other => panic!("an escape that does not exist: {other:?}"),
            },
            c => value.push(c),
        }
    }
    panic!("a label's value is not ended: {text}")
}

fn traffic() -> TrafficFigures {
    let traffic = Traffic::default();
    traffic.again(Again::TooLarge);
    for millis in [3, 700, 100_000] {
        traffic.took(Request::Bulk, Duration::from_millis(millis));
    }
    traffic.figures()
}

fn figures() -> Figures {
    let counts = |pairs: &[(&str, u64)]| pairs.iter().map(|&(name, n)| (name.to_owned(), n)).collect();
    Figures {
        backlog: None,
        now: 1_766_016_020_250,
        started: 1_766_016_000_250,
        elapsed: Duration::from_millis(20_000),
        archives: Archives { discovered: 15, already_done: 1, processed: 2, failed: 4, pending: 8 },
        totals: Totals {
            rows: Tally {
                read: 127,
                indexed: 64,
                deleted: 32,
                superseded: 16,
                suppressed: 8,
                skipped: 4,
                rejected: 2,
                unconfirmed: 1,
                ..Tally::default()
            },
            reasons: Reasons {
                skipped: counts(&[("account_event", 4)]),
                rejected: counts(&[("a \"quoted\\\n\" type", 1), ("invalid_json", 1)]),
                dropped_fields: counts(&[("embedding", 3)]),
                ..Reasons::default()
            },
        },
        requests: Requests { bulk: 10, retried: 3, bytes_sent: 12_345, bytes_on_wire: 6_789 },
        traffic: traffic(),
        stuck: vec![(Stage::Sender, Duration::from_secs(700))],
        memory: Some(MemoryFigures { limit: 1 << 30, admitted: 1 << 20 }),
        newest_archive: Some(1_766_016_000),
        last_success: Some(1_766_016_010_007),
        server: Some(ServerFigures {
            health: Health::PushingBack,
            limit: 2,
            since_confirmed: Some(Duration::from_millis(2_500)),
        }),
    }
}

fn rendered(figures: &Figures, code: Option<ExitCode>) -> BTreeMap<String, Family> {
    parse(&RUN.text(figures, code))
}

#[track_caller]
fn assert_value(families: &BTreeMap<String, Family>, name: &str, labels: &str, value: f64) {
    let family = families.get(&format!("{PREFIX}{name}"));
    assert_eq!(family.and_then(|family| family.samples.get(labels)), Some(&value), "{name} {labels}");
}

#[test]
fn every_figure_is_there_with_its_value() {
    let families = rendered(&figures(), Some(ExitCode::DoneWithRejects));
    for (name, labels, value) in [
        ("info", concat!("version=", env!("CARGO_PKG_VERSION"), ",mode=spool,dry_run=false"), 1.0),
        ("running", "", 0.0),
        ("start_timestamp_seconds", "", 1_766_016_000.25),
        ("archives_discovered", "", 15.0),
        ("archives", "state=already_done", 1.0),
        ("archives", "state=processed", 2.0),
        ("archives", "state=failed", 4.0),
        ("archives", "state=pending", 8.0),
        ("newest_archive_timestamp_seconds", "", 1_766_016_000.0),
        ("rows_read_total", "", 127.0),
        ("rows_total", "outcome=indexed", 64.0),
        ("rows_total", "outcome=deleted", 32.0),
        ("rows_total", "outcome=superseded", 16.0),
        ("rows_total", "outcome=suppressed", 8.0),
        ("rows_total", "outcome=skipped", 4.0),
        ("rows_total", "outcome=rejected", 2.0),
        ("rows_total", "outcome=unconfirmed", 1.0),
        ("rows_skipped_total", "reason=account_event", 4.0),
        ("rows_rejected_total", "reason=invalid_json", 1.0),
        ("fields_dropped_total", "field=embedding", 3.0),
        ("bulk_requests_total", "", 10.0),
        ("bulk_requests_retried_total", "", 3.0),
        ("bulk_request_bytes_total", "", 12_345.0),
        ("bulk_request_bytes_on_wire_total", "", 6_789.0),
        ("elasticsearch_state", "state=available", 0.0),
        ("elasticsearch_state", "state=pushing_back", 1.0),
        ("requests_in_flight_limit", "", 2.0),
        ("since_confirmed_request_seconds", "", 2.5),
        ("lag_seconds", "", 20.25),
        ("memory_limit_bytes", "", 1_073_741_824.0),
        ("memory_admitted_bytes", "", 1_048_576.0),
        ("retries_total", "kind=too_large", 1.0),
        ("retries_total", "kind=pushed_back", 0.0),
        ("request_duration_seconds", "_bucket request=bulk,le=0.005", 1.0),
        ("request_duration_seconds", "_bucket request=bulk,le=0.5", 1.0),
        ("request_duration_seconds", "_bucket request=bulk,le=1", 2.0),
        ("request_duration_seconds", "_bucket request=bulk,le=90", 2.0),
        ("request_duration_seconds", "_bucket request=bulk,le=+Inf", 3.0),
        ("request_duration_seconds", "_count request=bulk", 3.0),
        ("request_duration_seconds", "_sum request=bulk", 100.703),
        ("request_duration_seconds", "_count request=look_up", 0.0),
        ("stuck", "stage=sender", 1.0),
        ("stuck", "stage=ledger", 0.0),
        ("exit_code", "", 3.0),
        ("last_success_timestamp_seconds", "", 1_766_016_010.007),
    ] {
        assert_value(&families, name, labels, value);
    }
}

#[test]
fn label_values_are_escaped() {
    let families = rendered(&figures(), None);
    assert_value(&families, "rows_rejected_total", "reason=a \"quoted\\\n\" type", 1.0);
}

#[test]
fn exactly_one_state_of_elasticsearch_holds() {
    let of = |health| Some(ServerFigures { health, limit: 1, since_confirmed: None });
    for (server, state) in [
        (None, "connecting"),
        (of(Health::Available), "available"),
        (of(Health::PushingBack), "pushing_back"),
        (of(Health::Unavailable), "unavailable"),
    ] {
        let families = rendered(&Figures { server, ..figures() }, None);
        assert_value(&families, "elasticsearch_state", &format!("state={state}"), 1.0);
        let states = &families[&format!("{PREFIX}elasticsearch_state")].samples;
        assert_eq!((states.len(), states.values().sum::<f64>()), (4, 1.0));
    }
}

#[test]
fn unknown_figures_are_left_out() {
    let run = Exposition { mode: Mode::Once, dry_run: true, earlier_success: None };
    let families = parse(&run.text(&Figures::default(), None));
    for name in [
        "exit_code",
        "last_success_timestamp_seconds",
        "newest_archive_timestamp_seconds",
        "elasticsearch_state",
        "requests_in_flight_limit",
        "since_confirmed_request_seconds",
        "lag_seconds",
        "memory_limit_bytes",
        "retries_total",
        "request_duration_seconds",
        "rows_rejected_total",
    ] {
        assert!(!families.contains_key(&format!("{PREFIX}{name}")), "{name}");
    }
    assert_value(&families, "running", "", 1.0);
}

#[test]
fn exactly_the_existing_figures_are_documented() {
    let documented: BTreeSet<String> = include_str!("../../../docs/metrics.md")
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split(['`', '{']).next()?.to_owned()))
        .filter(|name| name.starts_with(PREFIX))
        .collect();
    let mut of_all_tasks = figures();
    of_all_tasks.totals.rows.findings.count(Finding::Missing);
    let written: BTreeSet<String> = rendered(&of_all_tasks, Some(ExitCode::Done)).into_keys().collect();
    assert_eq!(written, documented);
}

#[test]
fn a_failing_run_keeps_the_time_of_an_earlier_success() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.prom");
    let last_success = || earlier_success(&path);
    let new = || MetricsFile::new(path.clone(), Mode::Once, false);
    assert_eq!(last_success(), None);
    new().write(figures, Some(ExitCode::Done));
    assert_eq!(last_success(), Some(1_766_016_010_007));
    let failing = || Figures { last_success: None, ..figures() };
    new().write(failing, Some(ExitCode::Unavailable));
    assert_eq!(last_success(), Some(1_766_016_010_007));
    new().write(|| Figures { last_success: Some(1_766_016_999_000), ..figures() }, None);
    assert_eq!(last_success(), Some(1_766_016_999_000));
}

#[test]
fn a_file_of_something_else_has_no_earlier_success() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.prom");
    assert_eq!(earlier_success(folder.path()), None);
    let name = format!("{PREFIX}{LAST_SUCCESS}");
    let lines = ["", "\n\n", " ", " NaN", " +Inf", " -1", " many", "_of_another 1", "{a=\"b\"} 1"];
    for line in lines {
        fs::write(&path, format!("{name}{line}\n")).unwrap();
        assert_eq!(earlier_success(&path), None, "{line:?}");
    }
    fs::write(&path, b"\xff\xfe").unwrap();
    assert_eq!(earlier_success(&path), None);
}

#[test]
fn the_file_is_replaced_readable_for_others_and_leaves_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.prom");
    fs::write(&path, "of something else, and much longer\n".repeat(1000)).unwrap();
    let file = MetricsFile::new(path.clone(), Mode::Spool, false);
    file.write(figures, None);
    assert_eq!(fs::read_to_string(&path).unwrap(), RUN.text(&figures(), None));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    // The collector runs as another user, so the file has the permissions of any new file.
    let plain = folder.path().join("plain");
    fs::write(&plain, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&plain));
}

#[test]
fn a_failure_to_write_is_logged_once_in_a_while_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    // A folder has the file's name: the temporary file can be written, but the rename fails.
    let path = folder.path().join("m.prom");
    fs::create_dir(&path).unwrap();
    let file = MetricsFile::new(path, Mode::Once, false);
    let warned = || *file.warned.lock();
    assert_eq!(warned(), None);
    file.write(figures, None);
    let first = warned();
    assert!(first.is_some());
    file.write(figures, None);
    assert_eq!(warned(), first);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn only_temporary_files_of_killed_runs_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(120);
    for name in ["m.prom", "m.prom.12.tmp", "m.prom.x.tmp", "m.prom..tmp", "n.prom.12.tmp", "m.prom.tmp"] {
        let file = fs::File::create(folder.path().join(name)).unwrap();
        file.set_modified(old).unwrap();
    }
    fs::write(folder.path().join("m.prom.13.tmp"), "of a run that is writing").unwrap();
    MetricsFile::new(folder.path().join("m.prom"), Mode::Once, false);
    let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(
        left,
        ["m.prom", "m.prom..tmp", "m.prom.13.tmp", "m.prom.tmp", "m.prom.x.tmp", "n.prom.12.tmp"]
    );
}
