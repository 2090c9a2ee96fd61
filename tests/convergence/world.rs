//! Runs cases: a folder, a server, and the program's own `run` on threads of this process.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use megastream_ingest::auth::Auth;
use megastream_ingest::common::exit::ExitCode;
use megastream_ingest::config::{
    Archives, BatchLimits, Config, Elasticsearch, Intake, Job, Load, LogFormat, Logging, Memory, Mode, Place,
    Reports, Server, Source, Task, VectorChoice,
};
use megastream_ingest::model::{Criteria, Names, Senders, Shard};
use megastream_ingest::process::shutdown::{Stop, StopReason};
use megastream_ingest::run;
use proptest::test_runner::TestCaseError;
use proptest::{prop_assert, prop_assert_eq};
use tempfile::TempDir;

use crate::case::{Case, End, Held, Pass, Roll, SHARDS, State, expected};
use crate::harness::archives::Archive;
use crate::harness::fake::{API_KEY, Fake};
use crate::harness::http::Request;
use crate::harness::script::Fault;
use crate::harness::store::{Document, Store};

/// The name of a case's state files.
const STATE: &str = "state";

/// A server and a folder for one case.
pub(crate) struct World {
    pub(crate) fake: Fake,
    gc_deletes: &'static str,
    folder: Folder,
}

impl World {
    /// Empty indices that forget deletes at once, and a folder with the archives of the case.
    pub(crate) fn of(case: &Case) -> Self {
        let mut store = Store::with_indices(&[]);
        store.forget_deletes = true;
        for alias in ["posts", "post_tombstones"] {
            roll(&mut store, &Roll { alias, requires_routing: false }, case.gc_deletes);
        }
        Self { gc_deletes: case.gc_deletes, fake: Fake::start_with(store), folder: Folder::new(case) }
    }

    /// Runs all passes of the case and the last one, and compares.
    pub(crate) fn try_out(case: &Case) -> Result<(), TestCaseError> {
        let world = Self::of(case);
        case.passes.iter().for_each(|pass| world.run_pass(pass));
        world.fake.settle();
        for code in world.run(&Pass::last(), STATE) {
            prop_assert!(matches!(code, ExitCode::Done | ExitCode::DoneWithRejects), "{code:?}");
        }
        let (posts, tombstones) = expected(case);
        prop_assert_eq!(world.held("posts"), posts);
        prop_assert_eq!(world.held("post_tombstones"), tombstones);
        Ok(())
    }

    /// Asserts that the indices follow the rule.
    pub(crate) fn assert_holds(&self, case: &Case) {
        assert_eq!((self.held("posts"), self.held("post_tombstones")), expected(case));
    }

