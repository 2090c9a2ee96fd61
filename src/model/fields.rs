//! The fields of the documents of posts.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value as Json;

/// A choice of fields that differs from the usual documents. It lives as long as the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldChoice {
    /// Fields to leave out; vectors as `embeddings.NAME`.
    pub excluded: &'static [&'static str],
    /// Further fields, by their requested names.
    pub added: &'static [&'static str],
    /// Further vectors.
    pub models: &'static [Model],
}

impl FieldChoice {
    /// Whether a field is left out.
    pub fn excludes(&self, name: &str) -> bool {
        self.excluded.contains(&name)
    }

    /// Whether further fields were requested under this name.
    pub fn adds(&self, name: &str) -> bool {
        self.added.contains(&name)
    }
}

/// A model whose vectors are requested.
#[derive(Debug)]
pub struct Model {
    /// Its name in `inferences.text_embeddings`.
    pub name: &'static str,
    /// The name of its vectors below `embeddings`.
    pub field: &'static str,
    /// The path of its vectors in a document: `embeddings.` and that name.
    pub path: &'static str,
    /// The name that it was requested by, under which left-out vectors are counted.
    pub asked: &'static str,
    /// Number of values of a vector. 0: not known yet.
    dims: AtomicUsize,
}

impl Model {
    /// A model whose dimensions are not known yet. `path` is that of its vectors in a document, `asked` the requested
    /// name.
    pub fn new(name: &'static str, path: &'static str, asked: &'static str) -> Self {
        let field = path.strip_prefix("embeddings.").unwrap_or(path);
        Self { name, field, path, asked, dims: AtomicUsize::new(0) }
    }

    /// Number of values of a vector, if known.
    pub fn dims(&self) -> Option<usize> {
        Some(self.dims.load(Ordering::Relaxed)).filter(|&dims| dims > 0)
    }

    /// Whether vectors have this many values. The first call decides for all.
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
    /// The values that are there, by field name.
    pub values: Vec<(&'static str, Json)>,
    /// The requested names of unreadable fields.
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
    fn the_first_vector_of_a_model_sets_its_dimensions() {
        let model = Model::new("a-b", "embeddings.a_b", "vector:a-b");
        assert_eq!(model.dims(), None);
        assert!(model.has_dims(768) && !model.has_dims(384) && model.has_dims(768));
        assert_eq!(model.dims(), Some(768));
    }
}
