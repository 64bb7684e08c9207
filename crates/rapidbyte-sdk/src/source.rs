//! The source role.

use crate::{
    CheckItem, ConnectorError, Generation, InitContext, Partition, Position, ReadSummary, RunContext, SourceOutput, StreamContext,
    StreamName, SyncMode,
};
use arrow_schema::SchemaRef;
use serde::de::DeserializeOwned;

/// A stream that a source can serve.
#[derive(Debug, Clone, PartialEq)]
pub struct DiscoveredStream {
    /// Its name.
    pub name: StreamName,
    /// `table`, `view`, … in the source's own words.
    pub kind: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// Its key, in order; empty when it has none.
    pub primary_key: Vec<String>,
    /// Columns fit to order an incremental read.
    pub cursor_candidates: Vec<String>,
    /// How it can be read.
    pub sync_modes: Vec<SyncMode>,
    /// A guess at the number of rows.
    pub estimated_rows: Option<u64>,
    /// A guess at the number of bytes.
    pub estimated_bytes: Option<u64>,
}

/// What the host wants planned.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanRequest {
    /// Who is running.
    pub run: RunContext,
    /// The stream to be loaded.
    pub stream: StreamContext,
    /// An upper bound on how many partitions are useful.
    pub max_partitions: u32,
    /// The unpublished generation found at the destination, if any.
    pub pinned: Option<Generation>,
}

/// How a stream is to be read.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionPlan {
    /// Names the data this plan pins. Equal to the pinned generation's when that load can go on; its partitions are then
    /// given back as they were.
    pub snapshot: String,
    /// The shares; one with id `0` for a source that does not split.
    pub partitions: Vec<Partition>,
    /// Given to every `read` of this run. Valid while this instance lives. Empty if nothing is held for it: the instance then goes
    /// on to other calls.
    pub token: Vec<u8>,
}

impl PartitionPlan {
    /// One partition over everything, under a snapshot name.
    pub fn single(snapshot: impl Into<String>) -> Self {
        Self { snapshot: snapshot.into(), partitions: vec![Partition { id: "0".into(), spec: Vec::new() }], token: Vec::new() }
    }
}

/// What the host wants read.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadRequest {
    /// Who is running.
    pub run: RunContext,
    /// The streams of the task; emits name them by index.
    pub streams: Vec<StreamContext>,
    /// The share to read, as planned.
    pub partition: Option<Partition>,
    /// The plan's token.
    pub token: Vec<u8>,
    /// Read on after this; `None` = from the start.
    pub resume: Option<Position>,
    /// Go on for ever instead of ending at the position seen at the start.
    pub follow: bool,
}

/// Reads streams.
///
/// Called in the order `init`, any of the others, `close`; one instance serves one configuration, one call after another, of one
/// stream after another. An error from any call may be followed by `close` alone. Between calls nothing may be held at the server
/// but what a plan with a token holds; what the call before has set in a session must not reach the next, and a session that was
/// ended meanwhile is made anew.
pub trait Source: Sized {
    /// The shape of the `config:` block.
    type Config: DeserializeOwned;

    /// Takes the checked configuration. Reaches nothing yet.
    fn init(config: Self::Config, context: InitContext) -> Result<Self, ConnectorError>;

    /// Reaches the server and looks at each stream; changes nothing. A problem is an item, not an error.
    fn validate(&mut self, streams: &[StreamContext]) -> Result<Vec<CheckItem>, ConnectorError>;

    /// Names the data this configuration leads to (a system identifier and database, say), so that a pipeline that is pointed
    /// at another server is noticed. `None` lets the host derive it from the configuration.
    fn identity(&mut self) -> Result<Option<String>, ConnectorError> {
        Ok(None)
    }

    /// Lists what can be read.
    fn discover(&mut self) -> Result<Vec<DiscoveredStream>, ConnectorError>;

    /// Splits a stream and pins its data. If the plan has a token, the instance stays open, without a call under way, until its last
    /// partition ends.
    ///
    /// The default reads everything in one partition and can't resume: each attempt is a snapshot of its own.
    fn plan_partitions(&mut self, request: &PlanRequest) -> Result<PartitionPlan, ConnectorError> {
        Ok(PartitionPlan::single(format!("run:{}/{}", request.run.run_id, request.run.attempt)))
    }

    /// Emits the schema, then batches, and a barrier wherever reading could go on. Returns when the share is read.
    fn read(&mut self, request: &ReadRequest, output: &mut SourceOutput) -> Result<ReadSummary, ConnectorError>;

    /// What lies before `position` is durable at the destination and may be let go.
    fn confirm(&mut self, position: &Position) -> Result<(), ConnectorError> {
        let _ = position;
        Ok(())
    }

    /// Removes what the pipeline left at the source.
    fn teardown(&mut self, run: &RunContext, streams: &[StreamContext]) -> Result<(), ConnectorError> {
        let _ = (run, streams);
        Ok(())
    }

    /// Ends the session politely.
    fn close(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }
}
