//! Differences between Elasticsearch and OpenSearch, and how to recognise each.
//!
//! `GET /` is not used, because credentials for two indices alone may not call it. Three other signs are: OpenSearch
//! sets the bit 0x08000000 in the version that created an index (`index.version.created`); its security plugin has its
//! own wording of refusals; and before there is an index, the server names the field types for which it has no handler.
//!
//! Source: OpenSearch, `Version.java` (MASK) and "k-NN vector field type"; Elasticsearch, "Dense vector field type";
//! both seen (2.19.4, 8.12.2, 9.5.3).

use serde_json::{Value, json};

use super::client::reply::Reply;

/// End of the path of a search that only primary shards answer. OpenSearch before 2.8 does not know it.
pub(super) const OF_PRIMARIES: &str = "&preference=_primary";

/// OpenSearch sets this bit in its versions, so they are above all of Elasticsearch's.
const OPENSEARCH_BIT: u64 = 0x0800_0000;

/// The product of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Product {
    /// Elasticsearch; also assumed if nothing is known.
    #[default]
    Elasticsearch,
    /// OpenSearch, including Amazon's service of that name.
    OpenSearch,
}

impl Product {
    /// Returns the product that created an index, by its version; None: that is not a number.
    pub(super) fn of_version(created: &str) -> Option<Self> {
        let created: u64 = created.parse().ok()?;
        Some(if created & OPENSEARCH_BIT == 0 { Self::Elasticsearch } else { Self::OpenSearch })
    }

    /// Returns the product that words a refusal like this; None: neither does.
    pub(super) fn of_refusal(reply: &Reply) -> Option<Self> {
        let reason = reply.reason();
        if reply.status == 403 && reason.contains("no permissions for [") {
            Some(Self::OpenSearch)
        } else if reply.status == 403 && reason.contains("is unauthorized for") {
            Some(Self::Elasticsearch)
        } else {
            None
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::Elasticsearch => Self::OpenSearch,
            Self::OpenSearch => Self::Elasticsearch,
        }
    }

