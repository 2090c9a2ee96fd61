//! Tests of resolved settings (command line over environment over defaults), and of what is refused.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::cli::entries::paths;
use crate::cli::{Cli, all};
use crate::common::exit::Failure;
use crate::model::Senders;
use crate::model::Shard;

const SERVER: [(&str, &str); 2] =
    [("ELASTICSEARCH_URL", "http://localhost:9200/"), ("ELASTICSEARCH_API_KEY", "a2V5")];

fn resolve(cli: Cli, variables: &[(&str, &str)]) -> Result<Config, Failure> {
    let look_up =
        |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
    Config::resolve(cli, &look_up)
}

fn here() -> Cli {
    Cli { paths: vec![".".into()], ..Cli::default() }
}

fn load(cli: Cli, variables: &[(&str, &str)]) -> Load {
    match resolve(cli, variables).unwrap().task {
        Task::Load(load) => *load,
        other => panic!("{other:?}"),
    }
}

fn dry_run(cli: Cli, variables: &[(&str, &str)]) -> DryRun {
    match resolve(Cli { dry_run: true, ..cli }, variables).unwrap().task {
        Task::DryRun(dry_run) => *dry_run,
        other => panic!("{other:?}"),
    }
}

fn message(result: Result<Config, Failure>) -> String {
    result.err().map(|failure| failure.message).unwrap_or_default()
}

#[test]
fn a_dry_run_needs_only_a_path() {
    let task = dry_run(here(), &[]);
    assert_eq!(task.reports.job, Job::DryRun);
    assert_eq!(task.reports.dead_letters, None);
    assert_eq!(task.intake.batch, BatchLimits { docs: 100, bytes: 8 << 20 });
}

#[test]
fn a_first_load_has_larger_requests_by_default() {
    let docs = |typed: Option<&str>| {
        let cli = Cli { bulk_load_settings: Some(true), batch_docs: typed.map(str::to_owned), ..here() };
        let Task::Load(load) = resolve(cli, &SERVER).unwrap().task else { panic!("no load") };
        load.intake.batch.docs
    };
    assert_eq!([docs(None), docs(Some("100")), docs(Some("7"))], [500, 100, 7]);
}

#[test]
fn a_missing_server_or_key_is_named() {
    assert!(message(resolve(here(), &[])).contains("ELASTICSEARCH_URL"));
    assert!(message(resolve(here(), &SERVER[..1])).contains("ELASTICSEARCH_API_KEY"));
    assert!(resolve(here(), &SERVER).is_ok());
}

#[test]
fn a_flag_overrides_its_variable_and_an_empty_variable_is_unset() {
    let both = Cli { workers: Some("3".into()), ..here() };
    assert_eq!(dry_run(both, &[("WORKERS", "5")]).intake.workers, 3);
    assert_eq!(dry_run(here(), &[("WORKERS", "5")]).intake.workers, 5);
    assert_eq!(dry_run(here(), &[("SENDERS", "")]).intake.senders, Senders::fixed(4));
}

#[test]
fn a_switch_on_the_command_line_overrides_its_variable() {
    let variables = [("ACCOUNT_DELETIONS", "true"), ("BULK_LOAD_SETTINGS", "true"), SERVER[0], SERVER[1]];
    let switches = |typed| {
        let cli = Cli { account_deletions: typed, bulk_load_settings: typed, ..here() };
        let load = load(cli, &variables);
        [load.intake.account_deletions, load.bulk_load_settings]
    };
    assert_eq!(switches(None), [true; 2]);
    assert_eq!(switches(Some(true)), [true; 2]);
    assert_eq!(switches(Some(false)), [false; 2]);
}

#[test]
fn numbers_out_of_range_name_their_setting() {
    let dry = || Cli { dry_run: true, ..here() };
    for (variable, value) in
        [("WORKERS", "0"), ("SENDERS", "many"), ("BATCH_DOCS", "-1"), ("BATCH_BYTES", "9")]
    {
        let text = message(resolve(dry(), &[(variable, value)]));
        assert!(text.contains(variable) && text.contains(value), "{text}");
    }
}

#[test]
fn contradictory_settings_are_refused() {
    let output = Cli { output: Some("x".into()), ..here() };
    assert!(message(resolve(output, &SERVER)).contains("--output"));
    let same = Cli { dead_letter: Some("a".into()), summary_json: Some("a".into()), ..here() };
    assert!(message(resolve(same, &SERVER)).contains("file of its own"));
    let tasks = Cli { dry_run: true, check: true, ..here() };
    assert!(message(resolve(tasks, &SERVER)).contains("exclude"));
    let load = Cli { bulk_load_settings: Some(true), mode: Some("spool".into()), ..here() };
    assert!(message(resolve(load, &SERVER)).contains("--bulk-load-settings"));
}

