//! The small key-value store that connectors are given. Never carries progress.

use crate::error::{ErrorKind, StateError};
use crate::pipeline::{MAX_NAME_BYTES, check_length};

/// The longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 1 << 20;
/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 256;
/// The most keys one scope holds.
pub const MAX_KEYS_PER_SCOPE: usize = 1024;

/// Which drawer of a pipeline a key lies in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyValueScope {
    /// The pipeline's own.
    Pipeline,
    /// A stream's, by the name the connector gives it.
    Stream(String),
}

impl KeyValueScope {
    /// The scope as it is stored; no stream's name can pass for the pipeline.
    pub(crate) fn encode(&self) -> String {
        match self {
            Self::Pipeline => "pipeline".to_owned(),
            Self::Stream(name) => format!("stream:{name}"),
        }
    }

    pub(crate) fn check(&self) -> Result<(), StateError> {
        match self {
            Self::Pipeline => Ok(()),
            Self::Stream(name) => check_length("scope's stream name", name.len(), MAX_NAME_BYTES),
        }
    }
}

pub(crate) fn check_key(key: &str) -> Result<(), StateError> {
    if key.is_empty() {
        return Err(StateError::new(ErrorKind::Limit, "the key is empty"));
    }
    check_length("key", key.len(), MAX_KEY_BYTES)
}

pub(crate) fn check_value(value: &[u8]) -> Result<(), StateError> {
    check_length("value", value.len(), MAX_VALUE_BYTES)
}
