//! Columns that few tables have.

use super::cell::CellFault;
use super::column::{Column, Origin, field8, primitive};
use super::from_text;
use crate::types::{OfText, Wire};
use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Decimal128Type;
use arrow_buffer::ArrowNativeType;
use arrow_schema::DataType;
use rapidbyte_sdk::split;

/// Columns that few tables have, kept out of the loop over all others: their code in the midst of it was measured to slow integers
/// and numerics by a third.
pub(super) enum Rare<'a> {
    Money(&'a [i128]),
    Char(&'a [i32], &'a [u8]),
    OfText(OfText, &'a [i32], &'a [u8]),
    Split(SplitColumn<'a>),
}

/// Values that fit, and others in their send form.
pub(super) struct SplitColumn<'a> {
    value: Column<'a>,
    send: Column<'a>,
    /// The elements' type here, which may have another number at the source.
    element: Option<u32>,
}

impl<'a> Rare<'a> {
    /// As [`Column::bind`].
    pub(super) fn bind(array: &'a dyn Array, wire: &Wire, origin: Origin) -> Option<Self> {
        use DataType as D;
        Some(match (array.data_type(), wire) {
            // Hundredths of a PostgreSQL source.
            (D::Decimal128(_, 2), Wire::Money) => Self::Money(primitive::<Decimal128Type>(array)),
            (D::Utf8, Wire::Char) => {
                let text = array.as_string::<i32>();
                Self::Char(text.value_offsets(), text.value_data())
            }
            (D::Utf8, Wire::OfText(of)) => {
                let text = array.as_string::<i32>();
                Self::OfText(*of, text.value_offsets(), text.value_data())
            }
            (D::Struct(_), _) if origin.postgres => {
                let parts = split::parts(array)?;
                let element = if let Wire::Array { oid, .. } = wire { Some(*oid) } else { None };
                Self::Split(SplitColumn {
                    value: Column::bind(parts.value.as_ref(), wire, origin)?,
                    send: Column::bind(parts.send, &Wire::Bytea, origin)?,
                    element,
                })
            }
            _ => return None,
        })
    }
}

impl Rare<'_> {
    #[inline(never)]
    pub(super) fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), CellFault> {
        match self {
            Self::Money(values) => {
                field8(out, i64::try_from(values[row]).map_err(|_| CellFault::OutOfRange)?.to_be_bytes());
                Ok(())
            }
            Self::Char(ends, bytes) => {
                let byte = from_text::char(&bytes[ends[row].as_usize()..ends[row + 1].as_usize()])?;
                out.extend_from_slice(&[0, 0, 0, 1, byte]);
                Ok(())
            }
            Self::OfText(of, ends, bytes) => {
                let text = std::str::from_utf8(&bytes[ends[row].as_usize()..ends[row + 1].as_usize()]);
                from_text::write(*of, text.map_err(|_| CellFault::NotItsText)?, out)
            }
            Self::Split(columns) => columns.write(row, out),
        }
    }
}

impl SplitColumn<'_> {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), CellFault> {
        if self.send.nulls.is_none_or(|nulls| nulls.is_valid(row)) {
            let start = out.len();
            self.send.write(row, out)?;
            // After the field's length, the number of dimensions and the flags.
            if let (Some(oid), Some(place)) = (self.element, out.get_mut(start + 12..start + 16)) {
                place.copy_from_slice(&oid.to_be_bytes());
            }
            return Ok(());
        }
        self.value.write(row, out)
    }
}
