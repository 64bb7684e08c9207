//! Rows of changes of one table, on their way into a batch.
//!
//! A change is written as a row of COPY and decoded like one, so that a value becomes the same Arrow by both ways.

use super::lsn::Lsn;
use super::pgoutput::{Cell, Tuple};
use super::text::send_form;
use crate::catalog::TableColumn;
use crate::decode::{DecodedColumn, Pushed, RowDecoder, ValueError};
use crate::types::Kind;
use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use rapidbyte_sdk::changes::{BEFORE_PREFIX, ChangeOp, change_fields};
use rapidbyte_sdk::{ConnectorError, ErrorScope, StreamContext};
use std::sync::Arc;

/// What begins binary COPY data: signature, flags, length of the extension.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Microseconds from 1970 to 2000, where PostgreSQL begins to count.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A column of the stream and where the log has it.
pub(super) struct LoggedColumn {
    pub(super) column: TableColumn,
    /// Its place in the rows of the log.
    pub(super) place: usize,
    /// Whether the log tells its old value.
    pub(super) identity: bool,
}

/// The transaction a change belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transaction {
    /// Where its commit record begins.
    pub(super) commit: Lsn,
    /// Microseconds since 2000.
    pub(super) time: i64,
    pub(super) xid: u32,
}

impl Transaction {
    /// The place of its changes: within the commit record, so beyond every position before it and not beyond its own end.
    pub(super) fn place(&self) -> Lsn {
        Lsn(self.commit.0.saturating_add(1))
    }
}

/// Old and new row of a change; an insert has no old one, a delete no new one.
pub(super) struct Change<'a> {
    pub(super) op: ChangeOp,
    pub(super) old: Option<Tuple<'a>>,
    pub(super) new: Option<Tuple<'a>>,
}

/// The change's own columns.
#[derive(Default)]
struct Meta {
    ops: Vec<&'static str>,
    places: Vec<u64>,
    seqs: Vec<i64>,
    times: Vec<Option<i64>>,
    unchanged: Option<ListBuilder<StringBuilder>>,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Yes,
    /// Take the batch and split this column, then offer the change again.
    Split(usize),
}

pub(super) struct ChangeRows {
    stream: String,
    columns: Vec<LoggedColumn>,
    decoder: RowDecoder,
    schema: SchemaRef,
    row: Vec<u8>,
    /// The most bytes that a change's values may have.
    largest: usize,
    meta: Meta,
    /// Columns left alone by the change at hand.
    unchanged: Vec<usize>,
}

fn fields(decoder: &RowDecoder) -> SchemaRef {
    let own = decoder.schema().fields().iter().cloned();
    Arc::new(Schema::new(own.chain(change_fields().into_iter().map(Arc::new)).collect::<Vec<_>>()))
}

/// The field of a before-image: the column's type, without what concerns its place in the table.
fn before_field(column: &TableColumn) -> Field {
    let field = column.field();
    let mut metadata = field.metadata().clone();
    let of_the_table = ["pk_ord", "pk_len", "notnull", "identity", "generated", "missing", "untold"];
    metadata.retain(|key, _| !of_the_table.iter().any(|part| key == &format!("rapidbyte.pg.{part}")));
    field.with_name(format!("{BEFORE_PREFIX}{}", column.name)).with_nullable(true).with_metadata(metadata)
}

fn list_builder() -> ListBuilder<StringBuilder> {
    ListBuilder::new(StringBuilder::new()).with_field(Field::new("item", DataType::Utf8, false))
}

