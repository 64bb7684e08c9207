//! Rows that could not be processed, as kept beside the destination's own table of them.

use crate::pipeline::PipelineId;
use rapidbyte_types::{DeadLetter, ErrorCategory, StreamName};

/// The longest record kept as a dead letter, in bytes of JSON: the ceiling of `max_record_bytes`.
pub const MAX_DEAD_LETTER_BYTES: usize = 64 << 20;

/// What makes a dead letter the same one when it comes again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeadLetterKey {
    /// Whose row.
    pub pipeline: PipelineId,
    /// Of which stream, by its name at the source.
    pub stream: StreamName,
    /// The load it belongs to.
    pub generation: u64,
    /// The share it belongs to.
    pub partition: String,
    /// The commit it went with.
    pub seq: u64,
    /// Its place within that commit, from 0.
    pub ordinal: u64,
}

/// A dead letter without its record, for lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterSummary {
    /// The store's number for it, ascending in order of arrival.
    pub id: u64,
    /// What makes it itself.
    pub key: DeadLetterKey,
    /// The run that brought it.
    pub run_id: String,
    /// Why.
    pub error_message: String,
    /// What kind of failure.
    pub error_category: ErrorCategory,
    /// Unix milliseconds.
    pub failed_at_ms: u64,
    /// It was written to its destination again.
    pub replayed: bool,
}

/// Dead letters of one stream on their way to their destination again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayRecord {
    /// A UUID.
    pub id: String,
    /// Whose letters.
    pub pipeline: PipelineId,
    /// Of which stream, by its name at the source.
    pub stream: StreamName,
    /// The load that was opened for it, where the stream has no open-ended one.
    pub generation: Option<u64>,
}

/// A dead letter whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterEntry {
    /// What makes it itself.
    pub key: DeadLetterKey,
    /// The run that brought it.
    pub run_id: String,
    /// The letter; its `stream` index means nothing here and reads back as 0.
    pub letter: DeadLetter,
}
