//! One column: values in their send form go in, an Arrow array comes out.

use super::list::ListValues;
use super::rows::{ColumnFields, FieldValue};
use super::split::SplitValues;
use super::{ValueError, numeric};
use crate::types::{Kind, MONEY_DIGITS};
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, FixedSizeBinaryArray, PrimitiveArray, StringArray};
use arrow_buffer::{
    BooleanBufferBuilder, Buffer, IntervalMonthDayNano, MutableBuffer, NullBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer,
    i256,
};
use arrow_schema::ArrowError;
use std::sync::Arc;

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL begins to count.
const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// `24:00:00`, which PostgreSQL allows.
const DAY_MICROS: i64 = 86_400_000_000;

/// Values of varying length.
#[derive(Default)]
pub(super) struct Bytes {
    offsets: Vec<i32>,
    pub(super) data: Vec<u8>,
}

impl Bytes {
    pub(super) fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { offsets, data: Vec::with_capacity(bytes) }
    }

    /// Ends a value after its bytes were appended.
    #[inline]
    pub(super) fn end(&mut self) -> Result<(), ValueError> {
        let end = i32::try_from(self.data.len()).map_err(|_| ValueError::Malformed("a batch holds more than 2 GiB of text"))?;
        self.offsets.push(end);
        Ok(())
    }

    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), ValueError> {
        append(&mut self.data, bytes);
        self.end()
    }

    /// The same for a value with something behind it, which lets the copy have a fixed length.
    #[inline]
    pub(super) fn push_from(&mut self, field: FieldValue<'_>) -> Result<(), ValueError> {
        const WIDE: usize = 32;
        let FieldValue { value, rest } = field;
        match rest.first_chunk::<WIDE>() {
            Some(chunk) if value.len() <= WIDE => {
                let end = self.data.len() + value.len();
                self.data.extend_from_slice(chunk);
                self.data.truncate(end);
            }
            _ => append(&mut self.data, value),
        }
        self.end()
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.data.truncate(self.offsets.last().map_or(0, |end| end.cast_unsigned() as usize));
    }

    pub(super) fn take(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let fresh = Self::with_capacity(self.offsets.len(), self.data.len());
        let Self { offsets, data } = std::mem::replace(self, fresh);
        (OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(data))
    }
}

/// Appends bytes. Short copies of a length known only at run time are function calls into the host in WebAssembly, far dearer
/// than two of a fixed length that may overlap.
#[inline]
fn append(data: &mut Vec<u8>, bytes: &[u8]) {
    #[inline]
    fn both_ends<const N: usize>(data: &mut Vec<u8>, bytes: &[u8]) -> bool {
        let (Some(head), Some(tail)) = (bytes.first_chunk::<N>(), bytes.last_chunk::<N>()) else { return false };
        let end = data.len() + bytes.len();
        data.extend_from_slice(head);
        data.truncate(end - N);
        data.extend_from_slice(tail);
        true
    }
    let done = match bytes.len() {
        0 => true,
        1 => both_ends::<1>(data, bytes),
        2..4 => both_ends::<2>(data, bytes),
        4..8 => both_ends::<4>(data, bytes),
        8..16 => both_ends::<8>(data, bytes),
        16..=32 => both_ends::<16>(data, bytes),
        33..=64 => both_ends::<32>(data, bytes),
        _ => false,
    };
    if !done {
        data.extend_from_slice(bytes);
    }
}

/// The values of a column by how they travel.
pub(super) enum Values {
    Bool(BooleanBufferBuilder),
    Int2(Vec<i16>),
    Int4(Vec<i32>),
    Int8(Vec<i64>),
    Float4(Vec<f32>),
    Float8(Vec<f64>),
    Oid(Vec<u32>),
    Decimal128 { precision: u8, scale: i8, limit: i128, values: Vec<i128> },
    Decimal256 { precision: u8, scale: i8, limit: i256, values: Vec<i256> },
    NumericText(Bytes),
    Money(Vec<i128>),
    Char(Bytes),
    Text(Bytes),
    Jsonb(Bytes),
    Binary(Bytes),
    Uuid(Vec<u8>),
    Date(Vec<i32>),
    Time(Vec<i64>),
    Timestamp { utc: bool, values: Vec<i64> },
    Interval(Vec<IntervalMonthDayNano>),
    List(Box<ListValues>),
    Split(Box<SplitValues>),
}

