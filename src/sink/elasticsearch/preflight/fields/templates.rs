//! Finds the type that a dynamic template gives to a field that the mapping lacks.
//!
//! Source: Elasticsearch, "Dynamic templates": the first one that matches counts. Templates whose patterns are regular
//! expressions count as not matching.

use serde_json::Value;

use crate::sink::elasticsearch::returned::matches;

/// Returns the mapping that a dynamic template gives to a field without one; None: no template does, or the template
/// leaves the type to the server. `path` is the dotted name, `kind` the type of the value as Elasticsearch calls it.
/// Vectors are objects.
pub(super) fn mapping_of<'a>(mappings: &'a Value, path: &str, kind: &str) -> Option<&'a Value> {
    let templates = mappings.get("dynamic_templates")?.as_array()?.iter();
    let template = templates
        .filter_map(Value::as_object)
        .flat_map(|one| one.values())
        .find(|one| catches(one, path, kind))?;
    let mapping = template.get("mapping")?;
    mapping.get("type")?.as_str().filter(|name| !name.contains('{')).map(|_| mapping)
}

fn catches(template: &Value, path: &str, kind: &str) -> bool {
    let name = path.rsplit('.').next().unwrap_or(path);
    let listed = |parameter: &str| {
        let given = template.get(parameter)?;
        Some(given.as_array().map_or(std::slice::from_ref(given), Vec::as_slice))
    };
    // Returns whether one of the patterns matches; None: there are none.
    let any = |parameter: &str, text: &str| {
        let patterns = listed(parameter)?.iter().filter_map(Value::as_str);
        Some(patterns.into_iter().any(|pattern| matches(pattern, text)))
    };
    template.get("match_pattern").and_then(Value::as_str) != Some("regex")
        && [("match", name), ("path_match", path), ("match_mapping_type", kind)]
            .iter()
            .all(|(parameter, text)| any(parameter, text).unwrap_or(true))
        && [("unmatch", name), ("path_unmatch", path), ("unmatch_mapping_type", kind)]
            .iter()
            .all(|(parameter, text)| !any(parameter, text).unwrap_or(false))
}
