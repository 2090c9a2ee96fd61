//! Completions for bash, zsh and fish.

use megastream_ingest::cli::entry::{Entry, Value};
use megastream_ingest::cli::flags;
use megastream_ingest::common::text::plain;

const HEAD: &str = "# Generated from the table of options; changes here are lost.\n";

/// Returns the completions for bash 4 and newer. They do not need the bash-completion package.
pub(super) fn bash() -> String {
    let names: Vec<_> = flags().map(|(flag, _)| format!("--{flag}")).collect();
    let mut cases = String::new();
    for (flag, entry) in flags() {
        let reply = match entry.value {
            Value::Switch => continue,
            Value::Words(words) => {
                format!("mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$cur\")", words.join(" "))
            }
            Value::File => {
                "compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")"
                    .to_owned()
            }
            Value::Number(..) | Value::NumberOrAuto(..) | Value::Text(_) => ":".to_owned(),
        };
        cases.push_str(&format!("        --{flag}) {reply}; return ;;\n"));
    }
    format!(
        r#"# bash completion for megastream_ingest
{HEAD}
_megastream_ingest() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}}
    COMPREPLY=()
    # `=` is a word of its own.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]] && ((COMP_CWORD > 1)); then
        prev=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    case $prev in
{cases}    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W '{}' -- "$cur")
    else
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$cur"; compgen -f -X '!*.db.zip' -- "$cur")
    fi
}}
complete -F _megastream_ingest megastream_ingest
"#,
        names.join(" ")
    )
}

/// Returns the completions for zsh: a file `_megastream_ingest` in a folder of `fpath`.
pub(super) fn zsh() -> String {
    let mut specs = String::new();
    for (flag, entry) in flags() {
        let text = quoted(&plain(entry.text)).replace('[', "\\[").replace(']', "\\]");
        let value = match entry.value {
            Value::Switch => String::new(),
            Value::Words(words) => format!(":{flag}:({})", words.join(" ")),
            Value::File => ":file:_files".to_owned(),
            Value::Number(name, ..) | Value::NumberOrAuto(name, ..) | Value::Text(name) => {
                format!(":{name}: ")
            }
        };
        let equals = if entry.is_switch() { "" } else { "=" };
        specs.push_str(&format!("    '--{flag}{equals}[{text}]{value}' \\\n"));
    }
    format!(
        "#compdef megastream_ingest\n{HEAD}\n_arguments \\\n{specs}    '*:archive:_files -g \"*.db.zip\"'\n"
    )
}

/// Returns the completions for fish.
pub(super) fn fish() -> String {
    let mut text = format!("# fish completion for megastream_ingest\n{HEAD}");
    for (flag, entry) in flags() {
        text.push_str(&format!(
            "complete -c megastream_ingest -l {flag}{} -d '{}'\n",
            fish_value(entry),
            plain(entry.text).replace('\\', "\\\\").replace('\'', "\\'")
        ));
    }
    text
}

fn fish_value(entry: &Entry) -> String {
    match entry.value {
        Value::Switch => String::new(),
        Value::Words(words) => format!(" -x -a '{}'", words.join(" ")),
        Value::File => " -r -F".to_owned(),
        Value::Number(..) | Value::NumberOrAuto(..) | Value::Text(_) => " -x".to_owned(),
    }
}

/// Escapes a text for single quotes in a POSIX shell.
fn quoted(text: &str) -> String {
    text.replace('\'', "'\\''")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_is_completed_in_every_shell() {
        for (shell, dashes) in [(bash(), "--"), (zsh(), "--"), (fish(), "-l ")] {
            for (flag, entry) in flags() {
                assert!(shell.contains(&format!("{dashes}{flag}")), "{entry:?}");
            }
        }
    }

    #[test]
    fn no_quote_ends_a_description() {
        assert_eq!(quoted("a post's"), "a post'\\''s");
        let line = r"    '--pipeline=[ingest pipeline for bulk requests, instead of the index'\''s default (_none: no pipeline)]:NAME: ' \";
        assert!(zsh().lines().any(|zsh| zsh == line), "{}", zsh());
    }
}
