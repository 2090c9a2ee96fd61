//! Writes the two lines of a post or a tombstone in a bulk request: action and document.
//!
//! [`schema`](crate::model::schema) defines the documents and the order of their fields.

use super::VectorEncoding;
use super::action::write_index;
use super::replayed::write_replayed;
use super::text::{write_string, write_vector};
use crate::common::timestamp::write_rfc3339_millis;
use crate::model::schema::{TOMBSTONE_FIELDS, Value, post_fields, vectors};
use crate::model::{Action, Document, Embeddings, FieldChoice, Names};

/// Appends the action line and the document line. `indexed_at` is in milliseconds since 1970.
pub fn write_action(
    out: &mut Vec<u8>,
    names: Names,
    action: &Action,
    document: &Document<'_>,
    vectors: VectorEncoding,
    indexed_at: i64,
) {
    write_index(out, names.of(action.kind), &action.id, action.version);
    let choice = names.fields;
    let mut fields = Fields { out, choice, vectors, indexed_at, is_first: true };
    match document {
        Document::Post { post, embeddings } => {
            post_fields(choice).for_each(|field| fields.write(field.name, (field.read)(post, embeddings)));
            out.push(b'}');
        }
        Document::Tombstone(tombstone) => {
            TOMBSTONE_FIELDS.iter().for_each(|field| fields.write(field.name, (field.read)(tombstone)));
            out.push(b'}');
        }
        Document::Replayed(document) => write_replayed(out, document, vectors),
    }
    out.push(b'\n');
}

/// Writes a document field by field.
struct Fields<'o> {
    out: &'o mut Vec<u8>,
    choice: FieldChoice,
    vectors: VectorEncoding,
    indexed_at: i64,
    is_first: bool,
}

impl Fields<'_> {
    fn write(&mut self, name: &str, value: Value<'_>) {
        match value {
            Value::Absent => {}
            Value::Text(text) => {
                self.name(name);
                write_string(self.out, text);
            }
            Value::Time(millis) => self.time(name, millis),
            Value::Now => self.time(name, self.indexed_at),
            Value::Vectors(embeddings) if vectors(self.choice, embeddings).next().is_none() => {}
            Value::Vectors(embeddings) => {
                self.name(name);
                write_embeddings(self.out, self.choice, embeddings, self.vectors);
            }
            Value::Json(value) => {
                self.name(name);
                self.out.extend_from_slice(value.to_string().as_bytes());
            }
        }
    }

    fn time(&mut self, name: &str, millis: i64) {
        self.name(name);
        self.out.push(b'"');
        write_rfc3339_millis(self.out, millis);
        self.out.push(b'"');
    }

    fn name(&mut self, name: &str) {
        self.out.push(if self.is_first { b'{' } else { b',' });
        self.is_first = false;
        write_name(self.out, name);
    }
}

fn write_embeddings(
    out: &mut Vec<u8>,
    choice: FieldChoice,
    embeddings: &Embeddings<'_>,
    encoding: VectorEncoding,
) {
    let mut before = b'{';
    for (name, vector) in vectors(choice, embeddings) {
        out.push(before);
        write_name(out, name);
        write_vector(out, vector, encoding);
        before = b',';
    }
    out.push(b'}');
}

/// Appends a field's name and colon. The program's field names need no escape.
fn write_name(out: &mut Vec<u8>, name: &str) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}
