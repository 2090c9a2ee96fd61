//! The binary: translates arguments, a run and its outcome into an exit code.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use log::LevelFilter;
use megastream_ingest::cli::{self, Parsed};
use megastream_ingest::config::Config;
use megastream_ingest::exit::Failure;
use megastream_ingest::run::run;
use megastream_ingest::shutdown::Stop;

fn main() -> ExitCode {
    let cli = match cli::parse(env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()))
    {
        Parsed::Run(cli) if cli.version => {
            return print(&format!("megastream_ingest {}\n", env!("CARGO_PKG_VERSION")));
        }
        Parsed::Run(cli) => cli,
        Parsed::Print(text) => return print(&text),
        Parsed::Wrong(message) => return fail(&Failure::usage(message)),
    };
    let config = match Config::resolve(*cli, &|name| env::var(name).ok()) {
        Ok(config) => config,
        Err(failure) => return fail(&failure),
    };
    start_log(config.logging);
    let stop = Stop::new();
    if let Err(failure) = stop.listen_to_signals() {
        return fail(&failure);
    }
    ExitCode::from(run(&config, &stop).number())
}

/// Logs go to standard error. `RUST_LOG` chooses levels for this program; the HTTP and TLS libraries stay at
/// warnings, since their debug output shows headers, and with them credentials.
fn start_log(enabled: bool) {
    let mut builder = env_logger::Builder::new();
    builder.format_target(false).filter_level(LevelFilter::Info).parse_default_env();
    for library in ["ureq", "ureq_proto", "rustls"] {
        builder.filter_module(library, LevelFilter::Warn);
    }
    if !enabled {
        builder.filter_level(LevelFilter::Off);
    }
    builder.init();
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// One line on standard error, whatever the log is set to: an exit code alone helps nobody.
fn fail(failure: &Failure) -> ExitCode {
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "megastream_ingest: {failure}");
    ExitCode::from(failure.code.number())
}
