//! Checks whether the mapping of an index accepts the vectors of posts.

use serde_json::Value;

use super::{Dynamic, NAME, of_template, templates, type_of};
use crate::model::FieldChoice;
use crate::model::schema::{VectorName, vector_names};
use crate::observe::finding::Check;
use crate::sink::elasticsearch::lookup::property;
use crate::sink::elasticsearch::product::Product;

/// Judges the mappings of all vectors that are sent. Returns whether all are Elasticsearch's `dense_vector`.
pub(in crate::sink::elasticsearch::preflight) fn judge_vectors(
    index: &str,
    mappings: &Value,
    choice: FieldChoice,
    product: Product,
) -> (Vec<Check>, bool) {
    let embeddings = property(mappings, "embeddings");
    let dynamic = Dynamic::of(embeddings.unwrap_or(&Value::Null), Dynamic::of(mappings, Dynamic::Guess));
    let mut checks = Vec::new();
    let mut dense = true;
    for vector in vector_names(choice) {
        let (field, wanted) = (vector.name, product.wanted_vector(vector.dims));
        let name = format!("embeddings.{field}");
        let mapped =
            embeddings.and_then(|object| property(object, field)).or_else(|| property(mappings, &name));
        let template =
            |path| templates::mapping_of(mappings, path, "object").filter(|_| dynamic == Dynamic::Guess);
        // A template may catch the whole object, too.
        let object = embeddings.or_else(|| template("embeddings")).map(type_of);
        let (is_dense, check) = match (mapped, object) {
            _ if embeddings.is_some_and(|object| object.get("enabled") == Some(&Value::Bool(false))) => {
                (false, Some(judge_no_vector(index, &name, Dynamic::Keep, &wanted)))
            }
            (Some(mapping), _) => judge_vector(index, &name, vector, mapping, product),
            (None, None | Some("object" | "nested")) => match template(&name) {
                // Whether the server would read base64 in a field that is not there yet is not known.
                Some(mapping) => {
                    let judged = of_template(index, |by| judge_vector(by, &name, vector, mapping, product).1);
                    (false, judged.into_iter().next())
                }
                None => (false, Some(judge_no_vector(index, &name, dynamic, &wanted))),
            },
            (None, Some(other)) => {
                let text = format!(
                    "{index} maps embeddings as {other}: create the index again with {wanted} {RECREATE_HINT}"
                );
                (false, Some(Check::failed(NAME, text)))
            }
        };
        dense &= is_dense;
        checks.extend(check);
    }
    (checks, dense)
}

/// Hint for a mapping that already exists.
const RECREATE_HINT: &str =
    "(a mapping cannot be changed; --create-indices creates the right one if the index is missing)";

/// Judges the mapping of a vector field. Returns whether it is a `dense_vector`, and what is wrong with it.
///
/// For an additional model, the mapping's dimension becomes that of this run's vectors.
fn judge_vector(
    index: &str,
    name: &str,
    vector: VectorName,
    mapping: &Value,
    product: Product,
) -> (bool, Option<Check>) {
    let dims = mapping.get("dims").or(mapping.get("dimension")).map(|dims| dims.as_u64());
    let text = |parameter: &str| mapping.get(parameter).and_then(Value::as_str);
    // OpenSearch returns it in capitals.
    let element = text("element_type").or(text("data_type")).unwrap_or("float").to_ascii_lowercase();
    let is_vector = match type_of(mapping) {
        "dense_vector" => matches!(&*element, "float" | "bfloat16"),
        // OpenSearch's type accepts the same arrays, but reads base64 in the other byte order.
        "knn_vector" => !matches!(&*element, "byte" | "binary"),
        _ => false,
    };
    if let (Some(model), Some(Some(dims))) = (vector.model, dims)
        && is_vector
    {
        model.has_dims(usize::try_from(dims).unwrap_or_default());
    }
    let vector = VectorName {
        dims: vector.model.map_or(vector.dims, |model| model.dims().map(|dims| dims as u64)),
        ..vector
    };
    let wanted = product.wanted_vector(vector.dims);
    let problem = if !is_vector {
        let kind = if element == "float" { type_of(mapping) } else { &*element };
        format!("{index} maps {name} as {kind}: create the index again with {wanted} {RECREATE_HINT}")
    } else if dims.is_some_and(|dims| vector.dims.is_some() && dims != vector.dims) {
        let dims = dims.flatten().unwrap_or_default();
        format!("{index} maps {name} with {dims} dims: create the index again with {wanted} {RECREATE_HINT}")
    } else {
        let wants_length = text("similarity") == Some("dot_product");
        let warning = wants_length.then(|| {
            let text = format!(
                "{index} maps {name} with the similarity dot_product, which accepts only vectors of length \
                 1 and refuses other posts: use cosine, or expect rejected rows"
            );
            Check::warning(NAME, text)
        });
        return (type_of(mapping) == "dense_vector", warning);
    };
    (false, Some(Check::failed(NAME, problem)))
}

/// Judges a vector field without a mapping.
///
/// A guessed type is refused. Elasticsearch guesses `dense_vector` since 8.11, but older versions and OpenSearch guess
/// `float`, and every version guesses `text` from base64. A mapping cannot be changed afterwards.
fn judge_no_vector(index: &str, name: &str, dynamic: Dynamic, wanted: &str) -> Check {
    match dynamic {
        Dynamic::Keep => Check::warning(NAME, format!("{index} does not index {name}: it is not searchable")),
        Dynamic::Guess => Check::failed(
            NAME,
            format!(
                "{index} does not map {name} and would guess its type from the first post: \
                 add it to the mapping as {wanted}"
            ),
        ),
        Dynamic::Reject => Check::failed(
            NAME,
            format!("{index} is strict and does not map {name}: add it to the mapping as {wanted}"),
        ),
    }
}
