//! The tables of docs/configuration.md.

use megastream_ingest::cli::Entry;
use megastream_ingest::cli::entries::{all, paths};
use megastream_ingest::common::exit::EXIT_CODES;

/// Returns the mark before the generated part of this name.
fn begin(name: &str) -> String {
    format!("<!-- generated: {name} -->\n")
}

/// The mark after a generated part.
const END: &str = "<!-- end -->\n";

/// Returns the parts, each with its name.
fn parts() -> [(&'static str, String); 2] {
    [("options", options()), ("exit codes", exit_codes())]
}

/// Inserts the parts into a text between their marks.
///
/// # Errors
///
/// Returns the name of a part that has no marks.
pub(super) fn fill(tables: &str) -> Result<String, &'static str> {
    let mut filled = tables.to_owned();
    for (name, part) in parts() {
        let mark = begin(name);
        let start = filled.find(&mark).ok_or(name)? + mark.len();
        let end = filled[start..].find(END).ok_or(name)? + start;
        filled.replace_range(start..end, &part);
    }
    Ok(filled)
}

fn options() -> String {
    let mut table = "| flag | variable | meaning | default |\n|---|---|---|---|\n".to_owned();
    table.push_str(&row("paths", paths()));
    for entry in all() {
        let usage = entry.usage().replace('|', "\\|");
        let flag = if usage.is_empty() { usage } else { format!("`{usage}`") };
        table.push_str(&row(&flag, entry));
    }
    table
}

fn row(flag: &str, entry: &Entry) -> String {
    let variables: Vec<_> = entry.variables.iter().map(|name| format!("`{name}`")).collect();
    let default = match entry.default {
        "" => String::new(),
        words if words.contains(' ') || words == "cores" => words.to_owned(),
        word => format!("`{word}`"),
    };
    let cells = [flag, &variables.join(", "), entry.text, &default];
    let cells: Vec<_> =
        cells.iter().map(|cell| if cell.is_empty() { " ".into() } else { format!(" {cell} ") }).collect();
    format!("|{}|\n", cells.join("|"))
}

fn exit_codes() -> String {
    let mut table = "| code | meaning |\n|---|---|\n".to_owned();
    for (code, meaning) in EXIT_CODES {
        table.push_str(&format!("| {} | {meaning} |\n", code.number()));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_between_the_marks_is_replaced() {
        let text = format!("a\n{}worn\n{END}b\n{}{END}c\n", begin("options"), begin("exit codes"));
        let filled = fill(&text).unwrap();
        assert!(filled.starts_with("a\n") && filled.ends_with(&format!("{END}c\n")));
        assert!(!filled.contains("worn") && filled.contains("--workers N"));
        assert_eq!(fill(&filled).unwrap(), filled);
        assert_eq!(fill("no marks"), Err("options"));
    }
}
