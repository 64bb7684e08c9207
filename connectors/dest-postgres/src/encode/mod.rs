//! Arrow batches as COPY BINARY: columns are bound once per batch, rows are put together in one large buffer.

mod cell;
mod chunk;
mod column;
mod from_text;
#[cfg(test)]
mod meter;
mod numeric;
mod rare;

pub(crate) use cell::CellFault;

use crate::types::Wire;
use arrow_array::{Array, RecordBatch, new_empty_array};
use arrow_schema::DataType;
use column::{Column, Origin};

/// Signature, flags and extension length of a COPY BINARY stream.
pub(crate) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What ends it.
pub(crate) const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// Aimed at by one chunk of rows.
const CHUNK_BYTES: usize = 256 << 10;

/// How one column of a batch is written.
#[derive(Debug, Clone)]
pub(crate) struct Codec {
    pub(crate) wire: Wire,
    /// The column is one of PostgreSQL.
    pub(crate) postgres: bool,
}

impl Codec {
    /// Whether every value of the Arrow type can be tried: the pair is known.
    pub(crate) fn takes(&self, data_type: &DataType) -> bool {
        let empty = new_empty_array(data_type);
        Column::bind(empty.as_ref(), &self.wire, Origin { postgres: self.postgres }).is_some()
    }
}

/// Where encoding a batch stopped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EncodeFault {
    /// A value can't be carried.
    Cell { row: usize, column: usize, fault: CellFault },
    /// A column is not of the type its schema announced.
    Column(usize),
}

/// The rows of one batch, in order.
pub(crate) struct Rows<'a> {
    columns: Vec<Column<'a>>,
    count: [u8; 2],
    next: usize,
    rows: usize,
    /// Rows of one chunk.
    step: usize,
    /// Rows before this one are written one by one: one of them can't be carried.
    single_until: usize,
    scratch: chunk::Scratch,
}

