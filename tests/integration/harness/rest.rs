//! The REST interface of the fake server except `_bulk`, with replies as recorded from Elasticsearch 9.5.3.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::http::{Reply, Request};
use super::json::{filter, flatten, matches, nest};
use super::search;
use super::store::{Base64Vectors, Index, Pipeline, Store, check_document, mapping_of};

/// `index.version.created` of Elasticsearch 8.19, which reads vectors only as arrays.
const VERSION_WITHOUT_BASE64: &str = "8534000";
/// `index.version.created` of Elasticsearch 9.5.3.
const VERSION_WITH_BASE64: &str = "9111000";

/// The privileges of the API key, as the documentation lists them, and those it lacks.
#[derive(Debug, Default)]
pub(crate) struct Privileges {
    /// Index privileges that `_has_privileges` denies.
    pub(crate) denied: Vec<String>,
}

/// Answers a request that is not a bulk request.
pub(crate) fn answer(store: &mut Store, privileges: &Privileges, request: &Request) -> Reply {
    if store.base64 == Base64Vectors::Refused && request.param("_source_exclude_vectors").is_some() {
        let path = &request.path;
        let reason = format!("request [{path}] contains unrecognized parameter: [_source_exclude_vectors]");
        return Reply::error(400, "illegal_argument_exception", &reason);
    }
    // An id may have slashes.
    let (path, id) =
        request.path.split_once("/_doc/").map_or((&*request.path, None), |(p, id)| (p, Some(id)));
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    let segments: Vec<&str> = segments.chain(id.into_iter().flat_map(|id| ["_doc", id])).collect();
    let reply = match (request.method.as_str(), segments.as_slice()) {
        ("POST" | "GET", ["_security", "user", "_has_privileges"]) => has_privileges(privileges, request),
        ("GET", ["_ingest", "pipeline", name]) => match store.pipelines.contains(*name) {
            true => Reply::json(200, &json!({*name: {"processors": []}})),
            false => Reply::json(404, &json!({})),
        },
        ("GET", ["_alias", alias]) => alias_by_name(store, alias),
        (_, [] | ["_cluster" | "_nodes" | "_xpack" | "_license", ..]) => not_granted(&request.path),
        ("POST" | "GET", ["_mget"]) => mget(store, None, request),
        ("POST" | "GET", [name, "_mget"]) => mget(store, Some(name), request),
        ("POST" | "GET", [name, "_search"]) => search::answer(store, name, request),
        ("PUT", [name]) => create_index(store, name, &request.json()),
        (_, [names, ..]) if !names.starts_with('_') => on_indices(store, names, &segments[1..], request),
        _ => Reply::error(400, "illegal_argument_exception", &format!("no handler for [{}]", request.path)),
    };
    match request.param("filter_path") {
        Some(paths) if reply.status < 300 => {
            let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            Reply::json(reply.status, &filter(&body, paths))
        }
        _ => reply,
    }
}

fn on_indices(store: &mut Store, names: &str, rest: &[&str], request: &Request) -> Reply {
    let mut told = serde_json::Map::new();
    let base64 = store.base64;
    let show_settings = store.show_settings.filter(|_| request.switch("flat_settings"));
    for name in names.split(',') {
        if store.members(name).is_empty() {
            return Reply::error(404, "index_not_found_exception", &format!("no such index [{name}]"));
        }
        for concrete in store.members(name) {
            let Some(index) = store.indices.get_mut(&concrete) else { continue };
            match on_index(index, &concrete, base64, rest, request) {
                Ok(mut part) => {
                    if let Some(show) = show_settings {
                        part["settings"] = show(&part["settings"]);
                    }
                    told.insert(concrete, part)
                }
                Err(reply) => return reply,
            };
        }
    }
    match (request.method.as_str(), rest) {
        ("PUT", ["_settings"]) => Reply::json(200, &json!({"acknowledged": true})),
        (_, ["_search_shards"]) => search_shards(&told, store.node_starts),
        (_, ["_count"]) => {
            let counts = told.values().filter_map(|part| part["count"].as_u64());
            Reply::json(200, &json!({"count": counts.sum::<u64>()}))
        }
        (_, ["_flush" | "_refresh"]) => Reply::json(
            200,
            &json!({"_shards": {"total": 2 * told.len(), "successful": told.len(), "failed": 0}}),
        ),
        _ => Reply::json(200, &Value::Object(told)),
    }
}

