//! The definition of a setting, and the macro that generates code from the list of settings.

/// Settings that belong together.
#[derive(Debug)]
pub struct Group {
    /// Title of the group.
    pub title: &'static str,
    /// The settings.
    pub entries: &'static [fn() -> &'static Entry],
}

impl Group {
    /// Returns the settings in the order in which they are explained.
    pub fn entries(&self) -> impl Iterator<Item = &'static Entry> {
        self.entries.iter().map(|entry| entry())
    }
}

/// One setting: a flag, variables, or both.
#[derive(Debug)]
pub struct Entry {
    /// Its name in the program: the flag's, with underscores.
    pub name: &'static str,
    /// The kind of value.
    pub value: Value,
    /// Its variables. The first one set wins, unless the text says otherwise.
    pub variables: &'static [&'static str],
    /// The default, as it would be typed or in words; `""` if there is none.
    pub default: &'static str,
    /// The meaning, in lower case and without a full stop; back-ticks mark literal words.
    pub text: &'static str,
    /// Whether there is a flag.
    pub has_flag: bool,
    /// Whether every value counts if the flag is repeated. Of other flags the last value counts.
    pub is_several: bool,
}

/// The kind of value that a flag or variable takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A switch. Its variable is true or false.
    Switch,
    /// One of the words of a [`super::choices::Choice`].
    Words(&'static [&'static str]),
    /// A whole number, with its placeholder, minimum and maximum.
    Number(&'static str, u64, u64),
    /// Like `Number`, or the word `auto`.
    NumberOrAuto(&'static str, u64, u64),
    /// The path of a file.
    File,
    /// Any other text, with a placeholder.
    Text(&'static str),
}

impl Value {
    /// Returns the placeholder of the value in explanations; `""` for a switch.
    pub fn placeholder(self) -> String {
        match self {
            Value::Switch => String::new(),
            Value::Words(words) => words.join("|"),
            Value::File => "PATH".to_owned(),
            Value::Number(name, ..) | Value::NumberOrAuto(name, ..) | Value::Text(name) => name.to_owned(),
        }
    }
}

/// Creates a setting without variables and default.
pub(super) const fn takes(value: Value) -> Entry {
    Entry { name: "", value, variables: &[], default: "", text: "", has_flag: false, is_several: false }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Entry {
    /// Adds variables.
    pub(super) const fn or(self, variables: &'static [&'static str]) -> Self {
        Self { variables, ..self }
    }

    /// Adds the default.
    pub(super) const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    /// Returns the flag without its dashes; None for a variable without a flag.
    pub fn flag(&self) -> Option<String> {
        self.has_flag.then(|| self.name.replace('_', "-"))
    }

    /// Returns the flag as it is typed, with its value; empty for a variable without a flag.
    pub fn usage(&self) -> String {
        match (self.flag(), self.value.placeholder().as_str()) {
            (None, _) => String::new(),
            (Some(flag), "") => format!("--{flag}"),
            (Some(flag), value) => format!("--{flag} {value}"),
        }
    }

    /// Returns the name used in messages: flag and variables.
    pub fn full_name(&self) -> String {
        let variables = self.variables.join(" or ");
        match self.flag() {
            None => variables,
            Some(flag) if variables.is_empty() => format!("--{flag}"),
            Some(flag) => format!("--{flag} ({variables})"),
        }
    }

    /// Returns the first `N` variables; `""` for missing ones.
    pub fn names<const N: usize>(&self) -> [&'static str; N] {
        std::array::from_fn(|n| self.variables.get(n).copied().unwrap_or_default())
    }

    /// Whether the flag takes no value.
    pub fn is_switch(&self) -> bool {
        self.value == Value::Switch
    }
}

/// Generates the struct that argh fills, a function for each entry, and their groups.
///
/// A setting is `name: kind, text, entry;`. The kind becomes the type of a field of `Cli`:
///
/// - `option String` takes a value.
/// - `several String` takes a value each time it is typed.
/// - `option bool` is a switch with a variable, `switch bool` one without.
/// - `variable` has no flag.
/// - `trigger` is a flag that prints the help, handled by argh.
macro_rules! settings {
    ($( $title:literal { $(
        $name:ident: $(option $option:ident)? $(several $several:ident)? $(switch $switch:ident)? $(trigger $trigger:tt)? $(variable)?, $text:literal, $entry:expr;
    )* } )*) => {
        /// The parsed command line. Values are not checked here.
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

        impl Cli {
            /// Returns the value of a flag, if it is on the command line.
            pub fn typed(&self, entry: &Entry) -> Option<String> {
                match entry.name {
                    $($(
                        $(stringify!($name) => self.$name.as_ref().map($option::to_string),)?
                        $(stringify!($name) => (!self.$name.is_empty()).then(|| <[$several]>::join(&self.$name, ",")),)?
                        $(stringify!($name) => self.$name.then(|| $switch::to_string(&true)),)?
                    )*)*
                    _ => None,
                }
            }
        }

        $($(
            #[doc = $text]
            pub fn $name() -> &'static Entry {
                static ENTRY: Entry = Entry {
                    name: stringify!($name),
                    text: $text,
                    has_flag: settings!(@any $($option)? $($several)? $($switch)? $($trigger)?),
                    is_several: settings!(@any $($several)?),
                    ..$entry
                };
                &ENTRY
            }
        )*)*

        /// All settings in groups.
        pub static GROUPS: &[Group] = &[$(Group { title: $title, entries: &[$($name),*] }),*];
    };
    (@any) => { false };
    (@any $kind:tt) => { true };
}
pub(super) use settings;