impl<'a> Rows<'a> {
    /// Binds each column of the batch to its codec.
    pub(crate) fn new(batch: &'a RecordBatch, codecs: &[Codec]) -> Result<Self, EncodeFault> {
        // PostgreSQL has at most 1,600 columns, which was checked when the table was made.
        let count = u16::try_from(codecs.len()).map_err(|_| EncodeFault::Column(0))?.to_be_bytes();
        if batch.num_columns() != codecs.len() {
            return Err(EncodeFault::Column(batch.num_columns().min(codecs.len())));
        }
        let bind = |(index, (array, codec)): (usize, (&'a std::sync::Arc<dyn Array>, &Codec))| {
            Column::bind(array.as_ref(), &codec.wire, Origin { postgres: codec.postgres }).ok_or(EncodeFault::Column(index))
        };
        let columns = batch.columns().iter().zip(codecs).enumerate().map(bind).collect::<Result<_, _>>()?;
        let rows = batch.num_rows();
        // Rows of many kilobytes are put together a few at a time.
        let row_bytes = batch.get_array_memory_size() / rows.max(1);
        let step = (CHUNK_BYTES / row_bytes.max(1)).clamp(1, chunk::ROWS);
        Ok(Self { columns, count, next: 0, rows, step, single_until: 0, scratch: chunk::Scratch::default() })
    }

    /// Appends the fields of the next row, without the count before them that COPY has; says whether there was one.
    pub(crate) fn fields(&mut self, out: &mut Vec<u8>) -> Result<bool, EncodeFault> {
        let row = self.next;
        if row >= self.rows {
            return Ok(false);
        }
        for (index, column) in self.columns.iter().enumerate() {
            column.write(row, out).map_err(|fault| EncodeFault::Cell { row, column: index, fault })?;
        }
        self.next += 1;
        Ok(true)
    }

    /// Appends the next row, and gives its place in the batch. A row that can't be carried leaves nothing and is passed over.
    pub(crate) fn one(&mut self, out: &mut Vec<u8>) -> Option<(usize, Result<(), EncodeFault>)> {
        let row = self.next;
        if row >= self.rows {
            return None;
        }
        self.next += 1;
        let start = out.len();
        out.extend_from_slice(&self.count);
        let mut columns = self.columns.iter().enumerate();
        let written = columns.try_for_each(|(index, column)| {
            column.write(row, out).map_err(|fault| EncodeFault::Cell { row, column: index, fault })
        });
        if written.is_err() {
            out.truncate(start);
        }
        Some((row, written))
    }

    /// Appends rows until `out` has `target` bytes or none is left; says whether any is left.
    pub(crate) fn fill(&mut self, out: &mut Vec<u8>, target: usize) -> Result<bool, EncodeFault> {
        while self.next < self.rows && out.len() < target {
            if self.next >= self.single_until {
                let rows = (self.rows - self.next).min(self.step);
                let appended = chunk::append(&self.columns, self.count, (self.next, rows), target, out, &mut self.scratch);
                if appended > 0 {
                    self.next += appended;
                    continue;
                }
                self.single_until = self.next + rows.max(1);
            }
            let row = self.next;
            out.extend_from_slice(&self.count);
            for (index, column) in self.columns.iter().enumerate() {
                column.write(row, out).map_err(|fault| EncodeFault::Cell { row, column: index, fault })?;
            }
            self.next += 1;
        }
        Ok(self.next < self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::builder::{ListBuilder, StringBuilder};
    use arrow_array::{ArrayRef, BinaryArray, StringArray, StructArray};
    use arrow_schema::{Field, Schema};
    use rapidbyte_sdk::split;
    use std::sync::Arc;

    #[test]
    fn arrays_in_their_send_form_get_the_number_of_the_element_type_here() {
        // Two dimensions of one element each; servers before 14 compare the number with their own.
        let mut send: Vec<u8> = [2_i32, 0, 0x5555, 1, 1, 1, 1, 1].iter().flat_map(|word| word.to_be_bytes()).collect();
        send.push(b'a');
        let mut plain = ListBuilder::new(StringBuilder::new());
        plain.append_null();
        let plain: ArrayRef = Arc::new(plain.finish());
        let text: ArrayRef = Arc::new(StringArray::from(vec!["{{a}}"]));
        let members = split::members(plain.data_type());
        let array = StructArray::new(members, vec![plain, Arc::new(BinaryArray::from(vec![&send[..]])), text], None);
        let schema = Schema::new(vec![Field::new("a", array.data_type().clone(), true)]);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(array)]).unwrap();
        let codec = Codec { wire: Wire::Array { element: Box::new(Wire::Text), oid: 0x7777 }, postgres: true };
        let mut out = Vec::new();
        assert!(!Rows::new(&batch, &[codec]).unwrap().fill(&mut out, usize::MAX).unwrap());
        send[8..12].copy_from_slice(&0x7777_u32.to_be_bytes());
        assert_eq!(out[6..], send);
    }

    /// A column of each kind, with NULLs where they may be; large enough for several chunks.
    fn every_kind(rows: usize) -> (RecordBatch, Vec<Codec>) {
        use arrow_array::*;
        let mut seed = 7_u64;
        let mut next = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed >> 20
        };
        let mut made: Vec<(Wire, ArrayRef)> = Vec::new();
        for nullable in [false, true] {
            let mut values: Vec<Option<u64>> = (0..rows).map(|_| Some(next()).filter(|value| !nullable || value % 3 > 0)).collect();
            values[rows / 2] = if nullable { None } else { Some(0) };
            let texts = || values.iter().map(|value| value.map(|value| "naïve text ".repeat((value % 9) as usize)));
            let of = |wire: Wire, array: ArrayRef| (wire, array);
            made.extend([
                of(Wire::Bool, Arc::new(values.iter().map(|value| value.map(|value| value % 2 == 0)).collect::<BooleanArray>())),
                of(Wire::Int2, Arc::new(values.iter().map(|value| value.map(|value| value as i16)).collect::<Int16Array>())),
                of(Wire::Int4, Arc::new(values.iter().map(|value| value.map(|value| value as i32)).collect::<Int32Array>())),
                of(Wire::Int8, Arc::new(values.iter().map(|value| value.map(u64::cast_signed)).collect::<Int64Array>())),
                of(Wire::Int8, Arc::new(values.iter().map(|value| value.map(|value| value as i32)).collect::<Int32Array>())),
                of(Wire::Float4, Arc::new(values.iter().map(|value| value.map(|value| value as f32)).collect::<Float32Array>())),
                of(Wire::Float8, Arc::new(values.iter().map(|value| value.map(|value| value as f64)).collect::<Float64Array>())),
                of(Wire::Date, Arc::new(values.iter().map(|value| value.map(|value| value as i32)).collect::<Date32Array>())),
                of(
                    Wire::Timestamp { zoned: false },
                    Arc::new(values.iter().map(|value| value.map(u64::cast_signed)).collect::<TimestampMicrosecondArray>()),
                ),
                of(Wire::Time, Arc::new(values.iter().map(|v| v.map(u64::cast_signed)).collect::<Time64MicrosecondArray>())),
                of(
                    Wire::Numeric,
                    Arc::new(
                        values
                            .iter()
                            .map(|value| value.map(|value| i128::from(value) << (value % 60)))
                            .collect::<Decimal128Array>()
                            .with_precision_and_scale(38, 3)
                            .unwrap(),
                    ),
                ),
                of(Wire::Text, Arc::new(texts().collect::<StringArray>())),
                of(Wire::VersionedText(1), Arc::new(texts().collect::<LargeStringArray>())),
                of(Wire::Bytea, Arc::new(BinaryArray::from_iter(texts()))),
            ]);
            let uuids = values.iter().map(|value| value.map(|value| u128::from(value).to_le_bytes()));
            let uuids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(uuids, 16).unwrap();
            made.push((Wire::Uuid, Arc::new(uuids)));
            let mut lists = ListBuilder::new(StringBuilder::new());
            for value in &values {
                (0..value.unwrap_or(0) % 4).for_each(|index| lists.values().append_value(format!("item {index}")));
                lists.append(value.is_some());
            }
            made.push((Wire::Array { element: Box::new(Wire::Text), oid: 25 }, Arc::new(lists.finish())));
        }
        let codecs = made.iter().map(|(wire, _)| Codec { wire: wire.clone(), postgres: true }).collect();
        let columns = made.into_iter().enumerate().map(|(index, (_, array))| (format!("c{index}"), array));
        (RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap(), codecs)
    }

