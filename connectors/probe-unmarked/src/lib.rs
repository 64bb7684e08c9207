//! A fixture: an incremental source that emits rows after its last barrier. The host must never commit those.

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use rapidbyte_sdk::{
    CheckItem, ConnectorError, CursorType, DiscoveredStream, InitContext, PartitionPlan, PlanRequest, Position, ReadPerf,
    ReadRequest, ReadSummary, Source, SourceOutput, StreamContext,
};
use serde::Deserialize;
use std::sync::Arc;

rapidbyte_sdk::connector_main!(source, Unmarked);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
/// No keys.
pub struct Nothing {}

/// Forgets its last barrier.
pub struct Unmarked;

impl Source for Unmarked {
    type Config = Nothing;

    fn init(_config: Nothing, _context: InitContext) -> Result<Self, ConnectorError> {
        Ok(Self)
    }

    fn validate(&mut self, _streams: &[StreamContext]) -> Result<Vec<CheckItem>, ConnectorError> {
        Ok(Vec::new())
    }

    fn discover(&mut self) -> Result<Vec<DiscoveredStream>, ConnectorError> {
        Ok(Vec::new())
    }

    fn plan_partitions(&mut self, _request: &PlanRequest) -> Result<PartitionPlan, ConnectorError> {
        Ok(PartitionPlan::single("always the same"))
    }

    fn read(&mut self, _request: &ReadRequest, output: &mut SourceOutput) -> Result<ReadSummary, ConnectorError> {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
        let id = output.schema(0, schema.clone())?;
        for number in [1, 2] {
            let ids: ArrayRef = Arc::new(Int64Array::from(vec![number]));
            let batch = RecordBatch::try_new(schema.clone(), vec![ids])
                .map_err(|error| ConnectorError::internal("arrow", error.to_string()))?;
            output.batch(id, &batch)?;
            if number == 1 {
                output.barrier(&Position::new(CursorType::Int64, "1"))?;
            }
        }
        Ok(output.summary(ReadPerf::default()))
    }
}
