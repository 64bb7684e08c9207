//! The records of single calls, in the words of `rapidbyte-types`.

use rapidbyte_types::{Generation, Partition, Position, Receipt, RunContext, StreamContext, StreamName, SyncMode};

/// A stream a source has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveredStream {
    /// Its name.
    pub name: StreamName,
    /// `table`, `view`, … in the source's own words.
    pub kind: String,
    /// One encapsulated Arrow IPC schema message; checked for structure.
    pub schema: Vec<u8>,
    /// Its key, in order.
    pub primary_key: Vec<String>,
    /// Columns that could order an incremental read.
    pub cursor_candidates: Vec<String>,
    /// How it can be read.
    pub sync_modes: Vec<SyncMode>,
    /// Rows, as the source guesses.
    pub estimated_rows: Option<u64>,
    /// Bytes, as the source guesses.
    pub estimated_bytes: Option<u64>,
}

/// Asks a source to split a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRequest {
    /// Who is running.
    pub run: RunContext,
    /// The stream.
    pub stream: StreamContext,
    /// More partitions than this are of no use.
    pub max_partitions: u32,
    /// The unpublished generation found at the destination, if any.
    pub pinned: Option<Generation>,
}

/// How a source splits a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionPlan {
    /// Equal to the pinned one when that load can go on.
    pub snapshot: String,
    /// The shares.
    pub partitions: Vec<Partition>,
    /// Given to every `read` of this run.
    pub token: Vec<u8>,
}

/// Asks a source to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest {
    /// Who is running.
    pub run: RunContext,
    /// The task's streams.
    pub streams: Vec<StreamContext>,
    /// The share, if the stream is split.
    pub partition: Option<Partition>,
    /// The plan's token.
    pub token: Vec<u8>,
    /// Read on after this.
    pub resume: Option<Position>,
    /// At the end of the data wait for more rather than return.
    pub follow: bool,
}

/// One stream of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimStream {
    /// The stream.
    pub context: StreamContext,
    /// The epoch the state store knows.
    pub known_epoch: u64,
    /// Names the source's data.
    pub source_identity: String,
}

/// What a destination knows of a claimed stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedStream {
    /// The epoch taken.
    pub epoch: u64,
    /// The highest generation number ever used, 0 = none.
    pub newest_generation: u64,
    /// The unpublished generation, if any.
    pub generation: Option<Generation>,
    /// Its receipts.
    pub receipts: Vec<Receipt>,
    /// Where a person finds the rows.
    pub location: String,
}

/// Asks a destination to open a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrepareRequest {
    /// Who is running.
    pub run: RunContext,
    /// The stream.
    pub context: StreamContext,
    /// The epoch held.
    pub epoch: u64,
    /// The generation to open or go on with.
    pub generation: Generation,
}

/// One stream of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteStream {
    /// The stream.
    pub context: StreamContext,
    /// The epoch held.
    pub epoch: u64,
    /// The open generation.
    pub generation: u64,
    /// The share.
    pub partition: String,
    /// The newest receipt's number, 0 = none.
    pub seq: u64,
    /// Rows so far.
    pub rows: u64,
    /// Bytes so far.
    pub bytes: u64,
}

/// Asks a destination to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteRequest {
    /// Who is running.
    pub run: RunContext,
    /// The task's streams.
    pub streams: Vec<WriteStream>,
}

/// Asks a destination to make a generation visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRequest {
    /// Who is running.
    pub run: RunContext,
    /// The stream.
    pub context: StreamContext,
    /// The epoch held.
    pub epoch: u64,
    /// The generation.
    pub generation: u64,
}

/// Asks a transform to work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransformRequest {
    /// Who is running.
    pub run: RunContext,
    /// The task's streams.
    pub streams: Vec<StreamContext>,
    /// What it gave with the barrier that is being resumed from.
    pub state: Option<Vec<u8>>,
}
