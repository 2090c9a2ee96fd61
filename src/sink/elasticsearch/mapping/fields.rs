//! Builds the mapping from the list of fields.

use serde_json::{Map, Value as Json, json};

use crate::model::FieldChoice;
use crate::model::schema::{Kind, vector_names};

/// Longest keyword that is indexed, in characters. Lucene refuses a document with a term of more than 32766 bytes, and
/// a UTF-8 character has up to four. A longer value stays in `_source` and is not indexed.
const MAX_KEYWORD_CHARS: u32 = 32_766 / 4;

/// Longest link that is indexed, in characters. A longer one stays in `_source` and is not indexed.
const MAX_LINK_CHARS: u32 = 1_024;

/// Returns the mapping of an index with these fields. `vectors` is the mapping of the object that holds the vectors.
///
/// Unknown fields stay in `_source` and are not indexed (`dynamic: false`). So one wrong document cannot fix a wrong
/// type forever, and many cannot make the mapping grow without limit.
pub(super) fn mappings(fields: &[(&'static str, Kind)], vectors: &Json) -> Json {
    json!({"dynamic": false, "properties": properties(fields, vectors)})
}

fn properties(fields: &[(&'static str, Kind)], vectors: &Json) -> Map<String, Json> {
    fields.iter().map(|&(name, kind)| (name.to_owned(), mapping_of(kind, vectors))).collect()
}

fn mapping_of(kind: Kind, vectors: &Json) -> Json {
    match kind {
        Kind::Keyword => json!({"type": "keyword", "ignore_above": MAX_KEYWORD_CHARS}),
        Kind::Link => json!({"type": "keyword", "ignore_above": MAX_LINK_CHARS}),
        Kind::Text => {
            json!({"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}})
        }
        Kind::Words => json!({"type": "text"}),
        Kind::Boolean => json!({"type": "boolean"}),
        // A size in bytes may exceed an `integer`.
        Kind::Integer => json!({"type": "long"}),
        Kind::Date => json!({"type": "date", "format": "strict_date_optional_time"}),
        Kind::Nested(fields) => json!({"type": "nested", "properties": properties(fields, vectors)}),
        Kind::Object(fields) => json!({"properties": properties(fields, vectors)}),
        Kind::Vectors => vectors.clone(),
    }
}

/// Returns the mapping of the object that holds the vectors. `mapping` returns the mapping of one vector of a given
/// dimension; None: the dimension is unknown.
pub(super) fn vectors_mapped(choice: FieldChoice, mapping: impl Fn(Option<u64>) -> Json) -> Json {
    let names = vector_names(choice).into_iter();
    let fields: Map<String, Json> =
        names.map(|vector| (vector.name.to_owned(), mapping(vector.dims))).collect();
    json!({"properties": fields})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use crate::model::schema::{kinds, post_fields};
    use crate::sink::elasticsearch::product::Product;

    fn mapping(choice: FieldChoice) -> Json {
        let vectors = vectors_mapped(choice, |dims| Product::Elasticsearch.vector_mapping(dims));
        mappings(&kinds(post_fields(choice)), &vectors)
    }

    #[test]
    fn omitted_fields_are_not_mapped() {
        let excluded = &["thread_root_post", "embeddings.all_MiniLM_L6_v2"];
        let mapping = mapping(FieldChoice { excluded, ..FieldChoice::default() });
        assert_eq!(mapping.pointer("/properties/thread_root_post"), None);
        assert_eq!(
            mapping.pointer("/properties/embeddings/properties").unwrap().as_object().unwrap().len(),
            1
        );
    }

    #[test]
    fn additional_fields_are_mapped_if_configured() {
        let model =
            Model::new("all-mpnet-base-v2", "embeddings.all_mpnet_base_v2", "vector:all-mpnet-base-v2");
        let models = vec![model].leak();
        let mapping = mapping(FieldChoice { added: &["media", "links"], models, ..FieldChoice::default() });
        let kind = |pointer: &str| mapping.pointer(&format!("/properties/{pointer}/type")).cloned();
        for (pointer, expected) in [
            ("media", "nested"),
            ("media/properties/size", "long"),
            ("contains_images", "boolean"),
            ("video_count", "long"),
            ("links", "keyword"),
            ("embeddings/properties/all_mpnet_base_v2", "dense_vector"),
        ] {
            assert_eq!(kind(pointer), Some(expected.into()), "{pointer}");
        }
        assert_eq!(mapping.pointer("/properties/links/ignore_above"), Some(&json!(1_024)));
        assert_eq!(mapping.pointer("/properties/embeddings/properties/all_mpnet_base_v2/dims"), None);
        assert_eq!(kind("langs"), None);
    }
}
