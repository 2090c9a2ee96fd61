//! Writes what is made from the settings: completions, the man page, and the tables of the README.
//!
//! `cargo run --example generate`, in the root of the repository, after a change of `src/cli/entries.rs`.

use std::error::Error;
use std::fs;

use megastream_ingest::cli::{generated, readme};

fn main() -> Result<(), Box<dyn Error>> {
    for (path, text) in generated() {
        if let Some(folder) = std::path::Path::new(path).parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)?;
    }
    let filled = readme::fill(&fs::read_to_string("README.md")?)
        .map_err(|part| format!("README.md has no marks for {part:?}"))?;
    Ok(fs::write("README.md", filled)?)
}
