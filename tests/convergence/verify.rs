//! `--verify` finds exactly what is wrong: random events, random damage, and expected findings computed from the events
//! and from what the server holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread;

use megastream_ingest::common::exit::ExitCode;
use megastream_ingest::config::{Config, Job, Output, Task, Verify};
use megastream_ingest::process::shutdown::Stop;
use megastream_ingest::run;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::test_runner::{Config as Cases, TestCaseError, TestRunner};
use proptest::{prop_assert, prop_assert_eq};
use serde_json::{Value, json};

use crate::case::{Case, Event, POSTS, Pass, case};
use crate::harness::archives::uri;
use crate::harness::store::{Document, Store};
use crate::world::World;

/// Damage to one post by another program.
#[derive(Clone, Copy, Debug)]
enum Damage {
    RemovePost,
    RemoveTombstone,
    OlderVersion,
    NewerVersion,
    OtherText,
    OtherLink,
    PostAgain,
}

/// A finding: archive time, row id, finding and field.
type Found = BTreeSet<(String, u64, &'static str, Option<&'static str>)>;

fn damage() -> impl Strategy<Value = (u8, Damage)> {
    let kind = proptest::sample::select(vec![
        Damage::RemovePost,
        Damage::RemoveTombstone,
        Damage::OlderVersion,
        Damage::NewerVersion,
        Damage::OtherText,
        Damage::OtherLink,
        Damage::PostAgain,
    ]);
    (0..POSTS, kind)
}

/// The number of concurrent cases, which mostly wait.
const THREADS: u32 = 8;

/// The number of cases per thread.
const CASES: u32 = 20;
const FEWER_CASES: u32 = 3;

#[test]
fn verify_finds_all_damage_and_repair_mends_it() {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(run_cases)).collect();
        threads.into_iter().for_each(|thread| thread.join().expect("cases that hold"));
    });
}

fn run_cases() {
    let cases =
        Cases { cases: crate::long_or(CASES, FEWER_CASES), failure_persistence: None, ..Cases::default() };
    let drawn = (case(), vec(damage(), 0..5), any::<bool>());
    let tried = TestRunner::new(cases).run(&drawn, |(case, damage, two_indices)| {
        try_out(&Case { passes: Vec::new(), ..case }, &damage, two_indices)
    });
    if let Err(failed) = tried {
        panic!("{failed}");
    }
}

fn try_out(case: &Case, damage: &[(u8, Damage)], two_indices: bool) -> Result<(), TestCaseError> {
    let world = World::of(case);
    world.run(&Pass::last(), "state");
    world.fake.store(|store| {
        if two_indices {
            split(store);
        }
        damage.iter().for_each(|(id, damage)| apply_damage(store, &uri(&id.to_string()), *damage));
    });
    let wanted = expected_findings(case, &world);
    let (code, found) = verify(&world, false);
    prop_assert_eq!(&found, &wanted);
    prop_assert!(matches!(code, ExitCode::Done | ExitCode::DoneWithRejects), "{code:?}");
    let has_rejects = case.archives.iter().flatten().any(|event| matches!(event, Event::Unreadable(_)));
    prop_assert_eq!(code == ExitCode::Done, wanted.is_empty() && !has_rejects);

    let (code, _) = verify(&world, true);
    prop_assert_eq!(code == ExitCode::Done, !has_rejects);
    prop_assert_eq!(expected_findings(case, &world), Found::new());
    prop_assert_eq!(verify(&world, false).1, Found::new());
    Ok(())
}

/// Gives each alias a new write index, so that all documents are in an index without writes.
fn split(store: &mut Store) {
    for name in ["posts", "post_tombstones"] {
        // Its name sorts last, as `held` expects.
        store.add_index(&format!("{name}_write"), name, true);
    }
}

