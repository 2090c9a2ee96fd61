//! The test harness: each test gets a folder and a fake Elasticsearch, runs the program there, and every run is checked
//! for what must always hold.

pub(crate) mod archives;
pub(crate) mod client;
pub(crate) mod fake;
pub(crate) mod front;
pub(crate) mod http;
mod json;
mod listener;
pub(crate) mod model;
pub(crate) mod recorder;
mod rest;
pub(crate) mod run;
pub(crate) mod s3;
pub(crate) mod script;
mod search;
mod selftest;
mod server;
pub(crate) mod store;
pub(crate) mod vectors;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use archives::{Archive, post};
use fake::{API_KEY, Fake};
pub(crate) use run::{Run, Running};

/// Waits until a condition holds; fails after a time limit.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < fake::PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A folder and a server for one test.
pub(crate) struct TestEnv {
    folder: TempDir,
    pub(crate) fake: Fake,
}

impl TestEnv {
    /// An empty folder `archives`, and a server with both indices.
    pub(crate) fn new() -> Self {
        Self::with_fake(Fake::start())
    }

    /// An empty folder `archives`, and this server.
    pub(crate) fn with_fake(fake: Fake) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["work/archives", "output"] {
            std::fs::create_dir_all(folder.path().join(name)).expect("a folder");
        }
        Self { folder, fake }
    }

    /// A folder `archives` with these archives, and a server with both indices.
    pub(crate) fn with_archives(archives: &[Archive]) -> Self {
        let env = Self::new();
        env.add(archives);
        env
    }

    /// Writes archives into the folder `archives`.
    pub(crate) fn add(&self, archives: &[Archive]) {
        archives.iter().for_each(|archive| archive.write(&self.path("archives")));
    }

    /// A path below the working folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("work").join(name)
    }

    /// Writes a file below the working folder.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).expect("a file to write");
    }

    /// Reads a file below the working folder; None if it is missing.
    pub(crate) fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path(name)).ok()
    }

    /// The entries of the state file by archive name; empty without a state file.
    pub(crate) fn state(&self) -> BTreeMap<String, Value> {
        let text = self.read(STATE_FILE).unwrap_or_else(|| "[]".to_owned());
        let entries: Vec<Value> = serde_json::from_str(&text).expect("the state file is a JSON array");
        entries.into_iter().map(|entry| (string(&entry["filename"]), entry)).collect()
    }

    /// The status of an archive in the state file; `pending` if it has none.
    pub(crate) fn status_of(&self, archive: &Archive) -> String {
        self.state().get(&archive.name()).map_or("pending".to_owned(), |entry| string(&entry["status"]))
    }

    /// Waits until these archives are processed.
    pub(crate) fn wait_for_processed(&self, archives: &[Archive]) {
        let started = Instant::now();
        while archives.iter().any(|archive| self.status_of(archive) != "processed") {
            assert!(started.elapsed() < fake::PATIENCE, "not processed in time: {:?}", self.state());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The lines of the dead-letter file.
    pub(crate) fn dead_letters(&self) -> Vec<Value> {
        lines(&self.read(DEAD_LETTERS).unwrap_or_default())
    }

    /// The program, set up to load `archives` into the fake.
    pub(crate) fn ingest(&self) -> Invocation<'_> {
        Invocation {
            env: self,
            arguments: Vec::new(),
            variables: self.settings(),
            largest_file: None,
            script: None,
        }
    }

    /// Runs the program with these arguments to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.ingest().args(arguments).run()
    }

    fn settings(&self) -> BTreeMap<String, String> {
        let mut settings: BTreeMap<String, String> = [
            ("ELASTICSEARCH_URL", self.fake.url().as_str()),
            ("ELASTICSEARCH_API_KEY", API_KEY),
            ("LOCAL_SQLITE_DB_PATH", "archives"),
            ("SUMMARY_JSON", SUMMARY),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        // No other variable of the environment is passed on; these two concern the machine, not the program.
        for name in ["PATH", "LLVM_PROFILE_FILE"] {
            settings.extend(std::env::var(name).ok().map(|value| (name.to_owned(), value)));
        }
        settings
    }
}

/// The scale of a test: `long` with the variable `LONG_TESTS`, as in CI, else `short`.
pub(crate) fn long_or<T>(long: T, short: T) -> T {
    if std::env::var_os("LONG_TESTS").is_some_and(|is_set| !is_set.is_empty()) { long } else { short }
}

/// Runs all cases concurrently; for cases that mostly wait.
pub(crate) fn in_parallel<T: Send>(cases: impl IntoIterator<Item = T>, try_out: impl Fn(T) + Sync) {
    let try_out = &try_out;
    std::thread::scope(|scope| {
        let threads: Vec<_> = cases.into_iter().map(|case| scope.spawn(move || try_out(case))).collect();
        for thread in threads {
            if let Err(failed) = thread.join() {
                std::panic::resume_unwind(failed);
            }
        }
    });
}

