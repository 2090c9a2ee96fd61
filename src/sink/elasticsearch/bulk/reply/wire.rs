//! The replies of Elasticsearch to bulk requests, look-ups and searches, as far as they are read.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Number;
use serde_json::value::RawValue;

use super::item_error::ItemError;

#[derive(Deserialize)]
pub(super) struct BulkReply {
    pub(super) items: Vec<BulkItem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum BulkItem {
    Index(ItemResult),
    Delete(ItemResult),
    Create(IgnoredAny),
    Update(IgnoredAny),
}

impl BulkItem {
    /// Returns the id of the document, if the item has it.
    pub(super) fn id(&self) -> Option<&str> {
        match self {
            Self::Index(result) | Self::Delete(result) => result.id.as_deref(),
            Self::Create(_) | Self::Update(_) => None,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct ItemResult {
    pub(super) status: u16,
    /// What was done, such as `created`.
    pub(super) result: Option<String>,
    #[serde(rename = "_id")]
    pub(super) id: Option<String>,
    #[serde(rename = "_index")]
    pub(super) index: Option<String>,
    #[serde(rename = "_version")]
    pub(super) version: Option<Number>,
    pub(super) error: Option<ItemError>,
}

#[derive(Deserialize)]
pub(super) struct MultiGetReply<'b> {
    #[serde(borrow)]
    pub(super) docs: Vec<MultiGetDoc<'b>>,
}

#[derive(Deserialize)]
pub(super) struct MultiGetDoc<'b> {
    #[serde(borrow, rename = "_id")]
    pub(super) id: Cow<'b, str>,
    pub(super) found: Option<bool>,
    #[serde(rename = "_version")]
    pub(super) version: Option<Number>,
    #[serde(rename = "_seq_no")]
    pub(super) seq_no: Option<u64>,
    #[serde(rename = "_primary_term")]
    pub(super) primary_term: Option<u64>,
    #[serde(rename = "_routing")]
    pub(super) routing: Option<IgnoredAny>,
    #[serde(borrow, rename = "_source")]
    pub(super) source: Option<&'b RawValue>,
    pub(super) error: Option<ItemError>,
}

#[derive(Deserialize)]
pub(super) struct ShardsReply {
    #[serde(rename = "_shards")]
    pub(super) shards: Shards,
}

#[derive(Deserialize)]
pub(super) struct Shards {
    pub(super) failed: u64,
}

#[derive(Deserialize)]
pub(super) struct SearchReply {
    pub(super) timed_out: bool,
    pub(super) hits: Hits,
}

#[derive(Deserialize)]
pub(super) struct Hits {
    pub(super) total: Total,
    /// Missing from a filtered answer if there are none.
    #[serde(default)]
    pub(super) hits: Vec<Hit>,
}

#[derive(Deserialize)]
pub(super) struct Total {
    pub(super) value: u64,
}

#[derive(Deserialize)]
pub(super) struct Hit {
    #[serde(rename = "_id")]
    pub(super) id: String,
}