/// A column under construction.
pub(super) struct ColumnBuilder {
    values: Values,
    nulls: NullBufferBuilder,
}

/// Why an array could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FinishError {
    /// Text that is not UTF-8.
    NotUtf8,
    /// A NULL in a column that has none.
    UnexpectedNull,
}

#[inline]
fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], ValueError> {
    bytes.try_into().map_err(|_| ValueError::Malformed("a value does not have the length of its type"))
}

fn pow10_256(power: u8) -> i256 {
    (0..power).fold(i256::ONE, |value, _| value.wrapping_mul(i256::from_i128(10)))
}

impl Values {
    fn new(kind: &Kind, rows: usize) -> Self {
        let text = || Bytes::with_capacity(rows, 0);
        match kind {
            Kind::Bool => Self::Bool(BooleanBufferBuilder::new(rows)),
            Kind::Int2 => Self::Int2(Vec::with_capacity(rows)),
            Kind::Int4 => Self::Int4(Vec::with_capacity(rows)),
            Kind::Int8 => Self::Int8(Vec::with_capacity(rows)),
            Kind::Float4 => Self::Float4(Vec::with_capacity(rows)),
            Kind::Float8 => Self::Float8(Vec::with_capacity(rows)),
            Kind::Oid => Self::Oid(Vec::with_capacity(rows)),
            Kind::Decimal128 { precision, scale } => Self::Decimal128 {
                precision: *precision,
                scale: *scale,
                limit: 10_i128.pow(u32::from(*precision)),
                values: Vec::with_capacity(rows),
            },
            Kind::Decimal256 { precision, scale } => Self::Decimal256 {
                precision: *precision,
                scale: *scale,
                limit: pow10_256(*precision),
                values: Vec::with_capacity(rows),
            },
            Kind::NumericText => Self::NumericText(text()),
            Kind::Money => Self::Money(Vec::with_capacity(rows)),
            Kind::Char => Self::Char(text()),
            Kind::Text | Kind::Json | Kind::Cast => Self::Text(text()),
            Kind::Jsonb => Self::Jsonb(text()),
            Kind::Bytea => Self::Binary(text()),
            Kind::Uuid => Self::Uuid(Vec::with_capacity(rows * 16)),
            Kind::Date => Self::Date(Vec::with_capacity(rows)),
            Kind::Time => Self::Time(Vec::with_capacity(rows)),
            Kind::Timestamp => Self::Timestamp { utc: false, values: Vec::with_capacity(rows) },
            Kind::TimestampTz => Self::Timestamp { utc: true, values: Vec::with_capacity(rows) },
            Kind::Interval => Self::Interval(Vec::with_capacity(rows)),
            Kind::List { element, element_oid } => Self::List(Box::new(ListValues::new(element, *element_oid, rows))),
            Kind::Split(kind) => Self::Split(Box::new(SplitValues::new(kind, rows))),
        }
    }
}

impl ColumnBuilder {
    pub(super) fn new(kind: &Kind, rows: usize) -> Self {
        Self { values: Values::new(kind, rows), nulls: NullBufferBuilder::new(rows) }
    }

