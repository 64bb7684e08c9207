//! Runs: what happened, and the guard that keeps one pipeline to one run at a time.

use crate::pipeline::PipelineId;
use rapidbyte_types::{ErrorCategory, StreamName};
use std::fmt;

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunStatus {
    /// Under way, or ended without a word and not yet noticed.
    Running,
    /// Everything is durable and visible.
    Succeeded,
    /// Ended by an error.
    Failed,
    /// Ended by request.
    Cancelled,
    /// The process ended without a word; noticed when the next run began.
    Interrupted,
}

impl RunStatus {
    /// Every status.
    pub const ALL: &'static [Self] = &[Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled, Self::Interrupted];

    /// The status as a stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a run failed. The caller has redacted every text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunError {
    /// What kind of thing went wrong.
    pub category: ErrorCategory,
    /// Stable and machine-readable.
    pub code: String,
    /// What happened; kept up to 16 KiB.
    pub message: String,
    /// What to do next; kept up to 16 KiB.
    pub hint: Option<String>,
}

/// How much a run moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunTotals {
    /// Rows the sources emitted.
    pub rows_read: u64,
    /// Payload bytes the sources emitted.
    pub bytes_read: u64,
    /// Rows the destinations made durable.
    pub rows_written: u64,
    /// Payload bytes the destinations took in.
    pub bytes_written: u64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOutcome {
    /// Anything but [`RunStatus::Running`].
    pub status: RunStatus,
    /// Why, if it failed.
    pub error: Option<RunError>,
    /// How much it moved.
    pub totals: RunTotals,
    /// Unix milliseconds.
    pub finished_at_ms: u64,
    /// By the caller's monotonic clock.
    pub duration_ms: u64,
    /// Where the time went, as JSON of the caller's making, at most 64 KiB.
    pub timings_json: Option<String>,
}

/// What is known of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRecord {
    /// The run's own UUID.
    pub run_id: String,
    /// Whose run.
    pub pipeline: PipelineId,
    /// How it stands.
    pub status: RunStatus,
    /// Unix milliseconds.
    pub started_at_ms: u64,
    /// Unix milliseconds; absent while it runs and after an interruption.
    pub finished_at_ms: Option<u64>,
    /// By the engine's monotonic clock.
    pub duration_ms: Option<u64>,
    /// Why it failed.
    pub error: Option<RunError>,
    /// How much it moved.
    pub totals: RunTotals,
    /// Where the time went, as JSON.
    pub timings_json: Option<String>,
}

/// How a stream ended within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamStatus {
    /// Durable and visible.
    Succeeded,
    /// Ended by an error.
    Failed,
    /// Ended by request, or because another stream failed.
    Cancelled,
}

impl StreamStatus {
    /// Every status.
    pub const ALL: &'static [Self] = &[Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The status as a stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for StreamStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a run did for one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamResult {
    /// Its name at the source.
    pub stream: StreamName,
    /// How it ended.
    pub status: StreamStatus,
    /// Rows made durable.
    pub rows: u64,
    /// Payload bytes taken in by the destination.
    pub bytes: u64,
    /// Shares it was read in.
    pub partitions: u64,
    /// Rows left out by policy.
    pub skipped: u64,
    /// Rows sent to the dead letters.
    pub dead_letters: u64,
}

/// The right to run a pipeline. Held by one process at a time and given back when dropped, or when the process ends in
/// whatever way.
pub struct RunGuard {
    pipeline: PipelineId,
    run_id: String,
    _held: Box<dyn Send + Sync>,
}

impl RunGuard {
    pub(crate) fn new(pipeline: PipelineId, run_id: String, held: Box<dyn Send + Sync>) -> Self {
        Self { pipeline, run_id, _held: held }
    }

    /// The pipeline that may run.
    pub fn pipeline(&self) -> PipelineId {
        self.pipeline
    }

    /// The run that may run it.
    pub fn run_id(&self) -> &str {
        &self.run_id
    }
}

impl fmt::Debug for RunGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunGuard").field("pipeline", &self.pipeline).field("run_id", &self.run_id).finish_non_exhaustive()
    }
}
