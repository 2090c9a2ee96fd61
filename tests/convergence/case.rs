//! Test cases, and the rule that gives the expected contents of the indices.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;

use crate::harness::archives::{
    Archive, Row, account_event, delete, post, unreadable, update, uri, without_uri,
};
use crate::harness::script::Fault;

/// The number of posts; few, so that each has many events.
pub(crate) const POSTS: u8 = 3;

/// The maximum number of archives.
const ARCHIVES: usize = 4;

/// The maximum number of concurrent processes.
pub(crate) const SHARDS: u32 = 3;

/// A row of an archive.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Create(u8),
    Update(u8),
    Delete(u8),
    /// An unreadable row of this post.
    Unreadable(u8),
    /// A row without a post.
    Account,
    WithoutUri,
}

/// A test case: archives, and passes over them. A last pass without faults loads what is left.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The events of each archive, in order.
    pub(crate) archives: Vec<Vec<Event>>,
    pub(crate) passes: Vec<Pass>,
    /// The value of `index.gc_deletes` that the server reports; it forgets deletes at once in any case.
    pub(crate) gc_deletes: &'static str,
}

/// Concurrent processes, each with its own shard.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    pub(crate) shards: u32,
    /// The archives that each process is given, as bits.
    pub(crate) given: u8,
    pub(crate) workers: usize,
    pub(crate) senders: usize,
    pub(crate) batch_docs: usize,
    /// Faults of look-ups and writes, by request number.
    pub(crate) faults: Vec<(usize, Trouble)>,
    /// Rollovers, each after this number of look-ups and writes.
    pub(crate) rolls: Vec<(usize, Roll)>,
    /// The end of all processes, after this number of look-ups and writes; None if they run to their ends.
    pub(crate) end: Option<(usize, End)>,
    /// What happens to the state files afterwards.
    pub(crate) state: State,
}

impl Pass {
    /// One process with all archives and no faults.
    pub(crate) fn last() -> Self {
        Self {
            shards: 1,
            given: u8::MAX,
            workers: 2,
            senders: 2,
            batch_docs: 3,
            faults: Vec::new(),
            rolls: Vec::new(),
            end: None,
            state: State::Saved,
        }
    }
}

/// A rollover of an alias to a new write index.
#[derive(Clone, Debug)]
pub(crate) struct Roll {
    pub(crate) alias: &'static str,
    /// Whether the new index requires routing.
    pub(crate) requires_routing: bool,
}

/// A fault of a request.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    Status(u16),
    CloseBefore,
    CloseAfter,
    CloseHalfway,
    ApplyLate(usize),
    After(usize),
    CutReply,
    Garbage,
    ItemFewer,
}

impl Trouble {
    pub(crate) fn fault(&self) -> Fault {
        match *self {
            Trouble::Status(status) => Fault::status(status),
            Trouble::CloseBefore => Fault::CloseBefore,
            Trouble::CloseAfter => Fault::CloseAfter,
            Trouble::CloseHalfway => Fault::CloseHalfway,
            Trouble::ApplyLate(requests) => Fault::ApplyLate(requests),
            Trouble::After(requests) => Fault::After(requests),
            Trouble::CutReply => Fault::CutReply,
            Trouble::Garbage => Fault::Garbage,
            Trouble::ItemFewer => Fault::ItemFewer,
        }
    }
}

/// How processes end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// They receive a signal.
    Stopped,
    /// None of their later requests arrives.
    Killed,
}

/// The state files after a pass.
#[derive(Clone, Copy, Debug)]
pub(crate) enum State {
    /// As the processes saved them.
    Saved,
    /// As before the pass: the processes were killed before they saved.
    Before,
    /// Removed: everything is read again.
    Lost,
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    (vec(vec(event(), 0..6), 1..=ARCHIVES), vec(pass(), 0..4), select(vec!["60s", "0s"]))
        .prop_map(|(archives, passes, gc_deletes)| Case { archives, passes, gc_deletes })
}

