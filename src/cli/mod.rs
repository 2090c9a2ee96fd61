//! Flags and variables. Each is defined once, in [`entries`]; everything else is generated from there.
//!
//! - [`parse`] parses the command line with argh.
//! - [`settings::Settings`] looks a setting up: the flag, else its variable, else its default.
//! - [`help`] describes the settings; `examples/generate` writes completions, man page and tables.

use std::iter;

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

/// Rewrites arguments into the forms that argh supports: `--flag value` and `--switch`, each once. The established tool
/// also accepts `-flag`, `--flag=value`, `--switch=true` and repeated flags, of which the last counts. All other words are
/// left to argh.
fn for_argh(arguments: impl IntoIterator<Item = String>) -> Result<Vec<String>, String> {
    let mut typed: Vec<(Option<&Entry>, Vec<String>)> = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(word) = arguments.next() {
        if word == "--" {
            typed.push((None, iter::once(word).chain(arguments).collect()));
            break;
        }
        let Some((entry, flag, value)) = flag_of(&word) else {
            typed.push((None, vec![word]));
            continue;
        };
        let words = if entry.is_switch() {
            switch(entry, flag, value.as_deref())?
        } else {
            // The next word is the value, even if it looks like a flag.
            let value = value.or_else(|| arguments.next());
            vec![flag.clone(), value.ok_or_else(|| format!("{flag} is the last word: its value is missing"))?]
        };
        // Nothing else matters then, and argh accepts no word after it.
        if words.first().is_some_and(|first| first == "--help") {
            return Ok(words);
        }
        if !entry.is_several {
            typed.retain(|(other, _)| *other != Some(entry));
        }
        typed.push((Some(entry), words));
    }
    Ok(typed.into_iter().flat_map(|(_, words)| words).collect())
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
