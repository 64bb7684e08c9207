//! Who a pipeline is, whatever its name.

use crate::error::{ErrorKind, StateError};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// The longest name of a pipeline, run, stream or partition, and the longest source identity, in bytes. Chosen, not measured:
/// far above any name in use, far below what would make a row heavy.
pub const MAX_NAME_BYTES: usize = 1024;

/// A pipeline's identity. It outlives a rename and is what destinations file their receipts under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PipelineId(Uuid);

impl PipelineId {
    /// The identity of a pipeline on first sight: the same name and source give the same one on every machine and after the
    /// store was lost, so that the receipts at the destination are found again and two machines fence each other.
    pub fn derived(name: &str, source: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        hash.update(source.as_bytes());
        let mut bytes = [0; 16];
        for (byte, hashed) in bytes.iter_mut().zip(hash.finalize()) {
            *byte = hashed;
        }
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

impl fmt::Display for PipelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for PipelineId {
    type Err = StateError;

    fn from_str(text: &str) -> Result<Self, StateError> {
        Uuid::try_parse(text)
            .map(Self)
            .map_err(|error| StateError::new(ErrorKind::Limit, "not the UUID of a pipeline").with_source(error))
    }
}

/// What is known of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineRecord {
    /// Its identity.
    pub id: PipelineId,
    /// Its name in this store, unique.
    pub name: String,
    /// Names the source's data; a pipeline keeps the one it began with. Empty while no run has reached the source.
    pub source_identity: String,
    /// Unix milliseconds.
    pub created_at_ms: u64,
}

/// Refuses text that is empty or longer than [`MAX_NAME_BYTES`].
pub(crate) fn check_name(what: &str, text: &str) -> Result<(), StateError> {
    if text.is_empty() {
        return Err(StateError::new(ErrorKind::Limit, format!("the {what} is empty")));
    }
    check_length(what, text.len(), MAX_NAME_BYTES)
}

/// Refuses what is longer than `limit`.
pub(crate) fn check_length(what: &str, found: usize, limit: usize) -> Result<(), StateError> {
    if found > limit {
        return Err(StateError::new(ErrorKind::Limit, format!("the {what} has {found} bytes, at most {limit} are allowed")));
    }
    Ok(())
}