/// The default path of the state file.
pub(crate) const STATE_FILE: &str = ".processed_files.json";
/// The default path of the dead-letter file.
pub(crate) const DEAD_LETTERS: &str = ".dead_letters.ndjson";
/// The summary file that the harness asks for.
pub(crate) const SUMMARY: &str = "summary.json";

/// A call of the program, being built.
pub(crate) struct Invocation<'a> {
    env: &'a TestEnv,
    arguments: Vec<String>,
    variables: BTreeMap<String, String>,
    largest_file: Option<u64>,
    script: Option<String>,
}

impl Invocation<'_> {
    /// Adds arguments.
    pub(crate) fn args(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Sets a variable of the environment.
    pub(crate) fn var(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Removes a variable of the environment.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    /// Limits the size of every file, as a full disk would.
    pub(crate) fn largest_file(mut self, kib: u64) -> Self {
        self.largest_file = Some(kib);
        self
    }

    /// Runs a shell script in which `megastream_ingest` is the program.
    pub(crate) fn in_shell(mut self, script: &str) -> Self {
        self.script = Some(script.to_owned());
        self
    }

    /// Runs to the end.
    pub(crate) fn run(self) -> Run {
        self.start().wait()
    }

    /// Starts the program, and returns at once.
    pub(crate) fn start(self) -> Running {
        let summary = self.variables.get("SUMMARY_JSON").map(|name| self.env.path(name));
        let (folder, output) = (self.env.path(""), self.env.folder.path().join("output"));
        Running::start(self.command(), summary, self.archives(), &folder, &output)
    }

    /// The number of archives that the run should find; None if it reads other folders, or spools.
    fn archives(&self) -> Option<u64> {
        let others = ["--source", "--replay", "--mode", "--shard", "--spool", "--from", "--to", "--limit"];
        let is_other = |argument: &String| {
            others.iter().any(|other| argument.starts_with(other)) || self.env.path(argument).exists()
        };
        let variables = ["SOURCE", "INGEST_MODE", "SHARD", "FROM_TIME", "TO_TIME"];
        let of_folder = self.variables.get("LOCAL_SQLITE_DB_PATH").is_some_and(|path| path == "archives");
        if !of_folder
            || self.script.is_some()
            || self.arguments.iter().any(is_other)
            || variables.iter().any(|name| self.variables.contains_key(*name))
        {
            return None;
        }
        // A file that cannot be looked at may be there.
        let is_there = |path: &Path| match std::fs::metadata(path) {
            Ok(metadata) => metadata.is_file(),
            Err(error) => error.kind() == std::io::ErrorKind::InvalidFilename,
        };
        let is_archive = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_litter = name.starts_with("._");
            is_there(path) && !is_litter && (name.ends_with(".db.zip") || name.ends_with(".db"))
        };
        let entries = std::fs::read_dir(self.env.path("archives")).ok()?;
        Some(entries.flatten().filter(|entry| is_archive(&entry.path())).count() as u64)
    }

    /// The command to start.
    pub(crate) fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_megastream_ingest");
        let mut command = Command::new(program);
        if let Some(kib) = self.largest_file {
            // The unit of `ulimit -f` is 512 bytes.
            let limited = format!("ulimit -f {}; exec \"$0\" \"$@\"", 2 * kib);
            command = Command::new("sh");
            command.args(["-c", &limited, program]);
        }
        command.args(&self.arguments).current_dir(self.env.path("")).env_clear().envs(&self.variables);
        if let Some(script) = &self.script {
            let folder = Path::new(program).parent().unwrap_or(Path::new(".")).display();
            let path = self.variables.get("PATH").map_or("", String::as_str);
            let mut shell = Command::new("sh");
            shell.args(["-euc", script]).current_dir(self.env.path("")).env_clear().envs(&self.variables);
            command = shell;
            command.env("PATH", format!("{folder}:{path}"));
        }
        command
    }
}

/// `count` posts named `prefix0`, `prefix1` and so on.
pub(crate) fn posts(prefix: &str, count: usize) -> Vec<archives::Event> {
    (0..count).map(|n| post(&format!("{prefix}{n}"), &format!("Post {n} of {prefix}"))).collect()
}

/// The values of NDJSON text; every line must be valid.
pub(crate) fn lines(text: &str) -> Vec<Value> {
    let one = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("no JSON ({e}): {line}"));
    text.lines().map(one).collect()
}

/// The text of a JSON string; `""` for other values.
pub(crate) fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The names of all files below a folder, for messages.
fn listing(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            names.extend(listing(&path));
        } else {
            let size = entry.metadata().map(|metadata| metadata.len()).unwrap_or_default();
            names.push(format!("{} ({size} bytes)", path.display()));
        }
    }
    names.sort();
    names
}
