//! A row as SQLite returns it.

/// A column as SQLite returned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// NULL.
    Null,
    /// A text. SQLite does not guarantee UTF-8.
    Text(&'a [u8]),
    /// A text or blob of this many bytes, over [`MAX_FIELD_BYTES`](super::MAX_FIELD_BYTES). It was not read.
    TooLong(u64),
    /// A blob, an integer or a real.
    Other,
}

impl<'a> Field<'a> {
    /// The bytes of a text.
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
    /// URI of the post that the event is about.
    pub at_uri: Field<'a>,
    /// DID of the author.
    pub did: Field<'a>,
    /// The event: a JSON text.
    pub raw_post: Field<'a>,
    /// The models' results for the post: a JSON text. Ignored by
    /// [`classify`](crate::pipeline::decode::classify).
    pub inferences: Field<'a>,
}
