//! The commands of the README and of `docs/` do what the text says.
//!
//! The blocks marked `sh` of a page run in order, in one folder, with a server and a bucket of their own. A comment
//! before a block, `<!-- test: … -->`, which readers do not see, tells the test:
//!
//! - `exits N`: the exit code, if not 0;
//! - `until stopped`: the command runs until a signal;
//! - `given WHAT`: a state to prepare;
//! - `needs PROGRAM`: the block is skipped if the program is missing;
//! - `not run: WHY`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::archives::{Archive, unreadable, uri};
use crate::harness::fake::API_KEY;
use crate::harness::s3::{ACCESS_KEY, BUCKET, FakeS3, SECRETS};
use crate::harness::{DEAD_LETTERS, STATE_FILE, TestEnv, in_parallel, long_or, posts};

/// A block of commands, and the comments before it.
#[derive(Debug, PartialEq)]
struct Block {
    line: usize,
    marks: Vec<String>,
    script: String,
}

impl Block {
    fn mark(&self, name: &str) -> Option<&str> {
        self.marks.iter().find_map(|mark| mark.strip_prefix(name)).map(str::trim)
    }
}

/// The `sh` blocks of a document. Blocks of other shells are an error: they would not be run.
fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut marks = Vec::new();
    let mut lines = document.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let line = line.trim();
        if let Some(mark) = line.strip_prefix("<!-- test: ").and_then(|rest| rest.strip_suffix(" -->")) {
            marks.push(mark.to_owned());
        } else if let Some(language) = line.strip_prefix("```") {
            let script: Vec<_> =
                lines.by_ref().map(|(_, line)| line).take_while(|l| l.trim() != "```").collect();
            assert!(!["bash", "shell", "console", ""].contains(&language), "line {}: say sh", number + 1);
            if language == "sh" {
                let marks = std::mem::take(&mut marks);
                blocks.push(Block { line: number + 1, marks, script: script.join("\n") });
            }
        } else if !line.is_empty() {
            assert!(marks.is_empty(), "line {}: a mark without a block", number + 1);
        }
    }
    blocks
}

/// Replaces the reader's server, key, folders and bucket by those of the test.
fn substitute(script: &str, env: &TestEnv) -> String {
    [
        ("https://localhost:9200", env.fake.url().as_str()),
        ("ELASTICSEARCH_API_KEY=…", &format!("ELASTICSEARCH_API_KEY={API_KEY}")),
        ("cargo run --locked --", "megastream_ingest"),
        ("/data/megastream", "archives"),
        ("/var/lib/node_exporter/textfile/", ""),
        ("S3_SQLITE_DB_BUCKET=my-bucket", &format!("S3_SQLITE_DB_BUCKET={BUCKET}")),
    ]
    .iter()
    .fold(script.to_owned(), |script, (told, here)| script.replace(told, here))
}

/// Prepares the state that `given WHAT` names.
fn prepare(env: &TestEnv, what: &str) {
    match what {
        "rejected rows" => {
            // One row can be replayed, the other cannot.
            let damaged = unreadable("damaged", Some("{"));
            let archive = Archive::new("20251218_010000").with_all(posts("refused", 1)).with(damaged);
            env.add(std::slice::from_ref(&archive));
            env.fake.fail_items(
                |item| item.id == uri("refused0"),
                usize::MAX,
                400,
                "document_parsing_exception",
            );
            let _ = std::fs::remove_file(env.path(STATE_FILE));
            env.run(&[]).exits(3);
            env.fake.release();
            assert!(env.read(DEAD_LETTERS).is_some());
            // Later blocks read the folder again, and must find nothing to reject.
            std::fs::remove_file(env.path("archives").join(archive.name())).unwrap();
        }
        "a broken archive" => {
            env.write("archives/mega_jetstream_20251218_020000.db.zip", "no archive");
            env.run(&[]).exits(3);
        }
        "no broken archive" => {
            let _ = std::fs::remove_file(env.path("archives/mega_jetstream_20251218_020000.db.zip"));
        }
        "a load" => drop(env.run(&[]).exits(0)),
        other => panic!("unknown state to prepare: {other:?}"),
    }
}

/// The block of the README that saves the settings for the blocks of all other pages.
fn settings() -> Block {
    let readme = blocks(&std::fs::read_to_string(document("README.md")).unwrap());
    readme.into_iter().find(|block| block.script.contains("> ~/megastream.env")).expect("the settings")
}

fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|p| p.join(program).exists()))
}

