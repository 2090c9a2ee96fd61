//! A row as SQLite returns it.

/// A column as SQLite returned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// NULL.
    Null,
    /// A text. SQLite does not guarantee that it is UTF-8.
    Text(&'a [u8]),
    /// A text or blob of this many bytes, more than [`MAX_FIELD_BYTES`](super::MAX_FIELD_BYTES). It was not read.
    TooLong(u64),
    /// A blob, an integer or a real.
    Other,
}

impl<'a> Field<'a> {
    /// Returns the bytes of a text.
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Field::Text(bytes) => Some(bytes),
            Field::Null | Field::TooLong(_) | Field::Other => None,
        }
    }
}

/// A row of the table of posts.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The row id.
    pub id: i64,
    /// The URI of the post.
    pub at_uri: Field<'a>,
    /// The DID of the author.
    pub did: Field<'a>,
    /// The event, as JSON text.
    pub raw_post: Field<'a>,
    /// The results of models for the post, as JSON text. [`classify`](crate::pipeline::decode::classify) ignores it.
    pub inferences: Field<'a>,
}
