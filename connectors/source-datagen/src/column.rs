//! A column that can make its values for any rows.

use arrow_array::builder::NullBufferBuilder;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{
    ArrayRef, ArrowPrimitiveType, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Float64Array, PrimitiveArray, StringArray,
    TimestampMicrosecondArray,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, TimeUnit};
use std::sync::Arc;

/// The numbers of the rows of one batch.
pub(crate) type Rows = [u64];

type Fill = Box<dyn Fn(&Rows) -> ArrayRef>;

/// One column: its field, the most bytes a value takes, and the maker of its values.
pub(crate) struct Column {
    pub(crate) field: Field,
    pub(crate) max_bytes: usize,
    fill: Fill,
}

/// The time zone of every timestamp.
const UTC: &str = "UTC";

pub(crate) fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
}

impl Column {
    fn new(name: &str, data_type: DataType, max_bytes: usize, fill: Fill) -> Self {
        Self { field: Field::new(name, data_type, false), max_bytes, fill }
    }

    /// The values of some rows.
    pub(crate) fn make(&self, rows: &Rows) -> ArrayRef {
        (self.fill)(rows)
    }

    pub(crate) fn int64(name: &str, value: impl Fn(u64) -> i64 + 'static) -> Self {
        Self::new(name, DataType::Int64, 8, Box::new(move |rows| primitive::<Int64Type>(rows, &value)))
    }

    pub(crate) fn int32(name: &str, value: impl Fn(u64) -> i32 + 'static) -> Self {
        Self::new(name, DataType::Int32, 4, Box::new(move |rows| primitive::<Int32Type>(rows, &value)))
    }

    pub(crate) fn float64(name: &str, value: impl Fn(u64) -> f64 + 'static) -> Self {
        Self::new(
            name,
            DataType::Float64,
            8,
            Box::new(move |rows| Arc::new(Float64Array::from_iter_values(rows.iter().copied().map(&value)))),
        )
    }

    pub(crate) fn boolean(name: &str, value: impl Fn(u64) -> bool + 'static) -> Self {
        let fill = move |rows: &Rows| -> ArrayRef {
            let values = BooleanBuffer::collect_bool(rows.len(), |i| value(rows[i]));
            Arc::new(BooleanArray::new(values, None))
        };
        Self::new(name, DataType::Boolean, 1, Box::new(fill))
    }

    /// `precision` and `scale` are valid and every value fits.
    pub(crate) fn decimal(name: &str, precision: u8, scale: i8, value: impl Fn(u64) -> i128 + 'static) -> Self {
        let fill = move |rows: &Rows| -> ArrayRef {
            let values = Decimal128Array::from_iter_values(rows.iter().copied().map(&value));
            Arc::new(values.with_precision_and_scale(precision, scale).expect("precision and scale are valid"))
        };
        Self::new(name, DataType::Decimal128(precision, scale), 16, Box::new(fill))
    }