    fn run_pass(&self, pass: &Pass) {
        let before = self.folder.states();
        let stop = Stop::new();
        self.script(pass, &stop);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| self.roll_over(&pass.rolls, &is_over));
            self.run_until(pass, STATE, &stop);
            is_over.store(true, Ordering::Relaxed);
        });
        self.fake.clear_faults();
        match pass.state {
            State::Saved => {}
            State::Before => self.folder.restore_states(&before),
            State::Lost => self.folder.restore_states(&[]),
        }
    }

    /// Rolls aliases over during a pass, or at its end.
    fn roll_over(&self, rolls: &[(usize, Roll)], is_over: &AtomicBool) {
        if rolls.is_empty() {
            return;
        }
        let arrived = Arc::new(AtomicUsize::new(0));
        let counted = arrived.clone();
        let count = move |request: &Request| {
            counted.fetch_add(looks_up_or_writes(request).into(), Ordering::Relaxed);
            false
        };
        self.fake.fail(count, 0, usize::MAX, Fault::CloseBefore);
        for (after, to_roll) in rolls {
            while arrived.load(Ordering::Relaxed) < *after && !is_over.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            self.fake.store(|store| roll(store, to_roll, self.gc_deletes));
        }
    }

    /// Scripts the faults of a pass.
    fn script(&self, pass: &Pass, stop: &Stop) {
        let concerned = looks_up_or_writes;
        if let Some((after, end)) = pass.end {
            let (stop, arrived) = (stop.clone(), AtomicUsize::new(0));
            let is_cut = move |request: &Request| {
                let arrived = arrived.fetch_add(concerned(request).into(), Ordering::Relaxed);
                if arrived >= after {
                    stop.request(StopReason::Interrupt);
                }
                arrived >= after && matches!(end, End::Killed)
            };
            self.fake.fail(is_cut, 0, usize::MAX, Fault::CloseBefore);
        }
        for (after, trouble) in &pass.faults {
            self.fake.fail(concerned, *after, 1, trouble.fault());
        }
    }

    /// Runs all processes of a pass concurrently to their ends. `state` names their state files.
    pub(crate) fn run(&self, pass: &Pass, state: &str) -> Vec<ExitCode> {
        self.run_until(pass, state, &Stop::new())
    }

    /// As [`Self::run`], with a stop.
    fn run_until(&self, pass: &Pass, state: &str, stop: &Stop) -> Vec<ExitCode> {
        thread::scope(|scope| {
            let processes: Vec<_> = (0..pass.shards)
                .map(|shard| self.config(pass, shard, state))
                .map(|config| scope.spawn(move || run::run(&config, stop)))
                .collect();
            processes.into_iter().map(|process| process.join().expect("a run that ends")).collect()
        })
    }

    pub(crate) fn config(&self, pass: &Pass, shard: u32, state: &str) -> Config {
        let elasticsearch = Elasticsearch::at(self.fake.url(), Auth::of_api_key(API_KEY));
        let retry_budget = Some(Duration::from_secs(60));
        let archives = Archives {
            source: Source::Local(self.folder.archives(pass.given)),
            mode: Mode::Once,
            state_file: self.folder.state_file(state, shard),
            criteria: Criteria {
                shard: Shard::parse(&format!("{shard}/{}", pass.shards)).expect("a shard"),
                ..Criteria::ALL
            },
            retry_budget,
        };
        let intake = Intake {
            workers: pass.workers,
            senders: Senders::fixed(pass.senders),
            batch: BatchLimits { docs: pass.batch_docs, bytes: 1 << 20 },
            memory: Memory { bytes: 1 << 30, is_auto: false },
            account_deletions: false,
            spool_interval: Duration::from_secs(1),
        };
        let reports = Reports {
            job: Job::Load,
            mode: Mode::Once,
            source: Place::Local,
            shows_documents: false,
            dead_letters: Some(self.folder.path(&format!("{state}_{shard}.dead_letters"))),
            summary: None,
            max_rejected: None,
            metrics_file: None,
            listen: None,
        };
        let load = Load {
            archives,
            intake,
            vectors: VectorChoice::Array,
            server: Server {
                elasticsearch,
                names: Names::default(),
                pipeline: None,
                create_indices: false,
                retry_budget,
                page_budget: None,
            },
            bulk_load_settings: false,
            reports,
        };
        let logging = Logging { enabled: false, quiet: false, format: LogFormat::Text };
        Config { task: Task::Load(Box::new(load)), logging }
    }

    /// A file of the case.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }

    /// The contents behind an alias: of several posts that in the newest index, of several tombstones the newest.
    fn held(&self, alias: &str) -> Held {
        let text = |source: &serde_json::Value| source["content"].as_str().unwrap_or_default().to_owned();
        self.fake.store(|store| {
            let members = store.indices.values().filter(|index| index.aliases.contains_key(alias));
            let mut held: Vec<_> = members
                .flat_map(|index| index.documents.iter().map(|(id, document)| (index.created, id, document)))
                .collect();
            held.sort_by_key(
                |(created, _, document)| {
                    if alias == "posts" { *created } else { document.version }
                },
            );
            let shown = |(_, id, document): (u64, &String, &Document)| {
                (id.clone(), (document.version, text(&document.source)))
            };
            held.into_iter().map(shown).collect()
        })
    }
}

/// Whether a request looks up or writes.
fn looks_up_or_writes(request: &Request) -> bool {
    request.is_bulk() || request.is_mget()
}

/// Rolls an alias over to a new write index.
fn roll(store: &mut Store, roll: &Roll, gc_deletes: &str) {
    let index = format!("{}_v{}", roll.alias, store.indices.len());
    store.add_index(&index, roll.alias, true);
    if let Some(index) = store.indices.get_mut(&index) {
        index.settings.insert("index.gc_deletes".to_owned(), gc_deletes.to_owned());
        if roll.requires_routing {
            index.mapping["_routing"] = serde_json::json!({"required": true});
        }
    }
}

/// The files of a case.
struct Folder {
    folder: TempDir,
    archives: Vec<PathBuf>,
}

impl Folder {
    /// A folder with the archives of the case.
    fn new(case: &Case) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let archives = case.archives();
        // Bare databases, since zipping is slow without optimization.
        let write = |archive: &Archive| {
            let path = folder.path().join(archive.name());
            fs::write(&path, archive.database()).expect("an archive");
            path
        };
        let archives = archives.iter().map(write).collect();
        Self { folder, archives }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn state_file(&self, state: &str, shard: u32) -> PathBuf {
        self.path(&format!("{state}_{shard}"))
    }

    /// The archives whose bits are set.
    fn archives(&self, given: u8) -> Vec<PathBuf> {
        let given = |&(n, _): &(usize, &PathBuf)| given >> n & 1 == 1;
        self.archives.iter().enumerate().filter(given).map(|(_, path)| path.clone()).collect()
    }

    /// The contents of the state files of all shards.
    fn states(&self) -> Vec<Option<Vec<u8>>> {
        (0..SHARDS).map(|shard| fs::read(self.state_file(STATE, shard)).ok()).collect()
    }

    /// Restores the state files; those that did not exist are removed.
    fn restore_states(&self, states: &[Option<Vec<u8>>]) {
        for shard in 0..SHARDS {
            match states.get(shard as usize).cloned().flatten() {
                Some(state) => fs::write(self.state_file(STATE, shard), state).expect("a state file"),
                None => drop(fs::remove_file(self.state_file(STATE, shard))),
            }
        }
    }
}
