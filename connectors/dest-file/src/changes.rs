//! Changes of a source's log, kept as a log in files.
//!
//! Every file of such a stream has the columns of changes, those of its load too: its rows are inserts without a place in the log.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, UInt64Array, new_null_array};
use arrow_schema::{Field, Schema, SchemaRef};
use rapidbyte_sdk::changes::{ChangeOp, LSN, OP, SEQ, change_fields, is_reserved};
use rapidbyte_sdk::{ConnectorError, Position, SyncMode, WriteStream};
use std::sync::Arc;

/// The partition of changes.
const PARTITION: &str = "_rb_changes";
/// The schema of emptied tables, whose number no source gives.
pub(crate) const TRUNCATES: u32 = u32::MAX;

/// Whether what is written are changes.
pub(crate) fn of_changes(stream: &WriteStream) -> bool {
    stream.context.sync_mode == SyncMode::Cdc && stream.partition == PARTITION
}

/// Whether what is written is the load that changes follow.
pub(crate) fn of_load(stream: &WriteStream) -> bool {
    stream.context.sync_mode == SyncMode::Cdc && stream.partition != PARTITION
}

/// The columns of changes, all of which a load may lack.
fn fields() -> Vec<Field> {
    change_fields().into_iter().map(|field| if field.name() == OP { field } else { field.with_nullable(true) }).collect()
}

/// A load's schema with the columns of changes; a deleted row tells its key at most.
pub(crate) fn with_fields(schema: &Schema) -> SchemaRef {
    let own = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new_with_metadata(own.chain(fields()).collect::<Vec<_>>(), schema.metadata().clone()))
}

/// The same for a schema that has them.
pub(crate) fn loosened(schema: &Schema) -> SchemaRef {
    let loose = |field: &Arc<Field>| {
        let field = field.as_ref().clone();
        if field.name() == OP { field } else { field.with_nullable(true) }
    };
    Arc::new(Schema::new_with_metadata(schema.fields().iter().map(loose).collect::<Vec<_>>(), schema.metadata().clone()))
}

/// Rows of a load as changes.
pub(crate) fn as_inserts(batch: &RecordBatch) -> Result<RecordBatch, ConnectorError> {
    let rows = batch.num_rows();
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    columns.extend(fields().iter().map(|field| match field.name().as_str() {
        OP => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(ChangeOp::Insert.as_str(), rows))) as ArrayRef,
        _ => new_null_array(field.data_type(), rows),
    }));
    made(with_fields(batch.schema_ref()), columns, rows)
}

/// The schema of a row that says that the table was emptied.
pub(crate) fn truncate_schema() -> SchemaRef {
    Arc::new(Schema::new(fields()))
}

/// Such a row.
pub(crate) fn truncate((lsn, seq): (u64, i64)) -> Result<RecordBatch, ConnectorError> {
    let columns = fields().into_iter().map(|field| match field.name().as_str() {
        OP => Arc::new(StringArray::from(vec![ChangeOp::Truncate.as_str()])) as ArrayRef,
        LSN => Arc::new(UInt64Array::from(vec![lsn])),
        SEQ => Arc::new(Int64Array::from(vec![seq])),
        _ => new_null_array(field.data_type(), 1),
    });
    made(truncate_schema(), columns.collect(), 1)
}

fn made(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, ConnectorError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options)
        .map_err(|error| ConnectorError::internal("batch_shape", error.to_string()))
}

/// The changes beyond a place, and the place of the last one. Changes of a stream come in order.
pub(crate) fn beyond(batch: RecordBatch, place: u64, newest: &mut (u64, i64)) -> Result<RecordBatch, ConnectorError> {
    let shape = || ConnectorError::internal("batch_shape", "a batch of changes lacks the place of each in the log");
    let column = |name| batch.column_by_name(name).filter(|array| array.null_count() == 0).ok_or_else(shape);
    let lsn = column(LSN)?.as_primitive_opt::<UInt64Type>().ok_or_else(shape)?.values();
    let seq = column(SEQ)?.as_primitive_opt::<Int64Type>().ok_or_else(shape)?.values();
    if let (Some(lsn), Some(seq)) = (lsn.last(), seq.last()) {
        *newest = (*lsn, *seq);
    }
    let known = lsn.partition_point(|lsn| *lsn <= place);
    Ok(if known == 0 { batch } else { batch.slice(known, batch.num_rows() - known) })
}

/// A position as a number of the log.
pub(crate) fn place(position: &Position) -> Result<u64, ConnectorError> {
    position.lsn().ok_or_else(|| {
        ConnectorError::internal("position_type", format!("a position of changes is of type `{}`, expected `lsn`", position.kind))
    })
}

/// Whether a column is no user's.
pub(crate) fn is_own(name: &str) -> bool {
    is_reserved(name)
}