/// Runs the blocks of a document, and returns their number.
fn run_commands(path: &Path) -> usize {
    let document = std::fs::read_to_string(path).unwrap();
    let env = TestEnv::with_archives(&[
        Archive::new("20251218_000000").with_all(posts("p", 2)),
        Archive::new("20251218_000100").with_all(posts("q", 2)),
    ]);
    let s3 = FakeS3::start();
    let in_bucket = Archive::new("20251218_000200").with_all(posts("r", 1));
    s3.put(&format!("megastream/{}", in_bucket.name()), in_bucket.zip());
    for folder in ["test_data", "deploy"] {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        std::os::unix::fs::symlink(target, env.path(folder)).unwrap();
    }
    let ca = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap();
    env.write("http_ca.crt", ca.cert.pem());
    let home = env.path("home").display().to_string();
    std::fs::create_dir(&home).unwrap();
    if !path.ends_with("README.md") {
        let script = substitute(&settings().script, &env);
        env.ingest().without("SUMMARY_JSON").var("HOME", &home).in_shell(&script).run().exits(0);
    }
    let mut count = 0;
    for block in blocks(&document) {
        let missing = block.mark("needs ").filter(|program| !is_installed(program));
        if block.mark("not run: ").is_some() || missing.is_some() {
            continue;
        }
        if let Some(what) = block.mark("given ") {
            prepare(&env, what);
        }
        let mut script = substitute(&block.script, &env);
        if block.mark("until stopped").is_some() {
            // Only the start is of interest here. `--foreground` keeps `timeout` from signalling the group as well,
            // which would count as a second signal.
            let seconds = long_or(5, 2);
            let stopped = format!(
                "timeout --foreground --preserve-status --signal TERM {seconds} megastream_ingest --"
            );
            script = script.replace("megastream_ingest --", &stopped);
        }
        let code = block.mark("exits ").map_or(0, |code| code.parse().unwrap());
        let run = env
            .ingest()
            .without("SUMMARY_JSON")
            // Each block sets what it needs.
            .without("ELASTICSEARCH_URL")
            .without("ELASTICSEARCH_API_KEY")
            .without("LOCAL_SQLITE_DB_PATH")
            .var("HOME", &home)
            .var("AWS_ENDPOINT_URL_S3", &s3.url())
            .var("AWS_S3_ACCESS_KEY", ACCESS_KEY)
            .var("AWS_S3_SECRET_KEY", SECRETS[0])
            .in_shell(&script)
            .run();
        run.check(run.code == Some(code), &format!("{}:{} exits with {code}", path.display(), block.line));
        count += 1;
    }
    count
}

fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn the_readme_commands_run() {
    assert!(run_commands(&document("README.md")) >= 4);
}

#[test]
fn the_operations_guide_commands_run() {
    assert!(run_commands(&document("docs/operations.md")) >= 10);
}

#[test]
fn the_commands_of_all_other_pages_run() {
    let count = AtomicUsize::new(0);
    let documents = std::fs::read_dir(document("docs")).unwrap().flatten().map(|entry| entry.path());
    let is_other =
        |path: &PathBuf| !path.ends_with("operations.md") && path.extension().is_some_and(|e| e == "md");
    in_parallel(documents.filter(is_other), |path| {
        count.fetch_add(run_commands(&path), Ordering::Relaxed);
    });
    assert!(count.into_inner() >= 3);
}

#[test]
fn links_between_documents_resolve() {
    let docs = std::fs::read_dir(document("docs")).unwrap().flatten().map(|entry| entry.path());
    for path in docs.chain([document("README.md")]).filter(|path| path.extension().is_some_and(|e| e == "md"))
    {
        let text = std::fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            let has_anchor = anchor.is_empty()
                || std::fs::read_to_string(&target).unwrap().lines().any(|line| {
                    line.starts_with('#') && anchor_of(line.trim_start_matches('#').trim()) == anchor
                });
            assert!(has_anchor, "{}: {link}", path.display());
        }
    }
}

/// The anchor that forges make for a heading.
fn anchor_of(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn marks_belong_to_the_next_block() {
    let text = "a\n<!-- test: exits 3 -->\n```sh\nfalse\n  true\n```\n```json\n{}\n```\n```sh\ntrue\n```\n";
    let found = blocks(text);
    assert_eq!(
        (found[0].line, found[0].script.as_str(), found[0].mark("exits ")),
        (3, "false\n  true", Some("3"))
    );
    assert_eq!((found.len(), found[1].mark("exits ")), (2, None));
}
