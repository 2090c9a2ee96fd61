//! Credentials printed by a program on its standard output.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Process credential provider".

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::Credentials;
use super::request::parse_document;

/// Time limit of the program. It may make requests to servers.
const LIMIT: Duration = Duration::from_secs(60);

/// Interval at which its end is checked, once its output has ended.
const POLL: Duration = Duration::from_millis(5);

/// Limit on its output, in bytes.
const OUTPUT_BYTES: u64 = 256 << 10;

/// Runs a command line without a shell, and parses its output. Standard error is discarded: like the output, it may
/// hold secrets.
///
/// # Errors
///
/// Says why there are no credentials.
pub(super) fn run(command: &str) -> Result<Credentials, String> {
    run_within(command, LIMIT)
}

fn run_within(command: &str, limit: Duration) -> Result<Credentials, String> {
    let words = shlex::split(command).ok_or("has a credential_process with a quote that does not end")?;
    let Some((program, arguments)) = words.split_first() else {
        return Err("has an empty credential_process".to_owned());
    };
    let failure = |why: &str| format!("has the credential_process {program:?}, which {why}");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failure(&format!("cannot be started: {error}")))?;
    let Some(output) = child.stdout.take() else { return Err(failure("has no standard output")) };
    let (sender, read) = mpsc::channel();
    // A thread of its own reads the output: child processes of the program may keep it open.
    thread::spawn(move || {
        let mut text = Vec::new();
        let done = output.take(OUTPUT_BYTES).read_to_end(&mut text).map(|_| text);
        // After the time limit nothing receives the result.
        let _ = sender.send(done);
    });
    let end = Instant::now() + limit;
    let text = read.recv_timeout(limit);
    let status =
        wait_until(&mut child, end).map_err(|error| failure(&format!("cannot be observed: {error}")))?;
    let (Ok(text), Some(status)) = (text, status) else {
        return Err(failure(&format!("has not ended after {} s", limit.as_secs())));
    };
    let text = text.map_err(|error| failure(&format!("cannot be read from: {error}")))?;
    if !status.success() {
        return Err(failure(&format!("ends with {status}: run it by hand")));
    }
    parse_document(&text)
        .ok_or_else(|| failure("does not print JSON with AccessKeyId and SecretAccessKey: run it by hand"))
}

/// Waits for the end of a program, which may have closed its output long before. Kills it at the deadline; None then.
fn wait_until(child: &mut Child, end: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_in_a_shell() {
        let expected = ["/bin/a b", "--c=d e", "", "f\"g", "h i"];
        let line = r#"  "/bin/a b" --c='d e' '' "f\"g" h\ i "#;
        assert_eq!(shlex::split(line).unwrap(), expected);
        assert_eq!(shlex::split("a \"b"), None);
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_whether_or_not_it_closes_its_output() {
        for command in ["sh -c 'exec sleep 1000'", "sh -c 'echo {}; exec sleep 1000 >&-'"] {
            let failure = run_within(command, Duration::from_millis(300)).unwrap_err();
            assert!(failure.contains("has not ended after"), "{failure}");
        }
    }

    #[test]
    fn the_output_of_a_program_is_parsed_and_never_repeated() {
        let found =
            run("echo '{\"Version\":1,\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"hunter2\"}'").unwrap();
        assert_eq!((found.access_key.as_str(), found.secret_key.expose()), ("A", "hunter2"));
        for (command, why) in [
            ("/no/such/program", "cannot be started"),
            ("false", "run it by hand"),
            ("echo hunter2", "does not print JSON"),
            ("", "empty"),
            ("'a", "quote"),
        ] {
            let failure = run(command).unwrap_err();
            assert!(failure.contains(why) && !failure.contains("hunter2"), "{failure}");
        }
    }
}
