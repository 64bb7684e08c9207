//! What connectors report when a call ends.

use crate::words::words;
use serde::{Deserialize, Serialize};

/// Nanoseconds of the guest's own clock spent in each step of reading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadPerf {
    /// Reaching the server.
    pub connect_ns: u64,
    /// Waiting for the query to start.
    pub query_ns: u64,
    /// Waiting for bytes.
    pub fetch_ns: u64,
    /// Making Arrow of them.
    pub encode_ns: u64,
}

/// Nanoseconds of the guest's own clock spent in each step of writing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WritePerf {
    /// Reaching the server.
    pub connect_ns: u64,
    /// Reading Arrow and making the destination's format of it.
    pub decode_ns: u64,
    /// Handing bytes to the destination.
    pub flush_ns: u64,
    /// Making them durable.
    pub commit_ns: u64,
}

/// What a source reports of one `read`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadSummary {
    /// Rows emitted.
    pub records: u64,
    /// Payload bytes emitted.
    pub bytes: u64,
    /// Batches emitted.
    pub batches_emitted: u64,
    /// Barriers emitted.
    pub checkpoint_count: u64,
    /// Rows left out by policy.
    pub records_skipped: u64,
    /// Where the time went.
    pub perf: ReadPerf,
}

/// What a destination reports of one `write`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteSummary {
    /// Rows made durable.
    pub records: u64,
    /// Payload bytes taken in.
    pub bytes: u64,
    /// Batches taken in.
    pub batches_written: u64,
    /// Commits.
    pub checkpoint_count: u64,
    /// Rows left out by policy.
    pub records_skipped: u64,
    /// Where the time went.
    pub perf: WritePerf,
}

/// What a transform reports of one `transform`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransformSummary {
    /// Rows taken in.
    pub records_in: u64,
    /// Rows passed on.
    pub records_out: u64,
    /// Payload bytes taken in.
    pub bytes_in: u64,
    /// Payload bytes passed on.
    pub bytes_out: u64,
    /// Batches passed on.
    pub batches_emitted: u64,
    /// Rows left out by policy.
    pub records_skipped: u64,
}

/// What `publish` made visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishSummary {
    /// Rows of the generation that became visible.
    pub rows: u64,
    /// Rows left out in this act under `on_data_error: skip`.
    pub records_skipped: u64,
    /// Where a person finds them.
    pub location: String,
}

words! {
    /// How a check ended.
    CheckStatus ("check status") {
        /// As it should be.
        Ok = "ok",
        /// Works, with a caution.
        Warning = "warning",
        /// Would fail.
        Failed = "failed",
    }
}

/// One line of a connector's `check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckItem {
    /// What was looked at.
    pub name: String,
    /// How it was found.
    pub status: CheckStatus,
    /// In words.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What a component says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorSpec {
    /// `owner/name`, as in the manifest.
    pub id: String,
    /// Its version.
    pub version: String,
    /// The protocol it speaks.
    pub protocol_version: String,
}
