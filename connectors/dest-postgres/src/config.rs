//! The connector's own keys; how to reach the server is `postgres-wire`'s.

use serde::Deserialize;

/// Keys beside the connection's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnConfig {
    /// Where tables are made.
    #[serde(default = "default_schema")]
    pub(crate) schema: String,
}

fn default_schema() -> String {
    "public".to_owned()
}
