//! What travels between stages.

use bytes::Bytes;
use rapidbyte_types::{DeadLetter, Position};

/// A mark in the flow of data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barrier {
    /// Ascending within a task, from 1.
    pub id: u64,
    /// Destinations commit what came before.
    pub commit: bool,
    /// No more data follows in this partition.
    pub last: bool,
    /// Where reading could go on.
    pub position: Option<Position>,
    /// State of each stateful transform at this point, by its place in the pipeline.
    pub transform_state: Vec<(u32, Vec<u8>)>,
}

/// One event between two stages, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The schema of the batches that follow under this id.
    Schema {
        /// Index into the task's streams.
        stream: u32,
        /// Ascending per stream.
        schema_id: u32,
        /// One encapsulated Arrow IPC schema message.
        ipc: Bytes,
    },
    /// Rows.
    Batch {
        /// Index into the task's streams.
        stream: u32,
        /// Names its schema.
        schema_id: u32,
        /// How many rows.
        rows: u32,
        /// Encapsulated Arrow IPC messages.
        bytes: Bytes,
    },
    /// Rows that could not be processed.
    DeadLetters(Vec<DeadLetter>),
    /// The stream was emptied at the source.
    Truncate {
        /// Index into the task's streams.
        stream: u32,
        /// The place of the event itself.
        position: Option<Position>,
    },
    /// Keys of a range are replaced by the rows of the batches up to the next event of another kind.
    ReplaceRange {
        /// Index into the task's streams.
        stream: u32,
        /// Exclusive, as a JSON array of strings; `None` is open.
        low: Option<String>,
        /// Inclusive, as a JSON array of strings; `None` is open.
        high: Option<String>,
    },
    /// A mark of progress.
    Barrier(Barrier),
    /// Nothing happened, and the source lives.
    Heartbeat,
    /// Nothing follows.
    End,
}

impl Event {
    /// The payload that counts against byte bounds.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Batch { bytes, .. } => bytes.len(),
            Self::DeadLetters(letters) => letters.iter().map(|letter| letter.record_json.len() + letter.error_message.len()).sum(),
            Self::Schema { .. }
            | Self::Truncate { .. }
            | Self::ReplaceRange { .. }
            | Self::Barrier(_)
            | Self::Heartbeat
            | Self::End => 0,
        }
    }
}
