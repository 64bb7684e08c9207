//! A transform that keeps the rows that satisfy typed predicates.

mod config;
mod operand;
mod predicate;

use crate::config::Conditions;
use crate::predicate::Ready;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_buffer::BooleanBuffer;
use arrow_schema::{Schema, SchemaRef};
use arrow_select::filter::filter_record_batch;
use rapidbyte_sdk::{
    CheckItem, ConnectorError, InitContext, Input, RowWise, SchemaId, StreamContext, Transform, TransformOutput, TransformRequest,
    TransformSummary, suggest,
};

pub use config::{Config, Match, Operator, Predicate};

/// The connector.
pub struct Filter {
    conditions: Conditions,
}

rapidbyte_sdk::connector_main!(transform, Filter);

/// What is asked of the batches of one schema.
pub struct Plan {
    id: SchemaId,
    conditions: Vec<Ready>,
}

impl Transform for Filter {
    type Config = Config;

    fn init(config: Config, _context: InitContext) -> Result<Self, ConnectorError> {
        Ok(Self { conditions: Conditions::new(config)? })
    }

    fn validate(&mut self, streams: &[StreamContext]) -> Result<Vec<CheckItem>, ConnectorError> {
        let look = |stream: &StreamContext| match stream.unselected(self.conditions.all.iter().map(|condition| &condition.field)) {
            None => Ok(format!("filtered by {}", self.columns())),
            Some(field) => {
                let message = format!("column `{field}` is asked for and not among the selected columns");
                let hint = format!("select `{field}` too, or list this transform's `streams`");
                Err(ConnectorError::config("unselected_column", message).with_hint(hint))
            }
        };
        Ok(self.conditions.scope.validate(streams, "filtered", look))
    }

    fn transform(
        &mut self,
        request: &TransformRequest,
        input: &mut Input,
        output: &mut TransformOutput,
    ) -> Result<TransformSummary, ConnectorError> {
        self.run(request, input, output)
    }
}

impl RowWise for Filter {
    type Plan = Plan;

    fn plan(
        &self,
        stream: u32,
        context: &StreamContext,
        schema: &SchemaRef,
        output: &mut TransformOutput,
    ) -> Result<Option<Plan>, ConnectorError> {
        if !self.conditions.scope.covers(&context.name) {
            return Ok(None);
        }
        let conditions = self.ready(context, schema)?;
        Ok(Some(Plan { id: output.schema(stream, schema.clone())?, conditions }))
    }

    fn batch(
        &self,
        plan: &Plan,
        _context: &StreamContext,
        batch: &RecordBatch,
        output: &mut TransformOutput,
    ) -> Result<(), ConnectorError> {
        match self.keep(plan, batch)? {
            Some(kept) => output.batch(plan.id, &kept),
            None => Ok(()),
        }
    }
}

impl Filter {
    /// The columns that are asked for, in words.
    fn columns(&self) -> String {
        let mut names: Vec<String> = Vec::new();
        for condition in &self.conditions.all {
            let name = format!("`{}`", condition.field);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.join(", ")
    }

    fn ready(&self, context: &StreamContext, schema: &Schema) -> Result<Vec<Ready>, ConnectorError> {
        let ready = |condition: &config::Condition| {
            let column = schema.index_of(&condition.field).map_err(|_| {
                let hint = suggest::column_hint(&condition.field, schema);
                ConnectorError::schema(
                    "unknown_column",
                    format!("stream `{}` has no column `{}` to filter by", context.name, condition.field),
                )
                .with_hint(format!("{hint}; a transform's `streams` says which streams it applies to"))
            })?;
            Ready::new(condition, column, schema.field(column))
        };
        self.conditions.all.iter().map(ready).collect()
    }

    /// The rows that stay; `None` when none does.
    fn keep(&self, plan: &Plan, batch: &RecordBatch) -> Result<Option<RecordBatch>, ConnectorError> {
        let mut held = plan.conditions.iter().map(|ready| ready.holds(batch.column(ready.column)));
        let first = held.next().unwrap_or_else(|| BooleanBuffer::new_set(batch.num_rows()));
        let kept = match self.conditions.combine {
            Match::All => held.fold(first, |all, next| &all & &next),
            Match::Any => held.fold(first, |any, next| &any | &next),
        };
        let count = kept.count_set_bits();
        if count == 0 {
            return Ok(None);
        }
        if count == batch.num_rows() {
            return Ok(Some(batch.clone()));
        }
        filter_record_batch(batch, &BooleanArray::new(kept, None))
            .map(Some)
            .map_err(|error| ConnectorError::internal("filter", format!("a batch could not be filtered: {error}")))
    }
}

#[cfg(test)]
mod tests;