    /// Returns the type of the product's vector fields.
    pub(super) fn vector_type(self) -> &'static str {
        match self {
            Self::Elasticsearch => "dense_vector",
            Self::OpenSearch => "knn_vector",
        }
    }

    /// Describes the required vector field for users.
    pub(super) fn wanted_vector(self, dims: Option<u64>) -> String {
        match (self, dims) {
            (Self::Elasticsearch, Some(dims)) => format!("dense_vector of {dims} dims"),
            (Self::Elasticsearch, None) => "dense_vector".to_owned(),
            (Self::OpenSearch, Some(dims)) => {
                format!("knn_vector of the dimension {dims}, in an index with index.knn")
            }
            (Self::OpenSearch, None) => "knn_vector, in an index with index.knn".to_owned(),
        }
    }

    /// Returns the mapping of a vector field. Defaults that differ between versions are written out. Without a
    /// dimension, the first vector that is indexed decides; OpenSearch refuses such a field.
    pub(super) fn vector_mapping(self, dims: Option<u64>) -> Value {
        let (mut mapping, name) = match self {
            // The default is int8_hnsw in 8.12 and bbq_hnsw in 9.1.
            Self::Elasticsearch => {
                let graph = json!({"type": "int8_hnsw", "m": 16, "ef_construction": 100});
                (
                    json!({"type": "dense_vector", "similarity": "cosine", "index": true, "index_options": graph}),
                    "dims",
                )
            }
            // The default in 2.19 is faiss. It refuses no vector, but has no cosine of its own before 2.19.
            Self::OpenSearch => {
                let method = json!({"name": "hnsw", "engine": "lucene", "space_type": "cosinesimil",
                    "parameters": {"m": 16, "ef_construction": 100}});
                (json!({"type": "knn_vector", "method": method}), "dimension")
            }
        };
        if let Some(dims) = dims {
            mapping[name] = dims.into();
        }
        mapping
    }

    pub(super) fn vector_settings(self) -> Value {
        match self {
            Self::Elasticsearch => json!({}),
            Self::OpenSearch => json!({"index": {"knn": true}}),
        }
    }

    /// Returns whether a reply says that the server lacks this field type. It is then the other product, or a plugin is
    /// missing.
    pub(super) fn lacks_vectors(self, reply: &Reply) -> bool {
        let reason = reply.reason();
        let lacks_setting = self == Self::OpenSearch && reason.contains("unknown setting [index.knn]");
        reply.status == 400
            && (lacks_setting || reason.contains(&format!("No handler for type [{}]", self.vector_type())))
    }

    /// Returns the end of a search's path that has to find all that is confirmed and refreshed. In OpenSearch, replicas of an
    /// index with segment replication follow their primary later, even after a refresh. Elasticsearch has no such
    /// replicas, and refuses the parameter.
    ///
    /// Source: OpenSearch, "Segment replication", considerations.
    pub(super) fn search_of_primaries(self) -> &'static str {
        match self {
            Self::Elasticsearch => "",
            Self::OpenSearch => OF_PRIMARIES,
        }
    }

    /// Returns the product's name for an index privilege of Elasticsearch.
    ///
    /// Source: OpenSearch, "Permissions" and "Default action groups".
    pub(super) fn privilege(self, name: &'static str) -> &'static str {
        match (self, name) {
            (Self::OpenSearch, "view_index_metadata") => {
                "indices:admin/get, indices:admin/mappings/get, indices:admin/aliases/get, indices:monitor/settings/get \
                 and indices:admin/shards/search_shards"
            }
            (Self::OpenSearch, "maintenance") => "indices:admin/flush* and indices:admin/refresh*",
            (Self::OpenSearch, "manage") => "the action group manage",
            (_, name) => name,
        }
    }

    /// Returns the advice to grant an index privilege of Elasticsearch.
    pub(super) fn grant(self, privilege: &'static str) -> String {
        let grantee = match self {
            Self::Elasticsearch => "its user, role or key",
            Self::OpenSearch => "a role of its user (Security, Roles)",
        };
        format!("grant {grantee} {}", self.privilege(privilege))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, reason: &str) -> Reply {
        let body = json!({"error": {"type": "x", "reason": reason}}).to_string().into_bytes();
        Reply { status, retry_after: None, body }
    }

    #[test]
    fn a_bit_of_the_version_marks_opensearch() {
        // Seen in 2.19.4, 8.12.2 and 9.5.3; the last is not a version.
        assert_eq!(Product::of_version("136408227"), Some(Product::OpenSearch));
        assert_eq!(Product::of_version("8500010"), Some(Product::Elasticsearch));
        assert_eq!(Product::of_version("9090000"), Some(Product::Elasticsearch));
        assert_eq!(Product::of_version("8.12"), None);
    }

    #[test]
    fn the_wording_of_a_refusal_shows_the_product() {
        let opensearch = "no permissions for [indices:admin/get] and User [name=w, backend_roles=[]]";
        let elasticsearch = "action [indices:admin/get] is unauthorized for API key id [x] of user [elastic]";
        assert_eq!(Product::of_refusal(&refusal(403, opensearch)), Some(Product::OpenSearch));
        assert_eq!(Product::of_refusal(&refusal(403, elasticsearch)), Some(Product::Elasticsearch));
        assert_eq!(Product::of_refusal(&refusal(403, "denied")), None);
        assert_eq!(Product::of_refusal(&refusal(400, opensearch)), None);
    }

    #[test]
    fn a_missing_type_shows_the_other_product() {
        let none = refusal(
            400,
            "Failed to parse mapping [_doc]: No handler for type [dense_vector] declared on field [v]",
        );
        assert!(Product::Elasticsearch.lacks_vectors(&none) && !Product::OpenSearch.lacks_vectors(&none));
        // Seen in 3.9.0 without the plugin.
        let none =
            refusal(400, "unknown setting [index.knn] please check that any required plugins are installed");
        assert!(Product::OpenSearch.lacks_vectors(&none) && !Product::Elasticsearch.lacks_vectors(&none));
    }
}
