//! The table of options against the parser, the settings that are looked up, and the files made from it.

use std::cell::RefCell;
use std::collections::BTreeSet;

use argh::{ArgsInfo, FlagInfoKind};

use super::*;
use crate::cli::{Cli, Parsed, parse};
use crate::config::Config;
use crate::exit::ExitCode;

/// Variables that are looked up without being settings of this program: those of the AWS chain.
const AWS_CHAIN: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "HOME",
];

/// Variables of other programs: whom a proxy is not for, and which ones are told of where they are all there is.
const PROXIES: &[&str] = &[
    "NO_PROXY",
    "no_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
];

#[test]
fn the_table_has_the_flags_of_the_parser_and_no_others() {
    let parsed: BTreeSet<(String, bool)> = Cli::get_args_info()
        .flags
        .iter()
        .map(|flag| {
            let is_switch = match &flag.kind {
                FlagInfoKind::Switch => true,
                // Of a switch that has a variable it matters whether it was typed.
                FlagInfoKind::Option { arg_name } => *arg_name == "true|false",
            };
            (flag.long.trim_start_matches('-').to_owned(), is_switch)
        })
        .filter(|(name, _)| name != "help")
        .collect();
    let told = flags().map(|option| (option.flag.to_owned(), option.is_switch()));
    assert_eq!(told.filter(|(name, _)| name != "help").collect::<BTreeSet<_>>(), parsed);
}

#[test]
fn every_flag_of_the_table_parses_in_both_forms() {
    for option in flags().filter(|option| option.flag != "help") {
        let flag = format!("--{}", option.flag);
        let forms = if option.is_switch() {
            [vec![flag.clone()], vec![format!("{flag}=true")]]
        } else {
            [vec![flag.clone(), "1".into()], vec![format!("{flag}=1")]]
        };
        for form in forms {
            assert!(matches!(parse(form.clone()), Parsed::Run(_)), "{form:?}");
        }
    }
}

#[test]
fn the_table_has_the_variables_that_are_looked_up_and_no_others() {
    let asked: RefCell<BTreeSet<String>> = RefCell::default();
    for source in ["local", "s3"] {
        let look_up = |name: &str| {
            asked.borrow_mut().insert(name.to_owned());
            match name {
                "ELASTICSEARCH_URL" => Some("http://127.0.0.1:9200".to_owned()),
                "ELASTICSEARCH_API_KEY" => Some("a2V5".to_owned()),
                "LOCAL_SQLITE_DB_PATH" => Some(".".to_owned()),
                "S3_SQLITE_DB_BUCKET" => Some("bucket".to_owned()),
                "S3_SQLITE_DB_PREFIX" => Some(String::new()),
                _ => None,
            }
        };
        let cli = Cli { source: Some(source.to_owned()), ..Cli::default() };
        Config::resolve(cli, &look_up).unwrap();
    }
    let told = all().chain([&ARGUMENTS]).flat_map(|option| option.variables).map(|&name| name.to_owned());
    let own = asked
        .into_inner()
        .into_iter()
        .filter(|name| !AWS_CHAIN.contains(&name.as_str()) && !PROXIES.contains(&name.as_str()));
    assert_eq!(told.collect::<BTreeSet<_>>(), own.collect::<BTreeSet<_>>());
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

#[test]
fn what_is_committed_is_what_the_table_makes() {
    let again = "run `cargo run --example generate` and commit what it writes";
    let read = |path: &str| {
        std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap_or_default()
    };
    for (path, text) in generated() {
        assert_eq!(read(path), text, "{path}: {again}");
    }
    let readme = read("README.md");
    assert_eq!(readme::fill(&readme).as_ref(), Ok(&readme), "README.md: {again}");
}
