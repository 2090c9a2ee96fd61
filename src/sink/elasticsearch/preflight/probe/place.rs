//! Judges where trial documents would be: the index and the shard that refuse them. A pipeline may change both.
//!
//! Source: Elasticsearch, `VersionConflictEngineException`; the error has `index` and `shard` (seen in 9.5.3).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Probe, id};
use crate::common::text::percent_encoded;
use crate::observe::finding::Check;
use crate::sink::elasticsearch::client::Reply;
use crate::sink::elasticsearch::encode::VectorEncoding;
use crate::sink::elasticsearch::targets::{Target, routing_of};

/// Number of documents whose shards are compared. With two shards, a pipeline with one routing for all documents is
/// found with a probability of 98 %.
const DOCUMENTS: usize = 6;

/// Fails if a document would be written to an index that is not behind the name.
fn judge_index(target: &Target, conflict: &Reply) -> Option<Check> {
    let index = of_error(conflict, "index")?.as_str().map(str::to_owned)?;
    let is_there = target.holds(&index) || index == target.name;
    (!is_there)
        .then(|| failed(target, &format!("sends documents to {index}, which is not behind {}", target.name)))
}

/// Fails if documents would be written to an index that is not behind the name, or to other shards than those in which
/// they are looked up. `first` is the answer to the first of them. None: nothing is wrong, as far as the answers show.
pub(super) fn judge(probe: &Probe<'_>, first: Reply) -> Option<Check> {
    let target = probe.target;
    let mut first = Some(first);
    for nth in 0..DOCUMENTS {
        let reply = first.take().or_else(|| probe.ask(nth, VectorEncoding::Array));
        let conflict = reply.filter(|reply| reply.status == 409)?;
        if let Some(elsewhere) = judge_index(target, &conflict) {
            return Some(elsewhere);
        }
        let shard = number(&of_error(&conflict, "shard")?)?;
        let searched = searched_shards(probe, &id(nth))?;
        if !searched.contains(&shard) {
            let what = "changes the _routing, so look-ups and deletes would miss documents, and deleted posts would stay";
            return Some(failed(target, what));
        }
    }
    None
}

fn failed(target: &Target, what: &str) -> Check {
    let text = format!(
        "an ingest pipeline of {} {what} (a document that no index keeps was tried): remove it",
        target.name
    );
    Check::failed("document", text)
}

/// Returns the shards in which a document is looked up; None: the server does not show them.
fn searched_shards(probe: &Probe<'_>, id: &str) -> Option<BTreeSet<u64>> {
    let target = probe.target;
    let name = target.name_for(&target.write_index);
    let routing = routing_of(id, target.requires_routing()).unwrap_or(id);
    let path =
        format!("/{name}/_search_shards?filter_path=shards.shard&routing={}", percent_encoded(routing));
    let body: Value = probe.client.recording_pages().get(&path).ok()?.json()?;
    let copies = body.get("shards")?.as_array()?.iter().filter_map(Value::as_array).flatten();
    Some(copies.filter_map(|copy| number(copy.get("shard")?)).collect())
}

/// Returns a number that may be written as a text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn of_error(reply: &Reply, name: &str) -> Option<Value> {
    let body: Value = serde_json::from_slice(&reply.body).ok()?;
    body.get("error")?.get(name).cloned()
}
