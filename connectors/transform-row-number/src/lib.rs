//! A transform that numbers rows as they pass. Its numbers so far are its state, which travels in the receipts.

mod config;
mod counts;

use crate::config::Numbering;
use crate::counts::{Counts, KeyDigest};
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use rapidbyte_sdk::text::{ColumnText, TextKind};
use rapidbyte_sdk::{
    CheckItem, ConnectorError, Event, InitContext, Input, RowWise, SchemaId, StreamContext, SyncMode, Transform, TransformOutput,
    TransformRequest, TransformSummary, suggest,
};
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::sync::Arc;

pub use config::Config;

/// The connector.
pub struct RowNumber {
    numbering: Numbering,
}

rapidbyte_sdk::connector_main!(transform, RowNumber);

/// One task, which goes on counting where the one before has ended.
struct Task<'a> {
    numbering: &'a Numbering,
    counts: RefCell<Counts>,
}

/// What is done to the batches of one schema.
struct Plan {
    id: SchemaId,
    schema: SchemaRef,
    /// The key's columns.
    key: Vec<usize>,
}

impl Transform for RowNumber {
    type Config = Config;

    fn init(config: Config, _context: InitContext) -> Result<Self, ConnectorError> {
        Ok(Self { numbering: Numbering::new(config)? })
    }

    fn validate(&mut self, streams: &[StreamContext]) -> Result<Vec<CheckItem>, ConnectorError> {
        let look = |stream: &StreamContext| {
            check_mode(stream)?;
            match stream.unselected(&self.numbering.key) {
                None => Ok(format!("numbered by `{}`", self.numbering.column)),
                Some(name) => {
                    let message = format!("the key's column `{name}` is not among the selected columns");
                    let hint = format!("select `{name}` too, or list this transform's `streams`");
                    Err(ConnectorError::config("unselected_column", message).with_hint(hint))
                }
            }
        };
        Ok(self.numbering.scope.validate(streams, "numbered", look))
    }

    fn transform(
        &mut self,
        request: &TransformRequest,
        input: &mut Input,
        output: &mut TransformOutput,
    ) -> Result<TransformSummary, ConnectorError> {
        let counts = RefCell::new(Counts::read(request.state.as_deref())?);
        Task { numbering: &self.numbering, counts }.run(request, input, output)
    }
}

/// Changes of rows are no rows to be numbered.
fn check_mode(stream: &StreamContext) -> Result<(), ConnectorError> {
    if stream.sync_mode != SyncMode::Cdc {
        return Ok(());
    }
    Err(ConnectorError::config("unsupported_mode", format!("stream `{}`: changes of rows can't be numbered", stream.name))
        .with_hint("list this transform's `streams`, or use `sync_mode: incremental`"))
}