    /// Appends a value. After an error the column may hold part of it: [`Self::truncate`] it.
    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), ValueError> {
        match &mut self.values {
            Values::Bool(values) => values.append(fixed::<1>(bytes)? != [0]),
            Values::Int2(values) => values.push(i16::from_be_bytes(fixed(bytes)?)),
            Values::Int4(values) => values.push(i32::from_be_bytes(fixed(bytes)?)),
            Values::Int8(values) => values.push(i64::from_be_bytes(fixed(bytes)?)),
            Values::Float4(values) => values.push(f32::from_be_bytes(fixed(bytes)?)),
            Values::Float8(values) => values.push(f64::from_be_bytes(fixed(bytes)?)),
            Values::Oid(values) => values.push(u32::from_be_bytes(fixed(bytes)?)),
            Values::Decimal128 { scale, limit, values, .. } => values.push(numeric::decimal128(bytes, *scale, *limit)?),
            Values::Decimal256 { scale, limit, values, .. } => values.push(numeric::decimal256(bytes, *scale, *limit)?),
            Values::NumericText(values) => {
                numeric::text(bytes, &mut values.data)?;
                values.end()?;
            }
            Values::Money(values) => values.push(i64::from_be_bytes(fixed(bytes)?).into()),
            Values::Char(values) => {
                push_char(fixed(bytes)?, &mut values.data);
                values.end()?;
            }
            Values::Text(values) | Values::Binary(values) => values.push(bytes)?,
            Values::Jsonb(values) => match bytes.split_first() {
                Some((1, text)) => values.push(text)?,
                _ => return Err(ValueError::Malformed("a jsonb has an unknown version")),
            },
            Values::Uuid(values) => values.extend_from_slice(&fixed::<16>(bytes)?),
            Values::Date(values) => values.push(date(fixed(bytes)?).ok_or(ValueError::Beyond)?),
            Values::Time(values) => {
                let micros = i64::from_be_bytes(fixed(bytes)?);
                if !(0..=DAY_MICROS).contains(&micros) {
                    return Err(ValueError::Malformed("a time lies outside the day"));
                }
                values.push(micros);
            }
            Values::Timestamp { values, .. } => values.push(moment(fixed(bytes)?).ok_or(ValueError::Beyond)?),
            Values::Interval(values) => {
                let [m0, m1, m2, m3, m4, m5, m6, m7, d0, d1, d2, d3, n0, n1, n2, n3] = fixed(bytes)?;
                let micros = i64::from_be_bytes([m0, m1, m2, m3, m4, m5, m6, m7]);
                let nanos = micros.checked_mul(1000).ok_or(ValueError::Beyond)?;
                values.push(IntervalMonthDayNano {
                    months: i32::from_be_bytes([n0, n1, n2, n3]),
                    days: i32::from_be_bytes([d0, d1, d2, d3]),
                    nanoseconds: nanos,
                });
            }
            Values::List(values) => values.push(bytes)?,
            Values::Split(values) => values.push(bytes)?,
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Appends the column's fields of many rows. `None`: one of them is out of the ordinary, and the column may hold part of them.
    pub(super) fn push_fields(&mut self, fields: &ColumnFields<'_>) -> Option<()> {
        if !fields.nulls && self.push_values(fields)? {
            self.nulls.append_n_non_nulls(fields.rows());
            return Some(());
        }
        for value in fields.values() {
            match value? {
                Some(field) => self.push(field.value).ok()?,
                None => self.push_null().ok()?,
            }
        }
        Some(())
    }

    /// Appends many values that are not NULL; whether there is a way to do it for this type.
    fn push_values(&mut self, fields: &ColumnFields<'_>) -> Option<bool> {
        match &mut self.values {
            Values::Int2(values) => fields.fixed(values, |bytes| Some(i16::from_be_bytes(bytes))),
            Values::Int4(values) => fields.fixed(values, |bytes| Some(i32::from_be_bytes(bytes))),
            Values::Int8(values) => fields.fixed(values, |bytes| Some(i64::from_be_bytes(bytes))),
            Values::Float4(values) => fields.fixed(values, |bytes| Some(f32::from_be_bytes(bytes))),
            Values::Float8(values) => fields.fixed(values, |bytes| Some(f64::from_be_bytes(bytes))),
            Values::Oid(values) => fields.fixed(values, |bytes| Some(u32::from_be_bytes(bytes))),
            Values::Date(values) => fields.fixed(values, date),
            Values::Timestamp { values, .. } => fields.fixed(values, moment),
            Values::Decimal128 { scale, limit, values, .. } => {
                for field in fields.values() {
                    values.push(numeric::decimal128(field??.value, *scale, *limit).ok()?);
                }
                Some(())
            }
            Values::Text(values) | Values::Binary(values) => {
                for field in fields.values() {
                    values.push_from(field??).ok()?;
                }
                Some(())
            }
            _ => return Some(false),
        }
        .map(|()| true)
    }

    /// Appends a NULL.
    #[inline]
    pub(super) fn push_null(&mut self) -> Result<(), ValueError> {
        match &mut self.values {
            Values::Bool(values) => values.append(false),
            Values::Int2(values) => values.push(0),
            Values::Int4(values) | Values::Date(values) => values.push(0),
            Values::Int8(values) | Values::Time(values) | Values::Timestamp { values, .. } => values.push(0),
            Values::Float4(values) => values.push(0.0),
            Values::Float8(values) => values.push(0.0),
            Values::Oid(values) => values.push(0),
            Values::Decimal128 { values, .. } | Values::Money(values) => values.push(0),
            Values::Decimal256 { values, .. } => values.push(i256::ZERO),
            Values::NumericText(values)
            | Values::Text(values)
            | Values::Char(values)
            | Values::Jsonb(values)
            | Values::Binary(values) => values.end()?,
            Values::Uuid(values) => values.extend_from_slice(&[0; 16]),
            Values::Interval(values) => values.push(IntervalMonthDayNano::ZERO),
            Values::List(values) => values.push_null()?,
            Values::Split(values) => values.push_null()?,
        }
        self.nulls.append_null();
        Ok(())
    }

    /// Bytes of a column whose values can be much longer than what came over the wire.
    pub(super) fn expanded_bytes(&self) -> usize {
        match &self.values {
            Values::NumericText(values) => values.data.len(),
            Values::List(values) => values.expanded_bytes(),
            Values::Split(values) => values.expanded_bytes(),
            _ => 0,
        }
    }

    /// Drops every row from `rows` on.
    pub(super) fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Bool(values) => values.truncate(rows),
            Values::Int2(values) => values.truncate(rows),
            Values::Int4(values) | Values::Date(values) => values.truncate(rows),
            Values::Int8(values) | Values::Time(values) | Values::Timestamp { values, .. } => values.truncate(rows),
            Values::Float4(values) => values.truncate(rows),
            Values::Float8(values) => values.truncate(rows),
            Values::Oid(values) => values.truncate(rows),
            Values::Decimal128 { values, .. } | Values::Money(values) => values.truncate(rows),
            Values::Decimal256 { values, .. } => values.truncate(rows),
            Values::NumericText(values)
            | Values::Text(values)
            | Values::Char(values)
            | Values::Jsonb(values)
            | Values::Binary(values) => values.truncate(rows),
            Values::Uuid(values) => values.truncate(rows * 16),
            Values::Interval(values) => values.truncate(rows),
            Values::List(values) => values.truncate(rows),
            Values::Split(values) => values.truncate(rows),
        }
        if self.nulls.len() > rows {
            self.nulls.truncate(rows);
        }
    }

    /// The array, leaving an empty column of the same capacity.
    pub(super) fn finish(&mut self, nullable: bool) -> Result<ArrayRef, FinishError> {
        let rows = self.nulls.len();
        let nulls = self.nulls.finish();
        if nulls.is_some() && !nullable {
            return Err(FinishError::UnexpectedNull);
        }
        Ok(match &mut self.values {
            Values::Bool(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Int2(values) => primitive::<arrow_array::types::Int16Type>(values, nulls),
            Values::Int4(values) => primitive::<arrow_array::types::Int32Type>(values, nulls),
            Values::Int8(values) => primitive::<arrow_array::types::Int64Type>(values, nulls),
            Values::Float4(values) => primitive::<arrow_array::types::Float32Type>(values, nulls),
            Values::Float8(values) => primitive::<arrow_array::types::Float64Type>(values, nulls),
            Values::Oid(values) => primitive::<arrow_array::types::UInt32Type>(values, nulls),
            Values::Decimal128 { precision, scale, values, .. } => {
                let array = take::<Decimal128Type>(values, nulls);
                Arc::new(array.with_data_type(arrow_schema::DataType::Decimal128(*precision, *scale)))
            }
            Values::Decimal256 { precision, scale, values, .. } => {
                let array = take::<Decimal256Type>(values, nulls);
                Arc::new(array.with_data_type(arrow_schema::DataType::Decimal256(*precision, *scale)))
            }
            Values::Money(values) => {
                let array = take::<Decimal128Type>(values, nulls);
                Arc::new(array.with_data_type(arrow_schema::DataType::Decimal128(MONEY_DIGITS.0, MONEY_DIGITS.1)))
            }
            Values::NumericText(values) | Values::Text(values) | Values::Char(values) | Values::Jsonb(values) => {
                let (offsets, data) = values.take();
                Arc::new(StringArray::try_new(offsets, data, nulls).map_err(|_: ArrowError| FinishError::NotUtf8)?)
            }
            Values::Binary(values) => {
                let (offsets, data) = values.take();
                Arc::new(BinaryArray::new(offsets, data, nulls))
            }
            Values::Uuid(values) => {
                let taken = std::mem::replace(values, Vec::with_capacity(rows * 16));
                Arc::new(FixedSizeBinaryArray::new(16, Buffer::from_vec(taken), nulls))
            }
            Values::Date(values) => primitive::<Date32Type>(values, nulls),
            Values::Time(values) => primitive::<Time64MicrosecondType>(values, nulls),
            Values::Timestamp { utc, values } => {
                let array = take::<TimestampMicrosecondType>(values, nulls);
                Arc::new(if *utc { array.with_timezone("UTC") } else { array })
            }
            Values::Interval(values) => primitive::<IntervalMonthDayNanoType>(values, nulls),
            Values::List(values) => values.finish(nulls)?,
            Values::Split(values) => values.finish(nulls)?,
        })
    }

    /// How many rows it holds.
    pub(super) fn len(&self) -> usize {
        self.nulls.len()
    }
}