#[test]
fn a_kubernetes_index_shards_only_with_a_count() {
    let dry = || Cli { dry_run: true, ..here() };
    let index = ("JOB_COMPLETION_INDEX", "2");
    assert_eq!(dry_run(here(), &[index]).archives.criteria.shard, Shard::ALL);
    let shard = dry_run(here(), &[index, ("SHARD_COUNT", "4")]).archives.criteria.shard;
    assert_eq!(shard, Shard::parse("2/4").unwrap());
    assert!(message(resolve(dry(), &[("SHARD_COUNT", "4")])).contains("JOB_COMPLETION_INDEX"));
}

#[test]
fn only_a_spool_run_retries_without_a_budget() {
    let spool = Cli { mode: Some("spool".into()), ..here() };
    let budgets = |load: Load| [load.server.retry_budget, load.archives.retry_budget];
    assert_eq!(budgets(load(spool, &SERVER)), [None; 2]);
    assert_eq!(budgets(load(here(), &SERVER)), [Some(Duration::from_secs(600)); 2]);
}

#[test]
fn no_setting_prints_the_key() {
    let config = resolve(here(), &SERVER).unwrap();
    assert!(!format!("{config:?}").contains("a2V5"));
}

#[test]
fn an_unknown_log_format_is_refused() {
    let dry = || Cli { dry_run: true, ..here() };
    assert_eq!(resolve(dry(), &[]).unwrap().logging.format, LogFormat::Text);
    assert_eq!(resolve(dry(), &[("LOG_FORMAT", "json")]).unwrap().logging.format, LogFormat::Json);
    assert!(message(resolve(dry(), &[("LOG_FORMAT", "logfmt")])).contains("LOG_FORMAT"));
}

/// Variables of the AWS chain: looked up, but no settings of this program.
const AWS_CHAIN: &[&str] = &[
    "AWS_ACCESS_KEY_ID_FILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ENDPOINT_URL_SSO",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_S3_ACCESS_KEY_FILE",
    "AWS_S3_SECRET_KEY_FILE",
    "AWS_SECRET_ACCESS_KEY_FILE",
    "AWS_SECURITY_TOKEN",
    "AWS_SECURITY_TOKEN_FILE",
    "AWS_SESSION_TOKEN_FILE",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
    "USERPROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_ENDPOINT_URL_SSO",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "HOME",
];

/// Variables of other programs: hosts reached without a proxy, and proxies that messages mention if no other is set.
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
fn the_entries_have_exactly_the_variables_that_are_read() {
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
        // Skips the check of all values, which looks up every variable.
        Config::read(Settings { cli: &cli, environment: &look_up }).unwrap();
    }
    let told = all().chain([paths()]).flat_map(|entry| entry.variables).map(|&name| name.to_owned());
    // Each key may be in a file as well.
    let by_text = |name: &str| name.strip_suffix("_FILE").map(str::to_owned);
    let is_key = |name: &str| name.starts_with("AWS_") && (name.contains("KEY") || name.ends_with("TOKEN"));
    let own = asked.into_inner().into_iter().filter(|name| {
        let is_others = AWS_CHAIN.contains(&name.as_str()) || PROXIES.contains(&name.as_str());
        !is_others && !by_text(name).is_some_and(|name| is_key(&name))
    });
    assert_eq!(told.collect::<BTreeSet<_>>(), own.collect::<BTreeSet<_>>());
}

#[test]
fn an_invalid_value_is_refused_even_if_unused() {
    let list = |workers: Option<&str>| Cli { list: true, workers: workers.map(str::to_owned), ..here() };
    assert!(message(resolve(list(Some("0")), &[])).contains("--workers is \"0\""));
    assert!(message(resolve(list(None), &[("SENDERS", "many")])).contains("SENDERS is \"many\""));
    assert!(message(resolve(list(None), &[("VECTOR_ENCODING", "hex")])).contains("VECTOR_ENCODING"));
    assert!(message(resolve(list(None), &[("ACCOUNT_DELETIONS", "maybe")])).contains("ACCOUNT_DELETIONS"));
    assert!(resolve(list(Some("1")), &[]).is_ok());
}
