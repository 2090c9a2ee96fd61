//! The content of the fake server: indices, documents, and the versions that decide which write wins.
//!
//! The rules are recorded from a real Elasticsearch 9.5.3: external versions, versions of deletes remembered until
//! `index.gc_deletes`, errors per item.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::vectors;

/// The maximum length of an `_id`, in bytes.
pub(crate) const MAX_ID_BYTES: usize = 512;

/// The content of the server.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) indices: BTreeMap<String, Index>,
    /// Forgets versions of deletes at once, as a real server does after `index.gc_deletes`.
    pub(crate) forget_deletes: bool,
    /// The names of the ingest pipelines.
    pub(crate) pipelines: BTreeSet<String>,
    /// How often the node has restarted.
    pub(crate) node_starts: u32,
    pub(crate) base64: Base64Vectors,
    /// Field types that the server does not know.
    pub(crate) unknown_types: &'static [&'static str],
    /// Lets the key create no index.
    pub(crate) refuses_to_create: bool,
    /// How flat settings are shown, if not as by Elasticsearch.
    pub(crate) show_settings: Option<fn(&Value) -> Value>,
}

/// How the server treats base64 vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Base64Vectors {
    /// Refuses the document, as Elasticsearch before 9.3.
    #[default]
    Refused,
    /// Reads big-endian values, as Elasticsearch from 9.3 on.
    BigEndian,
    /// Reads little-endian values, as OpenSearch.
    LittleEndian,
    /// Accepts them, and returns them as sent (`index.mapping.exclude_source_vectors: false`).
    KeptAsSent,
    /// Accepts them, and never returns vectors (`_source.excludes` in the mapping).
    NotReturned,
}

/// One concrete index.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) documents: BTreeMap<String, Document>,
    /// The documents that searches see: those of the last refresh.
    pub(super) searchable: BTreeMap<String, Value>,
    /// Versions of deletes, by id.
    deletes: BTreeMap<String, u64>,
    /// Different for each index that is created.
    pub(crate) uuid: String,
    /// When it was created, in milliseconds since 1970; later for each index that is created.
    pub(crate) created: u64,
    /// The `_seq_no` of the last write.
    seq_no: u64,
    /// Copies written with a routing that the index does not require: they are in other shards.
    pub(crate) misrouted: BTreeMap<String, Document>,
    /// What the ingest pipeline of the index does.
    pub(crate) pipeline: Pipeline,
    /// Why trial documents are refused.
    pub(crate) refuses: Option<String>,
    pub(crate) mapping: Value,
    /// Explicit settings in flat form, such as `index.gc_deletes`.
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) aliases: BTreeMap<String, Value>,
}

/// What an ingest pipeline does with every document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pipeline {
    #[default]
    None,
    /// Drops it; the reply is 200 and `noop`.
    Drop,
    /// Changes its `_id`.
    OtherId,
    /// Raises its version.
    OtherVersion,
    /// Sends it to another index.
    OtherIndex(&'static str),
    /// Gives it a routing, so that it goes to another shard.
    OtherShard,
}

/// A live document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    pub(crate) seq_no: u64,
    /// The routing of the last write.
    pub(crate) routing: Option<String>,
    pub(crate) version: u64,
    pub(crate) source: Value,
}

impl Document {
    /// A document of another program.
    pub(crate) fn new(version: u64, source: Value) -> Self {
        Self { seq_no: 0, routing: None, version, source }
    }
}

/// One action of a bulk request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Item {
    /// `index` or `delete`.
    pub(crate) operation: String,
    pub(crate) index: String,
    pub(crate) id: String,
    pub(crate) version: Option<u64>,
    pub(crate) version_type: String,
    /// Whether the name has to be an alias. For a delete: whether another action of the request requires that.
    pub(crate) require_alias: bool,
    pub(crate) routing: Option<String>,
    pub(crate) if_seq_no: Option<u64>,
    /// The document of an index action; null if it is not JSON.
    pub(crate) source: Value,
    /// The size of its lines in bytes.
    pub(crate) bytes: usize,
    /// The status of the item; None if the request was not applied that far.
    pub(crate) status: Option<u16>,
}

