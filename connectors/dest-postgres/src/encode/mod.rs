//! Arrow batches as COPY BINARY: columns are bound once per batch, rows are put together in one large buffer.

mod cell;
mod column;
mod from_text;
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
        Ok(Self { columns, count, next: 0, rows: batch.num_rows() })
    }

    /// Appends rows until `out` has `target` bytes or none is left; says whether any is left.
    pub(crate) fn fill(&mut self, out: &mut Vec<u8>, target: usize) -> Result<bool, EncodeFault> {
        while self.next < self.rows && out.len() < target {
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
}
