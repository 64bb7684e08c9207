//! From the records of dead letters to the events of a task.

use super::values;
use crate::error::{Cause, EngineError, Stage};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions, StreamEncoder};
use arrow_schema::{Field, Schema, SchemaRef};
use rapidbyte_runtime::Event;
use rapidbyte_types::{ConnectorError, StreamContext};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::Arc;

/// Rows of one batch at most.
const ROWS: usize = 4096;

/// A column of a record.
struct Cell {
    field: Field,
    text: Option<String>,
}

fn wrong(letter: u64, message: impl std::fmt::Display) -> EngineError {
    let error = ConnectorError::config("unusable_record", format!("dead letter {letter} can't be replayed: {message}"))
        .with_hint("export it with `rapidbyte dlq export`, mend its record, and give the file to `rapidbyte dlq replay --edited`");
    EngineError::new(Stage::Plan, Cause::Connector(error))
}

/// Reads a record. Values never become part of an error.
fn cells(letter: u64, record: &str) -> Result<Vec<Cell>, EngineError> {
    let columns: Map<String, Value> = serde_json::from_str(record).map_err(|_| wrong(letter, "its record is not a JSON object"))?;
    let mut cells = Vec::with_capacity(columns.len());
    for (name, entry) in columns {
        let wrong = |message: &str| wrong(letter, format!("column `{name}` {message}"));
        let Value::Object(entry) = entry else { return Err(wrong("was masked, or is not an object of `type` and `value`")) };
        let known = ["type", "value", "not_null", "metadata", "omitted"];
        if let Some(key) = entry.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(wrong(&format!("has an unknown key `{key}`")));
        }
        let Some(Value::String(data_type)) = entry.get("type") else { return Err(wrong("has no `type`")) };
        let data_type = data_type.parse().map_err(|_| wrong("has a `type` that is not known"))?;
        let text = match entry.get("value") {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Null) => None,
            Some(_) => return Err(wrong("has a `value` that is neither text nor null")),
            None => return Err(wrong("has no value: it was too large, or could not be read")),
        };
        let mut metadata = HashMap::new();
        match entry.get("metadata") {
            None => {}
            Some(Value::Object(entries)) => {
                for (key, value) in entries {
                    let Value::String(value) = value else { return Err(wrong("has metadata that is not text")) };
                    metadata.insert(key.clone(), value.clone());
                }
            }
            Some(_) => return Err(wrong("has metadata that is not an object")),
        }
        let not_null = match entry.get("not_null") {
            None => false,
            Some(Value::Bool(not_null)) => *not_null,
            Some(_) => return Err(wrong("has a `not_null` that is not true or false")),
        };
        if not_null && text.is_none() {
            return Err(wrong("is null and may not be"));
        }
        cells.push(Cell { field: Field::new(&name, data_type, !not_null).with_metadata(metadata), text });
    }
    if cells.is_empty() {
        return Err(wrong(letter, "its record has no columns"));
    }
    Ok(cells)
}

/// Letters by their number, with the text of each column.
type Rows = Vec<(u64, Vec<Option<String>>)>;

/// Schemas and batches of the letters, in their order. Letters of one schema that follow each other share batches.
pub(super) fn events(letters: &[(u64, String)], stream: &StreamContext) -> Result<Vec<Event>, EngineError> {
    let max_bytes = usize::try_from(stream.limits.max_batch_bytes / 2).unwrap_or(usize::MAX);
    let mut events = Vec::new();
    let mut schema_id = 0;
    let mut open: Option<(SchemaRef, Rows, usize)> = None;
    let mut encoder: Option<(SchemaRef, Encoder)> = None;
    let mut close = |open: &mut Option<(SchemaRef, Rows, usize)>| -> Result<(), EngineError> {
        let Some((schema, rows, _)) = open.take() else { return Ok(()) };
        if encoder.as_ref().is_none_or(|(of, _)| *of != schema) {
            schema_id += 1;
            events.push(Event::Schema { stream: 0, schema_id, ipc: encode_schema(&schema).into() });
            encoder = Some((Arc::clone(&schema), Encoder::new(&schema)?));
        }
        let batch = batch(&schema, &rows)?;
        if let Some((_, encoder)) = &mut encoder {
            let bytes = encoder.encode(&batch)?;
            let rows = u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
            events.push(Event::Batch { stream: 0, schema_id, rows, bytes: bytes.into() });
        }
        Ok(())
    };
    for (letter, record) in letters {
        let cells = cells(*letter, record)?;
        let schema = Arc::new(Schema::new(cells.iter().map(|cell| cell.field.clone()).collect::<Vec<_>>()));
        let full = |(of, rows, bytes): &(SchemaRef, Vec<_>, usize)| {
            *of != schema || rows.len() >= ROWS || bytes.saturating_add(record.len()) > max_bytes
        };
        if open.as_ref().is_some_and(full) {
            close(&mut open)?;
        }
        let (_, rows, bytes) = open.get_or_insert_with(|| (schema, Vec::new(), 0));
        *bytes += record.len();
        rows.push((*letter, cells.into_iter().map(|cell| cell.text).collect()));
    }
    close(&mut open)?;
    Ok(events)
}

