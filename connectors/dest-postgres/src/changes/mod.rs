//! Changes out of a source's log: appended as they are, or merged into what they leave behind.
//!
//! Each window of changes is staged like rows, in their order, and applied in the transaction of its receipt.

mod apply;
mod target;

pub(crate) use apply::{apply, empty};
pub(crate) use rapidbyte_sdk::changes::{LSN, is_reserved as is_own};
pub(crate) use target::{DELETED_AT, dress, dresses, dressing, ensure_target, log_truncate, remove_missing};

use crate::catalog::Relation;
use crate::ledger::{Columns, LoadColumn};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt64Type};
use arrow_array::{Array, RecordBatch};
use postgres_wire::{quote_ident, quote_literal};
use rapidbyte_sdk::changes::{BEFORE_PREFIX, OP, SEQ, UNCHANGED};
use rapidbyte_sdk::{ConnectorError, Position, StreamContext, WriteMode};

/// The partition of changes.
pub(crate) const PARTITION: &str = "_rb_changes";

/// The table's own columns among those of its changes.
pub(crate) fn own(columns: &Columns) -> Columns {
    columns.iter().filter(|column| !is_own(&column.name)).cloned().collect()
}

/// The same columns, none of them NOT NULL.
pub(crate) fn all_nullable(columns: &Columns) -> Columns {
    columns.iter().map(|column| LoadColumn { not_null: false, ..column.clone() }).collect()
}

/// The condition under which a staging table brings a NULL for a column. A change that is merged may leave values out, which stay
/// what they are.
pub(crate) fn nulls(context: &StreamContext, staging: Option<&Relation>, column: &str) -> Result<String, ConnectorError> {
    let name = quote_ident(column)?;
    let of_changes = staging.is_some_and(|staging| staging.columns.iter().any(|column| column.name == OP));
    if !of_changes || context.write_mode != WriteMode::Upsert {
        return Ok(format!("{name} IS NULL"));
    }
    let (op, unchanged, text) = (quote_ident(OP)?, quote_ident(UNCHANGED)?, quote_literal(column)?);
    Ok(format!("{name} IS NULL AND {op} <> 'delete' AND NOT coalesce({text} = ANY ({unchanged}), false)"))
}

/// Refuses to merge by a key whose old values the log does not tell: deletes and key changes would go past the row.
pub(crate) fn require_before(columns: &Columns, key: &[String], stream: &str) -> Result<(), ConnectorError> {
    let told = |name: &String| columns.iter().any(|column| column.name.strip_prefix(BEFORE_PREFIX) == Some(name));
    let Some(missing) = key.iter().find(|name| !told(name)) else { return Ok(()) };
    Err(ConnectorError::schema(
        "replica_identity",
        format!("stream `{stream}`: the log does not tell the old value of the key column `{missing}`"),
    )
    .with_hint(
        "at the source run: `ALTER TABLE … REPLICA IDENTITY FULL` on the stream's table, or name its own key as `primary_key`",
    ))
}

/// The place of each change in the log.
pub(crate) struct Places<'b> {
    lsn: &'b [u64],
    seq: &'b [i64],
}

impl<'b> Places<'b> {
    pub(crate) fn of(batch: &'b RecordBatch) -> Result<Self, ConnectorError> {
        let shape = || ConnectorError::internal("batch_shape", "a batch of changes lacks the place of each in the log");
        let lsn = batch.column_by_name(LSN).and_then(|array| array.as_primitive_opt::<UInt64Type>());
        let seq = batch.column_by_name(SEQ).and_then(|array| array.as_primitive_opt::<Int64Type>());
        let (Some(lsn), Some(seq)) = (lsn, seq) else { return Err(shape()) };
        if lsn.null_count() + seq.null_count() > 0 {
            return Err(shape());
        }
        Ok(Self { lsn: lsn.values(), seq: seq.values() })
    }

    /// How many at the beginning lie at or before a place. Changes of a stream come in order.
    pub(crate) fn up_to(&self, place: u64) -> usize {
        self.lsn.partition_point(|lsn| *lsn <= place)
    }

    pub(crate) fn last(&self) -> Option<(u64, i64)> {
        Some((*self.lsn.last()?, *self.seq.last()?))
    }
}

/// A position as a number of the log.
pub(crate) fn place(position: &Position) -> Result<u64, ConnectorError> {
    position.lsn().ok_or_else(|| {
        ConnectorError::internal("position_type", format!("a position of changes is of type `{}`, expected `lsn`", position.kind))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int64Array, UInt64Array};
    use arrow_schema::{DataType, Field, Schema};
    use std::sync::Arc;

    #[test]
    fn changes_up_to_a_receipt_are_told_from_later_ones() {
        let schema = Schema::new(vec![Field::new(LSN, DataType::UInt64, false), Field::new(SEQ, DataType::Int64, false)]);
        let (lsn, seq) = (UInt64Array::from(vec![5, 5, 9]), Int64Array::from(vec![1, 2, 1]));
        let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(lsn), Arc::new(seq)]).unwrap();
        let places = Places::of(&batch).unwrap();
        assert_eq!([4, 5, 8, 9].map(|place| places.up_to(place)), [0, 2, 2, 3]);
        assert_eq!(places.last(), Some((9, 1)));
        assert!(Places::of(&batch.project(&[0]).unwrap()).is_err());
    }
}