    /// The messages of a batch, chunk by chunk or row by row.
    fn messages(batch: &RecordBatch, codecs: &[Codec], by_row: bool, target: usize) -> (Vec<Vec<u8>>, Option<EncodeFault>) {
        let mut rows = Rows::new(batch, codecs).unwrap();
        if by_row {
            rows.step = 0;
        }
        let mut sent = Vec::new();
        loop {
            let mut out = b"before".to_vec();
            match rows.fill(&mut out, target) {
                Ok(more) => {
                    sent.push(out);
                    if !more {
                        return (sent, None);
                    }
                }
                Err(fault) => {
                    // What was written of the faulty row itself is nobody's concern.
                    return (sent, Some(fault));
                }
            }
        }
    }

    #[test]
    fn rows_are_the_same_whether_written_one_by_one_or_in_chunks() {
        for rows in [1, 2, 255, 256, 257, 1000] {
            let (batch, codecs) = every_kind(rows);
            for target in [10, 1000, 50_000, usize::MAX] {
                assert_eq!(messages(&batch, &codecs, false, target), messages(&batch, &codecs, true, target), "{rows} {target}");
            }
            // A slice's buffers begin elsewhere.
            let slice = batch.slice(rows / 3, rows - rows / 3);
            assert_eq!(messages(&slice, &codecs, false, 9999), messages(&slice, &codecs, true, 9999), "{rows}, sliced");
        }
    }

    #[test]
    fn the_first_faulty_row_is_named_whatever_its_column() {
        // The later row's fault stands in the earlier column.
        let days: Vec<i32> = (0..600).map(|row| if row == 420 { i32::MIN + 1 } else { row }).collect();
        let texts: Vec<&str> = (0..600).map(|row| if row == 300 { "a\0b" } else { "a" }).collect();
        let columns: [(&str, ArrayRef); 2] =
            [("d", Arc::new(arrow_array::Date32Array::from(days))), ("t", Arc::new(StringArray::from(texts)))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let codecs = [Codec { wire: Wire::Date, postgres: false }, Codec { wire: Wire::Text, postgres: false }];
        let fault = EncodeFault::Cell { row: 300, column: 1, fault: CellFault::Nul };
        assert_eq!(messages(&batch, &codecs, false, usize::MAX).1, Some(fault));
        let rest = batch.slice(301, 299);
        let fault = EncodeFault::Cell { row: 119, column: 0, fault: CellFault::OutOfRange };
        assert_eq!(messages(&rest, &codecs, false, usize::MAX).1, Some(fault));
    }
}
