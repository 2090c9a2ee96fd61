//! Tells the program which commit it is built from.
//!
//! `MEGASTREAM_INGEST_COMMIT` says so where it is set; else git does, where this folder is the root of a working
//! tree; else the note that `cargo package` leaves in its archives. A build without any of them is none the worse.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// Written by `cargo package` into what it packs.
const PACKAGED: &str = ".cargo_vcs_info.json";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=Cargo.toml");
    println!("cargo::rerun-if-env-changed=MEGASTREAM_INGEST_COMMIT");
    let told = env::var("MEGASTREAM_INGEST_COMMIT").ok().filter(|commit| is_word(commit));
    let built_from = match told.or_else(of_git).or_else(of_package) {
        Some(commit) => format!("commit {}", commit.get(..12).unwrap_or(&commit)),
        None => "built from a source archive, commit unknown".to_owned(),
    };
    println!("cargo::rustc-env=MEGASTREAM_INGEST_BUILT_FROM={built_from}");
}

/// The commit that is checked out here; not that of another project in whose working tree this folder lies.
fn of_git() -> Option<String> {
    let root = git(&["rev-parse", "--show-toplevel"])?;
    let here = env::var("CARGO_MANIFEST_DIR").ok()?;
    if fs::canonicalize(root).ok()? != fs::canonicalize(here).ok()? {
        return None;
    }
    // A commit moves the branch, a checkout moves HEAD; both write to the log of HEAD.
    for file in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", file])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "HEAD"]).filter(|commit| is_word(commit))
}

fn of_package() -> Option<String> {
    let note = fs::read_to_string(PACKAGED).ok()?;
    let (_, behind) = note.split_once("\"sha1\":")?;
    behind.split('"').nth(1).filter(|commit| is_word(commit)).map(str::to_owned)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}
