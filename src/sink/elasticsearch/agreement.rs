//! Checks whether all nodes show the same indices. Documents sent to nodes of different clusters would be spread over
//! them, and a node that forms a cluster of its own after a restart would take what the others never get.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::client::Client;
use crate::model::Names;

/// Returns only the UUID of each index behind the names.
const UUIDS: &str = "filter_path=*.settings.index.uuid";

/// How often nodes are compared before they count as nodes of different clusters.
const LOOKS: usize = 3;

/// Pause between two comparisons. Nodes learn of a new index or alias one after the other, within milliseconds.
const PAUSE: Duration = Duration::from_millis(500);

/// Returns which nodes show different indices behind the names for a second; None: none do.
pub(super) fn lasting_disagreement(client: &Client, names: Names) -> Option<String> {
    let mut found = disagreement(client, names)?;
    for _ in 1..LOOKS {
        std::thread::sleep(PAUSE);
        found = disagreement(client, names)?;
    }
    Some(found)
}

/// Returns which nodes show different indices behind the names; None: none do, as far as they answer and show them.
pub(super) fn disagreement(client: &Client, names: Names) -> Option<String> {
    let shown = client.of_each_node().into_iter().filter_map(|node| {
        let indices = indices(&node, names)?;
        Some((node.base_url(), indices))
    });
    let shown: Vec<_> = shown.collect();
    let (first, expected) = shown.first()?;
    let (other, _) = shown.iter().find(|(_, indices)| indices != expected)?;
    Some(format!(
        "{first} and {other} show different indices behind {} and {}, as different clusters do: name only nodes of one \
         cluster in ELASTICSEARCH_URL",
        names.posts, names.tombstones
    ))
}

/// Returns the indices that a node shows behind the names, with their UUIDs; None: it does not answer, or does not show
/// them.
fn indices(node: &Client, Names { posts, tombstones, .. }: Names) -> Option<BTreeMap<String, String>> {
    let reply = node.get(&format!("/{posts},{tombstones}?{UUIDS}")).ok()?;
    if reply.is_of_missing_index() {
        return Some(BTreeMap::new());
    }
    let indices: BTreeMap<String, Value> = reply.json()?;
    let uuid = |index: Value| Some(index.pointer("/settings/index/uuid")?.as_str()?.to_owned());
    indices.into_iter().map(|(name, index)| Some((name, uuid(index)?))).collect()
}