fn batch(schema: &SchemaRef, rows: &[(u64, Vec<Option<String>>)]) -> Result<RecordBatch, EngineError> {
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for (index, field) in schema.fields().iter().enumerate() {
        let texts: Vec<Option<&str>> = rows.iter().map(|(_, row)| row.get(index).and_then(Option::as_deref)).collect();
        arrays.push(values::array(field, &texts).map_err(|(at, message)| {
            let letter = rows.get(at).map_or(0, |(letter, _)| *letter);
            wrong(letter, format!("the value of column `{}` {message}", field.name()))
        })?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options).map_err(|_| broken())
}

fn broken() -> EngineError {
    EngineError::internal(Stage::Engine, "replay_batch", "the rows of a replay don't fit their schema")
}

/// A schema as an encapsulated IPC message.
pub(crate) fn encode_schema(schema: &Schema) -> Vec<u8> {
    let options = IpcWriteOptions::default();
    let data =
        IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(schema, &mut DictionaryTracker::new(true), &options);
    let mut bytes = Vec::new();
    // Writing to memory does not fail.
    let _ = arrow_ipc::writer::write_message(&mut bytes, data, &options);
    bytes
}

/// Encodes batches as a connector does: the schema has travelled on its own.
struct Encoder {
    encoder: StreamEncoder,
    started: bool,
}

impl Encoder {
    fn new(schema: &SchemaRef) -> Result<Self, EngineError> {
        Ok(Self { encoder: StreamEncoder::try_new(schema).map_err(|_| broken())?, started: false })
    }

    fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, EngineError> {
        let mut bytes: Vec<u8> = Vec::new();
        for buffer in self.encoder.encode(batch).map_err(|_| broken())? {
            bytes.extend_from_slice(&buffer);
        }
        if !std::mem::replace(&mut self.started, true) {
            // A message of a schema has no body: its mark, its length, and so many bytes.
            let length = bytes.get(4..8).and_then(|length| length.try_into().ok()).map_or(0, u32::from_le_bytes);
            bytes.drain(..(8 + length as usize).min(bytes.len()));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rapidbyte_types::StreamName;

    fn made(records: &[&str]) -> Result<Vec<Event>, String> {
        let letters: Vec<(u64, String)> = (1..).zip(records.iter().map(|record| (*record).to_owned())).collect();
        events(&letters, &StreamContext::full_refresh(StreamName::new("s"))).map_err(|error| error.message())
    }

    #[test]
    fn letters_of_one_schema_share_a_batch() {
        let one = r#"{"id":{"type":"Int64","value":"1","not_null":true},"note":{"type":"Utf8","value":null}}"#;
        let two = r#"{"id":{"type":"Int64","value":"2","not_null":true},"note":{"type":"Utf8","value":"x"}}"#;
        let other = r#"{"id":{"type":"Int32","value":"3"}}"#;
        let events = made(&[one, two, other, one]).unwrap();
        let rows: Vec<Option<u32>> =
            events.iter().map(|event| if let Event::Batch { rows, .. } = event { Some(*rows) } else { None }).collect();
        assert_eq!(rows, [None, Some(2), None, Some(1), None, Some(1)]);
    }

    #[test]
    fn a_record_that_can_not_be_written_is_named_and_not_told() {
        for (record, words) in [
            ("[]", "not a JSON object"),
            ("{}", "no columns"),
            (r#"{"a":"***"}"#, "column `a` was masked"),
            (r#"{"a":{"type":"Int64","value":"canary"}}"#, "the value of column `a` is not of its type `Int64`"),
            (r#"{"a":{"type":"Int64","omitted":"too large"}}"#, "column `a` has no value"),
            (r#"{"a":{"type":"Nonsense","value":"1"}}"#, "`type` that is not known"),
            (r#"{"a":{"type":"Int64","value":null,"not_null":true}}"#, "is null and may not be"),
            (r#"{"a":{"type":"Int64","value":7}}"#, "neither text nor null"),
            (r#"{"a":{"type":"Int64","value":"7","vlaue":"8"}}"#, "unknown key `vlaue`"),
        ] {
            let good = r#"{"a":{"type":"Int64","value":"1"}}"#;
            let error = made(&[good, record]).unwrap_err();
            assert!(error.contains("dead letter 2") && error.contains(words), "{record}: {error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
