//! What stands behind the name of an index or alias.
//!
//! Source: Elasticsearch's "Get index information" API, which resolves aliases and tells aliases, mapping
//! and settings of every concrete index in one reply.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{Check, PreflightError, Status, answer, fields, settings};
use crate::elasticsearch::client::{Client, Reply};
use crate::elasticsearch::schema::{POST_FIELDS, TOMBSTONE_FIELDS};
use crate::elasticsearch::{POSTS, TOMBSTONES};

/// Only what is judged here: the full reply has hundreds of settings for every index. The UUID makes sure
/// that no index is left out of the reply altogether.
const FILTER: &str = "include_defaults=true&filter_path=*.aliases,*.mappings,*.settings.index.uuid,\
    *.*.index.gc_deletes,*.*.index.translog.durability,*.settings.index.blocks,\
    *.settings.index.verified_before_close";

/// An index or alias that is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name that is written to.
    pub name: String,
    /// The concrete indices behind it, sorted, at least one. Deletes go to every one of them.
    pub indices: Vec<String>,
    /// The concrete index that takes what is indexed.
    pub write_index: String,
    /// How long deletes are remembered (`index.gc_deletes`): the shortest time of all indices, zero where
    /// it cannot be told.
    pub gc_deletes: Duration,
    /// Whether any of the indices acknowledges before it syncs (`index.translog.durability: async`).
    pub durability_async: bool,
    /// How the write index maps vectors; tombstones have none.
    pub vectors: VectorMapping,
    /// Why posts cannot be searched by their author in some of the indices, and what to do, a text for each.
    pub unsearchable: Vec<String>,
}

/// How an index maps the vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VectorMapping {
    /// All of them are Elasticsearch's `dense_vector`, which is one condition for sending them as base64.
    pub dense: bool,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    aliases: BTreeMap<String, Alias>,
    #[serde(default)]
    mappings: Value,
    #[serde(default)]
    settings: Value,
    #[serde(default)]
    defaults: Value,
}

#[derive(Deserialize)]
struct Alias {
    is_write_index: Option<bool>,
    index_routing: Option<String>,
}

/// Asks what stands behind a name, and judges it.
pub(super) fn ask(client: &Client, name: &'static str) -> Result<(Target, Vec<Check>), PreflightError> {
    judge(name, &answer(client, client.get(&format!("/{name}?{FILTER}")))?)
}

pub(super) fn judge(name: &'static str, reply: &Reply) -> Result<(Target, Vec<Check>), PreflightError> {
    let indices: BTreeMap<String, Index> = match reply.status {
        404 if reply.error_type() == "index_not_found_exception" => return Err(missing(name)),
        403 => {
            let text = format!("the key may not read settings and mapping of {name}: {}", reply.reason());
            return Err(PreflightError::refused("privileges", text));
        }
        200 => serde_json::from_slice(&reply.body).ok(),
        _ => None,
    }
    .ok_or_else(|| PreflightError::unexpected(name, &format!("GET /{name}"), reply))?;

    let write_index = write_index(name, &indices)?;
    let mut checks = vec![judge_indices(name, &write_index, &indices)?];
    let mut gc_deletes = Duration::MAX;
    let mut durability_async = false;
    for (index, found) in &indices {
        let settings = settings::judge(index, &found.settings, &found.defaults);
        gc_deletes = gc_deletes.min(settings.gc_deletes);
        durability_async |= settings.durability_async;
        checks.extend(settings.checks);
    }
    let mappings = indices.get(&write_index).map_or(&Value::Null, |found| &found.mappings);
    let (mapping_checks, vectors) = judge_mapping(name, &write_index, mappings);
    checks.extend(mapping_checks);

    let unsearchable =
        indices.iter().filter_map(|(index, found)| fields::judge_author(index, &found.mappings)).collect();
    let indices = indices.into_keys().collect();
    let name = name.to_owned();
    let target = Target { name, indices, write_index, gc_deletes, durability_async, vectors, unsearchable };
    Ok((target, checks))
}

fn missing(name: &'static str) -> PreflightError {
    let text = format!("there is no index or alias {name}: create it, or run with --create-indices");
    PreflightError::refused(name, text)
}

/// The concrete index that takes what is indexed under a name.
fn write_index(name: &'static str, indices: &BTreeMap<String, Index>) -> Result<String, PreflightError> {
    let refused = |text: &str| Err(PreflightError::refused(name, format!("{name} {text}")));
    if indices.contains_key(name) {
        return Ok(name.to_owned());
    }
    let flags: Vec<_> = indices
        .iter()
        .filter_map(|(index, found)| Some((index, found.aliases.get(name)?.is_write_index)))
        .collect();
    let marked: Vec<_> = flags.iter().filter(|(_, flag)| *flag == Some(true)).collect();
    match (flags.as_slice(), marked.as_slice()) {
        ([], _) if indices.is_empty() => Err(missing(name)),
        ([], _) => {
            refused("is a data stream, which takes no external versions: use an index or an alias of one")
        }
        ([(index, None)], _) | (_, [(index, _)]) => Ok((*index).clone()),
        _ => refused("is an alias without a write index: mark one of its indices with is_write_index"),
    }
}

/// Ids and versions are unique per concrete index only, so several behind one name are worth knowing.
fn judge_indices(
    name: &'static str,
    write_index: &str,
    indices: &BTreeMap<String, Index>,
) -> Result<Check, PreflightError> {
    let count = indices.len();
    if count == 1 {
        let through = if name == write_index { "an index" } else { "an alias of one index" };
        return Ok(Check::ok(name, format!("{through}, writes go to {write_index}")));
    }
    if indices
        .values()
        .any(|found| found.aliases.get(name).is_some_and(|alias| alias.index_routing.is_some()))
    {
        let text =
            format!("{name} is an alias of {count} indices with routing, where deletes miss: take it away");
        return Err(PreflightError::refused(name, text));
    }
    let text = format!(
        "an alias of {count} indices, writes go to {write_index} and deletes to all: \
         a post that was written to another one before stays there as a second copy"
    );
    Ok(Check::warning(name, text))
}

fn judge_mapping(name: &str, write_index: &str, mappings: &Value) -> (Vec<Check>, VectorMapping) {
    let (mut checks, vectors) = match name {
        POSTS => fields::judge_vectors(write_index, mappings),
        _ => (Vec::new(), VectorMapping::default()),
    };
    let sent: &[&str] = if name == TOMBSTONES { &TOMBSTONE_FIELDS } else { &POST_FIELDS };
    checks.extend(fields::judge(write_index, mappings, sent));
    if checks.iter().all(|check| check.status == Status::Ok) {
        checks.push(Check::ok("mapping", format!("{write_index} takes the documents as they are sent")));
    }
    (checks, vectors)
}
