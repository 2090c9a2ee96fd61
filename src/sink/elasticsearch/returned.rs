//! Determines from the mapping how a returned document differs from the one written.

use serde_json::Value;

use super::flat::Values;
use super::lookup::{properties, property};

/// Setting that decides how an index stores `_source`, from Elasticsearch 8.18 on.
const SOURCE_MODE: &str = "index.mapping.source.mode";

/// Precision that a vector's values lose between writing and reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rounding {
    /// None is lost.
    None,
    /// The last bits of an f32. An index with cosine similarity stores unit vectors and lengths separately, and returns
    /// their product. Also assumed if the mapping is unknown.
    #[default]
    LastBits,
    /// The lower half of an f32 (`element_type: bfloat16`).
    LowerHalf,
}

/// How an index returns documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Returned {
    /// Precision that vectors lose.
    pub rounding: Rounding,
    /// Patterns of fields that are left out of the stored `_source`.
    pub excludes: Vec<String>,
    /// Patterns of the only fields that are stored. Empty: all are.
    pub includes: Vec<String>,
}

impl Returned {
    /// Reads the mapping and the settings of an index.
    pub(super) fn of(mappings: &Value, settings: Option<&Values>) -> Self {
        // Vectors of further models count, too, whatever their names.
        let dotted = properties(mappings).filter(|(name, _)| name.starts_with("embeddings."));
        let nested = property(mappings, "embeddings").into_iter().flat_map(properties);
        let rounding =
            nested.chain(dotted).map(|(_, mapping)| rounding(mapping)).max().unwrap_or(Rounding::None);
        let patterns = |name: &str| -> Vec<String> {
            let listed = mappings.pointer("/_source").and_then(|source| source.get(name));
            let patterns = listed.and_then(Value::as_array).into_iter().flatten().chain(listed);
            patterns.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let mut excludes = patterns("excludes");
        let mode = settings.and_then(|settings| settings.get(SOURCE_MODE)).map(String::as_str);
        let mode = mode.or_else(|| mappings.pointer("/_source/mode").and_then(Value::as_str));
        let is_disabled = mappings.pointer("/_source/enabled") == Some(&Value::Bool(false));
        if is_disabled || mode.is_some_and(|mode| mode.eq_ignore_ascii_case("disabled")) {
            excludes.push("*".to_owned());
        }
        Self { rounding, excludes, includes: patterns("includes") }
    }

    /// Returns whether a field is left out of the stored `_source`. A nested field has a dotted name.
    pub fn leaves_out(&self, field: &str) -> bool {
        let is_named = |pattern: &String| {
            let ancestors = field.match_indices('.').filter_map(|(at, _)| field.get(..at));
            matches(pattern, field) || ancestors.into_iter().any(|ancestor| matches(pattern, ancestor))
        };
        let is_kept = self.includes.is_empty() || self.includes.iter().any(is_named);
        !is_kept || self.excludes.iter().any(is_named)
    }
}

/// Returns the precision that a vector with this mapping loses.
fn rounding(mapping: &Value) -> Rounding {
    let text = |parameter: &str| mapping.get(parameter).and_then(Value::as_str);
    if text("type") != Some("dense_vector") {
        return Rounding::None;
    }
    // Vectors that are not indexed have no similarity.
    let is_indexed = mapping.get("index") != Some(&Value::Bool(false));
    match (text("element_type"), text("similarity")) {
        (Some("bfloat16"), _) => Rounding::LowerHalf,
        (_, None | Some("cosine")) if is_indexed => Rounding::LastBits,
        _ => Rounding::None,
    }
}

/// Returns whether a pattern matches the whole name. `*` stands for any text.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            let mut ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            ends.any(|at| rest.get(at..).is_some_and(|rest| matches(after, rest)))
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sink::elasticsearch::flat::flatten;

    fn mapping(vector: Value) -> Value {
        json!({"properties": {"embeddings": {"properties": {"all_MiniLM_L12_v2": vector}}}})
    }

    #[test]
    fn only_the_precision_that_an_index_loses_counts_as_rounding() {
        for (vector, rounding) in [
            (json!({"type": "dense_vector"}), Rounding::LastBits),
            (json!({"type": "dense_vector", "similarity": "cosine"}), Rounding::LastBits),
            (json!({"type": "dense_vector", "similarity": "dot_product"}), Rounding::None),
            (json!({"type": "dense_vector", "index": false}), Rounding::None),
            (json!({"type": "dense_vector", "element_type": "bfloat16"}), Rounding::LowerHalf),
            (json!({"type": "knn_vector", "space_type": "cosinesimil"}), Rounding::None),
        ] {
            assert_eq!(Returned::of(&mapping(vector.clone()), None).rounding, rounding, "{vector}");
        }
        assert_eq!(Returned::default().rounding, Rounding::LastBits);
        let another = json!({"all_MiniLM_L12_v2": {"type": "dense_vector", "index": false},
            "all_mpnet_base_v2": {"type": "dense_vector"}});
        let mapping = json!({"properties": {"embeddings": {"properties": another}}});
        assert_eq!(Returned::of(&mapping, None).rounding, Rounding::LastBits, "a further model's");
    }

    #[test]
    fn fields_excluded_from_the_source_are_recognised() {
        let excludes = |pattern: &str| Returned::of(&json!({"_source": {"excludes": [pattern]}}), None);
        for pattern in ["embeddings", "embeddings.*", "emb*", "*_v2", "*"] {
            assert!(excludes(pattern).leaves_out("embeddings.all_MiniLM_L12_v2"), "{pattern}");
        }
        assert!(!excludes("embeddings.x").leaves_out("embeddings.all_MiniLM_L12_v2"));
        assert!(!excludes("embeddings").leaves_out("content"));
        let includes = Returned::of(&json!({"_source": {"includes": ["content", "at_*"]}}), None);
        assert!(!includes.leaves_out("content") && !includes.leaves_out("at_uri"));
        assert!(includes.leaves_out("embeddings.all_MiniLM_L6_v2"));
        assert!(Returned::of(&json!({"_source": {"enabled": false}}), None).leaves_out("content"));
        assert!(!Returned::default().leaves_out("content"));
    }

    #[test]
    fn an_index_stores_no_source_if_its_mapping_or_its_settings_disable_it() {
        let leaves_out = |mapping: Value, settings: Value| {
            Returned::of(&mapping, Some(&flatten(&settings))).leaves_out("content")
        };
        let mode = |mode: &str| json!({"index": {"mapping": {"source": {"mode": mode}}}});
        assert!(leaves_out(json!({}), mode("disabled")) && leaves_out(json!({}), mode("DISABLED")));
        assert!(leaves_out(json!({"_source": {"mode": "disabled"}}), json!({})));
        assert!(!leaves_out(json!({}), mode("synthetic")) && !leaves_out(json!({}), json!({})));
    }
}
