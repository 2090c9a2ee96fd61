//! Version, completions and man page.

use std::io::ErrorKind;
use std::process::Command;

use crate::harness::TestEnv;
use crate::harness::archives::Archive;

fn committed(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// Runs a program; None if it is not installed.
#[track_caller]
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = match Command::new(program).args(arguments).env("LC_ALL", "C.UTF-8").output() {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        output => output.unwrap(),
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{program} {arguments:?}: {text}{said}");
    Some(text)
}

#[test]
fn the_version_names_the_commit_or_says_unknown() {
    let run = TestEnv::new().run(&["--version"]).exits(0);
    let version = format!("megastream_ingest {} (", env!("CARGO_PKG_VERSION"));
    run.check(run.stdout.starts_with(&version) && run.stdout.ends_with(")\n"), "version and commit");
    run.check(run.stdout.contains("commit ") && run.stdout.lines().count() == 1, "in one line");
}

#[test]
fn the_shells_accept_their_completions() {
    for (shell, file) in [
        ("bash", "megastream_ingest.bash"),
        ("zsh", "_megastream_ingest"),
        ("fish", "megastream_ingest.fish"),
    ] {
        run(shell, &["-n", &committed(&format!("completions/{file}"))]);
    }
}

#[test]
fn the_man_page_is_valid() {
    let page = committed("man/megastream_ingest.1");
    run("mandoc", &["-Tlint", "-Wstyle", &page]);
}

/// The completions of bash for these words, the last of which is incomplete.
fn offered(env: &TestEnv, words: &[&str]) -> Vec<String> {
    let script = "cd \"$2\" && source \"$1\" && shift 2 && complete -p megastream_ingest >/dev/null \
                  && COMP_WORDS=(megastream_ingest \"$@\") COMP_CWORD=$# && _megastream_ingest \
                  && printf '%s\\n' \"${COMPREPLY[@]}\"";
    let file = committed("completions/megastream_ingest.bash");
    let folder = env.path("").display().to_string();
    let mut arguments = vec!["--norc", "-c", script, "bash", &file, &folder];
    arguments.extend(words);
    let offered = run("bash", &arguments).unwrap_or_default();
    offered.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_flags_values_and_archives() {
    if run("bash", &["-c", "((BASH_VERSINFO >= 4)) && echo 4"]).is_none_or(|text| text.is_empty()) {
        return;
    }
    let env = TestEnv::with_archives(&[Archive::new("20251218_000000")]);
    env.write("notes.txt", "");
    for (words, expected) in [
        (&["--mo"][..], &["--mode"][..]),
        (&["--mode", ""], &["once", "spool"]),
        (&["--mode", "=", "sp"], &["spool"]),
        (&["--vector-encoding", "="], &["auto", "base64", "array"]),
        (&["--dry-run", "--summary-json", "no"], &["notes.txt"]),
        (&["--workers", ""], &[]),
        (&["--dry-run", ""], &["archives"]),
        (&["archives/"], &["archives/mega_jetstream_20251218_000000.db.zip"]),
    ] {
        assert_eq!(offered(&env, words), expected, "{words:?}");
    }
}
