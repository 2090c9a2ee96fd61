//! Reads `--exclude-field` and `--add-field`.

use crate::common::exit::Failure;
use crate::model::schema::{POST_FIELDS, VECTORS};
use crate::model::{FieldChoice, Model};

/// The field that identifies a post and cannot be excluded.
const REQUIRED: &str = "at_uri";

/// The prefix of a model's name, to add its vectors.
const VECTOR_PREFIX: &str = "vector:";

/// Parses the names of fields to exclude and to add.
///
/// # Errors
///
/// A usage failure for unknown names, for fields that cannot be excluded, and for names that contradict each other.
pub(super) fn choose(excluded: &[String], added: &[String]) -> Result<FieldChoice, Failure> {
    let mut choice = FieldChoice::default();
    let mut models = Vec::new();
    let mut names = Vec::new();
    for name in added {
        if let Some(model) = name.strip_prefix(VECTOR_PREFIX) {
            models.push(new_model(model, &models)?);
        } else if let Some(asked) =
            POST_FIELDS.iter().filter_map(|field| field.asked).find(|asked| asked == name)
        {
            names.push(asked);
        } else {
            let known = addable().join(", ");
            return Err(Failure::usage(format!("--add-field (ADD_FIELDS) names {name:?}: it takes {known}")));
        }
    }
    choice.added = names.leak();
    choice.models = models.leak();
    let excluded: Result<Vec<&'static str>, Failure> = excluded.iter().map(|name| excludable(name)).collect();
    choice.excluded = excluded?.leak();
    if choice.excludes("embeddings") && !choice.models.is_empty() {
        return Err(Failure::usage(
            "--exclude-field embeddings and --add-field vector:… exclude each other: choose one",
        ));
    }
    Ok(choice)
}

/// Returns the names that `--add-field` accepts.
fn addable() -> Vec<&'static str> {
    let mut names: Vec<_> = POST_FIELDS.iter().filter_map(|field| field.asked).collect();
    names.dedup();
    names.push("vector:MODEL");
    names
}

/// Creates the model of this name. `before` are the models already added.
fn new_model(model: &str, before: &[Model]) -> Result<Model, Failure> {
    let wrong =
        |why: &str| Err(Failure::usage(format!("--add-field (ADD_FIELDS) names vector:{model}: {why}")));
    // A dot in a field name would create an object.
    let field: String =
        model.chars().map(|c| if matches!(c, '-' | '.' | '/' | ':') { '_' } else { c }).collect();
    if model.is_empty()
        || model.contains(|c: char| c.is_control() || c.is_whitespace() || c == '"' || c == '\\')
    {
        return wrong("give the name of a model without spaces, such as all-mpnet-base-v2");
    }
    if VECTORS.iter().any(|usual| usual.name == field) {
        return wrong("it is written anyway: remove it");
    }
    if before.iter().any(|other| other.field == field) {
        return wrong("it is named twice: remove one");
    }
    Ok(Model::new(
        model.to_owned().leak(),
        format!("embeddings.{field}").leak(),
        format!("{VECTOR_PREFIX}{model}").leak(),
    ))
}

/// Returns the field to exclude. A vector may be called by its name in documents or in archives, with or without
/// `embeddings.` before it.
fn excludable(name: &str) -> Result<&'static str, Failure> {
    let vector = name.strip_prefix("embeddings.").unwrap_or(name).replace('-', "_");
    if let Some(field) = VECTORS.iter().find(|field| field.name == vector) {
        return Ok(field.path);
    }
    let usual = || POST_FIELDS.iter().filter(|field| field.asked.is_none() && field.name != REQUIRED);
    if let Some(field) = usual().find(|field| field.name == name) {
        return Ok(field.name);
    }
    let vectors = VECTORS.iter().map(|field| field.path);
    let known: Vec<&str> = usual().map(|field| field.name).chain(vectors).collect();
    let why = if name == REQUIRED { ", which every post needs" } else { "" };
    Err(Failure::usage(format!(
        "--exclude-field (EXCLUDE_FIELDS) names {name:?}{why}: it takes {}",
        known.join(", ")
    )))
}

#[cfg(test)]
mod tests;
