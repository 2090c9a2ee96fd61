//! The command line and the variables: each is defined once, in [`entries`], and everything else is made from that.
//!
//! - [`parse`] reads what was typed, by argh;
//! - [`settings::Settings`] looks a setting up: what was typed, else its variable, else its default;
//! - [`help`], [`man`], [`completions`] and [`tables`] tell of it.

use argh::FromArgs;

pub mod choices;
pub mod completions;
pub mod entries;
pub mod entry;
pub mod help;
pub mod man;
pub mod settings;
pub mod tables;
mod texts;

pub use entries::Cli;
pub use entry::{Entry, all, flags};
use settings::parse_switch;

/// What the command line asks for.
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
    let words = match in_words_of_argh(arguments) {
        Ok(words) => words,
        Err(message) => return Parsed::Wrong(message),
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match Cli::from_args(&["megastream_ingest"], &words) {
        Ok(cli) => Parsed::Run(Box::new(cli)),
        Err(exit) if exit.status.is_ok() => Parsed::Print(help::text()),
        Err(exit) => Parsed::Wrong(format!("{}: --help names all there are", exit.output.trim_end())),
    }
}

/// argh knows `--flag value` and `--switch` alone. The other forms of the established tool are spelled out for it:
/// `-flag`, `--flag=value` and `--switch=true`. Everything else stays as it was typed, and argh judges it.
fn in_words_of_argh(arguments: impl IntoIterator<Item = String>) -> Result<Vec<String>, String> {
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
            continue;
        }
        // What follows is its value, whatever it looks like.
        let value = value.or_else(|| arguments.next());
        let value = value.ok_or_else(|| format!("{flag} is the last word: its value is missing"))?;
        words.extend([flag, value]);
    }
    Ok(words)
}

/// The flag that a word names, as argh knows it, and the value behind its equals sign.
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

/// A switch that has a variable takes a value: `false` is then another thing than not to be typed.
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

/// Files that are made from the entries, by their paths in the repository.
pub fn generated() -> [(&'static str, String); 4] {
    [
        ("completions/megastream_ingest.bash", completions::bash()),
        ("completions/_megastream_ingest", completions::zsh()),
        ("completions/megastream_ingest.fish", completions::fish()),
        ("man/megastream_ingest.1", man::page()),
    ]
}

#[cfg(test)]
mod tests;
