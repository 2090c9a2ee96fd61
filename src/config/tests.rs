//! What the settings come to: command line over environment over defaults, and what is refused.

use super::*;
use crate::cli::Cli;
use crate::exit::Failure;

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

fn message(result: Result<Config, Failure>) -> String {
    result.err().map(|failure| failure.message).unwrap_or_default()
}

#[test]
fn a_dry_run_needs_nothing_but_a_path() {
    let config = resolve(Cli { dry_run: true, ..here() }, &[]).unwrap();
    assert!(config.is_dry_run());
    assert_eq!(config.dead_letters, None);
    assert_eq!(config.batch, BatchLimits { docs: 100, bytes: 8 << 20 });
}

#[test]
fn a_run_needs_a_server_and_a_key_and_says_which_is_missing() {
    assert!(message(resolve(here(), &[])).contains("ELASTICSEARCH_URL"));
    assert!(message(resolve(here(), &SERVER[..1])).contains("ELASTICSEARCH_API_KEY"));
    assert!(resolve(here(), &SERVER).is_ok());
}

#[test]
fn a_flag_wins_over_its_variable_and_an_empty_variable_is_none() {
    let dry = || Cli { dry_run: true, ..here() };
    let both = Cli { workers: Some("3".into()), ..dry() };
    assert_eq!(resolve(both, &[("WORKERS", "5")]).unwrap().workers, 3);
    assert_eq!(resolve(dry(), &[("WORKERS", "5")]).unwrap().workers, 5);
    assert_eq!(resolve(dry(), &[("SENDERS", "")]).unwrap().senders, 4);
}

#[test]
fn a_typed_switch_wins_over_its_variable() {
    let variables = [("ACCOUNT_DELETIONS", "true"), ("BULK_LOAD_SETTINGS", "true"), SERVER[0], SERVER[1]];
    let switches = |typed| {
        let cli = Cli { account_deletions: typed, bulk_load_settings: typed, ..here() };
        let config = resolve(cli, &variables).unwrap();
        [config.account_deletions, config.bulk_load_settings]
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
fn contradictions_are_refused() {
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
    assert_eq!(resolve(dry(), &[index]).unwrap().shard, Shard::ALL);
    let shard = resolve(dry(), &[index, ("SHARD_COUNT", "4")]).unwrap().shard;
    assert_eq!(shard, Shard::parse("2/4").unwrap());
    assert!(message(resolve(dry(), &[("SHARD_COUNT", "4")])).contains("JOB_COMPLETION_INDEX"));
}

#[test]
fn spool_waits_for_ever() {
    let spool = Cli { mode: Some("spool".into()), ..here() };
    assert_eq!(resolve(spool, &SERVER).unwrap().retry_budget, None);
    assert_eq!(resolve(here(), &SERVER).unwrap().retry_budget, Some(Duration::from_secs(600)));
}

#[test]
fn no_setting_prints_the_key() {
    let config = resolve(here(), &SERVER).unwrap();
    assert!(!format!("{config:?}").contains("a2V5"));
}

#[test]
fn an_unknown_log_format_is_refused() {
    let dry = || Cli { dry_run: true, ..here() };
    assert_eq!(resolve(dry(), &[]).unwrap().log_format, LogFormat::Text);
    assert_eq!(resolve(dry(), &[("LOG_FORMAT", "json")]).unwrap().log_format, LogFormat::Json);
    assert!(message(resolve(dry(), &[("LOG_FORMAT", "logfmt")])).contains("LOG_FORMAT"));
}
