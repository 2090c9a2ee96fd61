//! The fields of posts and tombstones. Encoder, mapping, preflight and verification all use this one list.
//!
//! Source: contract, section 3.

use serde_json::Value as Json;

use super::{Embeddings, FieldChoice, Model, Post, Tombstone, Vector};

/// Number of dimensions of the default vectors.
pub const VECTOR_DIMS: u64 = 384;

/// A field of a document.
pub struct Field<Read> {
    /// Its name.
    pub name: &'static str,
    /// The kind of its content.
    pub kind: Kind,
    /// Its name in `--add-field`; None for a default field.
    pub asked: Option<&'static str>,
    /// Reads its value.
    pub read: Read,
}

/// The kind of a field's content, which decides its mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string that is matched as a whole.
    Keyword,
    /// A text with full-text search.
    Text,
    /// A time.
    Date,
    /// The object with the vectors.
    Vectors,
    /// A URL, which may be very long.
    Link,
    /// A text that is searched by its words only.
    Words,
    /// True or false.
    Boolean,
    /// A whole number.
    Integer,
    /// A list of objects with these members, each searched separately.
    Nested(&'static [(&'static str, Kind)]),
    /// An object with these members.
    Object(&'static [(&'static str, Kind)]),
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
    /// The object with the vectors; left out if there are none.
    Vectors(&'d Embeddings<'d>),
    /// Any JSON value.
    Json(&'d Json),
}

/// Reads a field of a post.
pub type ReadPost = for<'d> fn(&'d Post<'d>, &'d Embeddings<'d>) -> Value<'d>;

/// Reads a field of a tombstone.
pub type ReadTombstone = for<'d> fn(&'d Tombstone<'d>) -> Value<'d>;

/// The field with the time at which a document was written: the only one that does not come from the archive.
pub const WRITTEN_AT: &str = "indexed_at";

/// The fields of a post, in the order in which they are written.
pub const POST_FIELDS: &[Field<ReadPost>] = &[
    Field { name: "at_uri", kind: Kind::Keyword, asked: None, read: |post, _| Value::Text(post.at_uri) },
    Field {
        name: "author_did",
        kind: Kind::Keyword,
        asked: None,
        read: |post, _| Value::Text(&post.author_did),
    },
    Field { name: "content", kind: Kind::Text, asked: None, read: |post, _| Value::Text(&post.content) },
    Field { name: "created_at", kind: Kind::Date, asked: None, read: |post, _| time(post.created_at) },
    Field {
        name: "thread_root_post",
        kind: Kind::Keyword,
        asked: None,
        read: |post, _| text(&post.thread_root_post),
    },
    Field {
        name: "thread_parent_post",
        kind: Kind::Keyword,
        asked: None,
        read: |post, _| text(&post.thread_parent_post),
    },
    Field { name: "quote_post", kind: Kind::Keyword, asked: None, read: |post, _| text(&post.quote_post) },
    Field {
        name: "embeddings",
        kind: Kind::Vectors,
        asked: None,
        read: |_, embeddings| Value::Vectors(embeddings),
    },
    Field { name: WRITTEN_AT, kind: Kind::Date, asked: None, read: |_, _| Value::Now },
    further("langs", Kind::Keyword, "langs", |post, _| added(post, "langs")),
    further("hashtags", Kind::Keyword, "hashtags", |post, _| added(post, "hashtags")),
    further("links", Kind::Link, "links", |post, _| added(post, "links")),
    further("mentions", Kind::Keyword, "mentions", |post, _| added(post, "mentions")),
    further("media", Kind::Nested(MEDIUM), "media", |post, _| added(post, "media")),
    further("contains_images", Kind::Boolean, "media", |post, _| added(post, "contains_images")),
    further("contains_video", Kind::Boolean, "media", |post, _| added(post, "contains_video")),
    further("image_count", Kind::Integer, "media", |post, _| added(post, "image_count")),
    further("video_count", Kind::Integer, "media", |post, _| added(post, "video_count")),
    further("external_embed", Kind::Object(EXTERNAL), "external_embed", |post, _| {
        added(post, "external_embed")
    }),
    further("video_transcript", Kind::Words, "video_transcript", |post, _| added(post, "video_transcript")),
    further("video_transcript_language", Kind::Keyword, "video_transcript", |post, _| {
        added(post, "video_transcript_language")
    }),
];

/// Creates a field that only `--add-field` adds.
const fn further(name: &'static str, kind: Kind, asked: &'static str, read: ReadPost) -> Field<ReadPost> {
    Field { name, kind, asked: Some(asked), read }
}