fn apply_damage(store: &mut Store, id: &str, damage: Damage) {
    let holder = |store: &Store, name: &str| {
        let members = store.members(name);
        members.into_iter().find(|index| store.indices[index].documents.contains_key(id))
    };
    let (post, tombstone) = (holder(store, "posts"), holder(store, "post_tombstones"));
    let mut edit = |change: &dyn Fn(&mut Document)| {
        let documents = post.as_ref().and_then(|index| store.indices.get_mut(index));
        documents.and_then(|index| index.documents.get_mut(id)).map(change);
    };
    match damage {
        Damage::OlderVersion => edit(&|document| document.version = 1),
        Damage::NewerVersion => edit(&|document| document.version += 1 << 40),
        Damage::OtherText => edit(&|document| document.source["content"] = json!("changed")),
        Damage::OtherLink => edit(&|document| document.source["quote_post"] = json!("at://x")),
        Damage::RemovePost => {
            if let Some(index) = post.and_then(|index| store.indices.get_mut(&index)) {
                index.documents.remove(id);
            }
        }
        Damage::RemoveTombstone => {
            if let Some(index) = tombstone.and_then(|index| store.indices.get_mut(&index)) {
                index.documents.remove(id);
            }
        }
        Damage::PostAgain => {
            let index = store.members("posts").first().cloned().expect("an index");
            let documents = &mut store.indices.get_mut(&index).expect("it").documents;
            documents.entry(id.to_owned()).or_insert(Document::new(2, json!({"content": "again"})));
        }
    }
}

/// All documents behind a name, the newest of each id; among equal versions that of the write index.
fn held(world: &World, name: &str) -> BTreeMap<String, Document> {
    world.fake.store(|store| {
        let mut all: BTreeMap<String, Document> = BTreeMap::new();
        for index in store.members(name) {
            for (id, document) in &store.indices[&index].documents {
                let is_newer = all.get(id).is_none_or(|other| other.version <= document.version);
                if is_newer {
                    all.insert(id.clone(), document.clone());
                }
            }
        }
        all
    })
}

/// The expected findings: the contract's rule, applied to the last event of each post per archive.
fn expected_findings(case: &Case, world: &World) -> Found {
    let (posts, tombstones) = (held(world, "posts"), held(world, "post_tombstones"));
    let mut found = Found::new();
    for (n, (archive, events)) in case.archives().iter().zip(&case.archives).enumerate() {
        let mut last: BTreeMap<u8, (u64, bool)> = BTreeMap::new();
        for (row, event) in events.iter().enumerate() {
            let (id, deletes) = match event {
                Event::Create(id) | Event::Update(id) => (*id, false),
                Event::Delete(id) => (*id, true),
                Event::Unreadable(_) | Event::Account | Event::WithoutUri => continue,
            };
            // A delete beats any other event.
            if deletes || !last.get(&id).is_some_and(|(_, deletes)| *deletes) {
                last.insert(id, (row as u64 + 1, deletes));
            }
        }
        for (id, (row, deletes)) in last {
            let (post, tombstone) = (posts.get(&uri(&id.to_string())), tombstones.get(&uri(&id.to_string())));
            let finding = match (deletes, post, tombstone) {
                (false, Some(_), Some(_)) | (true, Some(_), _) => ("resurrected", None),
                (false, None, Some(_)) | (true, None, Some(_)) => continue,
                (true, None, None) => ("undeleted", None),
                (false, None, None) => ("missing", None),
                (false, Some(post), None) if post.version < archive.version(row) => ("stale", None),
                (false, Some(post), None) if post.version > archive.version(row) => continue,
                (false, Some(post), None) if post.source["content"] != json!(format!("{n}/{}", row - 1)) => {
                    ("different", Some("content"))
                }
                (false, Some(post), None) if post.source["quote_post"] != Value::Null => {
                    ("different", Some("quote_post"))
                }
                _ => continue,
            };
            found.insert((archive.name(), row, finding.0, finding.1));
        }
    }
    found
}

/// Verifies, and returns the exit code and the findings.
fn verify(world: &World, repair: bool) -> (ExitCode, Found) {
    let Config { task, logging } = world.config(&Pass::last(), 0, "verify");
    let Task::Load(load) = task else { panic!("a load") };
    let output = world.path("differences");
    let mut reports = load.reports;
    reports.job = if repair { Job::Repair } else { Job::Verify };
    let task = Verify {
        archives: load.archives,
        intake: load.intake,
        server: load.server,
        repair,
        vectors: load.vectors,
        output: Some(Output::File(output.clone())),
        reports,
    };
    let code = run::run(&Config { task: Task::Verify(Box::new(task)), logging }, &Stop::new());
    let text = fs::read_to_string(output).expect("the differences");
    let known = |text: &Value| {
        let names = ["missing", "stale", "different", "resurrected", "undeleted", "content", "quote_post"];
        names.into_iter().find(|name| *text == *name)
    };
    let found = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let archive = line["archive"].as_str().expect("a name").to_owned();
        let row = line["row_id"].as_u64().expect("a row");
        (archive, row, known(&line["finding"]).expect("a finding"), known(&line["field"]))
    });
    (code, found.collect())
}
