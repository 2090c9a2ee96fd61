//! The binary: turns arguments into a run, and its outcome into an exit code.

use std::cell::RefCell;
use std::env::{self, VarError};
use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use megastream_ingest::cli::{self, Cli, Parsed, entries};
use megastream_ingest::common::exit::Failure;
use megastream_ingest::config::{Config, LogFormat};
use megastream_ingest::observe::logging;
use megastream_ingest::process::shutdown::Stop;
use megastream_ingest::run::run;

fn main() -> ExitCode {
    let arguments: Result<Vec<String>, _> = env::args_os().skip(1).map(OsString::into_string).collect();
    let arguments = match arguments {
        Ok(arguments) => arguments,
        Err(argument) => return fail(&Failure::usage(format!("the argument {argument:?} is not UTF-8"))),
    };
    let cli = match cli::parse(arguments) {
        Parsed::Run(cli) if cli.version => {
            return print(&format!(
                "megastream_ingest {} ({})\n",
                env!("CARGO_PKG_VERSION"),
                env!("MEGASTREAM_INGEST_BUILT_FROM")
            ));
        }
        Parsed::Run(cli) => cli,
        Parsed::Print(text) => return print(&text),
        Parsed::Wrong(message) => return fail(&Failure::usage(message)),
    };
    let config = match resolve(*cli) {
        Ok(config) => config,
        Err(failure) => return fail(&failure),
    };
    logging::start(config.logging);
    let stop = Stop::new();
    if let Err(failure) = stop.listen_to_signals(config.task.mode()) {
        return fail(&failure);
    }
    ExitCode::from(run(&config, &stop).number())
}

/// Resolves the configuration. A variable that is not UTF-8 is an error and never treated as unset: the default may be
/// the opposite of what the user wants.
fn resolve(cli: Cli) -> Result<Config, Failure> {
    let unreadable = RefCell::new(None);
    let environment = |name: &str| match env::var(name) {
        Ok(value) => Some(value),
        Err(VarError::NotPresent) => None,
        Err(VarError::NotUnicode(_)) => {
            unreadable.borrow_mut().get_or_insert_with(|| name.to_owned());
            None
        }
    };
    let config = Config::resolve(cli, &environment);
    match unreadable.take() {
        Some(name) => Err(Failure::usage(format!("{name} is not UTF-8: set it again, or unset it"))),
        None => config,
    }
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has closed the pipe, as `head` does: not an error.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Reports a failure before the log is open. The log format may itself be the invalid setting, so it is read from the
/// environment.
fn fail(failure: &Failure) -> ExitCode {
    let [name] = entries::log_format().names();
    let is_json = env::var(name).is_ok_and(|format| format == LogFormat::Json.name());
    let format = if is_json { LogFormat::Json } else { LogFormat::Text };
    logging::report_failure(failure, format);
    ExitCode::from(failure.code.number())
}
