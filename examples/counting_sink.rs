//! Runs the benchmarks' counting sink as a process: prints its URL, counts until standard input ends, then prints the
//! counters.

use std::error::Error;
use std::io::{Read, Write, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[path = "../benches/support/sink.rs"]
mod sink;

fn main() -> Result<(), Box<dyn Error>> {
    let counters = Arc::new(sink::Counters::default());
    let url = sink::start(counters.clone())?;
    writeln!(stdout(), "{url}")?;
    stdin().read_to_end(&mut Vec::new())?;
    let actions = counters.actions.load(Ordering::Relaxed);
    writeln!(stdout(), "{actions} actions, {} bytes", counters.bytes.load(Ordering::Relaxed))?;
    Ok(())
}
