//! What an entry says of a setting, and the macro that makes everything from the list of them.

use super::entries::{Cli, GROUPS};

/// Settings that belong together.
#[derive(Debug)]
pub struct Group {
    /// What they are about.
    pub title: &'static str,
    /// The settings.
    pub entries: &'static [fn() -> &'static Entry],
}

impl Group {
    /// The settings, in the order in which they are explained.
    pub fn entries(&self) -> impl Iterator<Item = &'static Entry> {
        self.entries.iter().map(|entry| entry())
    }
}

/// One setting: a flag, a variable, or both of one meaning.
#[derive(Debug)]
pub struct Entry {
    /// Its name in the program: the flag's, with underscores.
    pub name: &'static str,
    /// What it takes.
    pub value: Value,
    /// Variables of the same meaning. The first that is set wins, unless the text says otherwise.
    pub variables: &'static [&'static str],
    /// What holds where nothing is set, as it would be typed, or in words; `""` where that is nothing.
    pub default: &'static str,
    /// What it means, a half sentence with words to be typed in back-ticks.
    pub text: &'static str,
    /// What was typed; None: there is no flag.
    pub typed: Option<fn(&Cli) -> Option<String>>,
}

/// What a flag or variable takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing: it is there, or it is not. As a variable: true or false.
    Switch,
    /// One of a few words: those of a [`super::choices::Choice`].
    Words(&'static [&'static str]),
    /// A whole number: a name for it, the least and the greatest.
    Number(&'static str, u64, u64),
    /// The path of a file.
    File,
    /// Anything else, with a name for it.
    Text(&'static str),
}

impl Value {
    /// How the value is written where the setting is explained; `""` for a switch.
    pub fn placeholder(self) -> String {
        match self {
            Value::Switch => String::new(),
            Value::Words(words) => words.join("|"),
            Value::File => "PATH".to_owned(),
            Value::Number(name, ..) | Value::Text(name) => name.to_owned(),
        }
    }
}

/// An entry of what takes such a value, with no variable and no default.
pub(super) const fn takes(value: Value) -> Entry {
    Entry { name: "", value, variables: &[], default: "", text: "", typed: None }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Entry {
    /// With variables of the same meaning.
    pub(super) const fn or(self, variables: &'static [&'static str]) -> Self {
        Self { variables, ..self }
    }

    /// With what holds where nothing is set.
    pub(super) const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    /// The flag without its dashes; None for a variable without a flag.
    pub fn flag(&self) -> Option<String> {
        self.typed.map(|_| self.name.replace('_', "-"))
    }

    /// The flag as it is typed, with what it takes; empty for a variable without a flag.
    pub fn usage(&self) -> String {
        match (self.flag(), self.value.placeholder().as_str()) {
            (None, _) => String::new(),
            (Some(flag), "") => format!("--{flag}"),
            (Some(flag), value) => format!("--{flag} {value}"),
        }
    }

    /// What messages call it: flag and variables.
    pub fn full_name(&self) -> String {
        let variables = self.variables.join(", ");
        match self.flag() {
            None => variables,
            Some(flag) if variables.is_empty() => format!("--{flag}"),
            Some(flag) => format!("--{flag} ({variables})"),
        }
    }

    /// Its variables one by one; `""` for one that it has not.
    pub fn names<const N: usize>(&self) -> [&'static str; N] {
        std::array::from_fn(|n| self.variables.get(n).copied().unwrap_or_default())
    }

    /// Whether the flag takes no value.
    pub fn is_switch(&self) -> bool {
        self.value == Value::Switch
    }
}

/// All settings, in the order in which they are explained.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    GROUPS.iter().flat_map(Group::entries)
}

/// The settings that have a flag, each behind its name without dashes.
pub fn flags() -> impl Iterator<Item = (String, &'static Entry)> {
    all().filter_map(|entry| Some((entry.flag()?, entry)))
}

/// Makes of the list of settings the struct that argh fills, a function for each entry, and the groups of them all.
///
/// A setting is `name: kind, text, entry;`. The kind says what is typed, and becomes the field of [`Cli`]:
/// `option String` takes a value, `several String` takes one each time that it is typed, `option bool` is a switch with a variable, `switch bool` is one without, and
/// `variable` is no flag. `trigger` is argh's own: it asks for help.
macro_rules! settings {
    ($( $title:literal { $(
        $name:ident: $(option $option:ident)? $(several $several:ident)? $(switch $switch:ident)? $(trigger $trigger:tt)? $(variable)?, $text:literal, $entry:expr;
    )* } )*) => {
        /// What was typed. Nothing is looked up or checked here.
        #[derive(argh::FromArgs, Debug, Default)]
        #[argh(help_triggers($($($($trigger)?)*)*))]
        pub struct Cli {
            /// archives: folders, or files named *.db.zip; take the place of LOCAL_SQLITE_DB_PATH
            #[argh(positional)]
            pub paths: Vec<String>,
            $($(
                $(#[argh(option, description = "see the entry")] #[doc = $text] pub $name: Option<$option>,)?
                $(#[argh(option, description = "see the entry")] #[doc = $text] pub $name: Vec<$several>,)?
                $(#[argh(switch, description = "see the entry")] #[doc = $text] pub $name: $switch,)?
            )*)*
        }

        $($(
            #[doc = $text]
            pub fn $name() -> &'static Entry {
                static ENTRY: Entry = Entry {
                    name: stringify!($name),
                    text: $text,
                    typed: settings!(@maybe
                        $(|cli| cli.$name.as_ref().map($option::to_string))?
                        $(|cli| (!cli.$name.is_empty()).then(|| <[$several]>::join(&cli.$name, ",")))?
                        $(|cli| cli.$name.then(|| $switch::to_string(&true)))?
                        $(|_| settings!(@none $trigger))?
                    ),
                    ..$entry
                };
                &ENTRY
            }
        )*)*

        /// All settings by what they are about.
        pub static GROUPS: &[Group] = &[$(Group { title: $title, entries: &[$($name),*] }),*];
    };
    (@none $trigger:tt) => { None };
    (@maybe) => { None };
    (@maybe $typed:expr) => { Some($typed) };
}
pub(super) use settings;
