//! The binary: translates arguments, a run and its outcome into an exit code.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use megastream_ingest::cli::{self, Parsed};
use megastream_ingest::config::{Config, LogFormat};
use megastream_ingest::exit::Failure;
use megastream_ingest::logging;
use megastream_ingest::run::run;
use megastream_ingest::shutdown::Stop;

fn main() -> ExitCode {
    let cli = match cli::parse(env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()))
    {
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
    let config = match Config::resolve(*cli, &|name| env::var(name).ok()) {
        Ok(config) => config,
        Err(failure) => return fail(&failure),
    };
    logging::start(config.logging, config.log_format);
    let stop = Stop::new();
    if let Err(failure) = stop.listen_to_signals(config.mode) {
        return fail(&failure);
    }
    ExitCode::from(run(&config, &stop).number())
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The log is not open yet, and in what form it was to be written may be what is wrong.
fn fail(failure: &Failure) -> ExitCode {
    let format = if env::var("LOG_FORMAT").is_ok_and(|format| format == "json") {
        LogFormat::Json
    } else {
        LogFormat::Text
    };
    logging::tell(failure, format);
    ExitCode::from(failure.code.number())
}