    /// Microseconds since 1970.
    pub(crate) fn timestamp(name: &str, value: impl Fn(u64) -> i64 + 'static) -> Self {
        let fill = move |rows: &Rows| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().copied().map(&value)).with_timezone(UTC))
        };
        Self::new(name, timestamp_type(), 8, Box::new(fill))
    }

    /// Sixteen bytes, marked as a UUID.
    pub(crate) fn uuid(name: &str, value: impl Fn(u64) -> [u8; 16] + 'static) -> Self {
        let fill = move |rows: &Rows| -> ArrayRef {
            let mut bytes = Vec::with_capacity(rows.len() * 16);
            rows.iter().for_each(|row| bytes.extend_from_slice(&value(*row)));
            Arc::new(FixedSizeBinaryArray::new(16, Buffer::from_vec(bytes), None))
        };
        let mut column = Self::new(name, DataType::FixedSizeBinary(16), 16, Box::new(fill));
        column.field.set_metadata([("ARROW:extension:name".to_owned(), "arrow.uuid".to_owned())].into());
        column
    }

    /// `write` appends a row's text, of at most `max` bytes of UTF-8, to the buffer.
    pub(crate) fn text(name: &str, max: usize, write: impl Fn(u64, &mut Vec<u8>) + 'static) -> Self {
        // Four bytes for the offset.
        Self::new(name, DataType::Utf8, max + 4, Box::new(move |rows| strings(rows, max, &write)))
    }

    /// Makes the column nullable: `is_null` says where.
    pub(crate) fn nullable(self, is_null: impl Fn(u64) -> bool + 'static) -> Self {
        let Self { field, max_bytes, fill } = self;
        let field = field.with_nullable(true);
        let fill = move |rows: &Rows| {
            let mut nulls = NullBufferBuilder::new(rows.len());
            rows.iter().for_each(|row| nulls.append(!is_null(*row)));
            masked(&fill(rows), nulls.finish())
        };
        Self { field, max_bytes: max_bytes + 1, fill: Box::new(fill) }
    }
}

fn primitive<T: ArrowPrimitiveType>(rows: &Rows, value: &impl Fn(u64) -> T::Native) -> ArrayRef {
    let values: ScalarBuffer<T::Native> = rows.iter().copied().map(value).collect();
    Arc::new(PrimitiveArray::<T>::new(values, None))
}

fn strings(rows: &Rows, max: usize, write: &impl Fn(u64, &mut Vec<u8>)) -> ArrayRef {
    let mut bytes = Vec::with_capacity(rows.len() * max.min(32));
    let mut offsets = Vec::with_capacity(rows.len() + 1);
    offsets.push(0_i32);
    for row in rows {
        write(*row, &mut bytes);
        offsets.push(i32::try_from(bytes.len()).expect("a batch holds less than 2 GiB of text"));
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Arc::new(StringArray::new(offsets, Buffer::from_vec(bytes), None))
}

/// The same values, with nulls.
pub(crate) fn masked(values: &ArrayRef, nulls: Option<NullBuffer>) -> ArrayRef {
    let data = values.to_data().into_builder().nulls(nulls).build().expect("a null mask of the array's own length");
    arrow_array::make_array(data)
}

/// Appends a number.
pub(crate) fn push_number(bytes: &mut Vec<u8>, number: u64) {
    push_padded(bytes, number, 1);
}

/// Appends a number with at least `width` digits, of at most 20.
pub(crate) fn push_padded(bytes: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while number > 0 {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    bytes.extend_from_slice(&digits[at.min(digits.len() - width)..]);
}

/// Appends 16 hexadecimal digits.
pub(crate) fn push_hex(bytes: &mut Vec<u8>, bits: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.extend((0..16).rev().map(|nibble| DIGITS[(bits >> (nibble * 4)) as usize & 15]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Array;
    use arrow_array::cast::AsArray;

    #[test]
    fn numbers_are_written_in_full() {
        let text = |number, width| {
            let mut bytes = Vec::new();
            push_padded(&mut bytes, number, width);
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(text(0, 1), "0");
        assert_eq!(text(42, 5), "00042");
        assert_eq!(text(123_456, 5), "123456");
        assert_eq!(text(u64::MAX, 1), "18446744073709551615");
        let mut bytes = Vec::new();
        push_hex(&mut bytes, 0xdead_beef);
        assert_eq!(bytes, b"00000000deadbeef");
    }

    #[test]
    fn nulls_stand_where_asked() {
        let column = Column::text("t", 20, |row, bytes| push_number(bytes, row)).nullable(|row| row % 2 == 0);
        let array = column.make(&[10, 11, 12, 13]);
        assert!(column.field.is_nullable());
        assert_eq!(array.null_count(), 2);
        assert_eq!(array.as_string::<i32>().iter().collect::<Vec<_>>(), [None, Some("11"), None, Some("13")]);
    }
}
