//! Which fields post documents have.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value as Json;

use crate::common::mutex::Mutex;
use crate::common::text::on_one_line;

/// The choice made by `--exclude-field` and `--add-field`. It lives as long as the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldChoice {
    /// Fields to leave out. Vectors are called `embeddings.NAME`.
    pub excluded: &'static [&'static str],
    /// Fields to add, by their names in `--add-field`.
    pub added: &'static [&'static str],
    /// Models whose vectors are added.
    pub models: &'static [Model],
}

impl FieldChoice {
    /// Whether a field is left out.
    pub fn excludes(&self, name: &str) -> bool {
        self.excluded.contains(&name)
    }

    /// Whether `--add-field` has this name.
    pub fn adds(&self, name: &str) -> bool {
        self.added.contains(&name)
    }
}

/// A model whose vectors are added to documents.
#[derive(Debug)]
pub struct Model {
    /// Its name in `inferences.text_embeddings`.
    pub name: &'static str,
    /// The name of its vectors below `embeddings`.
    pub field: &'static str,
    /// The path of its vectors in a document: `embeddings.` and [`Self::field`].
    pub path: &'static str,
    /// Its name in `--add-field`. Left-out vectors are counted under it.
    pub asked: &'static str,
    /// Number of dimensions; 0 if not known yet.
    dims: AtomicUsize,
    /// Whether any row had a vector of this model.
    was_met: AtomicBool,
    /// The first names of models that no field is for, until this model was met.
    others_met: Mutex<BTreeSet<String>>,
}

impl Model {
    /// Creates a model whose number of dimensions is not known yet. The arguments are the fields of the same names.
    pub fn new(name: &'static str, path: &'static str, asked: &'static str) -> Self {
        let field = path.strip_prefix("embeddings.").unwrap_or(path);
        let (dims, was_met, others_met) = Default::default();
        Self { name, field, path, asked, dims, was_met, others_met }
    }

    /// Records that a row has a vector of this model.
    pub fn met(&self) {
        self.was_met.store(true, Ordering::Relaxed);
    }

    /// Records that a row has a vector of a model that no field is for. This model's name may be misspelled.
    pub fn met_other(&self, name: &str) {
        const NAMED: usize = 10;
        if !self.was_met.load(Ordering::Relaxed) {
            let mut others = self.others_met.lock();
            if others.len() < NAMED && !others.contains(name) {
                others.insert(name.to_owned());
            }
        }
    }

    /// Returns a warning if no row had a vector of this model.
    pub fn missing(&self) -> Option<String> {
        if self.was_met.load(Ordering::Relaxed) {
            return None;
        }
        let others = self.others_met.lock();
        let names: Vec<String> = others.iter().map(|name| on_one_line(name, 60)).collect();
        let found = if names.is_empty() {
            "the rows have vectors of no further model".to_owned()
        } else {
            format!("the rows have vectors of {}", names.join(", "))
        };
        Some(format!(
            "--add-field {}: no row has a vector of this model; {found}: check the name",
            self.asked
        ))
    }

    /// Returns the number of dimensions, if known.
    pub fn dims(&self) -> Option<usize> {
        Some(self.dims.load(Ordering::Relaxed)).filter(|&dims| dims > 0)
    }

    /// Whether vectors have this many dimensions. The first call sets the number.
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

/// The values of `--add-field` for one post.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// The values, by field name.
    pub values: Vec<(&'static str, Json)>,
    /// The names in `--add-field` of fields that could not be read.
    pub dropped: Vec<&'static str>,
}

impl Added {
    /// Returns the value of a field, if there is one.
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

    #[test]
    fn a_model_without_vectors_is_named_with_those_that_have_some() {
        let model = Model::new("a-b", "embeddings.a_b", "vector:a-b");
        assert!(model.missing().unwrap().contains("of no further model"));
        (0..2).for_each(|_| model.met_other("a-c"));
        (0..20).for_each(|n| model.met_other(&format!("\u{1b}{n:2}")));
        let text = model.missing().unwrap();
        assert!(text.contains("vector:a-b") && text.contains("a-c") && !text.contains('\u{1b}'), "{text}");
        assert_eq!(text.matches(", ").count(), 9, "{text}");
        model.met();
        assert_eq!(model.missing(), None);
    }
}
