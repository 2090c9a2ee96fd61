//! The expected contents of the indices: section 4 of the contract, computed from the rows in the plainest way.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::TestEnv;
use super::archives::{Archive, Meaning};
use super::fake::Fake;
use super::vectors;

/// Documents by id, with version and source. Vectors are bit patterns; `indexed_at` is left out.
pub(crate) type Documents = BTreeMap<String, (u64, Value)>;

/// An `at_uri` with a delete among its events has a tombstone and no post; any other has the post of its last event.
pub(crate) fn expected(archives: &[Archive]) -> (Documents, Documents) {
    let mut in_order: Vec<&Archive> = archives.iter().collect();
    in_order.sort_by_key(|archive| archive.name());
    let (mut posts, mut tombstones) = (Documents::new(), Documents::new());
    for archive in in_order {
        for (row, row_id) in archive.rows.iter().zip(1..) {
            let (target, document) = match &row.meaning {
                Meaning::Post(document) => (&mut posts, document),
                Meaning::Delete(document) => (&mut tombstones, document),
                Meaning::Skipped | Meaning::Rejected => continue,
            };
            let id = row.at_uri.clone().unwrap_or_default();
            target.insert(id, (archive.version(row_id), comparable(document)));
        }
    }
    posts.retain(|id, _| !tombstones.contains_key(id));
    (posts, tombstones)
}

/// The documents of the fake in the same form. Asserts that every `indexed_at` is fresh.
pub(crate) fn held(fake: &Fake, index: &str) -> Documents {
    let documents = fake.documents(index).into_iter();
    documents
        .map(|(id, document)| {
            let mut source = document.source;
            let indexed_at = source.as_object_mut().and_then(|o| o.remove("indexed_at"));
            assert!(is_fresh(indexed_at.as_ref()), "indexed_at of {id} is {indexed_at:?}");
            (id, (document.version, comparable(&source)))
        })
        .collect()
}

/// Asserts that the fake holds what the archives say.
pub(crate) fn assert_holds(fake: &Fake, archives: &[Archive]) {
    let (posts, tombstones) = expected(archives);
    assert_same("posts", &held(fake, "posts"), &posts);
    assert_same("post_tombstones", &held(fake, "post_tombstones"), &tombstones);
}

/// Asserts that every row of every processed archive is in an index.
pub(crate) fn assert_processed_are_held(env: &TestEnv, archives: &[Archive]) {
    let held = [env.fake.documents("posts"), env.fake.documents("post_tombstones")];
    for archive in archives.iter().filter(|archive| env.status_of(archive) == "processed") {
        for id in archive.rows.iter().filter_map(|row| row.at_uri.as_ref()) {
            let found = held.iter().any(|documents| documents.contains_key(id));
            assert!(found, "{} is called processed, but {id} is nowhere", archive.name());
        }
    }
}

fn assert_same(index: &str, held: &Documents, expected: &Documents) {
    let ids: BTreeSet<&String> = held.keys().chain(expected.keys()).collect();
    for id in ids {
        let show = |found: Option<&(u64, Value)>| {
            found.map_or("nothing".to_owned(), |(version, source)| format!("version {version} {source}"))
        };
        let (is, should) = (held.get(id), expected.get(id));
        assert!(is == should, "{index} {id}\n  holds    {}\n  expected {}", show(is), show(should));
    }
}

/// A document in which vectors, in either encoding, are lists of bit patterns.
pub(crate) fn comparable(document: &Value) -> Value {
    let mut document = document.clone();
    for (_, vector) in document["embeddings"].as_object_mut().into_iter().flatten() {
        let values = vectors::decode(vector).unwrap_or_default();
        *vector = values.iter().map(|value| value.to_bits()).collect();
    }
    // The mutable lookup has inserted a null if there were none.
    if document["embeddings"].is_null() {
        document.as_object_mut().and_then(|object| object.remove("embeddings"));
    }
    document
}

/// Whether it is a time in UTC with milliseconds, from the last hour.
fn is_fresh(time: Option<&Value>) -> bool {
    use std::time::{SystemTime, UNIX_EPOCH};
    let Some(text) = time.and_then(Value::as_str) else { return false };
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    shape == "0000-00-00T00:00:00.000Z" && {
        let made = super::archives::seconds(&format!("{}_{}", &digits[..8], &digits[8..14]));
        (now.saturating_sub(3600)..=now + 1).contains(&made)
    }
}
