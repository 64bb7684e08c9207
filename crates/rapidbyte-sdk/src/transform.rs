//! The transform role.

use crate::{CheckItem, ConnectorError, InitContext, Input, RunContext, StreamContext, TransformOutput, TransformSummary};
use serde::de::DeserializeOwned;

/// A task begins.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformRequest {
    /// Who is running.
    pub run: RunContext,
    /// The streams of the task.
    pub streams: Vec<StreamContext>,
    /// What this transform gave with the barrier that is being resumed from.
    pub state: Option<Vec<u8>>,
}

impl TransformRequest {
    /// The stream an event names by its index; `unknown_stream` if the task does not have it.
    pub fn stream(&self, index: u32) -> Result<&StreamContext, ConnectorError> {
        self.streams.get(index as usize).ok_or_else(|| {
            ConnectorError::internal("unknown_stream", format!("an event names stream {index}, which the task has not"))
        })
    }
}

/// Changes streams on their way.
///
/// Called in the order `init`, any of the others, `close`.
pub trait Transform: Sized {
    /// The shape of the `config:` block.
    type Config: DeserializeOwned;

    /// Takes the checked configuration.
    fn init(config: Self::Config, context: InitContext) -> Result<Self, ConnectorError>;

    /// Looks at each stream; changes nothing. A problem is an item, not an error.
    fn validate(&mut self, streams: &[StreamContext]) -> Result<Vec<CheckItem>, ConnectorError>;

    /// Takes events until the end and passes schemas, batches, barriers and everything it does not understand on in order;
    /// [`TransformOutput::pass`] does so for any event. Where rows alone are looked at, [`RowWise`](crate::RowWise) has the loop.
    fn transform(
        &mut self,
        request: &TransformRequest,
        input: &mut Input,
        output: &mut TransformOutput,
    ) -> Result<TransformSummary, ConnectorError>;

    /// Ends politely.
    fn close(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }
}
