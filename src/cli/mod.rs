//! Flags and variables. Each is defined once, in [`entries`]; everything else is generated from there.
//!
//! - [`parse`] parses the command line with argh.
//! - [`settings::Settings`] looks a setting up: the flag, else its variable, else its default.
//! - [`help`] describes the settings; `examples/generate` writes completions, man page and tables.

use argh::FromArgs;

pub mod choices;
pub mod entries;
pub mod entry;
pub mod help;
pub mod settings;

pub use entries::{Cli, all, flags};
pub use entry::Entry;
use settings::parse_switch;

/// The result of parsing the command line.
#[derive(Debug)]
pub enum Parsed {
    /// A run.
    Run(Box<Cli>),
    /// A text for standard output: `--help`.
    Print(String),
    /// The command line is wrong; the text says how.
    Wrong(String),
}

/// Parses the arguments that follow the program's name.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Parsed {
    let words = match for_argh(arguments) {
        Ok(words) => words,
        Err(message) => return Parsed::Wrong(message),
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match Cli::from_args(&["megastream_ingest"], &words) {
        Ok(cli) => Parsed::Run(Box::new(cli)),
        Err(exit) if exit.status.is_ok() => Parsed::Print(help::text()),
        Err(exit) => Parsed::Wrong(format!("{}: --help lists all flags", exit.output.trim_end())),
    }
}

/// Rewrites arguments into the forms that argh supports: `--flag value` and `--switch`. The established tool also
/// accepts `-flag`, `--flag=value` and `--switch=true`. All other words are left to argh.
fn for_argh(arguments: impl IntoIterator<Item = String>) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(word) = arguments.next() {
        if word == "--" {
            words.push(word);
            words.extend(arguments);
            break;
        }
        let Some((entry, flag, value)) = flag_of(&word) else {
            words.push(word);
            continue;
        };
        if entry.is_switch() {
            words.extend(switch(entry, flag, value.as_deref())?);
            // Nothing else matters then, and argh accepts no word after it.
            if words.last().is_some_and(|last| last == "--help") {
                break;
            }
            continue;
        }
        // The next word is the value, even if it looks like a flag.
        let value = value.or_else(|| arguments.next());
        let value = value.ok_or_else(|| format!("{flag} is the last word: its value is missing"))?;
        words.extend([flag, value]);
    }
    Ok(words)
}

/// Parses a word that is a flag: its entry, the flag in argh's form, and the value after an equals sign.
fn flag_of(word: &str) -> Option<(&'static Entry, String, Option<String>)> {
    let name = word.strip_prefix("--").or(word.strip_prefix('-'))?;
    let (name, value) = match name.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (name, None),
    };
    let name = if name == "h" { "help" } else { name };
    let (_, entry) = flags().find(|(flag, _)| flag == name)?;
    Some((entry, format!("--{name}"), value))
}

/// Rewrites a switch. If it has a variable, `false` differs from an absent switch.
fn switch(entry: &Entry, flag: String, value: Option<&str>) -> Result<Vec<String>, String> {
    let is_on = value.map_or(Some(true), parse_switch);
    let is_on =
        is_on.ok_or_else(|| format!("{flag} is true or false, not {:?}", value.unwrap_or_default()))?;
    Ok(match (entry.variables.is_empty(), is_on) {
        (false, _) => vec![flag, is_on.to_string()],
        (true, true) => vec![flag],
        (true, false) => Vec::new(),
    })
}

#[cfg(test)]
mod tests;