/// One shard for each index, all on one node.
fn search_shards(indices: &serde_json::Map<String, Value>, starts: u32) -> Reply {
    let node = json!({"name": "node-1", "ephemeral_id": format!("start-{starts}")});
    let shard = |index: &String| {
        json!([{"state": "STARTED", "primary": true, "node": "n1", "shard": 0, "index": index,
            "allocation_id": {"id": format!("of-{index}")}}])
    };
    let shards: Vec<Value> = indices.keys().map(shard).collect();
    Reply::json(200, &json!({"nodes": {"n1": node}, "indices": indices, "shards": shards}))
}

/// The part of one index in a reply. The error replaces the whole reply.
fn on_index(
    index: &mut Index,
    concrete: &str,
    base64: Base64Vectors,
    rest: &[&str],
    request: &Request,
) -> Result<Value, Reply> {
    Ok(match (request.method.as_str(), rest) {
        ("HEAD" | "GET", []) => {
            let mut told = settings(index, base64, "*", request);
            told["aliases"] = json!(index.aliases);
            told["mappings"] = index.mapping.clone();
            told
        }
        ("GET", ["_mapping"]) => json!({"mappings": index.mapping}),
        ("GET", ["_alias", ..]) => json!({"aliases": index.aliases}),
        ("GET", ["_settings"]) => settings(index, base64, "*", request),
        ("GET", ["_settings", wanted]) => settings(index, base64, wanted, request),
        ("PUT", ["_settings"]) => {
            set_settings(index, &request.json());
            json!({})
        }
        ("POST" | "GET", ["_refresh"]) => {
            index.refresh();
            json!({})
        }
        ("POST" | "GET", ["_flush"]) | ("GET", ["_search_shards"]) => json!({}),
        ("POST" | "GET", ["_count"]) => json!({"count": index.documents.len()}),
        ("GET", ["_doc", id]) => {
            let told = document(index, concrete, id, None, base64, request);
            return Err(Reply::json(if told["found"] == true { 200 } else { 404 }, &told));
        }
        ("PUT", ["_doc", id]) => return Err(offered(index, concrete, id, base64, request)),
        _ => return Err(Reply::error(400, "illegal_argument_exception", "no handler for this request")),
    })
}

/// A trial document: judged, never stored.
fn offered(index: &Index, concrete: &str, id: &str, base64: Base64Vectors, request: &Request) -> Reply {
    assert!(request.is_offer(), "documents are only written by bulk requests");
    if let Some(reason) = &index.refuses {
        return Reply::error(400, "document_parsing_exception", reason);
    }
    if let Err(reason) = check_document(&request.json(), base64 != Base64Vectors::Refused) {
        return Reply::error(400, "document_parsing_exception", &reason);
    }
    let id = match index.pipeline {
        Pipeline::Drop => return Reply::json(200, &json!({"_id": id, "result": "noop"})),
        Pipeline::OtherId => format!("other-{id}"),
        Pipeline::None | Pipeline::OtherVersion | Pipeline::OtherIndex(_) | Pipeline::OtherShard => {
            id.to_owned()
        }
    };
    let reason =
        format!("[{id}]: version conflict, required seqNo [1], primary term [1]. but no document was found");
    let (index, shard) = match index.pipeline {
        Pipeline::OtherIndex(other) => (other, "0"),
        Pipeline::OtherShard => (concrete, "1"),
        _ => (concrete, "0"),
    };
    let error = json!({"type": "version_conflict_engine_exception", "reason": reason, "index": index, "shard": shard});
    Reply::json(409, &json!({"error": error, "status": 409}))
}

/// Index, id and routing.
type AskedFor = (String, String, Option<String>);

