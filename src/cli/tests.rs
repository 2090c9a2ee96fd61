//! Tests of the parser.

use super::*;
use crate::common::exit::{EXIT_CODES, ExitCode};

fn cli(arguments: &[&str]) -> Cli {
    match parse(arguments.iter().map(|&a| a.to_owned())) {
        Parsed::Run(cli) => *cli,
        other => panic!("{other:?}"),
    }
}

fn is_wrong(arguments: &[&str]) -> bool {
    matches!(parse(arguments.iter().map(|&a| a.to_owned())), Parsed::Wrong(_))
}

#[test]
fn a_value_is_the_next_word_or_follows_an_equals_sign() {
    assert_eq!(cli(&["--source", "s3"]).source.as_deref(), Some("s3"));
    assert_eq!(cli(&["--source=s3"]).source.as_deref(), Some("s3"));
    assert_eq!(cli(&["-source=s3"]).source.as_deref(), Some("s3"));
    assert_eq!(cli(&["--output=a=b"]).output.as_deref(), Some("a=b"));
}

#[test]
fn the_word_after_a_flag_is_its_value_even_if_it_looks_like_a_flag() {
    assert_eq!(cli(&["--output", "-foo.nd"]).output.as_deref(), Some("-foo.nd"));
    assert_eq!(cli(&["-output", "--a=b", "c"]).output.as_deref(), Some("--a=b"));
    assert_eq!(cli(&["--workers", "-12"]).workers.as_deref(), Some("-12"));
    assert_eq!(cli(&["--output", "help"]).output.as_deref(), Some("help"));
    assert_eq!(cli(&["--output", "--", "a"]).output.as_deref(), Some("--"));
    assert!(is_wrong(&["a", "--output"]));
}

#[test]
fn the_last_value_of_a_repeated_flag_counts() {
    let typed = cli(&["--mode", "once", "--mode=spool"]).typed(entries::mode());
    assert_eq!(typed.as_deref(), Some("spool"));
    let typed = cli(&["--add-field", "langs", "--add-field=links"]).typed(entries::add_field());
    assert_eq!(typed.as_deref(), Some("langs,links"));
}

#[test]
fn a_dash_alone_is_a_value() {
    assert_eq!(cli(&["--dry-run", "--output", "-"]).output.as_deref(), Some("-"));
    assert_eq!(cli(&["--dry-run", "--output=-"]).output.as_deref(), Some("-"));
}

#[test]
fn switches_take_a_boolean_as_the_established_tool_does() {
    assert!(cli(&["--dry-run=true"]).dry_run);
    assert!(cli(&["-dry-run"]).dry_run);
    assert!(!cli(&["--dry-run=false"]).dry_run);
    assert!(is_wrong(&["--dry-run=maybe"]));
}

#[test]
fn a_switch_that_has_a_variable_is_on_off_or_absent() {
    assert_eq!(cli(&[]).account_deletions, None);
    assert_eq!(cli(&["--account-deletions"]).account_deletions, Some(true));
    assert_eq!(cli(&["--account-deletions=no", "a"]).account_deletions, Some(false));
    assert_eq!(cli(&["-bulk-load-settings=false"]).bulk_load_settings, Some(false));
    assert!(is_wrong(&["--account-deletions=maybe"]));
}

#[test]
fn paths_may_be_anywhere_and_everything_after_two_dashes_is_a_path() {
    assert_eq!(cli(&["a", "--dry-run", "b.db.zip"]).paths, ["a", "b.db.zip"]);
    assert_eq!(cli(&["a", "--dry-run", "--", "--odd=name", "--"]).paths, ["a", "--odd=name", "--"]);
    assert_eq!(cli(&["help", "--dry-run"]).paths, ["help"]);
}

#[test]
fn unknown_flags_are_refused_but_not_help() {
    for flag in ["--no-such-flag", "--no-such-flag=1", "-x", "-", "--=a"] {
        let parsed = parse([flag.to_owned()]);
        assert!(matches!(parsed, Parsed::Wrong(text) if text.contains("--help")), "{flag}");
    }
    for flag in ["--help", "-h", "-help"] {
        let parsed = parse([flag.to_owned(), "a".to_owned()]);
        assert!(matches!(parsed, Parsed::Print(text) if text.contains("ELASTICSEARCH_URL")), "{flag}");
    }
}

#[test]
fn every_flag_parses_in_both_forms() {
    for (flag, entry) in flags().filter(|(flag, _)| flag != "help") {
        let flag = format!("--{flag}");
        let forms = if entry.is_switch() {
            [vec![flag.clone()], vec![format!("{flag}=true")]]
        } else {
            [vec![flag.clone(), "1".into()], vec![format!("{flag}=1")]]
        };
        for form in forms {
            assert!(matches!(parse(form.clone()), Parsed::Run(cli) if cli.paths.is_empty()), "{form:?}");
        }
    }
}

#[test]
fn every_exit_code_is_explained_once() {
    use ExitCode::*;
    let codes: Vec<_> = EXIT_CODES.iter().map(|(code, _)| *code).collect();
    assert_eq!(
        codes,
        [Done, Failed, Usage, DoneWithRejects, Unavailable, Refused, Locked, Interrupted, Terminated]
    );
}
