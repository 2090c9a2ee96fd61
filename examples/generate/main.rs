//! Generates completions, the man page and the tables of docs/configuration.md from the list of settings.
//!
//! Run `cargo run --example generate` in the root of the repository after a change of `src/cli/entries.rs`.

use std::error::Error;
use std::fs;

mod completions;
mod man;
mod tables;

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

/// Returns the files that consist of nothing else: path in the repository, and content.
fn generated() -> [(&'static str, String); 4] {
    [
        ("completions/megastream_ingest.bash", completions::bash()),
        ("completions/_megastream_ingest", completions::zsh()),
        ("completions/megastream_ingest.fish", completions::fish()),
        ("man/megastream_ingest.1", man::page()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_files_are_up_to_date() {
        let again = "run `cargo run --example generate` and commit what it writes";
        let read = |path: &str| {
            fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap_or_default()
        };
        for (path, text) in generated() {
            assert_eq!(read(path), text, "{path}: {again}");
        }
        let tables = read("docs/configuration.md");
        assert_eq!(tables::fill(&tables).as_ref(), Ok(&tables), "docs/configuration.md: {again}");
    }
}