impl Item {
    /// Whether it only keeps deletes of the same request from creating an index.
    pub(crate) fn is_guard(&self) -> bool {
        self.operation == "index" && self.if_seq_no.is_some()
    }

    /// Whether the write is confirmed, so that a client may rely on it.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// Parses a bulk body; the error is the reason of a 400 for the whole request.
pub(crate) fn parse_bulk(body: &[u8], default_index: Option<&str>) -> Result<Vec<Item>, String> {
    let text = std::str::from_utf8(body).map_err(|e| format!("the body is not UTF-8: {e}"))?;
    if text.is_empty() {
        return Err("request body is required".to_owned());
    }
    let Some(text) = text.strip_suffix('\n') else {
        return Err("The bulk request must be terminated by a newline [\\n]".to_owned());
    };
    let mut lines = text.split('\n');
    let mut items = Vec::new();
    while let Some(line) = lines.next() {
        let mut item = parse_action(line, default_index)?;
        item.bytes = line.len() + 1;
        if item.operation != "delete" {
            let source = lines.next().ok_or("Validation Failed: an action without a document")?;
            item.source = serde_json::from_str(source).unwrap_or(Value::Null);
            item.bytes += source.len() + 1;
        }
        if item.id.len() > MAX_ID_BYTES {
            return Err(format!("Validation Failed: 1: id [{}] is too long", item.id));
        }
        items.push(item);
    }
    Ok(items)
}

fn parse_action(line: &str, default_index: Option<&str>) -> Result<Item, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| format!("malformed action line: {e}"))?;
    let action = value.as_object().filter(|o| o.len() == 1).and_then(|o| o.iter().next());
    let (operation, meta) = action.ok_or("Malformed action/metadata line, expected one action")?;
    if !["index", "delete"].contains(&operation.as_str()) {
        return Err(format!("this server knows no action [{operation}]"));
    }
    let known = [
        "_index",
        "_id",
        "version",
        "version_type",
        "require_alias",
        "routing",
        "if_seq_no",
        "if_primary_term",
        "pipeline",
    ];
    if let Some(key) = meta.as_object().and_then(|o| o.keys().find(|key| !known.contains(&key.as_str()))) {
        return Err(format!("Action/metadata line contains an unknown parameter [{key}]"));
    }
    let text = |key: &str| meta[key].as_str().map(str::to_owned);
    Ok(Item {
        operation: operation.clone(),
        index: text("_index").or(default_index.map(str::to_owned)).ok_or("index is missing")?,
        id: text("_id").ok_or("this server makes no ids")?,
        version: meta["version"].as_u64(),
        version_type: text("version_type").unwrap_or_default(),
        require_alias: meta["require_alias"] == true,
        routing: text("routing"),
        if_seq_no: meta["if_seq_no"].as_u64(),
        ..Item::default()
    })
}

impl Base64Vectors {
    /// A document as it is stored.
    fn keep(self, source: &Value) -> Value {
        let mut source = source.clone();
        for vector in source.get_mut("embeddings").and_then(Value::as_object_mut).into_iter().flatten() {
            let (Some(values), true) = (vectors::decode(vector.1), vector.1.is_string()) else { continue };
            let swap = |value: &f32| f32::from_bits(value.to_bits().swap_bytes());
            match self {
                Self::BigEndian => *vector.1 = json!(values),
                Self::LittleEndian => *vector.1 = values.iter().map(swap).collect(),
                Self::Refused | Self::KeptAsSent | Self::NotReturned => {}
            }
        }
        source
    }
}

impl Store {
    /// A store with these empty indices.
    pub(crate) fn with_indices(names: &[&str]) -> Self {
        let mut store = Self::default();
        for name in names {
            store.indices.insert((*name).to_owned(), Index::new(mapping_of(name)));
        }
        store
    }

