//! Dry runs, for `plan`.

use crate::{ConnectorError, PlannedTarget, StreamContext};
use arrow_schema::SchemaRef;

/// A stream that would be run.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedStream {
    /// The stream.
    pub context: StreamContext,
    /// The columns that would arrive.
    pub schema: SchemaRef,
}

/// Tells what a run would do. Optional: a destination that implements it says so in `connector_main!`.
///
/// Called after `init`, once, then `close`. Changes nothing. What would end the run is an effect, not an error.
pub trait DryRun {
    /// One answer for each stream, in order.
    fn dry_run(&mut self, streams: &[PlannedStream]) -> Result<Vec<PlannedTarget>, ConnectorError>;
}
