//! The destination role.

use crate::{
    CheckItem, ConnectorError, Generation, InitContext, Input, PublishSummary, Receipt, RunContext, StreamContext, WriteSummary,
};
use serde::de::DeserializeOwned;

/// One stream to be claimed.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimStream {
    /// The stream.
    pub context: StreamContext,
    /// The epoch the host knows; the claim goes beyond it and beyond the destination's own.
    pub known_epoch: u64,
    /// Names the source's data, so that another source can't go on in its place.
    pub source_identity: String,
}

/// The right to write is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimRequest {
    /// Who is running.
    pub run: RunContext,
    /// The streams of the run.
    pub streams: Vec<ClaimStream>,
}

/// What the destination knows of a claimed stream.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedStream {
    /// The epoch to write under.
    pub epoch: u64,
    /// The highest generation ever used, 0 = none.
    pub newest_generation: u64,
    /// The unpublished one.
    pub generation: Option<Generation>,
    /// The newest receipt of each of its partitions.
    pub receipts: Vec<Receipt>,
    /// Where a person finds the rows that are visible, as `publish` says it: loads that go on are not published each time.
    pub location: String,
}

/// A generation is to be opened.
#[derive(Debug, Clone, PartialEq)]
pub struct PrepareRequest {
    /// Who is running.
    pub run: RunContext,
    /// The stream.
    pub context: StreamContext,
    /// The claimed epoch.
    pub epoch: u64,
    /// To be opened, or gone on with if it is the open one. Any other unpublished one is discarded.
    pub generation: Generation,
}

/// One stream of a task, as it is to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteStream {
    /// The stream.
    pub context: StreamContext,
    /// The claimed epoch.
    pub epoch: u64,
    /// The open generation.
    pub generation: u64,
    /// The share of this task.
    pub partition: String,
    /// `seq` of its newest receipt, 0 = none; the next commit carries `seq + 1`.
    pub seq: u64,
    /// Its rows so far.
    pub rows: u64,
    /// Its bytes so far.
    pub bytes: u64,
}

/// A task begins.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteRequest {
    /// Who is running.
    pub run: RunContext,
    /// The streams of the task; events name them by index.
    pub streams: Vec<WriteStream>,
}

/// A complete generation is to become visible.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishRequest {
    /// Who is running.
    pub run: RunContext,
    /// The stream.
    pub context: StreamContext,
    /// The claimed epoch.
    pub epoch: u64,
    /// The generation to publish.
    pub generation: u64,
}

/// Writes streams.
///
/// Called in the order `init`, any of the others, `close`; one instance serves one call after another, of one stream after another,
/// and several instances write at once for several partitions. Between calls nothing may be held at the server; what the call before has
/// set in a session must not reach the next, and a session that was ended meanwhile is made anew. Nothing else may be remembered: the
/// next call may come to another instance.
pub trait Destination: Sized {
    /// The shape of the `config:` block.
    type Config: DeserializeOwned;

    /// Takes the checked configuration. Reaches nothing yet.
    fn init(config: Self::Config, context: InitContext) -> Result<Self, ConnectorError>;

    /// Reaches the destination and looks at each target; changes nothing. A problem is an item, not an error.
    fn validate(&mut self, streams: &[StreamContext]) -> Result<Vec<CheckItem>, ConnectorError>;

    /// Takes the right to write: the epoch becomes max(destination, known) + 1 in one transaction.
    ///
    /// The default serves destinations without memory: nothing is known, and nothing can be resumed. Their manifest says
    /// `at_least_once`.
    fn claim(&mut self, request: &ClaimRequest) -> Result<Vec<ClaimedStream>, ConnectorError> {
        let claimed = |stream: &ClaimStream| ClaimedStream {
            epoch: stream.known_epoch + 1,
            newest_generation: 0,
            generation: None,
            receipts: Vec::new(),
            location: stream.context.target.to_string(),
        };
        Ok(request.streams.iter().map(claimed).collect())
    }

    /// Opens a generation.
    fn prepare(&mut self, request: &PrepareRequest) -> Result<(), ConnectorError> {
        let _ = request;
        Ok(())
    }

    /// Takes events until [`Event::End`](crate::Event::End); at each barrier marked `commit` makes everything before it
    /// durable together with its receipts, and acknowledges by [`Input::acknowledge`].
    fn write(&mut self, request: &WriteRequest, input: &mut Input) -> Result<WriteSummary, ConnectorError>;

    /// Makes a complete generation visible in one act and closes it; asked again, says the same.
    fn publish(&mut self, request: &PublishRequest) -> Result<PublishSummary, ConnectorError> {
        let _ = request;
        Ok(PublishSummary { rows: 0, records_skipped: 0, location: String::new() })
    }

    /// Removes what the pipeline left at the destination, apart from its data.
    fn teardown(&mut self, run: &RunContext, streams: &[StreamContext]) -> Result<(), ConnectorError> {
        let _ = (run, streams);
        Ok(())
    }

    /// Ends the session politely.
    fn close(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }
}
