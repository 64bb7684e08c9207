//! A transform that hides personal data on its way.

mod config;
mod method;

use crate::config::Masks;
use crate::method::Method;
use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use rapidbyte_sdk::{
    CheckItem, ConnectorError, Event, InitContext, Input, RowWise, SchemaId, StreamContext, Transform, TransformOutput,
    TransformRequest, TransformSummary, suggest,
};
use serde_json::Value;
use std::sync::Arc;

pub use config::{Config, MethodName, Rule, Salt};

/// The connector.
pub struct Mask {
    masks: Masks,
}

rapidbyte_sdk::connector_main!(transform, Mask);

/// What is done to the batches of one schema.
pub struct Plan {
    id: SchemaId,
    schema: SchemaRef,
    /// By column; `None` passes it on.
    methods: Vec<Option<Method>>,
}

impl Transform for Mask {
    type Config = Config;

    fn init(config: Config, _context: InitContext) -> Result<Self, ConnectorError> {
        Ok(Self { masks: Masks::new(config)? })
    }

    fn validate(&mut self, streams: &[StreamContext]) -> Result<Vec<CheckItem>, ConnectorError> {
        let look = |stream: &StreamContext| match stream.unselected(self.masks.columns.iter().map(|(field, _)| field)) {
            None => Ok(format!("masked: {}", self.columns())),
            Some(field) => {
                let message = format!("column `{field}` is to be masked and not among the selected columns");
                let hint = format!("remove `{field}` from the masked columns, or list this transform's `streams`");
                Err(ConnectorError::config("unselected_column", message).with_hint(hint))
            }
        };
        Ok(self.masks.scope.validate(streams, "masked", look))
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

impl RowWise for Mask {
    type Plan = Plan;

    fn plan(
        &self,
        stream: u32,
        context: &StreamContext,
        schema: &SchemaRef,
        output: &mut TransformOutput,
    ) -> Result<Option<Plan>, ConnectorError> {
        if !self.masks.scope.covers(&context.name) {
            return Ok(None);
        }
        self.masked(context, stream, schema, output).map(Some)
    }

    fn batch(
        &self,
        plan: &Plan,
        context: &StreamContext,
        batch: &RecordBatch,
        output: &mut TransformOutput,
    ) -> Result<(), ConnectorError> {
        emit(plan, batch, context.limits.max_batch_bytes, output)
    }

    fn other(&self, request: &TransformRequest, event: Event, output: &mut TransformOutput) -> Result<(), ConnectorError> {
        match event {
            Event::ReplaceRange { stream, range } => {
                let context = request.stream(stream)?;
                let key = context.primary_key.iter().find(|key| self.masks.columns.iter().any(|(field, _)| field == *key));
                if let Some(key) = key.filter(|_| self.masks.scope.covers(&context.name)) {
                    // The range speaks of values as they were; the destination holds masked ones.
                    return Err(ConnectorError::config(
                        "masked_key",
                        format!("stream `{}` is replaced by ranges of its key, and key column `{key}` is masked", context.name),
                    )
                    .with_hint("leave the key unmasked, or use another write mode"));
                }
                output.pass(Event::ReplaceRange { stream, range })
            }
            Event::DeadLetters(mut letters) => {
                for letter in &mut letters {
                    if self.masks.scope.covers(&request.stream(letter.stream)?.name) {
                        letter.record_json = self.redact_record(&letter.record_json);
                    }
                }
                output.dead_letters(&letters)
            }
            other => output.pass(other),
        }
    }
}

impl Mask {
    /// The masked columns, in words.
    fn columns(&self) -> String {
        let names: Vec<String> = self.masks.columns.iter().map(|(field, _)| format!("`{field}`")).collect();
        names.join(", ")
    }

    /// The record of a row that an earlier stage refused, with everything under a masked column's name taken out. Its type
    /// may not fit the column any more, so the column's own method can't be used.
    fn redact_record(&self, json: &str) -> String {
        match serde_json::from_str::<Value>(json) {
            Ok(mut record @ (Value::Object(_) | Value::Array(_))) => {
                self.redact_value(&mut record);
                record.to_string()
            }
            // Not a record that could be looked into.
            Ok(_) | Err(_) => "\"***\"".into(),
        }
    }

    fn redact_value(&self, value: &mut Value) {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    if self.masks.columns.iter().any(|(field, _)| field == key) {
                        *value = Value::from("***");
                    } else {
                        self.redact_value(value);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact_value(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// The plan for a schema, whose masked form is announced.
    fn masked(
        &self,
        context: &StreamContext,
        stream: u32,
        schema: &Schema,
        output: &mut TransformOutput,
    ) -> Result<Plan, ConnectorError> {
        if let Some((missing, _)) = self.masks.columns.iter().find(|(field, _)| schema.index_of(field).is_err()) {
            let hint = suggest::column_hint(missing, schema);
            return Err(ConnectorError::schema(
                "unknown_column",
                format!("stream `{}` has no column `{missing}` to mask", context.name),
            )
            .with_hint(format!("{hint}; a transform's `streams` says which streams it applies to")));
        }
        let method = |name: &str| self.masks.columns.iter().find(|(field, _)| field == name).map(|(_, method)| method.clone());
        let methods: Vec<Option<Method>> = schema.fields().iter().map(|field| method(field.name())).collect();
        let fields: Vec<_> = schema
            .fields()
            .iter()
            .zip(&methods)
            .map(|(field, method)| method.as_ref().map_or_else(|| field.clone(), |method| Arc::new(method.field(field))))
            .collect();
        let masked = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        for (field, method) in schema.fields().iter().zip(&methods) {
            if let Some(method) = method {
                // A type that can't be masked is told before the first row.
                method.apply(field, &arrow_array::new_empty_array(field.data_type()))?;
            }
        }
        let id = output.schema(stream, masked.clone())?;
        Ok(Plan { id, schema: masked, methods })
    }
}

/// Masks a batch and hands it on, in parts where it has grown beyond the limit.
fn emit(plan: &Plan, batch: &RecordBatch, limit: u64, output: &mut TransformOutput) -> Result<(), ConnectorError> {
    let before = batch.schema();
    let mut columns = Vec::with_capacity(batch.num_columns());
    for ((array, field), method) in batch.columns().iter().zip(before.fields()).zip(&plan.methods) {
        columns.push(match method {
            Some(method) => method.apply(field, array)?,
            None => array.clone(),
        });
    }
    let masked = RecordBatch::try_new(plan.schema.clone(), columns)
        .map_err(|error| ConnectorError::internal("mask", format!("a masked batch could not be made: {error}")))?;
    output.batch_within(plan.id, &masked, limit)
}

#[cfg(test)]
mod tests;
