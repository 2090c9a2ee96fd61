//! A run of the program: start, signals, end, and the checks that every run must pass.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::fake::API_KEY;
use super::listing;

/// The default time limit of a run.
const TIME_LIMIT: Duration = Duration::from_secs(40);

/// The running program; dropping it kills it.
pub(crate) struct Running {
    child: Child,
    command: String,
    summary_file: Option<PathBuf>,
    archives: Option<u64>,
    folder: PathBuf,
    stdout: PathBuf,
    stderr: PathBuf,
    started: Instant,
    limit: Duration,
}

impl Running {
    pub(super) fn start(
        mut command: Command,
        summary_file: Option<PathBuf>,
        archives: Option<u64>,
        folder: &Path,
        output: &Path,
    ) -> Self {
        let number = std::fs::read_dir(output).map(Iterator::count).unwrap_or_default();
        let (stdout, stderr) = (output.join(format!("{number}.out")), output.join(format!("{number}.err")));
        // A summary of an earlier run must not pass for a new one. Devices are left alone.
        if let Some(file) = summary_file.as_ref().filter(|file| file.is_file()) {
            let _ = std::fs::remove_file(file);
        }
        command.stdin(Stdio::null());
        command.stdout(File::create(&stdout).expect("a file for standard output"));
        command.stderr(File::create(&stderr).expect("a file for standard error"));
        let child = command.spawn().expect("the program starts");
        let command = format!("{command:?}");
        Self {
            child,
            command,
            summary_file,
            archives,
            folder: folder.to_owned(),
            stdout,
            stderr,
            started: Instant::now(),
            limit: TIME_LIMIT,
        }
    }

    /// Sets the time limit.
    pub(crate) fn may_take(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("a shell");
        assert!(status.success(), "{kill}: {status}");
    }