impl RowWise for Task<'_> {
    type Plan = Plan;

    fn plan(
        &self,
        stream: u32,
        context: &StreamContext,
        schema: &SchemaRef,
        output: &mut TransformOutput,
    ) -> Result<Option<Plan>, ConnectorError> {
        let Numbering { column, key, .. } = self.numbering;
        if !self.numbering.scope.covers(&context.name) {
            return Ok(None);
        }
        check_mode(context)?;
        if schema.index_of(column).is_ok() {
            let message = format!("stream `{}` has a column `{column}` already", context.name);
            return Err(ConnectorError::schema("duplicate_column", message).with_hint("name another one with `column`"));
        }
        let place = |name: &String| {
            schema.index_of(name).map_err(|_| {
                let hint = suggest::column_hint(name, schema);
                ConnectorError::schema("unknown_column", format!("stream `{}` has no column `{name}` to number by", context.name))
                    .with_hint(format!("{hint}; a transform's `streams` says which streams it applies to"))
            })
        };
        let key = key.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        for at in &key {
            // A type without an exact text is told before the first row.
            let field = schema.field(*at);
            ColumnText::new(field, &arrow_array::new_empty_array(field.data_type()))?;
        }
        let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(column, DataType::Int64, false)));
        let numbered = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        let id = output.schema(stream, numbered.clone())?;
        Ok(Some(Plan { id, schema: numbered, key }))
    }

    fn batch(
        &self,
        plan: &Plan,
        context: &StreamContext,
        batch: &RecordBatch,
        output: &mut TransformOutput,
    ) -> Result<(), ConnectorError> {
        let mut counts = self.counts.borrow_mut();
        let mut counter = counts.of(&context.name.to_string());
        let mut numbers = Vec::with_capacity(batch.num_rows());
        let mut give = |key: KeyDigest| {
            let number = counter
                .next(key)
                .map_err(|error| ConnectorError { message: format!("stream `{}`: {}", context.name, error.message), ..error })?;
            numbers
                .push(i64::try_from(number).map_err(|_| ConnectorError::internal("number_range", "a number is beyond 63 bits"))?);
            Ok::<_, ConnectorError>(())
        };
        if plan.key.is_empty() {
            (0..batch.num_rows()).try_for_each(|_| give(KeyDigest::default()))?;
        } else {
            let keys = Keys::new(plan, batch)?;
            let mut text = String::new();
            (0..batch.num_rows()).try_for_each(|row| give(keys.digest(row, &mut text)))?;
        }
        let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
        let columns = batch.columns().iter().cloned().chain([numbers]).collect();
        let numbered = RecordBatch::try_new(plan.schema.clone(), columns)
            .map_err(|error| ConnectorError::internal("number", format!("a numbered batch could not be made: {error}")))?;
        output.batch_within(plan.id, &numbered, context.limits.max_batch_bytes)
    }

    fn other(&self, request: &TransformRequest, event: Event, output: &mut TransformOutput) -> Result<(), ConnectorError> {
        let refused = |stream: u32, event: &str| {
            let name = &request.stream(stream)?.name;
            if !self.numbering.scope.covers(name) {
                return Ok(());
            }
            let message = format!("stream `{name}`: an event `{event}` can't be carried, as numbers are given once");
            Err(ConnectorError::internal("unsupported_event", message).with_hint("list this transform's `streams`"))
        };
        match &event {
            Event::Barrier(barrier) => return output.barrier(barrier, Some(self.counts.borrow().write())),
            Event::Truncate(truncate) => refused(truncate.stream, "truncate")?,
            Event::ReplaceRange { stream, .. } => refused(*stream, "replace-range")?,
            Event::Schema { .. } | Event::Batch { .. } | Event::DeadLetters(_) | Event::Heartbeat | Event::End => {}
        }
        output.pass(event)
    }
}

/// The key of each row of a batch.
struct Keys<'a> {
    columns: Vec<ColumnText<'a>>,
}

impl<'a> Keys<'a> {
    fn new(plan: &Plan, batch: &'a RecordBatch) -> Result<Self, ConnectorError> {
        let column = |at: &usize| ColumnText::new(plan.schema.field(*at), batch.column(*at));
        Ok(Self { columns: plan.key.iter().map(column).collect::<Result<_, _>>()? })
    }

    /// Each value with its length, so that two rows are never the same text in two ways; NULL is not the empty text.
    fn digest(&self, row: usize, text: &mut String) -> KeyDigest {
        let mut hash = Sha256::new();
        for column in &self.columns {
            text.clear();
            match column.write(row, text) {
                TextKind::Null => hash.update([0]),
                TextKind::Bare | TextKind::Quoted => {
                    hash.update([1]);
                    hash.update((text.len() as u64).to_le_bytes());
                    hash.update(text.as_bytes());
                }
            }
        }
        let mut digest = KeyDigest::default();
        let length = digest.len();
        digest.copy_from_slice(&hash.finalize()[..length]);
        digest
    }
}

#[cfg(test)]
mod tests;
