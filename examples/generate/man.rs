//! The man page, written with the macros of man(7).

use megastream_ingest::cli::Entry;
use megastream_ingest::cli::entries::{GROUPS, dead_letter, paths, spool_state_file};
use megastream_ingest::cli::help::{EXAMPLES, PURPOSE};
use megastream_ingest::common::exit::EXIT_CODES;
use megastream_ingest::common::text::WIDTH;

/// Date of the page's last change.
const DATE: &str = "2026-11-27";

/// Returns the whole page.
pub(super) fn page() -> String {
    let mut page = format!(
        ".\\\" Generated from the table of options; changes here are lost.\n\
         .TH MEGASTREAM_INGEST 1 {DATE} \"megastream_ingest {}\" \"User Commands\"\n\
         .SH NAME\nmegastream_ingest \\- bulk loader of Megastream archives into Elasticsearch\n\
         .SH SYNOPSIS\n.B megastream_ingest\n[\\fIOPTION\\fR]... [\\fIPATH\\fR]...\n.SH DESCRIPTION\n",
        env!("CARGO_PKG_VERSION")
    );
    line(&mut page, &format!("{}", Roff(PURPOSE)));
    page.push_str(".SH ARGUMENTS\n");
    entry(&mut page, "\\fIPATH\\fR...", paths());
    page.push_str(
        ".SH OPTIONS\nA name in capitals is a variable of the environment.\nA flag overrides its \
         variable;\nan empty variable counts as not set.\n",
    );
    for group in GROUPS {
        page.push_str(&format!(".SS {}\n", Roff(group.title)));
        for setting in group.entries() {
            entry(&mut page, &name(setting), setting);
        }
    }
    page.push_str(".SH EXIT STATUS\n");
    for (code, meaning) in EXIT_CODES {
        page.push_str(&format!(".TP\n.B {}\n", code.number()));
        line(&mut page, &sentence(meaning));
    }
    page.push_str(".SH FILES\n");
    for (file, meaning) in [
        (
            spool_state_file().default,
            "the state file: which archives are done; `SPOOL_STATE_FILE` names another",
        ),
        (dead_letter().default, "rejected rows; `--dead-letter` names another"),
    ] {
        page.push_str(&format!(".TP\n.I {}\n", Roff(file)));
        line(&mut page, &sentence(meaning));
    }
    page.push_str(".SH EXAMPLES\n");
    for (command, meaning) in EXAMPLES {
        page.push_str(&format!(".TP\n.B {}\n", Roff(command)));
        line(&mut page, &sentence(meaning));
    }
    page
}

/// Returns a flag with its value, or the variables of a setting without one.
fn name(setting: &Entry) -> String {
    let Some(flag) = setting.flag() else {
        let names: Vec<_> = setting.variables.iter().map(|name| format!("\\fB{}\\fR", Roff(name))).collect();
        return names.join(", ");
    };
    let flag = format!("\\fB\\-\\-{}\\fR", Roff(&flag));
    match setting.value.placeholder().as_str() {
        "" => flag,
        value => format!("{flag} \\fI{}\\fR", Roff(value)),
    }
}

fn entry(page: &mut String, name: &str, setting: &Entry) {
    page.push_str(&format!(".TP\n{name}\n"));
    line(page, &sentence(setting.text));
    if !setting.variables.is_empty() && !name.contains("_") {
        line(page, &format!("Variable: {}.", Roff(&setting.variables.join(", "))));
    }
    if !setting.default.is_empty() {
        line(page, &format!("Default: {}.", Roff(setting.default)));
    }
}

/// Formats a meaning as a sentence.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{}.", Roff(&format!("{first}{}", letters.as_str())))
}

/// Appends a text in lines. Escapes those that roff would read as a request.
fn line(page: &mut String, text: &str) {
    let mut length = 0;
    for word in text.split(' ') {
        if length > 0 && length + 1 + word.len() > WIDTH {
            page.push('\n');
            length = 0;
        } else if length > 0 {
            page.push(' ');
            length += 1;
        }
        if length == 0 && word.starts_with(['.', '\'']) {
            page.push_str("\\&");
        }
        page.push_str(word);
        length += word.len();
    }
    page.push('\n');
}

/// Formats an entry's text for roff: words in back-ticks become bold.
struct Roff<'a>(&'a str);

impl std::fmt::Display for Roff<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bold = false;
        for c in self.0.chars() {
            match c {
                '`' => {
                    bold = !bold;
                    f.write_str(if bold { "\\fB" } else { "\\fR" })?;
                }
                '\\' => f.write_str("\\e")?,
                '-' => f.write_str("\\-")?,
                '\'' => f.write_str("\\(aq")?,
                c if c.is_ascii() => write!(f, "{c}")?,
                c => write!(f, "\\[u{:04X}]", u32::from(c))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use megastream_ingest::cli::{all, flags};

    use super::*;

    #[test]
    fn every_flag_and_variable_is_there() {
        let page = page();
        for (flag, entry) in flags() {
            assert!(page.contains(&format!("\\-\\-{}\\fR", Roff(&flag))), "{entry:?}");
        }
        for entry in all() {
            assert!(entry.variables.iter().all(|name| page.contains(name)), "{entry:?}");
        }
    }

    #[test]
    fn text_never_becomes_a_request() {
        let mut page = String::new();
        line(&mut page, &format!("{}", Roff(".db - it's `a\\b` …")));
        assert_eq!(page, "\\&.db \\- it\\(aqs \\fBa\\eb\\fR \\[u2026]\n");
    }
}
