//! JSON as Elasticsearch returns it: `filter_path`, flat and nested settings.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Keeps what a `filter_path` names (paths by comma, segments by dot, `*` within a segment).
///
/// Elements of arrays are filtered one by one, and empty ones are dropped.
pub(crate) fn filter(value: &Value, filter_path: &str) -> Value {
    let paths: Vec<Vec<&str>> = filter_path.split(',').map(|path| path.split('.').collect()).collect();
    let paths: Vec<&[&str]> = paths.iter().map(Vec::as_slice).collect();
    keep(value, &paths).unwrap_or_else(|| Value::Object(Map::new()))
}

fn keep(value: &Value, paths: &[&[&str]]) -> Option<Value> {
    if paths.iter().any(|path| path.is_empty()) {
        return Some(value.clone());
    }
    match value {
        Value::Object(object) => {
            let kept: Map<String, Value> = object
                .iter()
                .filter_map(|(key, inner)| {
                    let below: Vec<&[&str]> = paths
                        .iter()
                        .filter_map(|path| path.split_first())
                        .filter(|(segment, _)| matches(segment, key))
                        .map(|(_, rest)| rest)
                        .collect();
                    Some((key.clone(), keep(inner, &below)?))
                })
                .collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        Value::Array(values) => {
            let kept: Vec<Value> = values.iter().filter_map(|inner| keep(inner, paths)).collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        _ => None,
    }
}

/// Whether a name matches a pattern with at most one `*`.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, end)) => {
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        }
    }
}

/// `{"a": {"b": 1}}` as `{"a.b": "1"}`; null removes.
pub(crate) fn flatten(prefix: &str, value: &Value, out: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(object) => {
            for (key, inner) in object {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&name, inner, out);
            }
        }
        Value::Null => {
            out.remove(prefix);
        }
        Value::String(text) => {
            out.insert(prefix.to_owned(), text.clone());
        }
        other => {
            out.insert(prefix.to_owned(), other.to_string());
        }
    }
}

/// The reverse of [`flatten`].
pub(crate) fn nest(flat: &BTreeMap<String, String>) -> Value {
    let mut root = Value::Object(Map::new());
    for (name, text) in flat {
        let mut node = &mut root;
        for segment in name.split('.') {
            node = &mut node[segment];
        }
        *node = Value::String(text.clone());
    }
    root
}