impl ChangeRows {
    pub(super) fn new(stream: &StreamContext, columns: Vec<LoggedColumn>) -> Result<Self, ConnectorError> {
        let own = columns.iter().map(|logged| DecodedColumn {
            kind: logged.column.kind.clone(),
            // A delete tells no more than the key.
            field: logged.column.field().with_nullable(true),
        });
        let before = columns
            .iter()
            .filter(|logged| logged.identity)
            .map(|logged| DecodedColumn { kind: logged.column.kind.clone(), field: before_field(&logged.column) });
        let largest = usize::try_from(stream.limits.max_record_bytes).unwrap_or(usize::MAX);
        let name = stream.name.to_string();
        let mut decoder = RowDecoder::with_tail(name.clone(), own.chain(before).collect(), 0, largest.saturating_mul(2));
        decoder.push(COPY_HEADER)?;
        let schema = fields(&decoder);
        Ok(Self { stream: name, columns, decoder, schema, row: Vec::new(), largest, meta: Meta::default(), unchanged: Vec::new() })
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether a column has no send form of ours.
    pub(super) fn needs_text(&self) -> bool {
        self.columns.iter().any(|logged| logged.column.kind == Kind::Cast)
    }

    /// How many columns a row of the log must have at least.
    fn width(&self) -> usize {
        self.columns.iter().map(|logged| logged.place + 1).max().unwrap_or(0)
    }

    /// Takes a change in.
    pub(super) fn push(&mut self, change: &Change<'_>, seq: i64, of: &Transaction) -> Result<Taken, ConnectorError> {
        self.write_row(change)?;
        let row = std::mem::take(&mut self.row);
        let pushed = self.decoder.push(&row);
        self.row = row;
        match pushed? {
            Pushed::Split { column, .. } => return Ok(Taken::Split(column)),
            Pushed::All => {}
        }
        self.meta.ops.push(change.op.as_str());
        self.meta.places.push(of.place().0);
        self.meta.seqs.push(seq);
        self.meta.times.push(of.time.checked_add(EPOCH_MICROS));
        self.note_unchanged();
        Ok(Taken::Yes)
    }

    fn note_unchanged(&mut self) {
        let rows = self.meta.ops.len();
        if self.unchanged.is_empty() {
            if let Some(list) = &mut self.meta.unchanged {
                list.append_null();
            }
            return;
        }
        let list = self.meta.unchanged.get_or_insert_with(|| {
            let mut list = list_builder();
            (1..rows).for_each(|_| list.append_null());
            list
        });
        for index in self.unchanged.drain(..) {
            list.values().append_value(&self.columns[index].column.name);
        }
        list.append(true);
    }

    /// The change as a row of COPY: its columns, then the before-images.
    fn write_row(&mut self, change: &Change<'_>) -> Result<(), ConnectorError> {
        let old: Option<Vec<Cell<'_>>> = change.old.map(|tuple| tuple.cells().collect());
        let new: Option<Vec<Cell<'_>>> = change.new.map(|tuple| tuple.cells().collect());
        let width = self.width();
        if old.iter().chain(&new).any(|cells| cells.len() < width) {
            return Err(ConnectorError::internal(
                "pgoutput",
                format!("stream `{}`: a row has fewer columns than its table", self.stream),
            ));
        }
        self.unchanged.clear();
        self.row.clear();
        let count = self.columns.len() + self.columns.iter().filter(|logged| logged.identity).count();
        let count = i16::try_from(count)
            .map_err(|_| ConnectorError::schema("too_many_columns", format!("stream `{}` has too many columns", self.stream)))?;
        self.row.extend_from_slice(&count.to_be_bytes());
        let empty = || ConnectorError::internal("pgoutput", "a change without a row");
        let shown = new.as_ref().or(old.as_ref()).ok_or_else(empty)?;
        let mut bytes = 0;
        for (index, logged) in self.columns.iter().enumerate() {
            let mut cell = shown[logged.place];
            let left_alone = cell == Cell::Unchanged;
            if left_alone {
                // The old row may tell what the new one leaves out.
                match old.as_ref().map(|old| old[logged.place]) {
                    Some(told @ (Cell::Text(_) | Cell::Binary(_))) => cell = told,
                    _ => self.unchanged.push(index),
                }
            }
            let written = write_cell(&self.stream, logged, cell, &mut self.row)?;
            // What was told once counts once.
            bytes += if left_alone { 0 } else { written };
        }
        for logged in self.columns.iter().filter(|logged| logged.identity) {
            let cell = old.as_ref().map_or(Cell::Null, |old| old[logged.place]);
            let written = write_cell(&self.stream, logged, cell, &mut self.row)?;
            bytes += if new.is_some() { written } else { 0 };
        }
        if bytes > self.largest {
            return Err(too_large(&format!("stream `{}`: ", self.stream), bytes, self.largest));
        }
        Ok(())
    }

    /// The waiting rows as a batch; none when there are none.
    pub(super) fn take_batch(&mut self) -> Result<Option<RecordBatch>, ConnectorError> {
        let Some(decoded) = self.decoder.take_batch()? else { return Ok(None) };
        let Meta { ops, places, seqs, times, unchanged } = std::mem::take(&mut self.meta);
        let rows = ops.len();
        let unchanged = unchanged.map_or_else(
            || {
                let mut list = list_builder();
                (0..rows).for_each(|_| list.append_null());
                list.finish()
            },
            |mut list| list.finish(),
        );
        let own: [ArrayRef; 5] = [
            Arc::new(StringArray::from(ops)),
            Arc::new(UInt64Array::from(places)),
            Arc::new(Int64Array::from(seqs)),
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
            Arc::new(unchanged),
        ];
        let arrays: Vec<ArrayRef> = decoded.columns().iter().cloned().chain(own).collect();
        let batch = RecordBatch::try_new(self.schema.clone(), arrays);
        batch.map(Some).map_err(|error| ConnectorError::internal("arrow", format!("stream `{}`: {error}", self.stream)))
    }

    /// Lets a column travel split from here on. The waiting rows must have been taken.
    pub(super) fn split(&mut self, column: usize) {
        self.decoder.split(column);
        self.schema = fields(&self.decoder);
    }

    /// The name of a column of the batches.
    pub(super) fn name(&self, column: usize) -> &str {
        self.schema.fields().get(column).map_or("", |field| field.name())
    }
}

/// The error of a change whose values have more bytes than `limit`. `of` names its stream, if that is known.
pub(super) fn too_large(of: &str, bytes: usize, limit: usize) -> ConnectorError {
    let message = format!("{of}a change of {bytes} bytes is larger than `max_record_bytes` ({limit})");
    ConnectorError::data("record_too_large", message)
        .with_scope(ErrorScope::Record)
        .with_hint("raise `resources.max_record_bytes` (up to 64mb)")
}

/// Puts a value into a row of COPY; gives its bytes.
fn write_cell(stream: &str, logged: &LoggedColumn, cell: Cell<'_>, row: &mut Vec<u8>) -> Result<usize, ConnectorError> {
    let column = &logged.column;
    let bad = |what: &str| {
        ConnectorError::data("bad_value", format!("stream `{stream}`, column `{}`: {what}", column.name))
            .with_hint("if the column's type was changed, load the stream anew")
    };
    let start = row.len();
    match cell {
        Cell::Null | Cell::Unchanged => {
            row.extend_from_slice(&(-1_i32).to_be_bytes());
            return Ok(0);
        }
        Cell::Binary(_) if column.kind == Kind::Cast => {
            return Err(ConnectorError::internal(
                "pgoutput",
                format!("stream `{stream}`, column `{}`: a value in an unknown form", column.name),
            ));
        }
        Cell::Binary(value) => {
            row.extend_from_slice(&[0; 4]);
            row.extend_from_slice(value);
        }
        Cell::Text(text) => {
            row.extend_from_slice(&[0; 4]);
            send_form(&column.kind, column.base.oid, text, row).map_err(|error| match error {
                ValueError::Malformed(what) => bad(what),
                ValueError::Beyond => bad("a value is outside of its type"),
            })?;
        }
    }
    let bytes = row.len() - start - 4;
    let length = i32::try_from(bytes).map_err(|_| bad("a value is larger than 2 GiB"))?;
    row[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}