    /// A store with an empty index `NAME_v1` behind each of these aliases.
    pub(crate) fn with_aliases(names: &[&str]) -> Self {
        let mut store = Self::default();
        names.iter().for_each(|name| store.add_index(&format!("{name}_v1"), name, true));
        store
    }

    /// Adds an empty index to an alias; a new write index replaces the old one.
    pub(crate) fn add_index(&mut self, index: &str, alias: &str, is_write_index: bool) {
        if is_write_index {
            for other in self.indices.values_mut() {
                if let Some(options) = other.aliases.get_mut(alias) {
                    options["is_write_index"] = json!(false);
                }
            }
        }
        let mut content = Index::new(mapping_of(alias));
        content.aliases.insert(alias.to_owned(), json!({"is_write_index": is_write_index}));
        self.indices.insert(index.to_owned(), content);
    }

    /// Forgets the versions of all deletes so far, as after `index.gc_deletes`.
    pub(crate) fn forget_deletes_so_far(&mut self) {
        self.indices.values_mut().for_each(|index| index.deletes.clear());
    }

    /// The concrete indices of a name: the index itself, or all indices of the alias.
    pub(crate) fn members(&self, name: &str) -> Vec<String> {
        let has = |(index, content): &(&String, &Index)| *index == name || content.aliases.contains_key(name);
        self.indices.iter().filter(has).map(|(index, _)| index.clone()).collect()
    }

    /// The index that a name writes to or reads from, or the error.
    pub(crate) fn target(&self, name: &str) -> Result<String, (u16, &'static str, String)> {
        let members = self.members(name);
        let writes = |index: &&String| self.indices[*index].aliases[name]["is_write_index"] == true;
        match members.as_slice() {
            [] => Err((404, "index_not_found_exception", format!("no such index [{name}]"))),
            [only] => Ok(only.clone()),
            several => several.iter().find(writes).cloned().ok_or_else(|| {
                let reason = format!("no write index is defined for alias [{name}]");
                (400, "illegal_argument_exception", reason)
            }),
        }
    }

    /// The index of a concrete name, or of an alias with one index.
    pub(crate) fn index(&mut self, name: &str) -> Option<&mut Index> {
        let concrete = self.target(name).ok()?;
        self.indices.get_mut(&concrete)
    }

    /// A vector type in these mappings that the server does not know.
    pub(super) fn unknown_type(&self, mappings: &Value) -> Option<&str> {
        let vectors = mappings["properties"]["embeddings"]["properties"].as_object()?;
        let types = vectors.values().filter_map(|field| field["type"].as_str());
        types.filter_map(|kind| self.unknown_types.iter().copied().find(|unknown| *unknown == kind)).next()
    }

