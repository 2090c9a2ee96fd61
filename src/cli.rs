//! What was typed. Nothing is looked up or checked here: that is [`crate::config`]'s.

use argh::{ArgsInfo, FromArgs};

use crate::options;

/// The command line. What `--help` says of it is told by [`crate::options`].
#[derive(FromArgs, ArgsInfo, Debug, Default)]
pub struct Cli {
    /// archives: folders, or files named *.db.zip; take the place of LOCAL_SQLITE_DB_PATH
    #[argh(positional)]
    pub paths: Vec<String>,

    /// where archives come from: local (default) or s3
    #[argh(option, arg_name = "local|s3")]
    pub source: Option<String>,

    /// once (default): take up what is there, then end; spool: go on looking for new archives
    #[argh(option, arg_name = "once|spool")]
    pub mode: Option<String>,

    /// do everything but write to Elasticsearch; needs no server or setting, writes no state
    #[argh(switch)]
    pub dry_run: bool,

    /// with --dry-run: write the bulk NDJSON to this file (- is standard output)
    #[argh(option, arg_name = "path")]
    pub output: Option<String>,

    /// do not check certificates (development only)
    #[argh(switch)]
    pub skip_tls_verify: bool,

    /// PEM file with roots to trust besides the system's, for Elasticsearch and S3
    #[argh(option, arg_name = "path")]
    pub ca_cert: Option<String>,

    /// archives decoded in parallel (default: cores)
    #[argh(option, arg_name = "n")]
    pub workers: Option<String>,

    /// concurrent bulk requests at most (default 4)
    #[argh(option, arg_name = "n")]
    pub senders: Option<String>,

    /// actions a bulk request holds at most (default 100)
    #[argh(option, arg_name = "n")]
    pub batch_docs: Option<String>,

    /// bytes a bulk request holds at most (default 8388608)
    #[argh(option, arg_name = "n")]
    pub batch_bytes: Option<String>,

    /// vectors in documents: array, base64 (Elasticsearch 9.3 or newer) or auto (default)
    #[argh(option, arg_name = "auto|base64|array")]
    pub vector_encoding: Option<String>,

    /// write the run's summary as JSON to this file (- is standard output)
    #[argh(option, arg_name = "path")]
    pub summary_json: Option<String>,

    /// where rejected rows are written, one JSON object a line (default .dead_letters.ndjson)
    #[argh(option, arg_name = "path")]
    pub dead_letter: Option<String>,

    /// send the documents of a dead-letter file again, under the same versions; takes no archives up. What is
    /// rejected anew goes to PATH.failed, unless --dead-letter names another file
    #[argh(option, arg_name = "path")]
    pub replay: Option<String>,

    /// delete the posts of deleted accounts, too
    #[argh(switch)]
    pub account_deletions: bool,

    /// write figures in Prometheus text format to this file, every few seconds
    #[argh(option, arg_name = "path")]
    pub metrics_file: Option<String>,

    /// tune refresh and replicas for a first load; put back at every exit
    #[argh(switch)]
    pub bulk_load_settings: bool,

    /// take up archives that the state file calls failed, too
    #[argh(switch)]
    pub retry_failed: bool,

    /// seconds that a 'once' run waits for an unavailable Elasticsearch or S3 (default 600)
    #[argh(option, arg_name = "seconds")]
    pub retry_budget: Option<String>,

    /// take only archives whose name hashes to I of N, counted from 0
    #[argh(option, arg_name = "i/n")]
    pub shard: Option<String>,

    /// create missing indices and aliases with the right mapping
    #[argh(switch)]
    pub create_indices: bool,

    /// check settings, source, Elasticsearch, privileges and mapping, then end
    #[argh(switch)]
    pub check: bool,

    /// print which archives would be taken up, and why the others are not
    #[argh(switch)]
    pub list: bool,

    /// print the version
    #[argh(switch)]
    pub version: bool,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Parsed {
    /// A run.
    Run(Box<Cli>),
    /// A text for standard output: `--help`.
    Print(String),
    /// The command line is wrong; the text says how.
    Wrong(String),
}

/// Parses the arguments that follow the program's name.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Parsed {
    let arguments = match separate_values(arguments) {
        Ok(arguments) => arguments,
        Err(message) => return Parsed::Wrong(message),
    };
    let borrowed: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match Cli::from_args(&["megastream_ingest"], &borrowed) {
        Ok(cli) => Parsed::Run(Box::new(cli)),
        Err(exit) if exit.status.is_ok() => Parsed::Print(options::help::text()),
        Err(exit) => Parsed::Wrong(exit.output.trim_end().to_owned()),
    }
}

/// Whether a flag, with its dashes, takes no value.
fn is_switch(flag: &str) -> bool {
    options::flags().any(|option| option.is_switch() && flag.strip_prefix("--") == Some(option.flag))
}

/// Brings the forms that the established tool takes (`--flag=value`, `-flag`, `--switch=true`) into the one
/// that argh takes.
fn separate_values(arguments: impl IntoIterator<Item = String>) -> Result<Vec<String>, String> {
    let mut separated = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            separated.push(argument);
            separated.extend(arguments);
            break;
        }
        let single_dash = argument.starts_with('-') && !argument.starts_with("--") && argument.len() > 2;
        let argument = if single_dash { format!("-{argument}") } else { argument };
        match argument.split_once('=') {
            Some((switch, value)) if is_switch(switch) => {
                if parse_switch(value).ok_or_else(|| format!("{switch} is true or false, not {value:?}"))? {
                    separated.push(switch.to_owned());
                }
            }
            Some((flag, value)) if flag.starts_with("--") => {
                separated.push(flag.to_owned());
                separated.push(value.to_owned());
            }
            _ => separated.push(argument),
        }
    }
    Ok(separated)
}

/// A boolean as people write it.
pub fn parse_switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "yes" | "on" => Some(true),
        "false" | "f" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_value_follows_its_flag_or_an_equals_sign() {
        assert_eq!(cli(&["--source", "s3"]).source.as_deref(), Some("s3"));
        assert_eq!(cli(&["--source=s3"]).source.as_deref(), Some("s3"));
        assert_eq!(cli(&["-source=s3"]).source.as_deref(), Some("s3"));
        assert_eq!(cli(&["--output=a=b"]).output.as_deref(), Some("a=b"));
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
    fn paths_stand_anywhere_and_behind_two_dashes_everything_is_a_path() {
        assert_eq!(cli(&["a", "--dry-run", "b.db.zip"]).paths, ["a", "b.db.zip"]);
        assert_eq!(cli(&["--dry-run", "--", "--odd=name"]).paths, ["--odd=name"]);
    }

    #[test]
    fn unknown_flags_are_wrong_and_help_is_not() {
        assert!(is_wrong(&["--no-such-flag"]));
        assert!(
            matches!(parse(["--help".to_owned()]), Parsed::Print(text) if text.contains("ELASTICSEARCH_URL"))
        );
    }
}
