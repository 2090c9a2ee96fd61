//! Checks settings and their combinations.

use std::fs;
use std::io::ErrorKind;

use super::{Mode, Server};
use crate::cli::Cli;
use crate::cli::entries;
use crate::cli::settings::Settings;
use crate::common::exit::Failure;
use crate::files::failure_that_may_pass;

/// Refuses flags that contradict each other.
pub(super) fn check_combination(settings: Settings<'_>) -> Result<(), Failure> {
    let cli = settings.cli;
    let summary = settings.value(entries::summary_json());
    let wrong = |message: &str| Err(Failure::usage(message));
    if cli.output.is_some() && !cli.dry_run && !cli.verify {
        return wrong("--output works only with --dry-run or --verify: add one of them, or remove --output");
    }
    if cli.output.as_deref() == Some("-") && summary.as_deref() == Some("-") {
        return wrong("--output - and --summary-json - would mix on standard output: name a file for one");
    }
    if [cli.dry_run, cli.check, cli.list, cli.verify].into_iter().filter(|&is_set| is_set).count() > 1 {
        return wrong("--dry-run, --check, --list and --verify exclude each other: choose one");
    }
    if cli.repair && !cli.verify {
        return wrong("--repair works only with --verify: add --verify, or remove --repair");
    }
    if cli.json && !cli.list {
        return wrong("--json works only with --list: add --list, or remove --json");
    }
    if cli.limit.is_some() && cli.mode.as_deref() == Some("spool") {
        return wrong(
            "--limit is for a run that ends: --mode spool would load the other archives at its next look; \
             remove one of them",
        );
    }
    if cli.create_indices == Some(true) && (cli.dry_run || cli.list) {
        return wrong(
            "--create-indices writes to Elasticsearch, --dry-run and --list do not: remove one of them",
        );
    }
    Ok(())
}

/// Refuses text that cannot be the name of an index or alias, and patterns that match several.
///
/// Source: Elasticsearch, "Create index" API.
pub(super) fn check_index_name(flag: &str, name: &str) -> Result<(), Failure> {
    let is_wrong =
        |c: char| c.is_whitespace() || c.is_uppercase() || c.is_control() || ",*?\"<>|\\/#:%".contains(c);
    if name.is_empty() || name.starts_with(['-', '_', '+', '.']) || name.contains(is_wrong) {
        return Err(Failure::usage(format!(
            "{flag} is {name:?}, which cannot be the name of an index or alias: use lower-case letters, \
             digits, `-`, `_` and the like, and begin with a letter or digit"
        )));
    }
    Ok(())
}

/// Refuses `--account-deletions` if the field that it searches is excluded.
pub(super) fn check_fields(server: &Server, account_deletions: bool) -> Result<(), Failure> {
    if account_deletions && server.names.fields.excludes("author_did") {
        return Err(Failure::usage(
            "--account-deletions finds posts by their author_did, but --exclude-field leaves that out: \
             remove one of them",
        ));
    }
    Ok(())
}

/// Refuses `--bulk-load-settings` in spool mode, which has no end at which to restore the index settings.
pub(super) fn check_load(bulk_load_settings: bool, mode: Mode) -> Result<(), Failure> {
    if bulk_load_settings && mode == Mode::Spool {
        return Err(Failure::usage(
            "--bulk-load-settings (BULK_LOAD_SETTINGS) is for a first load, which has an end, but --mode \
             spool has none: remove one of them",
        ));
    }
    Ok(())
}

/// Refuses flags that make no sense with `--verify`. Variables are ignored, since they may be set for other runs.
pub(super) fn check_verify(settings: Settings<'_>) -> Result<(), Failure> {
    let cli = settings.cli;
    let flags = [
        (settings.choice::<Mode>(entries::mode())? == Mode::Spool, "--mode spool"),
        (cli.bulk_load_settings == Some(true), "--bulk-load-settings"),
        (cli.retry_failed, "--retry-failed"),
        (cli.create_indices == Some(true) && !cli.repair, "--create-indices"),
    ];
    let task =
        "--verify compares the index with all archives, once, and changes nothing (except with --repair)";
    refuse(&flags, task)
}

/// Refuses the first of the flags that is given. `task` says why it makes no sense.
fn refuse(flags: &[(bool, &str)], task: &str) -> Result<(), Failure> {
    match flags.iter().find(|(is_given, _)| *is_given) {
        Some((_, flag)) => Err(Failure::usage(format!("{task}: remove {flag}"))),
        None => Ok(()),
    }
}

/// Refuses flags that make no sense with `--replay`. Variables are ignored, since they may be set for other runs.
pub(super) fn check_replay(cli: &Cli) -> Result<(), Failure> {
    let Some(path) = &cli.replay else { return Ok(()) };
    let flags = [
        (cli.dry_run, "--dry-run"),
        (cli.list, "--list"),
        (cli.check, "--check"),
        (cli.verify, "--verify"),
        (cli.output.is_some(), "--output"),
        (cli.bulk_load_settings == Some(true), "--bulk-load-settings"),
        (cli.mode.as_deref() == Some("spool"), "--mode spool"),
        (cli.source.is_some(), "--source"),
        (cli.shard.is_some(), "--shard"),
        (cli.from.is_some(), "--from"),
        (cli.to.is_some(), "--to"),
        (cli.limit.is_some(), "--limit"),
        (cli.retry_failed, "--retry-failed"),
        (!cli.paths.is_empty(), "the paths of archives"),
    ];
    refuse(&flags, "--replay sends the documents of one dead-letter file, once, and loads no archives")?;
    check_exists("--replay", path)
}

