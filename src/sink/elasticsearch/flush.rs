//! Flushes confirmed documents to disk on servers that may confirm before they sync.

use super::answer::{NoAnswer, answer};
use super::bulk::reply::judge_shards;
use super::client::{Client, Reply};
use super::outcome::is_unavailable;

/// Flushes the indices behind some names, separated by commas. Elasticsearch Serverless has no flush and needs none:
/// its store already has everything that is confirmed.
///
/// # Errors
///
/// Returns `Refused` if the run may not flush, and `Unavailable` if a shard is not flushed.
pub(super) fn flush(client: &Client, names: &str) -> Result<(), NoAnswer> {
    let reply = answer(client, client.post(&format!("/{names}/_flush"), b""))?;
    match reply.status {
        200 if judge_shards(&reply.body).is_ok() => Ok(()),
        410 if is_serverless(&reply) => Ok(()),
        _ if reply.is_page() && !is_unavailable(&reply) => {
            Err(NoAnswer::not_elasticsearchs(&format!("POST /{names}/_flush"), &reply))
        }
        401 | 403 if !is_unavailable(&reply) => {
            let why = format!("{} ({})", forbidden(client, names), reply.reason());
            Err(NoAnswer::refused("durability", why))
        }
        _ => Err(NoAnswer::unavailable_as(format!("the flush answers {}", reply.reason()), &reply)),
    }
}

/// Returns the message for a run that may not flush.
pub(super) fn forbidden(client: &Client, names: &str) -> String {
    let product = client.product();
    format!(
        "{names} may confirm writes before they are on disk (index.translog.durability is async, or the server does not \
         show it), so the run must flush before it marks archives, but it may not flush: {}, or set the \
         durability to request and let this run see the settings ({})",
        product.grant("maintenance"),
        product.privilege("view_index_metadata"),
    )
}

/// Returns whether the server refuses an API because it is Elasticsearch Serverless.
///
/// Source: Elasticsearch, `RestController` ("not available when running in serverless mode").
pub(super) fn is_serverless(reply: &Reply) -> bool {
    [400, 410].contains(&reply.status) && reply.reason().contains("serverless mode")
}

#[cfg(test)]
mod tests {
    use super::super::preflight::tests::client;
    use super::*;

    #[test]
    fn a_flush_counts_only_if_no_shard_failed() {
        let all_shards_flushed = |body| flush(&client(vec![(200, body)]), "posts").is_ok();
        assert!(all_shards_flushed(r#"{"_shards":{"total":4,"successful":2,"failed":0}}"#));
        assert!(!all_shards_flushed(r#"{"_shards":{"total":4,"successful":1,"failed":1}}"#));
        assert!(!all_shards_flushed("{}"));
    }

    #[test]
    fn a_flush_that_is_forbidden_is_refused_in_the_words_of_the_product() {
        // Seen in OpenSearch 2.19.4, shortened.
        let no = r#"{"error":{"type":"security_exception","reason":"no permissions for [indices:admin/flush] and User [name=w]"},"status":403}"#;
        let error = flush(&client(vec![(403, no)]), "posts").unwrap_err();
        assert!(matches!(error, NoAnswer::Refused(_)), "{error:?}");
        assert!(error.to_string().contains("indices:admin/flush*"), "{error}");
    }

    #[test]
    fn serverless_needs_no_flush() {
        let none = r#"{"error":{"type":"api_not_available_exception","reason":"Request for uri [/posts/_flush] with method [POST] exists but is not available when running in serverless mode"},"status":410}"#;
        assert_eq!(flush(&client(vec![(410, none)]), "posts"), Ok(()));
        assert!(flush(&client(vec![(410, "{}")]), "posts").is_err());
    }
}