/// The members of an image or a video.
const MEDIUM: &[(&str, Kind)] = &[
    ("media_type", Kind::Keyword),
    ("mime_type", Kind::Keyword),
    ("size", Kind::Integer),
    ("width", Kind::Integer),
    ("height", Kind::Integer),
    ("alt_text", Kind::Words),
];

/// The members of an embedded web page.
const EXTERNAL: &[(&str, Kind)] =
    &[("uri", Kind::Link), ("title", Kind::Words), ("description", Kind::Words)];

/// The fields of a tombstone, in the order in which they are written.
pub const TOMBSTONE_FIELDS: &[Field<ReadTombstone>] = &[
    Field {
        name: "at_uri",
        kind: Kind::Keyword,
        asked: None,
        read: |tombstone| Value::Text(&tombstone.at_uri),
    },
    Field {
        name: "author_did",
        kind: Kind::Keyword,
        asked: None,
        read: |tombstone| Value::Text(&tombstone.author_did),
    },
    Field {
        name: "deleted_at",
        kind: Kind::Date,
        asked: None,
        read: |tombstone| Value::Time(tombstone.deleted_at),
    },
    Field { name: WRITTEN_AT, kind: Kind::Date, asked: None, read: |_| Value::Now },
];

/// A vector below `embeddings`.
pub struct VectorField {
    /// Its name.
    pub name: &'static str,
    /// Its path in a document: `embeddings.` and its name.
    pub path: &'static str,
    /// Reads it from the embeddings of a row.
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

/// Returns the fields of posts.
pub fn post_fields(choice: FieldChoice) -> impl Iterator<Item = &'static Field<ReadPost>> {
    POST_FIELDS.iter().filter(move |field| {
        field.asked.is_none_or(|asked| choice.adds(asked)) && !choice.excludes(field.name)
    })
}

/// A vector of posts.
#[derive(Clone, Copy)]
pub struct VectorName {
    /// Its name below `embeddings`.
    pub name: &'static str,
    /// Its path in a document: `embeddings.` and its name.
    pub path: &'static str,
    /// Its number of dimensions, if known.
    pub dims: Option<u64>,
    /// Its model; None for a default vector.
    pub model: Option<&'static Model>,
}

/// Returns the names of the vectors of posts.
pub fn vector_names(choice: FieldChoice) -> Vec<VectorName> {
    if choice.excludes("embeddings") {
        return Vec::new();
    }
    let usual = VECTORS.iter().filter(|field| !choice.excludes(field.path));
    let usual = usual.map(|&VectorField { name, path, .. }| VectorName {
        name,
        path,
        dims: Some(VECTOR_DIMS),
        model: None,
    });
    let others = choice.models.iter().map(|model| VectorName {
        name: model.field,
        path: model.path,
        dims: model.dims().map(|dims| dims as u64),
        model: Some(model),
    });
    usual.chain(others).collect()
}

/// Returns the vectors of a post with their names. Excluded vectors have not been decoded, so they are not among them.
pub fn vectors<'d>(
    choice: FieldChoice,
    embeddings: &Embeddings<'d>,
) -> impl Iterator<Item = (&'static str, &'d [f32])> {
    let usual = VECTORS.iter().filter_map({
        let embeddings = *embeddings;
        move |field| Some((field.name, (field.read)(&embeddings)?.as_slice()))
    });
    let others = choice.models.iter().zip(embeddings.others);
    usual.chain(others.filter_map(|(model, vector)| Some((model.field, vector.as_deref()?))))
}

/// Returns the names and kinds of fields.
pub fn kinds<Read>(fields: impl IntoIterator<Item = &'static Field<Read>>) -> Vec<(&'static str, Kind)>
where
    Read: 'static,
{
    fields.into_iter().map(|field| (field.name, field.kind)).collect()
}

/// Lists the names of the fields of posts, separated by commas.
pub fn describe(choice: FieldChoice) -> String {
    let mut names = Vec::new();
    for field in post_fields(choice) {
        match field.kind {
            Kind::Vectors => names.extend(vector_names(choice).iter().map(|vector| vector.path)),
            _ => names.push(field.name),
        }
    }
    names.join(", ")
}

fn text<'d>(text: &'d Option<std::borrow::Cow<'d, str>>) -> Value<'d> {
    text.as_deref().map_or(Value::Absent, Value::Text)
}

fn time(millis: Option<i64>) -> Value<'static> {
    millis.map_or(Value::Absent, Value::Time)
}

fn added<'d>(post: &'d Post<'_>, name: &str) -> Value<'d> {
    post.added.get(name).map_or(Value::Absent, Value::Json)
}
