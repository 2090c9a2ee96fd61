//! Every flag and variable, once: what `--help`, the man page, the completions and the table of the README say of
//! them is made from here, and a test holds the parser of [`crate::cli`] against it.

pub mod completions;
pub mod help;
pub mod man;
pub mod readme;
mod table;

pub use table::{ARGUMENTS, EXAMPLES, EXIT_CODES, GROUPS, PURPOSE};

/// Options that belong together.
#[derive(Debug)]
pub struct Group {
    /// What they are about.
    pub title: &'static str,
    /// The options.
    pub options: &'static [Opt],
}

/// One setting: a flag, a variable, or both of one meaning.
#[derive(Debug)]
pub struct Opt {
    /// The flag without its dashes; `""` for a variable without a flag.
    pub flag: &'static str,
    /// What the flag takes.
    pub value: Value,
    /// Variables of the same meaning. The first wins, unless the text says otherwise.
    pub variables: &'static [&'static str],
    /// What holds where nothing is set; `""` where that is nothing.
    pub default: &'static str,
    /// What it means, a half sentence with words to be typed in back-ticks.
    pub text: &'static str,
}

/// What a flag or variable takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing: it is there, or it is not. As a variable: true or false.
    Switch,
    /// One of a few words.
    Words(&'static [&'static str]),
    /// The path of a file.
    File,
    /// Anything else, with a name for it.
    Text(&'static str),
}

impl Value {
    /// How the value is written where the option is explained; `""` for a switch.
    pub fn placeholder(self) -> String {
        match self {
            Value::Switch => String::new(),
            Value::Words(words) => words.join("|"),
            Value::File => "PATH".to_owned(),
            Value::Text(name) => name.to_owned(),
        }
    }
}

impl Opt {
    /// The flag as it is typed, with what it takes; empty for a variable without a flag.
    pub fn usage(&self) -> String {
        match (self.flag, self.value.placeholder().as_str()) {
            ("", _) => String::new(),
            (flag, "") => format!("--{flag}"),
            (flag, value) => format!("--{flag} {value}"),
        }
    }

    /// Whether the flag takes no value.
    pub fn is_switch(&self) -> bool {
        self.value == Value::Switch
    }
}

/// All options, in the order in which they are explained.
pub fn all() -> impl Iterator<Item = &'static Opt> {
    GROUPS.iter().flat_map(|group| group.options)
}

/// The options that have a flag.
pub fn flags() -> impl Iterator<Item = &'static Opt> {
    all().filter(|option| !option.flag.is_empty())
}

/// Files that are made from the table, by their paths in the repository.
pub fn generated() -> [(&'static str, String); 4] {
    [
        ("completions/megastream_ingest.bash", completions::bash()),
        ("completions/_megastream_ingest", completions::zsh()),
        ("completions/megastream_ingest.fish", completions::fish()),
        ("man/megastream_ingest.1", man::page()),
    ]
}

/// The texts of the table in ASCII, without their back-ticks.
pub fn plain(text: &str) -> String {
    text.replace('`', "").replace('…', "...")
}

#[cfg(test)]
mod tests;
