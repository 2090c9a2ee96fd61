//! What was typed. Nothing is looked up or checked here: that is [`crate::config`]'s.

use argh::{ArgsInfo, FromArgs};

use crate::options::{self, Opt};

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

    /// SHA-256 of a certificate of the server's chain, the only one to trust
    #[argh(option, arg_name = "hex")]
    pub ca_fingerprint: Option<String>,

    /// PEM file with the certificate of this client
    #[argh(option, arg_name = "path")]
    pub client_cert: Option<String>,

    /// PEM file with the key of --client-cert
    #[argh(option, arg_name = "path")]
    pub client_key: Option<String>,

    /// user of Elasticsearch, for basic authentication
    #[argh(option, arg_name = "name")]
    pub username: Option<String>,

    /// sign requests for a service of AWS
    #[argh(option, arg_name = "es|aoss")]
    pub aws_sigv4: Option<String>,

    /// send no credentials to Elasticsearch
    #[argh(switch)]
    pub no_auth: bool,

    /// HTTP proxy for Elasticsearch and S3
    #[argh(option, arg_name = "url")]
    pub proxy: Option<String>,

    /// gzip level of bulk requests (default 0)
    #[argh(option, arg_name = "0..9")]
    pub compress: Option<String>,

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
    #[argh(option, arg_name = "true|false")]
    pub account_deletions: Option<bool>,

    /// write figures in Prometheus text format to this file, every few seconds
    #[argh(option, arg_name = "path")]
    pub metrics_file: Option<String>,

    /// tune refresh and replicas for a first load; put back at every exit
    #[argh(option, arg_name = "true|false")]
    pub bulk_load_settings: Option<bool>,

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
    let arguments = match in_one_form(arguments) {
        Ok(arguments) => arguments,
        Err(message) => return Parsed::Wrong(message),
    };
    let borrowed: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match Cli::from_args(&["megastream_ingest"], &borrowed) {
        Ok(cli) => Parsed::Run(Box::new(cli)),
        Err(exit) if exit.status.is_ok() => Parsed::Print(options::help::text()),
        Err(exit) => Parsed::Wrong(format!("{}: --help names all there are", exit.output.trim_end())),
    }
}

/// Brings the forms that the established tool takes (`--flag=value`, `-flag`, `--switch=true`) into the one that argh
/// takes: flags with their values as words of their own, then paths. Paths stand behind two dashes, since argh takes
/// one named `help` for a flag elsewhere.
fn in_one_form(arguments: impl IntoIterator<Item = String>) -> Result<Vec<String>, String> {
    let (mut flags, mut paths) = (Vec::new(), vec!["--".to_owned()]);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            paths.extend(arguments);
            break;
        }
        let Some(name) = argument.strip_prefix("--").or(argument.strip_prefix('-')) else {
            paths.push(argument);
            continue;
        };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        let name = if name == "h" { "help" } else { name };
        let flag = format!("--{name}");
        match options::flags().find(|option| option.flag == name) {
            Some(option) if option.is_switch() => flags.extend(switch(option, flag, value)?),
            // What follows is its value, whatever it looks like.
            Some(_) => {
                let value = value.or_else(|| arguments.next());
                let value = value.ok_or_else(|| format!("{flag} is the last word: its value is missing"))?;
                flags.extend([flag, value]);
            }
            // As it was typed: argh says that there is none.
            None => flags.push(argument),
        }
    }
    flags.extend(paths);
    Ok(flags)
}

/// A switch, with its value where it has a variable: `false` is then another thing than not to be typed.
fn switch(option: &Opt, flag: String, value: Option<String>) -> Result<Vec<String>, String> {
    let is_on = match value {
        None => true,
        Some(value) => {
            parse_switch(&value).ok_or_else(|| format!("{flag} is true or false, not {value:?}"))?
        }
    };
    Ok(match (option.variables.is_empty(), is_on) {
        (false, _) => vec![flag, is_on.to_string()],
        (true, true) => vec![flag],
        (true, false) => Vec::new(),
    })
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
    fn what_follows_a_flag_is_its_value_whatever_it_looks_like() {
        assert_eq!(cli(&["--output", "-foo.nd"]).output.as_deref(), Some("-foo.nd"));
        assert_eq!(cli(&["-output", "--a=b", "c"]).output.as_deref(), Some("--a=b"));
        assert_eq!(cli(&["--workers", "-12"]).workers.as_deref(), Some("-12"));
        assert_eq!(cli(&["--output", "help"]).output.as_deref(), Some("help"));
        assert_eq!(cli(&["--output", "--", "a"]).output.as_deref(), Some("--"));
        assert!(is_wrong(&["a", "--output"]));
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
    fn a_switch_that_has_a_variable_is_typed_on_or_off_or_not_at_all() {
        assert_eq!(cli(&[]).account_deletions, None);
        assert_eq!(cli(&["--account-deletions"]).account_deletions, Some(true));
        assert_eq!(cli(&["--account-deletions=no", "a"]).account_deletions, Some(false));
        assert_eq!(cli(&["-bulk-load-settings=false"]).bulk_load_settings, Some(false));
        assert!(is_wrong(&["--account-deletions=maybe"]));
    }

    #[test]
    fn paths_stand_anywhere_and_behind_two_dashes_everything_is_a_path() {
        assert_eq!(cli(&["a", "--dry-run", "b.db.zip"]).paths, ["a", "b.db.zip"]);
        assert_eq!(cli(&["a", "--dry-run", "--", "--odd=name", "--"]).paths, ["a", "--odd=name", "--"]);
        assert_eq!(cli(&["help", "--dry-run"]).paths, ["help"]);
    }

    #[test]
    fn unknown_flags_are_wrong_and_help_is_not() {
        for flag in ["--no-such-flag", "--no-such-flag=1", "-x", "-", "--=a"] {
            let parsed = parse([flag.to_owned()]);
            assert!(matches!(parsed, Parsed::Wrong(text) if text.contains("--help")), "{flag}");
        }
        for flag in ["--help", "-h", "-help"] {
            let parsed = parse([flag.to_owned(), "a".to_owned()]);
            assert!(matches!(parsed, Parsed::Print(text) if text.contains("ELASTICSEARCH_URL")), "{flag}");
        }
    }
}
