//! Creates the indices for `--create-indices`.

mod fields;

use serde_json::{Value, json};

use self::fields::{mappings, vectors_mapped};
use super::agreement::lasting_disagreement;
use super::answer::{NoAnswer, answer};
use super::client::{Client, Reply};
use super::lookup;
use super::product::Product;
use crate::model::schema::{TOMBSTONE_FIELDS, kinds, post_fields};
use crate::model::{FieldChoice, Names};
use crate::observe::finding::Check;

/// An index to create if its alias is missing.
struct Plan {
    alias: &'static str,
    index: String,
    is_of_posts: bool,
    fields: FieldChoice,
}

impl Plan {
    fn of(names: Names, alias: &'static str) -> Self {
        Self { alias, index: index_name_for(alias), is_of_posts: alias == names.posts, fields: names.fields }
    }

    /// Returns the request body that creates the index and its alias. `vectors` is the mapping of the vectors.
    fn body(&self, product: Product, vectors: &Value) -> Value {
        let (mappings, settings) = if self.is_of_posts {
            (mappings(&kinds(post_fields(self.fields)), vectors), product.vector_settings())
        } else {
            (mappings(&kinds(TOMBSTONE_FIELDS), vectors), json!({}))
        };
        json!({"aliases": {self.alias: {"is_write_index": true}}, "mappings": mappings, "settings": settings})
    }

    fn path(&self) -> String {
        format!("/{}", self.index)
    }

    /// Sends the request for the assumed product. If the server does not have that product's vector type, sends it for
    /// the other product. Returns the last reply, and the product that its request was for.
    fn ask(&self, client: &Client, change: impl Fn(&mut Value)) -> Result<(Reply, Product), NoAnswer> {
        let first = client.product();
        for product in [first, first.other()] {
            let mut body =
                self.body(product, &vectors_mapped(self.fields, |dims| product.vector_mapping(dims)));
            change(&mut body);
            let reply = client.put(&self.path(), body.to_string().as_bytes());
            let reply = answer(client, reply)?;
            // Seen in OpenSearch 2.19.4.
            if reply.status == 400 && reply.reason().contains("Dimension value missing") {
                return Err(self.without_dimension(&reply));
            }
            if !product.lacks_vectors(&reply) {
                if self.is_of_posts && reply.status != 403 {
                    client.set_product(product);
                }
                return Ok((reply, product));
            }
        }
        Err(self.without_vectors())
    }

    /// Returns the refusal for a server that maps no vector without its dimension, which a further model has only in the
    /// rows.
    fn without_dimension(&self, reply: &Reply) -> NoAnswer {
        let text = format!(
            "--create-indices cannot map the vectors of a further model (--add-field vector:MODEL) on this server, \
             which requires their dimension ({}): run once without vector:MODEL, then add the field to the mapping of {}",
            reply.reason(),
            self.index
        );
        NoAnswer::refused(self.alias, text)
    }

    /// Returns the refusal for a server without any vector type. It says what can be created there.
    fn without_vectors(&self) -> NoAnswer {
        let kept = json!({"type": "object", "enabled": false});
        let mut body = self.body(Product::OpenSearch, &kept);
        body["settings"] = json!({});
        let text = format!(
            "--create-indices: this server has no field type for vectors, neither dense_vector nor \
             knn_vector: install the k-NN plugin (opensearch-knn); or, to store vectors without searching \
             by them, create the index by hand, with PUT {} {body}",
            self.path()
        );
        NoAnswer::refused(self.alias, text)
    }
}

/// Creates the index `NAME_v1` with the alias `NAME` for each name that is neither an index nor an alias yet. Never
/// touches what exists. Returns the names of the new indices.
///
/// # Errors
///
/// Returns `Refused` if the server does not allow it, `Unavailable` if it cannot for now.
pub fn create_missing(client: &Client, names: Names) -> Result<Vec<String>, NoAnswer> {
    if let Some(text) = lasting_disagreement(client, names) {
        return Err(NoAnswer::refused("connection", text));
    }
    let mut created = Vec::new();
    // Posts first: their vectors are the most likely to be impossible.
    for plan in names.both().map(|alias| Plan::of(names, alias)) {
        if !exists(client, plan.alias)? && create(client, &plan)? {
            created.push(plan.index);
        }
    }
    Ok(created)
}

