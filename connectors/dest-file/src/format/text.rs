//! Rows as text, over the SDK's exact text of values.

use arrow_array::RecordBatch;
use rapidbyte_sdk::text::{ColumnText, push_json_string};
use rapidbyte_sdk::{ConnectorError, split};

/// The columns of a batch.
pub(super) fn columns(batch: &RecordBatch) -> Result<Vec<ColumnText<'_>>, ConnectorError> {
    let fields = batch.schema_ref().fields().iter();
    fields.zip(batch.columns()).map(|(field, array)| ColumnText::quoting_decimals(field, array)).collect()
}

/// A member's name with its colon.
pub(super) fn key(name: &str) -> String {
    let mut key = String::new();
    push_json_string(name, &mut key);
    key.push(':');
    key
}

/// A row for people and for a replay: each value as exact text beside its type.
pub(crate) fn record_json(batch: &RecordBatch, row: usize) -> Result<String, ConnectorError> {
    let mut out = String::from("{");
    for (i, (column, field)) in columns(batch)?.iter().zip(batch.schema_ref().fields()).enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str(&key(field.name()));
        out.push_str("{\"type\":");
        push_json_string(&split::whole(field).data_type().to_string(), &mut out);
        out.push_str(",\"value\":");
        if batch.column(i).is_null(row) {
            out.push_str("null");
        } else if let Some(infinity) = super::values::infinity(batch.column(i).as_ref(), row) {
            push_json_string(infinity, &mut out);
        } else {
            let mut text = String::new();
            column.write(row, &mut text);
            push_json_string(&text, &mut out);
        }
        out.push('}');
    }
    out.push('}');
    Ok(out)
}
