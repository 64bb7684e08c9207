//! Loads, their shares, and the proof that a share has arrived.

use crate::{ErrorCategory, Position};
use serde::{Deserialize, Serialize};

/// One share of a stream; `id` stays the same for a whole generation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Partition {
    /// Unique within the plan.
    pub id: String,
    /// The source's own description, at most [`crate::MAX_POSITION_BYTES`].
    pub spec: Vec<u8>,
}

/// One load of a stream, pinned to a snapshot and a partition plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Ascending per stream, from 1.
    pub number: u64,
    /// Names the data pinned; an equal name later means the same load can go on.
    pub snapshot: String,
    /// Every share of it.
    pub partitions: Vec<Partition>,
}

/// What one commit made durable, as the destination tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Index into the task's or claim's streams.
    pub stream: u32,
    /// The load it belongs to.
    pub generation: u64,
    /// The share it belongs to.
    pub partition: String,
    /// Who wrote it.
    pub epoch: u64,
    /// Ascending per generation and partition, from 1.
    pub seq: u64,
    /// Where reading goes on; `None` only when the partition is finished without one.
    pub position: Option<Position>,
    /// Rows of this partition so far.
    pub rows: u64,
    /// Payload bytes of this partition so far.
    pub bytes: u64,
    /// The partition is complete.
    pub last: bool,
    /// State of each stateful transform at this point, by its place in the pipeline.
    pub transform_state: Vec<(u32, Vec<u8>)>,
    /// Unix milliseconds at the destination.
    pub committed_at_ms: u64,
}

/// A row that could not be processed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Index into the task's streams.
    pub stream: u32,
    /// Each value as exact text beside its type, as JSON.
    pub record_json: String,
    /// Why.
    pub error_message: String,
    /// What kind of failure.
    pub error_category: ErrorCategory,
    /// Unix milliseconds.
    pub failed_at_ms: u64,
}
