//! The text of `--help`.

use super::entries::{GROUPS, paths};
use super::entry::Entry;
use crate::common::exit::EXIT_CODES;
use crate::common::text::{plain, wrap};

/// What the program does.
pub const PURPOSE: &str = "Reads Megastream archives (zipped SQLite databases of Bluesky posts) from a folder or an S3 bucket and writes \
     them to Elasticsearch: posts into `posts`, deletions into `post_tombstones`. Archives are never changed.";

/// Example command lines, and what each does.
pub const EXAMPLES: &[(&str, &str)] = &[
    ("megastream_ingest --dry-run /data/megastream", "read everything, write nothing, need no server"),
    ("megastream_ingest --check /data/megastream", "check whether a load would work"),
    ("megastream_ingest --create-indices /data/megastream", "load a folder"),
    ("megastream_ingest --source s3 --mode spool", "load a bucket, and then new archives in it"),
    (
        "megastream_ingest --replay .dead_letters.ndjson",
        "send rejected rows again, once the cause is corrected",
    ),
];

/// Column at which explanations start.
const COLUMN: usize = 30;

/// Returns the whole text.
pub fn text() -> String {
    let mut text = "Usage: megastream_ingest [OPTION]... [PATH]...\n\n".to_owned();
    wrap(&mut text, "", &plain(PURPOSE));
    text.push_str("\nArguments:\n");
    entry(&mut text, "PATH...", &explanation(paths()));
    for group in GROUPS {
        text.push_str(&format!("\n{}:\n", group.title));
        for setting in group.entries() {
            entry(&mut text, &name(setting), &explanation(setting));
        }
    }
    text.push('\n');
    wrap(
        &mut text,
        "",
        "A name in capitals is a variable of the environment; a flag overrides its variable.",
    );
    text.push_str("\nExit codes:\n");
    for (code, meaning) in EXIT_CODES {
        entry(&mut text, &code.number().to_string(), &plain(meaning));
    }
    text.push_str("\nExamples:\n");
    for (command, meaning) in EXAMPLES {
        text.push_str(&format!("  {command}\n"));
        wrap(&mut text, "      ", &plain(meaning));
    }
    text
}

/// Returns a flag as it is typed, or the variables of a setting without one.
fn name(setting: &Entry) -> String {
    if setting.has_flag { setting.usage() } else { setting.variables.join(",\n  ") }
}

/// Returns the meaning of a setting with its default, and with its variables unless they already name it.
fn explanation(setting: &Entry) -> String {
    let mut notes = Vec::new();
    let is_named_by_variables = !setting.has_flag && setting.name != paths().name;
    if !setting.variables.is_empty() && !is_named_by_variables {
        notes.push(setting.variables.join(", "));
    }
    if !setting.default.is_empty() {
        notes.push(format!("default {}", setting.default));
    }
    let text = plain(setting.text);
    if notes.is_empty() { text } else { format!("{text} [{}]", notes.join("; ")) }
}

/// Appends a name with its meaning to the right, or below if the name is too long.
fn entry(text: &mut String, name: &str, meaning: &str) {
    let name = format!("  {name}");
    let last = name.lines().last().unwrap_or_default().chars().count();
    text.push_str(&name);
    if last + 2 > COLUMN {
        text.push('\n');
    } else {
        text.push_str(&" ".repeat(COLUMN - last));
    }
    let mut wrapped = String::new();
    wrap(&mut wrapped, &" ".repeat(COLUMN), meaning);
    text.push_str(if last + 2 > COLUMN { &wrapped } else { wrapped.trim_start() });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::all;
    use crate::common::text::WIDTH;

    #[test]
    fn every_flag_variable_default_and_exit_code_is_there() {
        let text = text();
        for entry in all() {
            let flag = entry.usage();
            assert!(text.contains(&format!("  {flag}")), "{flag}");
            assert!(entry.variables.iter().all(|name| text.contains(name)), "{entry:?}");
            assert!(text.contains(entry.default), "{entry:?}");
        }
        for (code, _) in EXIT_CODES {
            assert!(text.contains(&format!("\n  {} ", code.number())), "{code:?}");
        }
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        for line in text().lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
            assert_eq!(line.trim_end(), line);
        }
    }
}
