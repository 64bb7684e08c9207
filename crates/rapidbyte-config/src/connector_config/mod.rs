//! A connector's own configuration, checked against the schema of its manifest before the guest exists.
//!
//! The schema is a stranger's: it is capped, may refer only to itself, and its patterns run in linear time. Its marks say
//! which values are secret (`x-rapidbyte-secret`), which are directories to grant (`x-rapidbyte-path`), which name hosts to
//! dial (`x-rapidbyte-host`) and which are TLS files that stay on the host (`x-rapidbyte-tls`).

mod extract;
mod problem;
mod schema;

pub use extract::{ConfigGrants, PathGrant, TlsFiles};
pub use problem::{ConfigProblem, InvalidConfig};
pub use schema::{ConfigSchema, MAX_SCHEMA_BYTES, SchemaError};

/// Where the guest sees the directories its configuration names.
pub const GRANTS_ROOT: &str = "/grants";

#[cfg(test)]
mod tests;
