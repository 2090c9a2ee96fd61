//! Looks settings up: the flag, else the variable, else the default.

use std::path::PathBuf;

use super::choices::Choice;
use super::entries::{Cli, all};
use super::entry::{Entry, Value};
use crate::common::exit::Failure;

/// The command line and the environment. Every error names the setting.
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    /// The command line.
    pub cli: &'a Cli,
    /// Looks up a variable.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

impl Settings<'_> {
    /// Returns a variable; an empty one counts as unset.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.is_empty())
    }

    /// Returns the value of a setting, with the name of the flag or variable that sets it.
    pub fn set(&self, entry: &Entry) -> Option<(String, String)> {
        // An empty value on the command line still counts as set.
        if let Some(text) = self.cli.typed(entry) {
            return Some((format!("--{}", entry.flag()?), text));
        }
        entry.variables.iter().find_map(|name| Some(((*name).to_owned(), self.get(name)?)))
    }

    /// Returns the value of a setting, or its default, with the name of the flag or variable that sets it.
    pub fn set_or_default(&self, entry: &Entry) -> (String, String) {
        self.set(entry).unwrap_or_else(|| (entry.full_name(), entry.default.to_owned()))
    }

    /// Returns the value of a setting without its default.
    pub fn value(&self, entry: &Entry) -> Option<String> {
        self.set(entry).map(|(_, text)| text)
    }

    /// Returns the text of a setting, or its default.
    pub fn text(&self, entry: &Entry) -> String {
        self.set_or_default(entry).1
    }

    /// Returns the comma-separated items of a setting.
    pub fn several(&self, entry: &Entry) -> Vec<String> {
        let text = self.text(entry);
        text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
    }

    /// Returns the file that a setting names, without its default.
    pub fn file(&self, entry: &Entry) -> Option<PathBuf> {
        self.value(entry).map(PathBuf::from)
    }

    /// Returns a required text; `what` is the advice if it is missing.
    pub fn needed(&self, entry: &Entry, what: &str) -> Result<String, Failure> {
        let name = entry.full_name();
        self.value(entry).ok_or_else(|| {
            Failure::usage(format!("{name} is not set: {what}, or use --dry-run to write nothing"))
        })
    }

    /// Returns a whole number, checked against the entry's range.
    pub fn number<T: TryFrom<u64>>(&self, entry: &Entry) -> Result<T, Failure> {
        number(entry, self.set_or_default(entry))
    }

    /// Like [`Self::number`]; None: `auto`.
    pub fn number_or_auto<T: TryFrom<u64>>(&self, entry: &Entry) -> Result<Option<T>, Failure> {
        number_or_auto(entry, self.set_or_default(entry))
    }

    /// Like [`Self::number`], without the default.
    pub fn number_if_set<T: TryFrom<u64>>(&self, entry: &Entry) -> Result<Option<T>, Failure> {
        self.set(entry).map(|set| number(entry, set)).transpose()
    }

    /// Returns the value of a setting that takes one of a few words.
    pub fn choice<T: Choice>(&self, entry: &Entry) -> Result<T, Failure> {
        choose(&entry.full_name(), &self.text(entry))
    }

    /// Like [`Self::choice`], without the default.
    pub fn choice_if_set<T: Choice>(&self, entry: &Entry) -> Result<Option<T>, Failure> {
        self.set(entry).map(|_| self.choice(entry)).transpose()
    }

    /// Returns whether a switch is on.
    pub fn is_on(&self, entry: &Entry) -> Result<bool, Failure> {
        self.set(entry).map_or(Ok(entry.default == "true"), switch)
    }

    /// Refuses invalid values, whether or not the task uses the setting.
    pub fn check_values(&self) -> Result<(), Failure> {
        for entry in all() {
            let Some(set) = self.set(entry) else { continue };
            match entry.value {
                Value::Number(..) => drop(number::<u64>(entry, set)?),
                Value::NumberOrAuto(..) => drop(number_or_auto::<u64>(entry, set)?),
                Value::Words(words) => drop(place(&entry.full_name(), words, &set.1)?),
                Value::Switch => drop(switch(set)?),
                // With an empty name, the file would silently not be written.
                Value::File if set.1.is_empty() => {
                    return Err(Failure::usage(format!("{} is empty: name a file, or remove it", set.0)));
                }
                Value::File | Value::Text(_) => {}
            }
        }
        Ok(())
    }
}

fn number_or_auto<T: TryFrom<u64>>(entry: &Entry, set: (String, String)) -> Result<Option<T>, Failure> {
    if set.1.trim() == "auto" {
        return Ok(None);
    }
    number(entry, set).map(Some)
}

fn number<T: TryFrom<u64>>(entry: &Entry, (name, text): (String, String)) -> Result<T, Failure> {
    let (least, most, or_auto) = match entry.value {
        Value::Number(_, least, most) => (least, most, ""),
        Value::NumberOrAuto(_, least, most) => (least, most, ", or `auto`"),
        _ => return Err(Failure::usage(format!("{name} is not a number"))),
    };
    let number = text.trim().parse().ok().filter(|number| (least..=most).contains(number));
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
        Failure::usage(format!("{name} is {text:?}: it takes a whole number from {least} to {most}{or_auto}"))
    })
}

/// Returns the value of a setting of this name that takes one of a few words.
pub fn choose<T: Choice>(name: &str, text: &str) -> Result<T, Failure> {
    Ok(T::ALL[place(name, T::WORDS, text)?])
}

/// Returns the index of a text in the words.
fn place(name: &str, words: &[&str], text: &str) -> Result<usize, Failure> {
    words
        .iter()
        .position(|word| *word == text.trim())
        .ok_or_else(|| Failure::usage(format!("{name} is {text:?}: it takes {}", words.join(" or "))))
}

/// Returns the value of a switch, given with its name.
pub fn switch((name, text): (String, String)) -> Result<bool, Failure> {
    parse_switch(&text).ok_or_else(|| Failure::usage(format!("{name} is {text:?}: it takes true or false")))
}

/// Parses a boolean in one of its usual spellings.
pub(super) fn parse_switch(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "yes" | "on" => Some(true),
        "false" | "f" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}
