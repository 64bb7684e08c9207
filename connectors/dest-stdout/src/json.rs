//! One JSON object per line.

use crate::printer::{Format, Printed};
use arrow_array::RecordBatch;
use arrow_schema::Schema;
use rapidbyte_sdk::ConnectorError;
use rapidbyte_sdk::text::{ColumnText, push_json_string};

/// The text before each value of a row.
fn keys(schema: &Schema) -> Vec<String> {
    let key = |(at, field): (usize, &std::sync::Arc<arrow_schema::Field>)| {
        let mut key = String::from(if at == 0 { "{" } else { "," });
        push_json_string(field.name(), &mut key);
        key.push(':');
        key
    };
    schema.fields().iter().enumerate().map(key).collect()
}

/// Rows as JSON lines.
pub(crate) struct JsonLines {
    /// The quoted name of each stream; empty when lines don't name theirs.
    streams: Vec<String>,
}

impl JsonLines {
    /// `streams` are the names to put into each line, or none.
    pub(crate) fn new(streams: Vec<String>) -> Self {
        let quoted = |name: &String| {
            let mut text = String::new();
            push_json_string(name, &mut text);
            text
        };
        Self { streams: streams.iter().map(quoted).collect() }
    }
}

impl Format for JsonLines {
    fn schema(&mut self, _stream: u32, _schema_id: u32) {
        // Keys are taken from each batch.
    }

    fn batch(
        &mut self,
        stream: u32,
        _schema_id: u32,
        batch: &RecordBatch,
        out: &mut String,
        sink: &mut dyn FnMut(&mut String) -> Result<Printed, ConnectorError>,
    ) -> Result<Printed, ConnectorError> {
        let schema = batch.schema();
        let keys = keys(&schema);
        let columns: Vec<ColumnText<'_>> = schema
            .fields()
            .iter()
            .zip(batch.columns())
            .map(|(field, array)| ColumnText::new(field, array))
            .collect::<Result<_, _>>()?;
        let name = self.streams.get(stream as usize);
        for row in 0..batch.num_rows() {
            if let Some(name) = name {
                out.push_str("{\"stream\":");
                out.push_str(name);
                out.push_str(",\"record\":");
            }
            for (key, column) in keys.iter().zip(&columns) {
                out.push_str(key);
                column.write_json(row, out);
            }
            out.push_str(if keys.is_empty() { "{}" } else { "}" });
            out.push_str(if name.is_some() { "}\n" } else { "\n" });
            if sink(out)? == Printed::Closed {
                return Ok(Printed::Closed);
            }
        }
        Ok(Printed::Yes)
    }

    fn left_out(&mut self, _rows: u64, _out: &mut String) {
        // Every line is a row; a note would have to be one too.
    }
}
