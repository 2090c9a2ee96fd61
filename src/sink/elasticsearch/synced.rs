//! Finds out, without a flush, whether the shards have everything on disk that they have confirmed.
//!
//! A flush writes a Lucene commit. One flush per second costs a load more than syncing each request would. A server
//! that syncs its transaction log some times per second (`index.translog.sync_interval`, which `--bulk-load-settings`
//! sets) also shows how far it has come: the `local_checkpoint` of a shard in `_stats` is the sequence number up to
//! which everything is on disk. So documents confirmed before the highest number was read are on disk once each copy
//! has reached that number.
//!
//! Source: Elasticsearch, `LocalCheckpointTracker.getStats`, which returns the persisted checkpoint (since 7.3, and so
//! in every OpenSearch); seen in 9.5.3. [`Primaries`](super::primaries) recognises a restarted shard, not this module.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::client::Client;

/// How often the server syncs during a load (`index.translog.sync_interval`).
pub(super) const SYNC_INTERVAL: &str = "200ms";

/// How long to wait for a sync. After that a flush is due.
const WAIT_LIMIT: Duration = Duration::from_secs(3);

const PAUSE: Duration = Duration::from_millis(50);

/// Time limit of a request.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// Highest sequence number of each shard, by index and shard number.
type Highest = BTreeMap<(String, String), i64>;

/// Waits until everything that is confirmed now in the indices behind some names, separated by commas, is on disk.
/// Returns whether the server has shown that, for all `shards` of them.
pub(super) fn wait(client: &Client, names: &str, shards: usize) -> bool {
    let end = Instant::now() + WAIT_LIMIT;
    let Some(first) = fetch(client, names) else { return false };
    let Some(highest) = first.highest().filter(|highest| highest.len() == shards) else { return false };
    let mut now = first;
    loop {
        if now.have_synced(&highest) {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(PAUSE);
        let Some(next) = fetch(client, names) else { return false };
        now = next;
    }
}

/// Requests the sequence numbers; None: the server does not show them.
fn fetch(client: &Client, names: &str) -> Option<Stats> {
    let path = format!(
        "/{names}/_stats/docs?level=shards&filter_path=_shards.failed,indices.*.shards.*.seq_no.max_seq_no,\
         indices.*.shards.*.seq_no.local_checkpoint"
    );
    let reply = client.within(CALL_LIMIT).get(&path).ok()?;
    if reply.status == 200 { serde_json::from_slice(&reply.body).ok() } else { None }
}

#[derive(Deserialize)]
struct Stats {
    #[serde(rename = "_shards")]
    results: ShardResults,
    indices: BTreeMap<String, Index>,
}

#[derive(Deserialize)]
struct ShardResults {
    failed: u64,
}

#[derive(Deserialize)]
struct Index {
    shards: BTreeMap<String, Vec<Copy>>,
}

#[derive(Deserialize)]
struct Copy {
    seq_no: SequenceNumbers,
}

#[derive(Deserialize)]
struct SequenceNumbers {
    max_seq_no: i64,
    local_checkpoint: i64,
}

impl Stats {
    /// Returns the highest number of each shard; None: a copy does not show its number.
    fn highest(&self) -> Option<Highest> {
        let shards = self.indices.iter().flat_map(|(index, Index { shards })| {
            shards.iter().map(move |(number, copies)| {
                let highest = copies.iter().map(|copy| copy.seq_no.max_seq_no).max()?;
                Some(((index.clone(), number.clone()), highest))
            })
        });
        if self.results.failed > 0 { None } else { shards.collect() }
    }

    /// Returns whether every copy of these shards has synced up to these numbers.
    fn have_synced(&self, highest: &Highest) -> bool {
        let has_synced = |((index, number), highest): (&(String, String), &i64)| {
            let copies = self.indices.get(index).and_then(|index| index.shards.get(number));
            copies.is_some_and(|copies| {
                !copies.is_empty() && copies.iter().all(|copy| copy.seq_no.local_checkpoint >= *highest)
            })
        };
        self.results.failed == 0 && highest.iter().all(has_synced)
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use serde_json::{Value, json};

    use super::super::preflight::tests::client;
    use super::*;

    /// Returns the answer for a shard of posts with these copies, and one of tombstones. Each number is (highest, on
    /// disk).
    fn stats(failed: u64, posts: &[(i64, i64)], tombstones: (i64, i64)) -> String {
        let copy = |(highest, on_disk): &(i64, i64)| -> Value {
            json!({"seq_no": {"max_seq_no": highest, "local_checkpoint": on_disk}})
        };
        let posts: Vec<Value> = posts.iter().map(copy).collect();
        json!({"_shards": {"failed": failed}, "indices": {
            "posts_v1": {"shards": {"0": posts}},
            "post_tombstones_v1": {"shards": {"0": [copy(&tombstones)]}},
        }})
        .to_string()
    }

    fn is_synced(answers: &[String], shards: usize) -> bool {
        let leak = |answer: &String| (200, &*answer.clone().leak());
        let answers = answers.iter().map(leak).collect();
        wait(&client(answers), "posts,post_tombstones", shards)
    }

    #[test]
    fn confirmed_documents_are_on_disk_once_every_copy_has_synced() {
        assert!(is_synced(&[stats(0, &[(7, 7)], (-1, -1))], 2));
        let lagging = stats(0, &[(7, 7), (7, 3)], (2, 2));
        assert!(
            is_synced(&[lagging.clone(), stats(0, &[(9, 8), (9, 7)], (4, 2))], 2),
            "later ones do not count"
        );
        // The fake connection ends after its last answer.
        assert!(!is_synced(&[lagging.clone(), lagging], 2));
    }

    #[test]
    fn documents_are_not_on_disk_if_the_server_does_not_show_it() {
        let whole = stats(0, &[(7, 7)], (2, 2));
        assert!(!is_synced(slice::from_ref(&whole), 3), "a primary shard is missing");
        assert!(!is_synced(&[stats(1, &[(7, 7)], (2, 2))], 2), "a copy did not answer");
        assert!(!is_synced(&[stats(0, &[], (2, 2))], 2));
        let behind = stats(0, &[(7, 6)], (2, 2));
        let without_posts = r#"{"_shards":{"failed":0},"indices":{"post_tombstones_v1":{"shards":{"0":[{"seq_no":{"max_seq_no":2,"local_checkpoint":2}}]}}}}"#;
        assert!(!is_synced(&[behind, without_posts.to_owned()], 2), "a shard is gone");
        for answer in ["{}", "<html>", r#"{"_shards":{"failed":0},"indices":{}}"#] {
            assert!(!is_synced(&[answer.to_owned()], 2), "{answer}");
        }
        let unknown = r#"{"_shards":{"failed":0},"indices":{"posts_v1":{"shards":{"0":[{}]}}}}"#;
        assert!(!is_synced(&[unknown.to_owned()], 1));
        assert!(!wait(&client(vec![(403, "{}")]), "posts,post_tombstones", 2));
    }
}