fn event() -> impl Strategy<Value = Event> {
    let post = || 0..POSTS;
    prop_oneof![
        5 => post().prop_map(Event::Create),
        2 => post().prop_map(Event::Update),
        4 => post().prop_map(Event::Delete),
        1 => post().prop_map(Event::Unreadable),
        1 => prop_oneof![Just(Event::Account), Just(Event::WithoutUri)],
    ]
}

fn pass() -> impl Strategy<Value = Pass> {
    let faults = vec((0_usize..16, trouble()), 0..5);
    let state = prop_oneof![3 => Just(State::Saved), 2 => Just(State::Before), 1 => Just(State::Lost)];
    let end = option::weighted(0.6, (0_usize..16, select(vec![End::Stopped, End::Killed])));
    let given = prop_oneof![Just(u8::MAX), any::<u8>()];
    let roll = (select(vec!["posts", "post_tombstones"]), any::<bool>())
        .prop_map(|(alias, requires_routing)| Roll { alias, requires_routing });
    let rolls = prop_oneof![1 => Just(Vec::new()), 1 => vec((0_usize..12, roll), 1..3)];
    (1..=SHARDS, given, 1_usize..=2, 1_usize..=3, 1_usize..=4, (faults, rolls), end, state).prop_map(
        |(shards, given, workers, senders, batch_docs, (faults, rolls), end, state)| Pass {
            shards,
            given,
            workers,
            senders,
            batch_docs,
            faults,
            rolls,
            end,
            state,
        },
    )
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        6 => (1_usize..8).prop_map(Trouble::After),
        3 => (0_usize..30).prop_map(Trouble::ApplyLate),
        1 => select(vec![429, 503]).prop_map(Trouble::Status),
        1 => select(vec![
            Trouble::CloseBefore,
            Trouble::CloseAfter,
            Trouble::CloseHalfway,
            Trouble::CutReply,
            Trouble::Garbage,
            Trouble::ItemFewer,
        ]),
    ]
}

impl Case {
    /// The archives in order of time. The text of a post names its row.
    pub(crate) fn archives(&self) -> Vec<Archive> {
        let archive = |(n, events): (usize, &Vec<Event>)| {
            let rows = events.iter().enumerate().map(|(row, event)| event.row(&format!("{n}/{row}")));
            Archive::new(&format!("2025121{n}_000000")).with_all(rows)
        };
        self.archives.iter().enumerate().map(archive).collect()
    }
}

impl Event {
    fn row(&self, text: &str) -> Row {
        match self {
            Event::Create(id) => post(&id.to_string(), text).row(),
            Event::Update(id) => update(&id.to_string(), text).row(),
            Event::Delete(id) => delete(&id.to_string()),
            Event::Unreadable(id) => unreadable(&id.to_string(), Some("{")),
            Event::Account => account_event(),
            Event::WithoutUri => without_uri(),
        }
    }
}

/// The contents of an index: version and text by id. A tombstone has no text.
pub(crate) type Held = BTreeMap<String, (u64, String)>;

/// The rule: an `at_uri` with a delete among its events has a tombstone and no post; any other has the post of its last
/// event. Returns posts and tombstones.
pub(crate) fn expected(case: &Case) -> (Held, Held) {
    let (mut posts, mut tombstones) = (Held::new(), Held::new());
    for (n, (archive, events)) in case.archives().iter().zip(&case.archives).enumerate() {
        for (row, event) in events.iter().enumerate() {
            let version = archive.version(row as u64 + 1);
            match event {
                Event::Create(id) | Event::Update(id) => {
                    posts.insert(uri(&id.to_string()), (version, format!("{n}/{row}")))
                }
                Event::Delete(id) => tombstones.insert(uri(&id.to_string()), (version, String::new())),
                Event::Unreadable(_) | Event::Account | Event::WithoutUri => None,
            };
        }
    }
    posts.retain(|id, _| !tombstones.contains_key(id));
    (posts, tombstones)
}
