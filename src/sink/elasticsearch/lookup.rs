//! Looks up the indices behind a name.
//!
//! Source: Elasticsearch's "Get index information" API. It resolves aliases, and returns aliases, mapping and settings
//! of every concrete index in one reply. If the server does not offer it or returns less, each part is requested
//! separately.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::answer::{NoAnswer, answer};
use super::client::{Client, Reply, text_of_error};
use super::flat::{self, Values};
use super::outcome::is_not_offered;

/// Returns only the fields that are judged: the full reply has hundreds of settings per index. The UUID makes sure that
/// the filter leaves no index out of the reply.
const FILTER: &str = "include_defaults=true&filter_path=*.aliases,*.mappings,*.settings.index.uuid,*.settings.index.version.created,\
    *.settings.index.creation_date,*.*.index.gc_deletes,*.*.index.translog.durability,*.settings.index.blocks,*.settings.index.store.type,\
    *.settings.index.default_pipeline,*.settings.index.final_pipeline,*.settings.index.refresh_interval,\
    *.settings.index.verified_before_close,*.settings.index.mapping.source.mode,\
    *.settings.index.mapping.ignore_malformed";

/// The separate requests, one for each part.
const PARTS: [&str; 3] = ["_mapping", "_settings?include_defaults=true", "_alias"];

/// A look-up by id that returns only its error.
const LOOK_UP: &str = "/_mget?_source=false&filter_path=docs.error.type,docs.error.reason";

/// Concrete indices behind a name. An empty map means that the server does not show whether there are any.
pub(super) type Indices = BTreeMap<String, Index>;

/// What is known about a concrete index; None: the server does not show that part.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub(super) struct Index {
    pub(super) aliases: Option<BTreeMap<String, Alias>>,
    pub(super) mappings: Option<Value>,
    #[serde(default, deserialize_with = "flat::read")]
    pub(super) settings: Option<Values>,
    #[serde(default, deserialize_with = "flat::read")]
    pub(super) defaults: Option<Values>,
}

#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Alias {
    pub(super) is_write_index: Option<bool>,
    pub(super) index_routing: Option<String>,
    search_routing: Option<String>,
    filter: Option<IgnoredAny>,
}

impl Alias {
    /// Returns whether a search through the alias may miss documents that were written through it.
    pub(super) fn hides_documents(&self) -> bool {
        self.filter.is_some() || self.search_routing != self.index_routing
    }
}

impl Index {
    /// Returns whether every part that is judged is known.
    fn is_complete(&self) -> bool {
        self.aliases.is_some() && self.mappings.is_some() && self.settings.is_some()
    }

    fn fill_in(&mut self, other: Index) {
        self.aliases = self.aliases.take().or(other.aliases);
        self.mappings = self.mappings.take().or(other.mappings);
        self.settings = self.settings.take().or(other.settings);
        self.defaults = self.defaults.take().or(other.defaults);
    }
}

/// Looks up the indices behind a name; None: there is no such index or alias.
pub(super) fn ask(client: &Client, name: &'static str) -> Result<Option<Indices>, NoAnswer> {
    ask_about(client, name, name)
}

/// Like [`ask`], for another index related to the name. `checked` names the check.
pub(super) fn ask_about(
    client: &Client,
    checked: &'static str,
    name: &str,
) -> Result<Option<Indices>, NoAnswer> {
    let whole = answer(client, client.get(&format!("/{name}?{FILTER}")))?;
    let Some(mut indices) = parse(checked, &format!("GET /{name}"), &whole)? else { return Ok(None) };
    if !indices.is_empty() && indices.values().all(Index::is_complete) {
        return Ok(Some(indices));
    }
    let mut all_missing = whole.status == 404;
    // If the server has shown the rest of an index, it has shown all the settings that it offers, as Serverless does.
    let has_shown = |part: &str| {
        part.starts_with("_settings")
            && !indices.is_empty()
            && indices.values().all(|index| index.aliases.is_some() && index.mappings.is_some())
    };
    let parts: Vec<_> = PARTS.into_iter().filter(|part| !has_shown(part)).collect();
    for part in parts {
        let reply = answer(client, client.get(&format!("/{name}/{part}")))?;
        all_missing &= reply.status == 404;
        let question = format!("GET /{name}/{part}");
        let Some(found) = parse(checked, &question, &reply)? else { return Ok(None) };
        for (index, part) in found {
            indices.entry(index).or_default().fill_in(part);
        }
    }
    // A server that offers none of these APIs may answer with an empty body.
    if all_missing && !whole.body.is_empty() && whole.is_page() {
        return Err(NoAnswer::not_elasticsearchs(&format!("GET /{name}"), &whole));
    }
    Ok((!all_missing).then_some(indices))
}

/// Parses one reply; None: it says that there is no such index.
pub(super) fn parse(name: &'static str, question: &str, reply: &Reply) -> Result<Option<Indices>, NoAnswer> {
    match reply.status {
        _ if reply.is_of_missing_index() => Ok(None),
        200..=299 if reply.body.is_empty() => Ok(Some(Indices::new())),
        200..=299 => match serde_json::from_slice(&reply.body) {
            Ok(indices) => Ok(Some(indices)),
            Err(_) => Err(NoAnswer::not_elasticsearchs(question, reply)),
        },
        _ if is_not_offered(reply) => Ok(Some(Indices::new())),
        _ => Err(NoAnswer::unexpected(name, question, reply)),
    }
}

/// Returns the concrete indices behind a name if nothing else is known; this needs only the right to read them. Returns
/// the name itself if it is one index, or if the server does not show the indices.
///
/// Source: Elasticsearch's "Resolve index" API.
pub(super) fn resolve(client: &Client, name: &'static str) -> Result<Vec<String>, NoAnswer> {
    #[derive(Deserialize)]
    struct Resolved {
        #[serde(default)]
        aliases: Vec<ResolvedAlias>,
    }
    #[derive(Deserialize)]
    struct ResolvedAlias {
        indices: Vec<String>,
    }
    let reply = answer(client, client.get(&format!("/_resolve/index/{name}")))?;
    let aliases = reply.json::<Resolved>().into_iter().flat_map(|resolved| resolved.aliases);
    let mut indices: Vec<String> = aliases.flat_map(|alias| alias.indices).collect();
    // A key that covers only the alias can read a single index only through the alias.
    if indices.len() < 2 {
        indices = vec![name.to_owned()];
    }
    indices.sort();
    Ok(indices)
}

/// Refuses an alias of several indices about which the server shows nothing, since deletes through it would reach only
/// one of them. A look-up by id through such an alias fails, and needs only the right to read.
pub(super) fn refuse_several(client: &Client, name: &'static str) -> Result<(), NoAnswer> {
    let body = json!({"docs": [{"_index": name, "_id": "-"}]}).to_string();
    let reply = answer(client, client.post(LOOK_UP, body.as_bytes()))?;
    let found: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let reason = found.pointer("/docs/0/error").and_then(|error| text_of_error(error, "reason"));
    // Requests of the run itself report every other error.
    if !reason.is_some_and(|reason| reason.contains("has more than one ind")) {
        return Ok(());
    }
    let text = format!(
        "{name} is an alias of several indices, and the server does not show them to this run, so deletes would reach \
         only one of them: {}",
        client.product().grant("view_index_metadata")
    );
    Err(NoAnswer::refused(name, text))
}

/// Returns the mapped fields of an object, by name.
pub(super) fn properties(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.get("properties").and_then(Value::as_object).into_iter().flatten()
}

/// Returns the mapping of a field of an object.
pub(super) fn property<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object.get("properties")?.get(name)
}
