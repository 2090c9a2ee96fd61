//! Generates completions, the man page and the tables of docs/configuration.md from the list of settings.
//!
//! Run `cargo run --example generate` in the root of the repository after a change of `src/cli/entries.rs`.

use std::error::Error;
use std::fs;

use megastream_ingest::cli::{generated, tables};

fn main() -> Result<(), Box<dyn Error>> {
    for (path, text) in generated() {
        if let Some(folder) = std::path::Path::new(path).parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)?;
    }
    let filled = tables::fill(&fs::read_to_string("docs/configuration.md")?)
        .map_err(|part| format!("docs/configuration.md has no marks for {part:?}"))?;
    Ok(fs::write("docs/configuration.md", filled)?)
}