/// Name of a query that no server knows.
const NO_QUERY: &str = "megastream_ingest_check";

/// Checks whether an index could be created, without creating it: the request has an alias with an invalid filter.
/// Servers judge the privilege and the mapping before the filter, and create nothing if any of them is wrong (seen in
/// Elasticsearch 8.12 and 9.5 and OpenSearch 2.19 to 3.9).
pub(super) fn try_to_create(client: &Client, names: Names, alias: &'static str) -> Result<Check, NoAnswer> {
    let plan = Plan::of(names, alias);
    let (reply, product) =
        plan.ask(client, |body| body["aliases"][alias]["filter"] = json!({NO_QUERY: {}}))?;
    let would_create =
        format!("--create-indices would create the index {} with the alias {alias}", plan.index);
    Ok(match reply.status {
        400 if reply.reason().contains("filter for alias") => {
            let vectors = if plan.is_of_posts {
                format!(", and vectors as {}", product.vector_type())
            } else {
                String::new()
            };
            Check::ok(alias, format!("there is none yet: {would_create}{vectors}"))
        }
        403 => not_allowed(client, &plan, &reply),
        400 => {
            Check::failed(alias, format!("{would_create}, but the server refuses that: {}", reply.reason()))
        }
        _ => Check::warning(
            alias,
            format!("there is none yet: {would_create}, if the server allows it ({})", reply.reason()),
        ),
    })
}

fn not_allowed(client: &Client, plan: &Plan, reply: &Reply) -> Check {
    let (index, alias) = (&plan.index, plan.alias);
    let text = format!(
        "this run may not create {index} with the alias {alias}: {} on {index} and {alias}, or create them by hand ({})",
        client.product().grant("manage"),
        reply.reason()
    );
    Check::failed("privileges", text)
}

/// Returns the name of the index to create for a missing alias.
pub(super) fn index_name_for(alias: &str) -> String {
    format!("{alias}_v1")
}

/// Returns whether a name is an index or an alias. Looks it up as the preflight does, and refuses if the answer is
/// unclear: what exists must never be touched, and a server that does not support `HEAD` also answers it with 404.
fn exists(client: &Client, alias: &'static str) -> Result<bool, NoAnswer> {
    match lookup::ask(client, alias)? {
        None => Ok(false),
        Some(indices) if !indices.is_empty() => Ok(true),
        Some(_) => Err(not_shown(client, alias)),
    }
}

/// Returns the refusal for a server that does not show what exists.
pub(super) fn not_shown(client: &Client, alias: &'static str) -> NoAnswer {
    if let Some(page) = client.only_page() {
        return NoAnswer::only_pages(&page);
    }
    NoAnswer::refused(
        alias,
        format!(
            "--create-indices: this server does not show this key whether the index or alias {alias} \
             exists: grant this run the index privilege view_index_metadata, or create it by hand and \
             remove the option"
        ),
    )
}

/// Returns the refusal for an index that exists without its alias.
pub(super) fn without_alias(alias: &'static str, index: &str) -> NoAnswer {
    NoAnswer::refused(
        alias,
        format!("index {index} exists without the alias {alias}: add {alias} to {index}, or remove {index}"),
    )
}

/// Creates an index together with its alias in one step. Returns false if another process was faster.
fn create(client: &Client, plan: &Plan) -> Result<bool, NoAnswer> {
    let (reply, _) = plan.ask(client, |_| ())?;
    let is_new = judge_created(client, plan, &reply)?;
    // Another process created index and alias together. Without the alias, the index is something else.
    if is_new || exists(client, plan.alias)? {
        Ok(is_new)
    } else {
        Err(without_alias(plan.alias, &plan.index))
    }
}

/// Returns whether the index was created; false: it already exists.
fn judge_created(client: &Client, plan: &Plan, reply: &Reply) -> Result<bool, NoAnswer> {
    match (reply.status, reply.error_type().as_str()) {
        (200, _) => Ok(true),
        (400, "resource_already_exists_exception") => Ok(false),
        (403, _) => Err(NoAnswer::Refused(vec![not_allowed(client, plan, reply)])),
        _ => Err(NoAnswer::unexpected(plan.alias, &format!("PUT {}", plan.path()), reply)),
    }
}

#[cfg(test)]
mod tests;
