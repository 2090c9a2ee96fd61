//! The progress bar on a pseudo-terminal.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::harness::archives::{Archive, delete, unreadable};
use crate::harness::script::Fault;
use crate::harness::{Invocation, TestEnv, posts};

fn archives() -> [Archive; 3] {
    ["20251218_000000", "20251218_000100", "20251218_000200"]
        .map(|time| Archive::new(time).with_all(posts(time, 3)))
}

/// A server that delays every bulk request.
fn slow() -> TestEnv {
    let env = TestEnv::with_archives(&archives());
    env.fake.fail_bulks(usize::MAX, Fault::Delay(Duration::from_millis(500)));
    env
}

/// Runs on a terminal of 60 columns. Returns the exit code and the output.
fn on_a_terminal(run: Invocation<'_>) -> (Option<i32>, String) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let stderr = OpenOptions::new().read(true).write(true).open(name).unwrap();
    tcsetwinsize(&stderr, Winsize { ws_row: 24, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let mut command = run.command();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
    // Reading ends only when the child holds the last copy of the other end.
    drop(command);
    let mut written = Vec::new();
    // On Linux, reading fails once the other end is closed.
    let _ = File::from(terminal).read_to_end(&mut written);
    (child.wait().unwrap().code(), String::from_utf8_lossy(&written).into_owned())
}

#[test]
fn the_progress_bar_is_erased_at_the_end() {
    let env = slow();
    let run = env.ingest().args(&["--senders", "1"]).var("TERM", "xterm");
    let (code, text) = on_a_terminal(run);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("] 0%  ") && text.contains("/3 archives"), "{text}");
    let (before, report) = text.split_once("Exit code 0").unwrap();
    // The bar is erased line by line.
    assert!(before.rfind("\x1b[2K") > before.rfind("/3 archives"), "{text}");
    assert!(!report.contains('\x1b'), "{report}");
}

#[test]
fn the_progress_bar_needs_a_capable_terminal_and_text_logging() {
    for (name, value) in
        [("TERM", "dumb"), ("LOG_FORMAT", "json"), ("LOGGING_ENABLED", "false"), ("RUST_LOG", "warn")]
    {
        let env = slow();
        let (code, text) = on_a_terminal(env.ingest().var("TERM", "xterm").var(name, value));
        assert_eq!(code, Some(0), "{text}");
        assert!(!text.contains("/3 archives") && !text.contains("\x1b[2K"), "{name}: {text}");
        assert_eq!(text.is_empty(), ["LOGGING_ENABLED", "RUST_LOG"].contains(&name), "{text}");
    }
}

#[test]
fn no_color_is_honoured() {
    let env = slow();
    let (_, text) = on_a_terminal(env.ingest().var("TERM", "xterm").var("NO_COLOR", "1"));
    // Colour sequences end in m.
    let coloured = text
        .split("\x1b[")
        .skip(1)
        .any(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m'));
    assert!(!coloured, "{text:?}");
    assert!(text.contains("/3 archives"), "{text}");
}

#[test]
fn the_line_of_an_archive_fits_100_columns() {
    let doubles = posts("p", 1400).into_iter().chain(posts("p", 50));
    let archive = Archive::new("20251218_000000")
        .with_all(doubles)
        .with_all((0..30).map(|n| delete(&format!("p{n}"))))
        .with_all((0..9).map(|n| unreadable(&format!("bad{n}"), Some("{"))));
    let env = TestEnv::with_archives(&[archive]);
    let line = |text: &str| {
        let has_it = |line: &&str| line.contains("20251218_000000.db.zip\": ");
        text.lines().find(has_it).map(|line| line.trim_end().to_owned()).unwrap_or_default()
    };
    let (_, text) = on_a_terminal(env.ingest().args(&["--dry-run"]).var("TERM", "dumb"));
    let (shown, all) = (line(&text), line(&env.run(&["--dry-run"]).exits(3).stderr));
    assert!(shown.len() <= 100 && shown.contains(": 9 rejected, ") && shown.ends_with(" others"), "{text}");
    assert!(all.ends_with(": 9 rejected, 1370 indexed, 30 deleted, 80 superseded"), "{all}");
    let table = &text[text.find("  Archives").unwrap()..];
    assert!(table.lines().all(|line| line.trim_end().len() <= 50), "{table}");
}
