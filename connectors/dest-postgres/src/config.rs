//! The connector's own keys; how to reach the server is `postgres-wire`'s.

use crate::names::Table;
use serde::Deserialize;

/// Keys beside the connection's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnConfig {
    /// Where tables are made.
    #[serde(default = "default_schema")]
    pub(crate) schema: String,
    /// What becomes of the source's types that are not known here.
    #[serde(default)]
    pub(crate) missing_types: MissingTypes,
    /// How rows reach the server.
    #[serde(default)]
    pub(crate) load_method: LoadMethod,
    /// Whether `upsert` leaves rows alone that are what has come.
    #[serde(default)]
    pub(crate) upsert_skip_identical: bool,
    /// What becomes of rows that the source has deleted, where changes are merged.
    #[serde(default)]
    pub(crate) deletes: Deletes,
    /// The table of rows that could not be written, in `schema`.
    #[serde(default = "default_dlq_table")]
    pub(crate) dlq_table: String,
    /// How long a lock of another session is waited for.
    #[serde(default = "default_lock_timeout")]
    pub(crate) lock_timeout_seconds: u32,
}

impl OwnConfig {
    /// The table of rows that could not be written.
    pub(crate) fn letters_table(&self) -> Table {
        Table { schema: self.schema.clone(), name: self.dlq_table.clone() }
    }
}

/// What becomes of a user's type that the destination does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MissingTypes {
    /// It is made in the table's schema; one of an extension becomes text.
    #[default]
    Create,
    /// The column becomes text, or a domain's base type.
    Text,
    /// The load fails.
    Fail,
}

/// How rows reach the staging table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LoadMethod {
    /// COPY BINARY.
    #[default]
    Copy,
    /// INSERT with binary parameters.
    Insert,
}

/// What becomes of rows that the source has deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Deletes {
    /// They are deleted.
    #[default]
    Hard,
    /// They stay, with the time of their deletion in `_rb_deleted_at`.
    Soft,
}

fn default_dlq_table() -> String {
    "_rapidbyte_dlq".to_owned()
}

/// Long enough for a commit under way and short enough for a person.
fn default_lock_timeout() -> u32 {
    10
}

fn default_schema() -> String {
    "public".to_owned()
}
