//! What `--help` prints.

use super::{ARGUMENTS, EXAMPLES, EXIT_CODES, GROUPS, Opt, PURPOSE, plain};

/// Lines are no longer than this.
const WIDTH: usize = 80;
/// Where the explanations begin.
const COLUMN: usize = 30;

/// The whole text.
pub fn text() -> String {
    let mut text = "Usage: megastream_ingest [OPTION]... [PATH]...\n\n".to_owned();
    wrap(&mut text, "", &plain(PURPOSE));
    text.push_str("\nArguments:\n");
    entry(&mut text, "PATH...", &explanation(&ARGUMENTS));
    for group in GROUPS {
        text.push_str(&format!("\n{}:\n", group.title));
        for option in group.options {
            entry(&mut text, &name(option), &explanation(option));
        }
    }
    text.push('\n');
    wrap(
        &mut text,
        "",
        "A name in capitals is a variable of the environment; a flag wins over its variable.",
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

/// A flag as it is typed, or the variables that stand for one.
fn name(option: &Opt) -> String {
    if option.flag.is_empty() { option.variables.join(",\n  ") } else { option.usage() }
}

/// What an option means, its variables where it has a flag, and its default.
fn explanation(option: &Opt) -> String {
    let mut notes = Vec::new();
    let is_named_by_variables = option.flag.is_empty() && option.text != ARGUMENTS.text;
    if !option.variables.is_empty() && !is_named_by_variables {
        notes.push(option.variables.join(", "));
    }
    if !option.default.is_empty() {
        notes.push(format!("default {}", option.default));
    }
    let text = plain(option.text);
    if notes.is_empty() { text } else { format!("{text} [{}]", notes.join("; ")) }
}

/// A name, and to the right of it what it means.
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

/// Adds `words` in lines that fit, each behind `indent`.
pub(crate) fn wrap(text: &mut String, indent: &str, words: &str) {
    let mut line = String::new();
    for word in words.split_whitespace() {
        let length = indent.len() + line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && length > WIDTH {
            text.push_str(&format!("{indent}{line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    text.push_str(&format!("{indent}{line}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::all;

    #[test]
    fn every_flag_variable_default_and_exit_code_is_there() {
        let text = text();
        for option in all() {
            let flag = option.usage();
            assert!(text.contains(&format!("  {flag}")), "{flag}");
            assert!(option.variables.iter().all(|name| text.contains(name)), "{option:?}");
            assert!(text.contains(option.default), "{option:?}");
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