/// Days since 1970. Infinity is the largest and smallest integer on both sides.
#[inline]
fn date(bytes: [u8; 4]) -> Option<i32> {
    match i32::from_be_bytes(bytes) {
        infinity @ (i32::MAX | i32::MIN) => Some(infinity),
        days => days.checked_add(EPOCH_DAYS).filter(|days| *days != i32::MAX),
    }
}

/// Microseconds since 1970, with infinity likewise.
#[inline]
fn moment(bytes: [u8; 8]) -> Option<i64> {
    match i64::from_be_bytes(bytes) {
        infinity @ (i64::MAX | i64::MIN) => Some(infinity),
        micros => micros.checked_add(EPOCH_MICROS).filter(|micros| *micros != i64::MAX),
    }
}

/// A `"char"` as PostgreSQL 15 and newer write it: nothing for zero, bytes beyond ASCII as `\ooo`.
fn push_char([byte]: [u8; 1], out: &mut Vec<u8>) {
    match byte {
        0 => {}
        1..=0x7f => out.push(byte),
        _ => out.extend_from_slice(&[b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]),
    }
}

fn take<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>) -> PrimitiveArray<T> {
    let taken = std::mem::replace(values, Vec::with_capacity(values.len()));
    PrimitiveArray::new(ScalarBuffer::from(MutableBuffer::from(taken)), nulls)
}

fn primitive<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(take::<T>(values, nulls))
}
