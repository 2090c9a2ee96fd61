//! Identifies the processes that hold the primary shards, to find out whether any of them has restarted.
//!
//! If an index acknowledges before it syncs (`index.translog.durability: async`), a node that dies loses what it has
//! acknowledged and not yet synced. A flush after its return cannot bring that back. So acknowledged writes count only
//! if the shards are in the same place after the flush as before the first request.
//!
//! Source: Elasticsearch, "Search shards API". The `ephemeral_id` of a node changes with each start, and the
//! `allocation_id` of a shard with each allocation. The request needs the privilege `view_index_metadata`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::answer::{NoAnswer, answer};
use super::client::Client;
use super::outcome::is_not_offered;
use crate::model::Names;
use crate::observe::finding::Check;

/// Where the primary shards are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Primaries {
    /// One pair per shard: the `allocation_id` of the shard and the `ephemeral_id` of its node.
    Known(Vec<(String, String)>),
    /// The server does not show them. Every failed request then counts as a possible restart of a node.
    Unknown {
        /// Number of failed requests so far, by [`Client::outages`].
        outages: u64,
    },
}

impl Primaries {
    /// Requests where the primary shards are.
    ///
    /// # Errors
    ///
    /// Returns `Refused` if the server refuses the key, `Unavailable` if a primary shard is not assigned or the server
    /// cannot answer for now.
    pub fn find(client: &Client, Names { posts, tombstones, .. }: Names) -> Result<Self, NoAnswer> {
        let path = format!(
            "/{posts},{tombstones}/_search_shards?filter_path=nodes.*.ephemeral_id,shards.primary,shards.node,\
             shards.allocation_id.id"
        );
        let reply = answer(client, client.get(&path))?;
        if is_not_offered(&reply) {
            return Ok(Self::Unknown { outages: client.outages() });
        }
        Self::parse(&reply.body, client.outages())
            .map_err(|what| NoAnswer::unavailable(format!("primary shards: {what}")))
    }

    /// Warns if restarts cannot be recognised.
    pub(super) fn judge(&self) -> Option<Check> {
        let text = "this server does not show where its shards are: the indices are flushed before archives \
        are marked; after each failed request the archives in flight are loaded again, because a node may \
        have died with rows that it had confirmed; behind a proxy that hides the death of a node such a \
        loss would not be noticed; to be safe, set index.translog.durability to request, and let this run \
        see the settings";
        matches!(self, Self::Unknown { .. }).then(|| Check::warning("durability", text))
    }

    fn parse(body: &[u8], outages: u64) -> Result<Self, String> {
        // Shards of another product may have neither `ephemeral_id` nor `allocation_id`.
        let Ok(reply) = serde_json::from_slice::<Reply>(body) else { return Ok(Self::Unknown { outages }) };
        let mut primaries = Vec::with_capacity(reply.shards.len());
        for copies in reply.shards {
            let primary = copies.into_iter().find(|copy| copy.primary).ok_or("one is not assigned")?;
            let node = reply.nodes.get(&primary.node).ok_or("one is on a node that is missing")?;
            primaries.push((primary.allocation_id.id, node.ephemeral_id.clone()));
        }
        if primaries.is_empty() {
            return Err("there are none".to_owned());
        }
        primaries.sort();
        Ok(Self::Known(primaries))
    }
}

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    nodes: BTreeMap<String, Node>,
    #[serde(default)]
    shards: Vec<Vec<Shard>>,
}

#[derive(Deserialize)]
struct Node {
    ephemeral_id: String,
}

#[derive(Deserialize)]
struct Shard {
    primary: bool,
    node: String,
    allocation_id: Allocation,
}

#[derive(Deserialize)]
struct Allocation {
    id: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns the answer of a cluster with two shards with these allocations, on one node with the `ephemeral_id`
    /// `start`.
    fn primaries(start: &str, allocations: [&str; 2]) -> Primaries {
        let shard = |id: &str| {
            json!([
                {"primary": false, "node": "other", "allocation_id": {"id": "replica"}},
                {"primary": true, "node": "n", "allocation_id": {"id": id}},
            ])
        };
        let nodes = json!({"n": {"ephemeral_id": start}, "other": {"ephemeral_id": "x"}});
        let body = json!({"nodes": nodes, "shards": allocations.map(shard)}).to_string();
        Primaries::parse(body.as_bytes(), 0).unwrap()
    }

    #[test]
    fn a_restarted_node_and_a_reallocated_shard_are_recognised() {
        assert_eq!(primaries("first", ["a", "b"]), primaries("first", ["b", "a"]));
        assert_ne!(primaries("first", ["a", "b"]), primaries("second", ["a", "b"]));
        assert_ne!(primaries("first", ["a", "b"]), primaries("first", ["a", "c"]));
    }

    #[test]
    fn shards_without_a_primary_do_not_count_as_unchanged() {
        for body in [
            r#"{"nodes":{},"shards":[]}"#,
            r#"{"nodes":{"n":{"ephemeral_id":"x"}},"shards":[[]]}"#,
            r#"{"nodes":{},"shards":[[{"primary":true,"node":"n","allocation_id":{"id":"a"}}]]}"#,
            "{}",
        ] {
            assert!(Primaries::parse(body.as_bytes(), 0).is_err(), "{body}");
        }
    }

    #[test]
    fn a_server_that_does_not_show_its_shards_is_a_warning() {
        for body in ["<html>", "", r#"{"shards":[[{"primary":true,"node":"n"}]]}"#] {
            let found = Primaries::parse(body.as_bytes(), 3).unwrap();
            assert!(found.judge().is_some(), "{body}");
            assert_eq!(found, Primaries::parse(b"<html>", 3).unwrap());
            assert_ne!(
                found,
                Primaries::parse(b"<html>", 4).unwrap(),
                "an outage may have been a node's death"
            );
        }
        assert_eq!(primaries("first", ["a", "b"]).judge(), None);
    }
}