/// The documents that a request names; None if its body has neither form.
fn asked_for(default_index: Option<&str>, request: &Request) -> Option<Vec<AskedFor>> {
    let body = request.json();
    let one = |index: &Value, id: &Value, routing: &Value| {
        let routing = routing.as_str().map(str::to_owned);
        Some((index.as_str().or(default_index)?.to_owned(), id.as_str()?.to_owned(), routing))
    };
    match (&body["ids"], &body["docs"]) {
        (Value::Array(ids), _) => ids.iter().map(|id| one(&Value::Null, id, &Value::Null)).collect(),
        (_, Value::Array(docs)) => {
            docs.iter().map(|doc| one(&doc["_index"], &doc["_id"], &doc["routing"])).collect()
        }
        _ => None,
    }
}

/// A missing index is an error per document, under status 200.
fn mget(store: &Store, default_index: Option<&str>, request: &Request) -> Reply {
    let Some(docs) = asked_for(default_index, request).filter(|docs| !docs.is_empty()) else {
        let reason = "Validation Failed: 1: no documents to get;";
        return Reply::error(400, "action_request_validation_exception", reason);
    };
    let told: Vec<Value> =
        docs.iter().map(|(index, id, routing)| get(store, index, id, routing.as_deref(), request)).collect();
    Reply::json(200, &json!({"docs": told}))
}

fn get(store: &Store, name: &str, id: &str, routing: Option<&str>, request: &Request) -> Value {
    let failed = |kind: &str, reason: String| json!({"_index": name, "_id": id, "error": {"type": kind, "reason": reason, "index": name}});
    let members = store.members(name);
    if members.len() > 1 {
        let reason = format!(
            "alias [{name}] has more than one index associated with it {members:?}, can't execute a single index op"
        );
        return failed("illegal_argument_exception", reason);
    }
    let requires =
        members.first().and_then(|index| store.indices.get(index)).is_some_and(Index::requires_routing);
    if requires && routing.is_none() {
        return failed("routing_missing_exception", format!("routing is required for [{name}]/[{id}]"));
    }
    match store.target(name).map(|concrete| (store.indices.get(&concrete), concrete)) {
        Ok((Some(index), concrete)) => document(index, &concrete, id, routing, store.base64, request),
        Ok((None, _)) => Value::Null,
        Err((_, kind, reason)) => failed(kind, reason),
    }
}

fn document(
    index: &Index,
    concrete: &str,
    id: &str,
    routing: Option<&str>,
    base64: Base64Vectors,
    request: &Request,
) -> Value {
    let is_elsewhere = routing.is_some() && !index.requires_routing();
    let shard = if is_elsewhere { &index.misrouted } else { &index.documents };
    let Some(document) = shard.get(id) else {
        return json!({"_index": concrete, "_id": id, "found": false});
    };
    let mut told = json!({"_index": concrete, "_id": id, "_version": document.version, "found": true,
        "_seq_no": document.seq_no, "_primary_term": 1});
    if let (Some(routing), Some("_routing")) = (&document.routing, request.param("stored_fields")) {
        told["_routing"] = json!(routing);
    }
    if request.param("_source") != Some("false") {
        told["_source"] = source(&document.source, base64, request);
    }
    told
}

/// The source of a document as returned: from 9.2 on without vectors, unless they are requested.
fn source(source: &Value, base64: Base64Vectors, request: &Request) -> Value {
    let mut source = source.clone();
    let wanted = match base64 {
        Base64Vectors::Refused | Base64Vectors::KeptAsSent => true,
        Base64Vectors::NotReturned => false,
        _ => request.param("_source_exclude_vectors") == Some("false"),
    };
    if !wanted {
        source.as_object_mut().and_then(|fields| fields.remove("embeddings"));
    }
    request.param("_source_includes").map(|paths| filter(&source, paths)).unwrap_or(source)
}

