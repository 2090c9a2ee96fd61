//! The two indices, and the fields of their documents: each field once. Mapping, preflight and writer follow this list.
//!
//! Source: contract, section 3.

use serde_json::{Value as Json, json};

use crate::model::{Embeddings, Post, Tombstone, Vector};

/// Values of a vector.
pub const VECTOR_DIMS: u64 = 384;

/// Lucene refuses a document with a term of more than 32766 bytes, and a character of UTF-8 has up to four:
/// a longer value stays in the source and is not indexed.
const MAX_KEYWORD_CHARS: u32 = 32_766 / 4;

/// A field of a document.
pub struct Field<Read> {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Takes its value from what a row has become.
    pub read: Read,
}

/// What a field holds, and so how it is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string that is searched as a whole.
    Keyword,
    /// A text that is searched by its words.
    Text,
    /// A time.
    Date,
    /// An object with the [`VECTORS`].
    Vectors,
}

/// The value of a field.
#[derive(Clone, Copy)]
pub enum Value<'d> {
    /// The field is left out.
    Absent,
    /// A string.
    Text(&'d str),
    /// Milliseconds since 1970.
    Time(i64),
    /// The time of encoding.
    Now,
    /// An object of vectors; left out where there is none.
    Vectors(&'d Embeddings<'d>),
}

/// Reads a field of a post.
pub type ReadPost = for<'d> fn(&'d Post<'d>, &'d Embeddings<'d>) -> Value<'d>;

/// Reads a field of a tombstone.
pub type ReadTombstone = for<'d> fn(&'d Tombstone<'d>) -> Value<'d>;

/// When a document was written: the one field that says nothing of what was read.
pub const WRITTEN_AT: &str = "indexed_at";

/// The fields of a post, in the order in which they are written.
pub const POST_FIELDS: &[Field<ReadPost>] = &[
    Field { name: "at_uri", kind: Kind::Keyword, read: |post, _| Value::Text(post.at_uri) },
    Field { name: "author_did", kind: Kind::Keyword, read: |post, _| Value::Text(&post.author_did) },
    Field { name: "content", kind: Kind::Text, read: |post, _| Value::Text(&post.content) },
    Field { name: "created_at", kind: Kind::Date, read: |post, _| time(post.created_at) },
    Field { name: "thread_root_post", kind: Kind::Keyword, read: |post, _| text(&post.thread_root_post) },
    Field { name: "thread_parent_post", kind: Kind::Keyword, read: |post, _| text(&post.thread_parent_post) },
    Field { name: "quote_post", kind: Kind::Keyword, read: |post, _| text(&post.quote_post) },
    Field { name: "embeddings", kind: Kind::Vectors, read: |_, embeddings| Value::Vectors(embeddings) },
    Field { name: WRITTEN_AT, kind: Kind::Date, read: |_, _| Value::Now },
];

/// The fields of a tombstone, in the order in which they are written.
pub const TOMBSTONE_FIELDS: &[Field<ReadTombstone>] = &[
    Field { name: "at_uri", kind: Kind::Keyword, read: |tombstone| Value::Text(&tombstone.at_uri) },
    Field { name: "author_did", kind: Kind::Keyword, read: |tombstone| Value::Text(&tombstone.author_did) },
    Field { name: "deleted_at", kind: Kind::Date, read: |tombstone| Value::Time(tombstone.deleted_at) },
    Field { name: WRITTEN_AT, kind: Kind::Date, read: |_| Value::Now },
];

/// A vector below `embeddings`.
pub struct VectorField {
    /// Its name.
    pub name: &'static str,
    /// Its name with that of the field above it.
    pub path: &'static str,
    /// Takes it from the embeddings of a row.
    pub read: for<'d> fn(&Embeddings<'d>) -> Option<&'d Vector>,
}

/// The vectors of a post, in the order in which they are written.
pub const VECTORS: &[VectorField] = &[
    VectorField {
        name: "all_MiniLM_L12_v2",
        path: "embeddings.all_MiniLM_L12_v2",
        read: |embeddings| embeddings.all_minilm_l12_v2,
    },
    VectorField {
        name: "all_MiniLM_L6_v2",
        path: "embeddings.all_MiniLM_L6_v2",
        read: |embeddings| embeddings.all_minilm_l6_v2,
    },
];

/// The names of some fields, and what they hold.
pub fn kinds<Read>(fields: &[Field<Read>]) -> Vec<(&'static str, Kind)> {
    fields.iter().map(|field| (field.name, field.kind)).collect()
}

/// The mapping of an index with these fields, where the object of the vectors is mapped so.
///
/// Unknown fields are kept in the source and not indexed (`dynamic: false`): one wrong document can then not fix a wrong
/// type for good, nor can many of them make the mapping grow without end.
pub fn mappings<Read>(fields: &[Field<Read>], vectors: &Json) -> Json {
    let properties: serde_json::Map<String, Json> =
        fields.iter().map(|field| (field.name.to_owned(), field.kind.mapping(vectors))).collect();
    json!({"dynamic": false, "properties": properties})
}

impl Kind {
    fn mapping(self, vectors: &Json) -> Json {
        match self {
            Kind::Keyword => json!({"type": "keyword", "ignore_above": MAX_KEYWORD_CHARS}),
            Kind::Text => {
                json!({"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}})
            }
            Kind::Date => json!({"type": "date", "format": "strict_date_optional_time"}),
            Kind::Vectors => vectors.clone(),
        }
    }
}

/// The object of the vectors, each mapped so.
pub fn vectors_mapped(vector: &Json) -> Json {
    let fields: serde_json::Map<String, Json> =
        VECTORS.iter().map(|field| (field.name.to_owned(), vector.clone())).collect();
    json!({"properties": fields})
}

fn text<'d>(text: &'d Option<std::borrow::Cow<'d, str>>) -> Value<'d> {
    text.as_deref().map_or(Value::Absent, Value::Text)
}

fn time(millis: Option<i64>) -> Value<'static> {
    millis.map_or(Value::Absent, Value::Time)
}
