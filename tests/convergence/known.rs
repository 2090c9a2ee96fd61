//! Known dangerous interleavings, each produced on purpose.

use std::thread;

use serde_json::json;

use crate::case::{Case, Event, Pass};
use crate::harness::archives::uri;
use crate::harness::http::Request;
use crate::harness::script::Fault;
use crate::harness::store::Item;
use crate::world::World;

/// A post in the first archive, its deletion in the second.
fn created_and_deleted() -> Case {
    let archives = vec![vec![Event::Create(0)], vec![Event::Delete(0)]];
    Case { archives, passes: Vec::new(), gc_deletes: "60s" }
}

/// Passes over the first archive, and over the second.
fn passes() -> [Pass; 2] {
    [0b01, 0b10].map(|given| Pass { given, ..Pass::last() })
}

/// Writes without an external version, as other programs do.
fn write(world: &World, source: serde_json::Value) -> u64 {
    let item =
        Item { operation: "index".into(), index: "posts".into(), id: uri("0"), source, ..Item::default() };
    world.fake.store(|store| store.apply(&item).1["_version"].as_u64().expect("a version"))
}

#[test]
fn a_forgotten_delete_still_beats_a_post_in_flight() {
    let case = created_and_deleted();
    let world = World::of(&case);
    let [post, deletion] = passes();
    world.fake.fail(Request::is_bulk, 0, 1, Fault::Hang);
    thread::scope(|scope| {
        // This look-up finds no tombstone.
        scope.spawn(|| world.run(&post, "a"));
        world.fake.wait_for_bulks(1);
        world.run(&deletion, "b");
        world.fake.release();
    });
    world.assert_holds(&case);
}

#[test]
fn a_post_left_by_an_interrupted_run_is_deleted_when_read_again() {
    let case = created_and_deleted();
    let world = World::of(&case);
    let [post, deletion] = passes();
    // The request is applied after the deletion, when its sender no longer waits.
    world.run(&deletion, "a");
    write(&world, json!({"content": "late"}));
    world.run(&post, "a");
    world.assert_holds(&case);
}

#[test]
fn documents_of_other_programs_are_taken_over() {
    let case = Case { archives: vec![vec![Event::Create(0)]], passes: Vec::new(), gc_deletes: "60s" };
    let world = World::of(&case);
    assert_eq!(write(&world, json!({"content": "of an earlier tool"})), 1);
    world.run(&Pass::last(), "a");
    world.assert_holds(&case);
}

#[test]
fn fields_added_by_other_programs_survive_a_replay() {
    let case = Case { archives: vec![vec![Event::Create(0)]], passes: Vec::new(), gc_deletes: "60s" };
    let world = World::of(&case);
    world.run(&Pass::last(), "a");
    let version = write(&world, json!({"content": "0/0", "likes": 3}));
    world.run(&Pass::last(), "b");
    let held = &world.fake.documents("posts")[&uri("0")];
    assert_eq!((held.version, &held.source["likes"]), (version, &json!(3)));
}
