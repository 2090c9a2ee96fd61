//! Which fields the documents of posts have.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value as Json;

/// What a choice of fields changes in the usual documents. It holds as long as the process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldChoice {
    /// Fields left out, vectors as `embeddings.NAME`.
    pub excluded: &'static [&'static str],
    /// Further fields, by what they are asked for as.
    pub added: &'static [&'static str],
    /// Further vectors.
    pub models: &'static [Model],
}

impl FieldChoice {
    /// Whether a field is left out.
    pub fn excludes(&self, name: &str) -> bool {
        self.excluded.contains(&name)
    }

    /// Whether further fields were asked for under this name.
    pub fn adds(&self, name: &str) -> bool {
        self.added.contains(&name)
    }
}

/// A model whose vectors are asked for.
#[derive(Debug)]
pub struct Model {
    /// Its name in `inferences.text_embeddings`.
    pub name: &'static str,
    /// The name of its vectors below `embeddings`.
    pub field: &'static str,
    /// Where its vectors are in a document: `embeddings.` and that name.
    pub path: &'static str,
    /// What it was asked for as, and what vectors left out are counted under.
    pub asked: &'static str,
    /// Values of a vector; 0: not known yet.
    dims: AtomicUsize,
}

impl Model {
    /// A model of which nothing is known yet, its vectors at `path` of a document. `asked` is what it was asked for as.
    pub fn new(name: &'static str, path: &'static str, asked: &'static str) -> Self {
        let field = path.strip_prefix("embeddings.").unwrap_or(path);
        Self { name, field, path, asked, dims: AtomicUsize::new(0) }
    }

    /// Values of a vector, where that is known.
    pub fn dims(&self) -> Option<usize> {
        Some(self.dims.load(Ordering::Relaxed)).filter(|&dims| dims > 0)
    }

    /// Whether vectors have so many values: the first one that is asked about decides for all.
    pub fn has_dims(&self, dims: usize) -> bool {
        let before = self.dims.compare_exchange(0, dims, Ordering::Relaxed, Ordering::Relaxed);
        before.err().is_none_or(|known| known == dims)
    }
}

impl PartialEq for Model {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Model {}

/// Further fields of one post.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// The values of those that there are, by the names of their fields.
    pub values: Vec<(&'static str, Json)>,
    /// What was there, but could not be read: the names that it was asked for as.
    pub dropped: Vec<&'static str>,
}

impl Added {
    /// The value of a field, if there is one.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.values.iter().find(|(field, _)| *field == name).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_vector_of_a_model_decides_how_many_values_they_have() {
        let model = Model::new("a-b", "embeddings.a_b", "vector:a-b");
        assert_eq!(model.dims(), None);
        assert!(model.has_dims(768) && !model.has_dims(384) && model.has_dims(768));
        assert_eq!(model.dims(), Some(768));
    }
}
