//! Runs the cases of a target, limits their time and memory, and saves failing inputs.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::mutation::{Format, case};

/// The time limit of a case. Most cases take microseconds, but a machine may be busy.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// A case that takes this long will not end. It is saved, and the process is aborted.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// The memory limit of the process, for all targets together: 64 MiB that any small zip may request, and as much again
/// for its content, for each target.
const MEMORY_LIMIT_KIB: u64 = 512 << 10;

/// Tries the corpus of a target, then the configured number of cases. `run` returns whether it accepted the input. Some
/// inputs must be accepted; otherwise only the first check is tested.
pub(crate) fn fuzz(target: &str, format: &Format, run: impl Fn(&[u8]) -> bool) {
    let watched = Watched::new(target);
    let started = Instant::now();
    for base in &format.bases {
        watched.run(base, &run);
    }
    for path in corpus(target) {
        println!("{}", path.display());
        watched.run(&fs::read(path).expect("a file of the corpus"), &run);
    }
    let cases = number("FUZZ_CASES", 2_000);
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&number("FUZZ_SEED", 0).to_le_bytes());
    let config = Config {
        cases,
        max_shrink_iters: 20_000,
        failure_persistence: None,
        max_global_rejects: 0,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let figures = Mutex::new((Duration::ZERO, 0_u32));
    let tried = TestRunner::new_with_rng(config, rng).run(&case(), |case| {
        let (took, taken) = watched.run(&format.make(&case), &run);
        let mut figures = figures.lock().unwrap();
        *figures = (took.max(figures.0), figures.1 + u32::from(taken));
        Ok(())
    });
    if let Err(error) = tried {
        let kept = match &error {
            TestError::Fail(_, case) => watched.keep(&format.make(case)),
            TestError::Abort(_) => PathBuf::new(),
        };
        panic!("{target}: {error}\nthe input is in {}", kept.display());
    }
    let (slowest, taken) = *figures.lock().unwrap();
    println!(
        "{target}: {cases} cases in {:.0?}, {taken} of them taken, the slowest {slowest:.1?}; most memory of the \
         process {} MiB",
        started.elapsed(),
        peak_memory_kib() >> 10
    );
    assert!(taken >= cases / 50, "only {taken} of {cases} inputs were taken: the changes are too aggressive");
}

/// The current input, saved if it does not end.
struct Watched {
    target: String,
    input: Mutex<(Vec<u8>, Instant)>,
    idle: AtomicBool,
}

impl Watched {
    fn new(target: &str) -> std::sync::Arc<Self> {
        let watched = std::sync::Arc::new(Self {
            target: target.to_owned(),
            input: Mutex::new((Vec::new(), Instant::now())),
            idle: AtomicBool::new(true),
        });
        let weak = std::sync::Arc::downgrade(&watched);
        std::thread::spawn(move || {
            while let Some(watched) = weak.upgrade() {
                watched.check();
                drop(watched);
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        watched
    }

    /// Tries one input. Panics are passed on, and exceeded limits become panics.
    fn run(&self, input: &[u8], run: &impl Fn(&[u8]) -> bool) -> (Duration, bool) {
        let started = Instant::now();
        {
            let mut watched = self.input.lock().unwrap();
            watched.0.clear();
            watched.0.extend_from_slice(input);
            watched.1 = started;
        }
        self.idle.store(false, Ordering::SeqCst);
        let result = catch_unwind(AssertUnwindSafe(|| run(input)));
        self.idle.store(true, Ordering::SeqCst);
        let taken = result.unwrap_or_else(|panic| resume_unwind(panic));
        let took = started.elapsed();
        assert!(took < TIME_LIMIT, "the case took {took:?}");
        let memory = if took > Duration::from_millis(1) { peak_memory_kib() } else { 0 };
        assert!(memory < MEMORY_LIMIT_KIB, "the process has used {memory} KiB");
        (took, taken)
    }

    fn check(&self) {
        if self.idle.load(Ordering::SeqCst) {
            return;
        }
        let input = {
            let watched = self.input.lock().unwrap();
            (watched.1.elapsed() > HANGS_AFTER).then(|| watched.0.clone())
        };
        if let Some(input) = input {
            eprintln!("{}: it hangs; the input is in {}", self.target, self.keep(&input).display());
            std::process::abort();
        }
    }

    /// Saves an input in the corpus, named by its content.
    fn keep(&self, input: &[u8]) -> PathBuf {
        let sum = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        let path = folder(&self.target).join(format!("found-{sum:016x}"));
        fs::write(&path, input).expect("a file in the corpus");
        path
    }
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target)
}

fn corpus(target: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder(target))
        .map(|entries| entries.map(|entry| entry.expect("an entry").path()).collect())
        .unwrap_or_default();
    paths.sort();
    paths
}

fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a whole number"))
}

/// The peak resident memory of this process; 0 if unknown.
fn peak_memory_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}