fn settings(index: &Index, base64: Base64Vectors, wanted: &str, request: &Request) -> Value {
    let named = |name: &str| wanted.split(',').any(|pattern| matches(pattern, name));
    let shape = |flat: BTreeMap<String, String>| {
        if request.switch("flat_settings") { json!(flat) } else { nest(&flat) }
    };
    let version = match base64 {
        Base64Vectors::Refused => VERSION_WITHOUT_BASE64,
        _ => VERSION_WITH_BASE64,
    };
    let mut set: BTreeMap<String, String> = [
        ("index.number_of_shards", "1"),
        ("index.number_of_replicas", "1"),
        ("index.uuid", &index.uuid),
        ("index.creation_date", &index.created.to_string()),
        ("index.version.created", version),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    set.extend(index.settings.clone());
    let defaults: BTreeMap<String, String> = [
        ("index.gc_deletes", "60s"),
        ("index.refresh_interval", "1s"),
        ("index.translog.durability", "REQUEST"),
        ("index.translog.sync_interval", "5s"),
    ]
    .into_iter()
    .filter(|(name, _)| !set.contains_key(*name) && named(name))
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    set.retain(|name, _| named(name));
    let mut told = json!({"settings": shape(set)});
    if request.switch("include_defaults") {
        told["defaults"] = shape(defaults);
    }
    told
}

/// Names may lack the prefix `index.`; null restores the default.
fn set_settings(index: &mut Index, body: &Value) {
    let body = body.get("settings").unwrap_or(body);
    let mut with_prefix = serde_json::Map::new();
    for (name, value) in body.as_object().into_iter().flatten() {
        let prefixed = name == "index" || name.starts_with("index.");
        let name = if prefixed { name.clone() } else { format!("index.{name}") };
        with_prefix.insert(name, value.clone());
    }
    flatten("", &Value::Object(with_prefix), &mut index.settings);
}

fn create_index(store: &mut Store, name: &str, body: &Value) -> Reply {
    if !store.members(name).is_empty() {
        let reason = format!("index [{name}/KdhN9Cp-StSKjs1JzVn0LQ] already exists");
        return Reply::error(400, "resource_already_exists_exception", &reason);
    }
    if let Some(kind) = store.unknown_type(&body["mappings"]) {
        let reason =
            format!("Failed to parse mapping [_doc]: No handler for type [{kind}] declared on field [v]");
        return Reply::error(400, "mapper_parsing_exception", &reason);
    }
    for (alias, options) in body["aliases"].as_object().into_iter().flatten() {
        if options.get("filter").is_some() {
            let reason = format!("failed to parse filter for alias [{alias}]");
            return Reply::error(400, "illegal_argument_exception", &reason);
        }
    }
    let mapping = body["mappings"].is_object().then(|| body["mappings"].clone());
    let mut index = Index::new(mapping.unwrap_or_else(|| mapping_of(name)));
    for (alias, options) in body["aliases"].as_object().into_iter().flatten() {
        index.aliases.insert(alias.clone(), options.clone());
    }
    set_settings(&mut index, &body["settings"]);
    store.indices.insert(name.to_owned(), index);
    Reply::json(200, &json!({"acknowledged": true, "shards_acknowledged": true, "index": name}))
}

fn alias_by_name(store: &Store, alias: &str) -> Reply {
    let mut told = serde_json::Map::new();
    for (name, index) in &store.indices {
        if let Some(options) = index.aliases.get(alias) {
            told.insert(name.clone(), json!({"aliases": {alias: options}}));
        }
    }
    if told.is_empty() {
        return Reply::json(404, &json!({"error": format!("alias [{alias}] missing"), "status": 404}));
    }
    Reply::json(200, &Value::Object(told))
}

fn has_privileges(privileges: &Privileges, request: &Request) -> Reply {
    let body = request.json();
    let mut all = true;
    let mut indices = serde_json::Map::new();
    for group in body["index"].as_array().into_iter().flatten() {
        for name in group["names"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            for privilege in group["privileges"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let granted = !privileges.denied.iter().any(|denied| denied == privilege);
                all &= granted;
                indices.entry(name).or_insert_with(|| json!({}))[privilege] = json!(granted);
            }
        }
    }
    let mut cluster = serde_json::Map::new();
    for privilege in body["cluster"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        all = false;
        cluster.insert(privilege.to_owned(), json!(false));
    }
    Reply::json(
        200,
        &json!({"username": "writer", "has_all_requested": all, "cluster": cluster, "index": indices,
            "application": {}}),
    )
}

/// The API key of the documentation has no cluster privilege.
fn not_granted(path: &str) -> Reply {
    let reason = format!("action for [{path}] is unauthorized for API key id [kXLRCKIBp5o2l78S_8Xv]");
    Reply::error(403, "security_exception", &reason)
}
