//! The connector's own configuration.

use crate::ConnectorError;
use serde::de::DeserializeOwned;

/// What a connector is told when it is opened, beside its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InitContext {
    /// The pipeline it serves; none when it is only asked what it can do.
    pub pipeline: Option<String>,
    /// Bytes that were built into the component from outside, such as a declarative specification.
    pub blob: Option<Vec<u8>>,
}

/// Reads the configuration JSON into the connector's type. The host has checked it against the manifest's schema already,
/// so a failure here means that the schema and the type disagree.
pub fn parse_config<C: DeserializeOwned>(json: &str) -> Result<C, ConnectorError> {
    serde_json::from_str(json).map_err(|error| {
        // The message of serde_json may quote the offending value, which may be a secret: only its place is told.
        ConnectorError::config(
            "config_shape",
            format!("configuration does not fit the connector (line {}, column {})", error.line(), error.column()),
        )
        .with_hint("compare the keys under `config:` with `rapidbyte spec <connector>`")
    })
}
