//! The configuration as written, checked.

use rapidbyte_sdk::{ConnectorError, Scope};
use serde::Deserialize;

/// The `config:` block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The column that is added.
    pub column: Option<String>,
    /// Columns whose values have numbers of their own.
    pub key: Vec<String>,
    /// The streams to number; all by default.
    pub streams: Option<Vec<String>>,
}

/// What is numbered, and how.
#[derive(Debug)]
pub(crate) struct Numbering {
    pub(crate) column: String,
    pub(crate) key: Vec<String>,
    pub(crate) scope: Scope,
}

impl Numbering {
    /// Checks the configuration.
    pub(crate) fn new(config: Config) -> Result<Self, ConnectorError> {
        let Config { column, key, streams } = config;
        let column = column.unwrap_or_else(|| "row_number".to_owned());
        if let Some(reserved) = key.iter().chain([&column]).find(|name| name.starts_with("_rb_")) {
            return Err(ConnectorError::config("reserved_column", format!("column `{reserved}` is the protocol's own"))
                .with_hint("name another column"));
        }
        if let Some(twice) = key.iter().enumerate().find(|(at, name)| key[..*at].contains(name)) {
            return Err(ConnectorError::config("duplicate_field", format!("`key` names column `{}` twice", twice.1))
                .with_hint("name it once"));
        }
        if key.contains(&column) {
            return Err(ConnectorError::config("duplicate_field", format!("column `{column}` can't be numbered by itself"))
                .with_hint("name another `column`"));
        }
        Ok(Self { column, key, scope: Scope::new(streams) })
    }
}
