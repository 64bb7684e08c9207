//! Transforms that look at rows alone.

use crate::{ConnectorError, Event, Input, StreamContext, TransformOutput, TransformRequest, TransformSummary};
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use std::collections::HashMap;

/// What a transform does that makes of each batch another one, or none, without a memory of those before.
/// [`RowWise::run`] drives it.
pub trait RowWise {
    /// What is done to the batches of one schema.
    type Plan;

    /// Looks at a schema before its first batch, and announces to `output` what its batches become. `None` passes the schema
    /// and its batches on unchanged. `stream` is the index into the request's streams.
    fn plan(
        &self,
        stream: u32,
        context: &StreamContext,
        schema: &SchemaRef,
        output: &mut TransformOutput,
    ) -> Result<Option<Self::Plan>, ConnectorError>;

    /// Hands to `output` what becomes of a batch. The rows that came are counted already.
    fn batch(
        &self,
        plan: &Self::Plan,
        context: &StreamContext,
        batch: &RecordBatch,
        output: &mut TransformOutput,
    ) -> Result<(), ConnectorError>;

    /// Takes any other event, barriers among them, in its place in the order. Passes it on unless told otherwise.
    fn other(&self, _request: &TransformRequest, event: Event, output: &mut TransformOutput) -> Result<(), ConnectorError> {
        output.pass(event)
    }

    /// Takes events until the end, as [`Transform::transform`](crate::Transform::transform) must: each is dealt with before the
    /// next one is asked for, so that all keep their order. Errors are those of the calls above, of the host, and
    /// `unknown_stream` for an event of a stream which the task does not have.
    fn run(
        &self,
        request: &TransformRequest,
        input: &mut Input,
        output: &mut TransformOutput,
    ) -> Result<TransformSummary, ConnectorError> {
        let mut plans: HashMap<(u32, u32), Self::Plan> = HashMap::new();
        loop {
            match input.next()? {
                Event::Schema { stream, schema_id, schema } => match self.plan(stream, request.stream(stream)?, &schema, output)? {
                    Some(plan) => {
                        plans.insert((stream, schema_id), plan);
                    }
                    None => output.pass(Event::Schema { stream, schema_id, schema })?,
                },
                Event::Batch { stream, schema_id, batch, bytes } => match plans.get(&(stream, schema_id)) {
                    Some(plan) => {
                        output.received(batch.num_rows() as u64, bytes);
                        self.batch(plan, request.stream(stream)?, &batch, output)?;
                    }
                    None => output.pass(Event::Batch { stream, schema_id, batch, bytes })?,
                },
                Event::End => return Ok(output.summary()),
                other => self.other(request, other, output)?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_ffi::RawEvent;
    use crate::testing::{Emitted, FakeHost, run_context};
    use crate::{KeyRange, SchemaId, StreamName};
    use arrow_array::Int32Array;
    use arrow_schema::{DataType, Field, Schema};
    use std::sync::Arc;

    /// Leaves the stream `small` one row per batch, and the others alone.
    struct First;

    impl RowWise for First {
        type Plan = SchemaId;

        fn plan(
            &self,
            stream: u32,
            context: &StreamContext,
            schema: &SchemaRef,
            output: &mut TransformOutput,
        ) -> Result<Option<SchemaId>, ConnectorError> {
            (context.name.name == "small").then(|| output.schema(stream, schema.clone())).transpose()
        }

        fn batch(
            &self,
            plan: &SchemaId,
            _: &StreamContext,
            batch: &RecordBatch,
            output: &mut TransformOutput,
        ) -> Result<(), ConnectorError> {
            output.batch(*plan, &batch.slice(0, 1))
        }
    }

    #[test]
    fn events_keep_their_order_and_only_planned_batches_change() {
        let host = FakeHost::install();
        let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int32, false)]));
        let three = RecordBatch::try_new(schema, vec![Arc::new(Int32Array::from(vec![1, 2, 3]))]).unwrap();
        host.feed(0, 0, std::slice::from_ref(&three)).unwrap();
        host.feed_commit(1, false, None);
        host.feed(1, 0, std::slice::from_ref(&three)).unwrap();
        host.feed_event(RawEvent::ReplaceRange { stream: 1, range: KeyRange { low: None, high: None } });
        host.feed(0, 1, &[three]).unwrap();
        host.feed_commit(2, true, None);
        let streams = ["small", "whole"].map(|name| StreamContext::full_refresh(StreamName::new(name))).into();
        let mut request = TransformRequest { run: run_context(), streams, state: None };
        let summary = First.run(&request, &mut host.input(), &mut host.transform_output()).unwrap();
        assert_eq!((summary.records_in, summary.records_out, summary.batches_emitted), (9, 5, 3));
        let shown = host.emitted().into_iter().map(|emitted| match emitted {
            Emitted::Schema { stream, .. } => format!("schema {stream}"),
            Emitted::Batch { stream, rows, .. } => format!("{rows} of {stream}"),
            Emitted::ForwardedBarrier { id, .. } => format!("barrier {id}"),
            Emitted::ReplaceRange { stream, .. } => format!("range {stream}"),
            other => format!("{other:?}"),
        });
        assert_eq!(
            shown.collect::<Vec<_>>(),
            ["schema 0", "1 of 0", "barrier 1", "schema 1", "3 of 1", "range 1", "schema 0", "1 of 0", "barrier 2"]
        );
        // An event of a stream that the task does not have.
        request.streams.clear();
        host.feed(0, 0, &[RecordBatch::new_empty(Arc::new(Schema::empty()))]).unwrap();
        let error = First.run(&request, &mut host.input(), &mut host.transform_output()).unwrap_err();
        assert_eq!(error.code, "unknown_stream");
    }
}