/// Refuses a path, named by the setting `name`, that does not exist or cannot be looked at. The two differ: a file that
/// this user may not see is not missing, and one on a mount that is away may come back.
pub(super) fn check_exists(name: &str, path: &str) -> Result<(), Failure> {
    match fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let hint = hint_about(path);
            Err(Failure::usage(format!("{name} names {path:?}, which does not exist{hint}")))
        }
        Err(error) => {
            let text = format!("{name} names {path:?}, which cannot be read: {error}");
            Err(failure_that_may_pass(&error, &text).unwrap_or_else(|| Failure::usage(text)))
        }
    }
}

/// What is probably wrong with a path that does not exist: an environment file has quotes, or line ends of Windows.
pub(super) fn hint_about_ends(path: &str) -> Option<&'static str> {
    if path.starts_with(['"', '\'']) {
        Some(": remove the quotes, which docker --env-file keeps")
    } else if path.trim() != path {
        Some(": remove the white space around it")
    } else {
        None
    }
}

/// What is probably wrong with a path that does not exist: it was meant for a shell, or for another setting.
fn hint_about(path: &str) -> &'static str {
    if let Some(hint) = hint_about_ends(path) {
        hint
    } else if path.starts_with("s3://") {
        ": name the bucket in S3_SQLITE_DB_BUCKET, with --source s3"
    } else if path.contains("://") {
        ": it is a URL, name a folder or file of this machine"
    } else if path.starts_with('~') {
        ": write the home folder in full, since only a shell replaces ~"
    } else if path.contains(['*', '?', '$']) {
        ": name the folder itself, since only a shell replaces *, ? and $"
    } else if path.contains([':', ',', ';']) {
        ": several folders are given as arguments, each by itself"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{Config, Task};

    fn resolve(cli: Cli, elasticsearch_url: &str) -> Result<Config, Failure> {
        let environment = |name: &str| match name {
            "ELASTICSEARCH_URL" => Some(elasticsearch_url.to_owned()),
            "ELASTICSEARCH_API_KEY" => Some("a2V5".to_owned()),
            // Variables set for other runs.
            "BULK_LOAD_SETTINGS" => Some("true".to_owned()),
            _ => None,
        };
        Config::resolve(cli, &environment)
    }

    #[test]
    fn a_replay_needs_a_server_and_no_archives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead");
        fs::write(&path, "").unwrap();
        let replay = || Cli { replay: path.to_str().map(str::to_owned), ..Cli::default() };
        assert!(resolve(replay(), "").unwrap_err().message.contains("ELASTICSEARCH_URL"));
        let config = resolve(replay(), "http://localhost:9200").unwrap();
        let Task::Replay(replay) = config.task else { panic!("{config:?}") };
        assert_eq!(replay.path, path);
        assert_eq!(replay.reports.dead_letters, Some(folder.path().join("dead.failed")));
    }

    #[test]
    fn a_path_that_does_not_exist_is_reported_with_what_is_probably_wrong() {
        let message = |path: &str| check_exists("LOCAL_SQLITE_DB_PATH", path).unwrap_err().message;
        for (path, hint) in [
            ("\"/no/data\"", "remove the quotes"),
            ("/no/data ", "white space"),
            ("s3://bucket/in", "S3_SQLITE_DB_BUCKET"),
            ("file:///no/data", "URL"),
            ("~/no/data", "home folder"),
            ("/no/data/*.db.zip", "only a shell"),
            ("/no/data:/no/other", "as arguments"),
        ] {
            assert!(message(path).contains(hint), "{}", message(path));
        }
        assert!(message("/no/data").ends_with("names \"/no/data\", which does not exist"));
    }

    #[test]
    fn flags_that_contradict_a_replay_or_would_change_its_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead");
        let below = folder.path().join("below");
        fs::write(&path, "").unwrap();
        fs::create_dir(&below).unwrap();
        let other_way = || below.join("../dead").to_str().map(str::to_owned);
        let replay = || Cli { replay: path.to_str().map(str::to_owned), ..Cli::default() };
        for cli in [
            Cli { dry_run: true, ..replay() },
            Cli { list: true, ..replay() },
            Cli { check: true, ..replay() },
            Cli { verify: true, ..replay() },
            Cli { output: Some("x".into()), ..replay() },
            Cli { mode: Some("spool".into()), ..replay() },
            Cli { source: Some("s3".into()), ..replay() },
            Cli { shard: Some("0/2".into()), ..replay() },
            Cli { retry_failed: true, ..replay() },
            Cli { from: Some("2025-12-18".into()), ..replay() },
            Cli { limit: Some("1".into()), ..replay() },
            Cli { bulk_load_settings: Some(true), ..replay() },
            Cli { paths: vec![".".into()], ..replay() },
            Cli { dead_letter: other_way(), ..replay() },
            Cli { summary_json: other_way(), ..replay() },
            Cli { metrics_file: other_way(), ..replay() },
            Cli { replay: Some("no such file".into()), ..Cli::default() },
            Cli { replay: Some(".".into()), ..Cli::default() },
        ] {
            let message = resolve(cli, "http://localhost:9200").unwrap_err().message;
            assert!(message.contains("--replay"), "{message}");
        }
    }
}