    /// Applies an action. Returns its status and result, without the name of the action.
    pub(crate) fn apply(&mut self, item: &Item) -> (u16, Value) {
        let base64 = self.base64;
        let forget = self.forget_deletes;
        let members = self.members(&item.index);
        if item.require_alias
            && item.operation != "delete"
            && (members.is_empty() || members.contains(&item.index))
        {
            let reason =
                format!("[require_alias] request flag is [true] and [{}] is not an alias", item.index);
            return refused(item, &item.index, 404, "index_not_found_exception", &reason);
        }
        // A write creates a missing index, whatever its mapping, except for a delete without an external version, or in a
        // request in which another action requires an alias.
        if members.is_empty() {
            if item.operation == "delete" && (item.version.is_none() || item.require_alias) {
                let reason = format!("no such index [{}]", item.index);
                return refused(item, &item.index, 404, "index_not_found_exception", &reason);
            }
            if self.refuses_to_create {
                let reason = format!(
                    "action [indices:admin/auto_create] is unauthorized for API key id [x] of user [x] on indices [{}]",
                    item.index
                );
                return refused(item, &item.index, 403, "security_exception", &reason);
            }
            self.indices.insert(item.index.clone(), Index::new(Value::Null));
        }
        let concrete = match self.target(&item.index) {
            Ok(concrete) => concrete,
            Err((status, kind, reason)) => return refused(item, &item.index, status, kind, &reason),
        };
        let index = self.indices.entry(concrete.clone()).or_default();
        if item.operation == "index"
            && let Err(reason) = check_document(&item.source, base64 != Base64Vectors::Refused)
        {
            return refused(item, &concrete, 400, "document_parsing_exception", &reason);
        }
        if index.requires_routing() && item.routing.is_none() {
            let reason = format!("routing is required for [{concrete}]/[{}]", item.id);
            return refused(item, &concrete, 400, "routing_missing_exception", &reason);
        }
        if let Some(block) = index.settings.get("index.blocks.write").filter(|block| *block == "true") {
            let reason = format!("index [{concrete}] blocked by: [FORBIDDEN/8/index write (api)]; ({block})");
            return refused(item, &concrete, 403, "cluster_block_exception", &reason);
        }
        if index.is_remote_snapshot() {
            let reason = format!("index [{concrete}] blocked by: [FORBIDDEN/13/remote index is read-only];");
            return refused(item, &concrete, 403, "cluster_block_exception", &reason);
        }
        if let (Pipeline::OtherIndex(other), "index") = (index.pipeline, &*item.operation) {
            return self.apply(&Item { index: other.to_owned(), require_alias: false, ..item.clone() });
        }
        let mut item = item.clone();
        match index.pipeline {
            Pipeline::Drop if item.operation == "index" => {
                let told = json!({"_index": concrete, "_id": item.id, "_version": -3, "result": "noop", "status": 200});
                return (200, told);
            }
            Pipeline::OtherId if item.operation == "index" => item.id = format!("other-{}", item.id),
            Pipeline::OtherVersion if item.operation == "index" => {
                item.version = item.version.map(|version| version + 1)
            }
            _ => {}
        }
        let item = &item;
        let (status, version, result) = match index.write(item, base64.keep(&item.source)) {
            Ok(written) => written,
            Err(current) => {
                let reason = format!("[{}]: version conflict, current version [{current}]", item.id);
                return refused(item, &concrete, 409, "version_conflict_engine_exception", &reason);
            }
        };
        if forget {
            index.deletes.clear();
        }
        let shards = json!({"total": 2, "successful": 1, "failed": 0});
        let told = json!({"_index": concrete, "_id": item.id, "_version": version, "result": result,
            "_shards": shards, "_seq_no": 0, "_primary_term": 1, "status": status});
        (status, told)
    }
}

/// The result of a refused item in a bulk reply.
pub(crate) fn refused(item: &Item, index: &str, status: u16, kind: &str, reason: &str) -> (u16, Value) {
    let error = json!({"type": kind, "reason": reason, "index": index});
    (status, json!({"_index": index, "_id": item.id, "status": status, "error": error}))
}

impl Index {
    /// An empty index with this mapping.
    pub(crate) fn new(mapping: Value) -> Self {
        static INDICES: AtomicU64 = AtomicU64::new(0);
        let nth = INDICES.fetch_add(1, Ordering::Relaxed);
        let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_millis() as u64;
        Self { mapping, uuid: format!("uuid-{nth}"), created: now + nth, ..Self::default() }
    }

    /// Whether actions and look-ups must have a routing.
    pub(crate) fn requires_routing(&self) -> bool {
        self.mapping["_routing"]["required"] == true
    }

    /// Whether this is a searchable snapshot of OpenSearch, which takes no writes.
    fn is_remote_snapshot(&self) -> bool {
        self.settings.get("index.store.type").is_some_and(|kind| kind == "remote_snapshot")
    }

