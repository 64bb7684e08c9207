//! Rows as text, over the SDK's exact text of values.

use arrow_array::RecordBatch;
use rapidbyte_sdk::ConnectorError;
use rapidbyte_sdk::text::{ColumnText, push_json_string};

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
