//! `_search` of the fake server: one `term` query over the documents of the last refresh.

use serde_json::{Value, json};

use super::http::{Reply, Request};
use super::store::Store;

/// The number of hits without a `size`.
const DEFAULT_SIZE: u64 = 10;

/// The indices behind names, which are separated by commas.
fn members(store: &Store, names: &str) -> Vec<String> {
    names.split(',').flat_map(|name| store.members(name)).collect()
}

/// Whether the `term` filter of an alias lets a document through.
fn is_shown(alias: &Option<&Value>, source: &Value) -> bool {
    let filter = alias.and_then(|options| options["filter"]["term"].as_object());
    filter.into_iter().flatten().all(|(field, wanted)| &source[field] == wanted)
}

/// Answers a search; only `term` queries are supported.
pub(super) fn answer(store: &Store, name: &str, request: &Request) -> Reply {
    let body = request.json();
    let term = body["query"]["term"].as_object().and_then(|term| term.iter().next());
    let (Some((field, wanted)), members) = (term, members(store, name)) else {
        return Reply::error(400, "parsing_exception", "this server knows the query [term] only");
    };
    if members.is_empty() {
        return Reply::error(404, "index_not_found_exception", &format!("no such index [{name}]"));
    }
    let mut found: Vec<Value> = Vec::new();
    for (concrete, index) in store.indices.iter().filter(|(concrete, _)| members.contains(concrete)) {
        // Only keywords are compared as a whole.
        let is_keyword = index.mapping["properties"][field]["type"] == "keyword";
        let is_shown = |source: &Value| is_shown(&index.aliases.get(name), source);
        let fits = |source: &Value| is_keyword && &source[field] == wanted && is_shown(source);
        let hits = index.searchable.iter().filter(|(_, source)| fits(source));
        found.extend(hits.map(|(id, _)| json!({"_index": concrete, "_id": id, "_score": 1.0})));
    }
    let total = found.len();
    found.truncate(body["size"].as_u64().unwrap_or(DEFAULT_SIZE) as usize);
    let shards = json!({"total": members.len(), "successful": members.len(), "skipped": 0, "failed": 0});
    let hits = json!({"total": {"value": total, "relation": "eq"}, "max_score": 1.0, "hits": found});
    Reply::json(200, &json!({"took": 1, "timed_out": false, "_shards": shards, "hits": hits}))
}