    /// Makes the current documents visible to searches.
    pub(super) fn refresh(&mut self) {
        let sources = self.documents.iter().map(|(id, document)| (id.clone(), document.source.clone()));
        self.searchable = sources.collect();
    }

    /// Remembers a delete with this version.
    pub(crate) fn remember_delete(&mut self, id: &str, version: u64) {
        self.deletes.insert(id.to_owned(), version);
    }

    /// Writes by the version rules. Returns status, new version and result; the error is the current version.
    fn write(&mut self, item: &Item, source: Value) -> Result<(u16, u64, &'static str), u64> {
        let is_misrouted = item.routing.is_some() && !self.requires_routing();
        if is_misrouted {
            std::mem::swap(&mut self.documents, &mut self.misrouted);
        }
        let written = self.write_to_shard(item, source);
        if is_misrouted {
            std::mem::swap(&mut self.documents, &mut self.misrouted);
        }
        written
    }

    fn write_to_shard(&mut self, item: &Item, source: Value) -> Result<(u16, u64, &'static str), u64> {
        let live = self.documents.get(&item.id).map(|document| document.version);
        let current = live.or(self.deletes.get(&item.id).copied());
        if let Some(seq_no) = item.if_seq_no {
            let is_same = self.documents.get(&item.id).is_some_and(|document| document.seq_no == seq_no);
            if !is_same {
                return Err(current.unwrap_or_default());
            }
        }
        self.seq_no += 1;
        let version = match (current, item.version) {
            (Some(current), Some(new)) if new < current => return Err(current),
            (Some(current), Some(new)) if new == current && item.version_type == "external" => {
                return Err(current);
            }
            (_, Some(new)) => new,
            (current, None) => current.unwrap_or(0) + 1,
        };
        if item.operation == "delete" {
            self.documents.remove(&item.id);
            self.deletes.insert(item.id.clone(), version);
            return Ok(if live.is_some() { (200, version, "deleted") } else { (404, version, "not_found") });
        }
        self.deletes.remove(&item.id);
        self.documents.insert(
            item.id.clone(),
            Document { version, source, seq_no: self.seq_no, routing: item.routing.clone() },
        );
        Ok(if live.is_some() { (200, version, "updated") } else { (201, version, "created") })
    }
}

/// The error of a mapping with `dense_vector` fields of 384 dimensions, and of 768 for the larger model.
pub(crate) fn check_document(source: &Value, base64: bool) -> Result<(), String> {
    if !source.is_object() {
        return Err("failed to parse: not an object".to_owned());
    }
    let vectors = source["embeddings"].as_object();
    for (name, vector) in vectors.into_iter().flatten() {
        let dims = if name == "all_mpnet_base_v2" { 768 } else { 384 };
        let fits = match vector {
            Value::Array(values) => values.len() == dims && values.iter().all(Value::is_number),
            Value::String(text) => base64 && text.len() == dims * 16 / 3,
            _ => false,
        };
        if !fits {
            return Err(format!("Failed to parse object: [{name}] is no vector of {dims} dimensions"));
        }
    }
    Ok(())
}

/// The documented mapping of an index.
pub(crate) fn mapping_of(index: &str) -> Value {
    let field = |kind: &str| json!({"type": kind});
    if index.starts_with("post_tombstones") {
        return json!({"properties": {"at_uri": field("keyword"), "author_did": field("keyword"),
            "deleted_at": field("date"), "indexed_at": field("date")}});
    }
    let vector = json!({"type": "dense_vector", "dims": 384, "index": true, "similarity": "cosine"});
    let vectors = json!({"properties": {"all_MiniLM_L6_v2": vector, "all_MiniLM_L12_v2": vector}});
    json!({"properties": {"at_uri": field("keyword"), "author_did": field("keyword"),
        "content": field("text"), "created_at": field("date"), "thread_root_post": field("keyword"),
        "thread_parent_post": field("keyword"), "quote_post": field("keyword"), "embeddings": vectors,
        "indexed_at": field("date")}})
}