    /// Repeats a signal until the run ends, since signals close to the first one count as one with it.
    pub(crate) fn signal_until_it_ends(&mut self, name: &str) {
        while self.is_running() && self.started.elapsed() < TIME_LIMIT {
            self.signal(name);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether the process still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a status").is_none()
    }

    /// The peak resident memory so far; None if it is unknown, or if the process has ended.
    fn peak_memory_kib(&self) -> Option<u64> {
        // For a moment after its start, the process still shows the memory of this one: exec wakes the parent first.
        let program = |id: &str| std::fs::read_link(format!("/proc/{id}/exe")).ok();
        if program(&self.child.id().to_string()) == program("self") {
            return None;
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    }

    /// Whether standard error contains this text by now, ignoring case.
    pub(crate) fn has_logged(&self, text: &str) -> bool {
        let said = std::fs::read(&self.stderr).unwrap_or_default();
        String::from_utf8_lossy(&said).to_lowercase().contains(text)
    }

    /// Waits for the end, and makes the checks that every run must pass.
    pub(crate) fn wait(mut self) -> Run {
        let mut peak_kib = None;
        let status = loop {
            peak_kib = peak_kib.max(self.peak_memory_kib());
            if let Some(status) = self.child.try_wait().expect("a status") {
                break Some(status);
            }
            if self.started.elapsed() > self.limit {
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let read =
            |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
        let run = Run {
            code: status.and_then(shell_code),
            stdout: read(&self.stdout),
            stderr: read(&self.stderr),
            summary: self.summary_file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()),
            took: self.started.elapsed(),
            peak_kib,
            archives: self.archives,
            command: std::mem::take(&mut self.command),
            files: listing(&self.folder),
        };
        run.check(status.is_some(), "the run ended within the time limit");
        run.check_secrets(&self.folder);
        if let Some(summary) = run.summary_if_any() {
            run.check_summary(&summary);
        }
        run
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The exit code in a shell: 128 plus the signal for a killed process.
fn shell_code(status: ExitStatus) -> Option<i32> {
    status.code().or(status.signal().map(|signal| 128 + signal))
}

/// A finished run.
#[derive(Debug)]
pub(crate) struct Run {
    /// None if the time limit was exceeded.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
    /// The peak resident memory, except for the last moment; None if unknown.
    peak_kib: Option<u64>,
    summary: Option<String>,
    /// The number of archives that the run should find; None if the harness does not know.
    archives: Option<u64>,
    command: String,
    files: Vec<String>,
}

impl Run {
    /// Panics with all details of the run, unless `holds`.
    #[track_caller]
    pub(crate) fn check(&self, holds: bool, what: &str) {
        assert!(
            holds,
            "does not hold: {what}\n--- command\n{}\n--- exit code {:?} after {:?}\n--- standard output\n{}\n\
             --- standard error\n{}\n--- summary\n{}\n--- files\n{}\n",
            self.command,
            self.code,
            self.took,
            self.stdout,
            self.stderr,
            self.summary.as_deref().unwrap_or("none"),
            self.files.join("\n"),
        );
    }

    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        self.check(self.code == Some(code), &format!("exit code {code}"));
        self
    }

    /// The peak memory in KiB; it must be known.
    #[track_caller]
    pub(crate) fn peak_memory_kib(&self) -> u64 {
        let peak = self.peak_kib.unwrap_or(0);
        // Every process needs more than 1 MiB for the pages of its program.
        self.check(peak > 1 << 10, &format!("the peak memory is known: {:?} KiB", self.peak_kib));
        peak
    }

    /// Asserts that the peak memory is below this limit. On a busy machine a short run may end before its memory is seen.
    #[track_caller]
    pub(crate) fn uses_less_than_mib(&self, limit: u64) {
        if self.peak_kib.is_none() && self.took < Duration::from_secs(2) {
            return;
        }
        let peak = self.peak_memory_kib();
        self.check(peak < limit << 10, &format!("it takes less than {limit} MiB, not {peak} KiB"));
    }

    /// Asserts that standard error contains this text.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        self.check(self.stderr.contains(text), &format!("standard error has [{text}] in it"));
        self
    }

    /// The summary, which must exist.
    #[track_caller]
    pub(crate) fn summary(&self) -> Value {
        self.check(self.summary.is_some(), "the summary exists");
        self.summary_if_any().unwrap_or_default()
    }

    /// A count of the summary by its path, such as `rows.indexed`; 0 for a missing reason.
    #[track_caller]
    pub(crate) fn count(&self, path: &str) -> u64 {
        let summary = self.summary();
        let at = |value: &Value, name: &str| value.get(name).cloned().unwrap_or(Value::Null);
        let value = path.split('.').fold(summary, |value, name| at(&value, name));
        self.check(value.is_u64() || path.starts_with("reasons."), &format!("{path} is a number"));
        value.as_u64().unwrap_or(0)
    }

    /// Asserts counts of the summary.
    #[track_caller]
    pub(crate) fn counts(&self, expected: &[(&str, u64)]) {
        for (path, count) in expected {
            let found = self.count(path);
            self.check(found == *count, &format!("{path} is {count}, not {found}"));
        }
    }

    fn summary_if_any(&self) -> Option<Value> {
        let text = self.summary.as_ref()?;
        let summary = serde_json::from_str(text).unwrap_or(Value::Null);
        self.check(summary.is_object(), "the summary is a JSON object");
        Some(summary)
    }

    /// Asserts section 6 of the contract: every row and every archive is accounted for.
    pub(crate) fn check_summary(&self, summary: &Value) {
        let rows = &summary["rows"];
        let row = |name: &str| rows[name].as_u64().unwrap_or_else(|| panic!("rows.{name} is {}", rows[name]));
        let outcomes =
            ["indexed", "deleted", "superseded", "suppressed", "skipped", "rejected", "unconfirmed"];
        let findings = summary["findings"].as_object().into_iter().flatten();
        let findings: Vec<(&str, u64)> =
            findings.map(|(name, rows)| (name.as_str(), rows.as_u64().expect("a count"))).collect();
        let found: u64 = findings.iter().map(|(_, rows)| rows).sum();
        self.check(row("read") == found + outcomes.map(row).iter().sum::<u64>(), "the rows add up");
        for kind in ["skipped", "rejected"] {
            let reasons = summary["reasons"][kind].as_object().into_iter().flatten();
            let sum: u64 = reasons.filter_map(|(_, count)| count.as_u64()).sum();
            self.check(sum == row(kind), &format!("the reasons of {kind} rows add up"));
        }
        let archives = &summary["archives"];
        let archive = |name: &str| archives[name].as_u64().unwrap_or_else(|| panic!("archives.{name}"));
        let sum: u64 = ["already_done", "processed", "failed", "pending"].map(archive).iter().sum();
        self.check(archive("discovered") == sum, "the archives add up");
        // The program adds up its own counts, so only the known number of archives reveals a forgotten one.
        let is_known = |there_were| sum == there_were || sum == 0 && !matches!(self.code, Some(0 | 3));
        self.check(self.archives.is_none_or(is_known), &format!("{:?} archives are found", self.archives));
        // A run may be killed between its summary and its end.
        let told = summary["exit_code"].as_i64();
        let killed = self.code == Some(128 + 9);
        self.check(killed || told == self.code.map(i64::from), "the summary has the exit code");
        let signalled = matches!(self.code, Some(130 | 143));
        self.check(
            !signalled || summary["interrupted"] == true,
            "the summary says that the run was interrupted",
        );
        let complete = matches!(self.code, Some(0 | 3)) && summary["interrupted"] == false;
        self.check(!complete || row("unconfirmed") == 0, "a completed run leaves nothing unconfirmed");
        self.check(!complete || archive("pending") == 0, "a completed run leaves nothing pending");
        let is_right = |name: &str| ["equal", "newer", "suppressed"].contains(&name);
        let differs = findings.iter().any(|(name, rows)| !is_right(name) && *rows > 0);
        let rejects = differs || row("rejected") + archive("failed") > 0;
        self.check(!complete || rejects == (self.code == Some(3)), "code 3 is for rejects, 0 for none");
    }

    /// Asserts that neither the output nor any file contains the API key.
    fn check_secrets(&self, folder: &Path) {
        self.check(!self.stdout.contains(API_KEY), "standard output has no API key in it");
        self.check(!self.stderr.contains(API_KEY), "standard error has no API key in it");
        let is_file = |entry: &std::fs::DirEntry| entry.path().is_file();
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten().filter(is_file) {
            let content = std::fs::read(entry.path()).unwrap_or_default();
            // Some files have megabytes. A search for text is slow without optimization.
            let leaks = memchr::memmem::find(&content, API_KEY.as_bytes()).is_some();
            self.check(!leaks, &format!("{} has no API key in it", entry.path().display()));
        }
    }

    /// The only line of standard output, as JSON.
    #[track_caller]
    pub(crate) fn stdout_json(&self) -> Value {
        let value = serde_json::from_str(&self.stdout).unwrap_or(Value::Null);
        self.check(value.is_object(), "standard output is one JSON object");
        value
    }

    /// The reasons that the summary counts under `skipped`, `rejected` or `dropped_fields`.
    #[track_caller]
    pub(crate) fn reasons(&self, kind: &str) -> Vec<String> {
        let summary = self.summary();
        summary["reasons"][kind].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
    }
}
