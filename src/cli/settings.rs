//! Looking a setting up: what was typed, else its variable, else its default.

use std::path::PathBuf;

use super::choices::Choice;
use super::entry::{Entry, Value, all};
use crate::cli::Cli;
use crate::exit::Failure;

/// What was typed, and the environment. Every error names the setting.
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    /// What was typed.
    pub cli: &'a Cli,
    /// Looks a variable up.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

impl Settings<'_> {
    /// A variable; an empty one is as good as none.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.is_empty())
    }

    /// What a setting is set to, behind the name of the flag or variable that does it.
    pub fn set(&self, entry: &Entry) -> Option<(String, String)> {
        // Even if it is empty.
        if let Some(text) = entry.typed.and_then(|typed| typed(self.cli)) {
            return Some((format!("--{}", entry.flag()?), text));
        }
        entry.variables.iter().find_map(|name| Some(((*name).to_owned(), self.get(name)?)))
    }

    /// What a setting is set to, without its default.
    pub fn asked_for(&self, entry: &Entry) -> Option<String> {
        self.set(entry).map(|(_, text)| text)
    }

    /// A text, or the default.
    pub fn text(&self, entry: &Entry) -> String {
        self.asked_for(entry).unwrap_or_else(|| entry.default.to_owned())
    }

    /// Several texts, separated by commas.
    pub fn several(&self, entry: &Entry) -> Vec<String> {
        let text = self.text(entry);
        text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
    }

    /// The file that a setting names, without its default.
    pub fn file(&self, entry: &Entry) -> Option<PathBuf> {
        self.asked_for(entry).map(PathBuf::from)
    }

    /// A text that has to be there; `what` says what to do where it is not.
    pub fn needed(&self, entry: &Entry, what: &str) -> Result<String, Failure> {
        let name = entry.full_name();
        self.asked_for(entry).ok_or_else(|| {
            Failure::usage(format!("{name} is not set: {what}, or use --dry-run to write nothing"))
        })
    }

    /// A whole number in the range of the entry.
    pub fn number<T: TryFrom<u64>>(&self, entry: &Entry) -> Result<T, Failure> {
        number(entry, self.set(entry).unwrap_or_else(|| (entry.full_name(), entry.default.to_owned())))
    }

    /// As [`Self::number`], where the default is worked out.
    pub fn number_or<T: TryFrom<u64>>(&self, entry: &Entry, default: T) -> Result<T, Failure> {
        self.set(entry).map_or(Ok(default), |set| number(entry, set))
    }

    /// One of a few words.
    pub fn choice<T: Choice>(&self, entry: &Entry) -> Result<T, Failure> {
        let text = self.text(entry);
        let place = place(entry, T::WORDS, &text)?;
        Ok(T::ALL[place])
    }

    /// On or off.
    pub fn is_on(&self, entry: &Entry) -> Result<bool, Failure> {
        self.set(entry).map_or(Ok(entry.default == "true"), switch)
    }

    /// Refuses what is set to something that it cannot take, whether or not the task has a use for it.
    pub fn check_values(&self) -> Result<(), Failure> {
        for entry in all() {
            let Some(set) = self.set(entry) else { continue };
            match entry.value {
                Value::Number(..) => drop(number::<u64>(entry, set)?),
                Value::Words(words) => drop(place(entry, words, &set.1)?),
                Value::Switch => drop(switch(set)?),
                // What was asked for would not be written, without a word.
                Value::File if set.1.is_empty() => {
                    return Err(Failure::usage(format!("{} is empty: name a file, or leave it away", set.0)));
                }
                Value::File | Value::Text(_) => {}
            }
        }
        Ok(())
    }
}

fn number<T: TryFrom<u64>>(entry: &Entry, (name, text): (String, String)) -> Result<T, Failure> {
    let Value::Number(_, least, most) = entry.value else {
        return Err(Failure::usage(format!("{name} is no number")));
    };
    let number = text.trim().parse().ok().filter(|number| (least..=most).contains(number));
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
        Failure::usage(format!("{name} is {text:?}: it takes a whole number from {least} to {most}"))
    })
}

/// Which of the words it is.
fn place(entry: &Entry, words: &[&str], text: &str) -> Result<usize, Failure> {
    words.iter().position(|word| *word == text).ok_or_else(|| {
        Failure::usage(format!("{} is {text:?}: it takes {}", entry.full_name(), words.join(" or ")))
    })
}

fn switch((name, text): (String, String)) -> Result<bool, Failure> {
    parse_switch(&text).ok_or_else(|| Failure::usage(format!("{name} is {text:?}: it takes true or false")))
}

/// A boolean as people write it.
pub fn parse_switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "yes" | "on" => Some(true),
        "false" | "f" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}
