//! The fields of posts and tombstones. Encoder, mapping, preflight and verification all use this one list.
//!
//! Source: contract, section 3.

use serde_json::Value as Json;

use super::{DIMENSIONS, Embeddings, FieldChoice, Model, Post, Tombstone, Vector};

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

/// Creates a field of posts that only `--add-field` adds, from its name, its kind and its name in `--add-field`.
macro_rules! further {
    ($name:literal, $kind:expr, $asked:literal) => {
        Field { name: $name, kind: $kind, asked: Some($asked), read: |post, _| added(post, $name) }
    };
}

/// The fields of a post, in the order in which they are written.
pub const POST_FIELDS: &[Field<ReadPost>] = &[
    usual("at_uri", Kind::Keyword, |post, _| Value::Text(post.at_uri)),
    usual("author_did", Kind::Keyword, |post, _| Value::Text(&post.author_did)),
    usual("content", Kind::Text, |post, _| Value::Text(&post.content)),
    usual("created_at", Kind::Date, |post, _| time(post.created_at)),
    usual("thread_root_post", Kind::Keyword, |post, _| text(&post.thread_root_post)),
    usual("thread_parent_post", Kind::Keyword, |post, _| text(&post.thread_parent_post)),
    usual("quote_post", Kind::Keyword, |post, _| text(&post.quote_post)),
    usual("embeddings", Kind::Vectors, |_, embeddings| Value::Vectors(embeddings)),
    usual(WRITTEN_AT, Kind::Date, |_, _| Value::Now),
    further!("langs", Kind::Keyword, "langs"),
    further!("hashtags", Kind::Keyword, "hashtags"),
    further!("links", Kind::Link, "links"),
    further!("mentions", Kind::Keyword, "mentions"),
    further!("media", Kind::Nested(MEDIUM), "media"),
    further!("contains_images", Kind::Boolean, "media"),
    further!("contains_video", Kind::Boolean, "media"),
    further!("image_count", Kind::Integer, "media"),
    further!("video_count", Kind::Integer, "media"),
    further!("external_embed", Kind::Object(EXTERNAL), "external_embed"),
    further!("video_transcript", Kind::Words, "video_transcript"),
    further!("video_transcript_language", Kind::Keyword, "video_transcript"),
];

/// Creates a default field of posts.
const fn usual(name: &'static str, kind: Kind, read: ReadPost) -> Field<ReadPost> {
    Field { name, kind, asked: None, read }
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
    of_tombstone("at_uri", Kind::Keyword, |tombstone| Value::Text(&tombstone.at_uri)),
    of_tombstone("author_did", Kind::Keyword, |tombstone| Value::Text(&tombstone.author_did)),
    of_tombstone("deleted_at", Kind::Date, |tombstone| Value::Time(tombstone.deleted_at)),
    of_tombstone(WRITTEN_AT, Kind::Date, |_| Value::Now),
];

const fn of_tombstone(name: &'static str, kind: Kind, read: ReadTombstone) -> Field<ReadTombstone> {
    Field { name, kind, asked: None, read }
}

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
        dims: Some(DIMENSIONS as u64),
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
