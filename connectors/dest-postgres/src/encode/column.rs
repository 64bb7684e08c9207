//! One Arrow column, downcast once per batch, written value by value in PostgreSQL's send format.

use super::cell::CellFault;
use super::numeric;
use super::rare::Rare;
use crate::types::Wire;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, DurationMillisecondType,
    DurationNanosecondType, DurationSecondType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    IntervalDayTimeType, IntervalMonthDayNanoType, IntervalYearMonthType, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrowPrimitiveType, PrimitiveArray};
use arrow_buffer::{ArrowNativeType, BooleanBuffer, IntervalDayTime, IntervalMonthDayNano, NullBuffer, i256};
use arrow_schema::{DataType, IntervalUnit, TimeUnit};

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL's time begins.
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// Days between the same.
pub(super) const EPOCH_DAYS: i32 = 10_957;
pub(super) const NULL_FIELD: [u8; 4] = (-1_i32).to_be_bytes();

/// PostgreSQL's own columns carry `infinity` and `-infinity` as the largest and smallest integer, which in any other
/// column are moments beyond PostgreSQL's reach.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) postgres: bool,
}

/// A column ready to be written.
pub(super) struct Column<'a> {
    pub(super) nulls: Option<&'a NullBuffer>,
    pub(super) values: Values<'a>,
}

/// How a moment or a span is counted.
#[derive(Clone, Copy)]
pub(super) enum Scale {
    /// Times so many.
    Up(i64),
    /// Divided by so many, exactly.
    Down(i64),
}

impl Scale {
    fn of(unit: TimeUnit) -> Self {
        match unit {
            TimeUnit::Second => Self::Up(1_000_000),
            TimeUnit::Millisecond => Self::Up(1000),
            TimeUnit::Microsecond => Self::Up(1),
            TimeUnit::Nanosecond => Self::Down(1000),
        }
    }

    #[inline]
    pub(super) fn micros(self, value: i64) -> Result<i64, CellFault> {
        match self {
            Self::Up(factor) => value.checked_mul(factor).ok_or(CellFault::OutOfRange),
            Self::Down(divisor) if value % divisor == 0 => Ok(value / divisor),
            Self::Down(_) => Err(CellFault::NotExact),
        }
    }
}

/// What stands before the bytes of a text in its field.
#[derive(Clone, Copy)]
pub(super) struct TextForm {
    /// The version byte of `jsonb` and `ltree`.
    pub(super) version: Option<u8>,
    /// A batch without a NUL anywhere is not searched value by value.
    pub(super) may_hold_nul: bool,
}

pub(super) enum Values<'a> {
    Null,
    Bool(&'a BooleanBuffer),
    Int2(&'a [i16]),
    Int4(&'a [i32]),
    Int8(&'a [i64]),
    /// Narrower or unsigned integers, widened.
    TinyAsInt2(&'a [i8]),
    ByteAsInt2(&'a [u8]),
    Int2AsInt4(&'a [i16]),
    WordAsInt4(&'a [u16]),
    Int2AsInt8(&'a [i16]),
    Int4AsInt8(&'a [i32]),
    DwordAsInt8(&'a [u32]),
    Dword(&'a [u32]),
    Qword(&'a [u64]),
    IntAsNumeric(Box<dyn Fn(usize) -> i128 + 'a>),
    Float4(&'a [f32]),
    Float8(&'a [f64]),
    Float4AsFloat8(&'a [f32]),
    HalfAsFloat4(Box<dyn Fn(usize) -> f32 + 'a>),
    Decimal128(&'a [i128], i8),
    Decimal256(&'a [i256], i8),
    NumericText(&'a [i32], &'a [u8]),
    Text(&'a [i32], &'a [u8], TextForm),
    LargeText(&'a [i64], &'a [u8], TextForm),
    Bytes(&'a [i32], &'a [u8]),
    LargeBytes(&'a [i64], &'a [u8]),
    FixedBytes(usize, &'a [u8]),
    Date(&'a [i32], Origin),
    DateMillis(&'a [i64]),
    Time32(&'a [i32], Scale),
    Time64(&'a [i64], Scale),
    Timestamp(&'a [i64], Scale, Origin),
    Months(&'a [i32]),
    DayTime(&'a [IntervalDayTime]),
    MonthDayNano(&'a [IntervalMonthDayNano]),
    Duration(&'a [i64], Scale),
    List(Ends<'a>, Box<Column<'a>>, u32),
    Dictionary(Box<dyn Fn(usize) -> usize + 'a>, Box<Column<'a>>),
    Rare(Box<Rare<'a>>),
}

/// Where each list begins and ends in its child.
pub(super) enum Ends<'a> {
    Small(&'a [i32]),
    Large(&'a [i64]),
    Fixed(usize),
}

impl Ends<'_> {
    fn of(&self, row: usize) -> (usize, usize) {
        match self {
            Self::Small(ends) => (ends[row].as_usize(), ends[row + 1].as_usize()),
            Self::Large(ends) => (ends[row].as_usize(), ends[row + 1].as_usize()),
            Self::Fixed(width) => (row * width, (row + 1) * width),
        }
    }
}

pub(super) fn primitive<T: ArrowPrimitiveType>(array: &dyn Array) -> &[T::Native] {
    array.as_primitive::<T>().values()
}

fn holds_nul<O: ArrowNativeType>(ends: &[O], bytes: &[u8]) -> bool {
    let (Some(first), Some(last)) = (ends.first(), ends.last()) else { return false };
    bytes.get(first.as_usize()..last.as_usize()).is_some_and(|used| used.contains(&0))
}

fn keys<'a, T: ArrowPrimitiveType>(keys: &'a PrimitiveArray<T>) -> Box<dyn Fn(usize) -> usize + 'a> {
    let keys = keys.values();
    Box::new(move |row| keys[row].as_usize())
}

impl<'a> Column<'a> {
    /// A column for values that go into a column of type `wire`. `None`: this pair loses something and is not offered.
    pub(super) fn bind(array: &'a dyn Array, wire: &Wire, origin: Origin) -> Option<Self> {
        let nulls = array.nulls();
        Some(Self { nulls, values: bind_values(array, wire, origin)? })
    }

    /// Appends the field of a row.
    #[inline]
    pub(super) fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), CellFault> {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            out.extend_from_slice(&NULL_FIELD);
            return Ok(());
        }
        self.values.write(row, out)
    }
}

fn bind_values<'a>(array: &'a dyn Array, wire: &Wire, origin: Origin) -> Option<Values<'a>> {
    use DataType as D;
    Some(match (array.data_type(), wire) {
        (D::Null, _) => Values::Null,
        (D::Dictionary(key_type, _), _) => {
            let dictionary = array.as_any_dictionary();
            let values = Box::new(Column::bind(dictionary.values().as_ref(), wire, origin)?);
            let key = match key_type.as_ref() {
                D::Int8 => keys(array.as_dictionary::<Int8Type>().keys()),
                D::Int16 => keys(array.as_dictionary::<Int16Type>().keys()),
                D::Int32 => keys(array.as_dictionary::<Int32Type>().keys()),
                D::Int64 => keys(array.as_dictionary::<Int64Type>().keys()),
                D::UInt8 => keys(array.as_dictionary::<UInt8Type>().keys()),
                D::UInt16 => keys(array.as_dictionary::<UInt16Type>().keys()),
                D::UInt32 => keys(array.as_dictionary::<UInt32Type>().keys()),
                D::UInt64 => keys(array.as_dictionary::<UInt64Type>().keys()),
                _ => return None,
            };
            Values::Dictionary(key, values)
        }
        (D::Boolean, Wire::Bool) => Values::Bool(array.as_boolean().values()),
        (D::Int16, Wire::Int2) => Values::Int2(primitive::<Int16Type>(array)),
        (D::Int32, Wire::Int4) => Values::Int4(primitive::<Int32Type>(array)),
        (D::Int64, Wire::Int8) => Values::Int8(primitive::<Int64Type>(array)),
        (D::Int8, Wire::Int2) => Values::TinyAsInt2(primitive::<Int8Type>(array)),
        (D::UInt8, Wire::Int2) => Values::ByteAsInt2(primitive::<UInt8Type>(array)),
        (D::Int16, Wire::Int4) => Values::Int2AsInt4(primitive::<Int16Type>(array)),
        (D::UInt16, Wire::Int4) => Values::WordAsInt4(primitive::<UInt16Type>(array)),
        (D::Int16, Wire::Int8) => Values::Int2AsInt8(primitive::<Int16Type>(array)),
        (D::Int32, Wire::Int8) => Values::Int4AsInt8(primitive::<Int32Type>(array)),
        (D::UInt32, Wire::Int8) => Values::DwordAsInt8(primitive::<UInt32Type>(array)),
        (D::UInt32, Wire::Unsigned4) => Values::Dword(primitive::<UInt32Type>(array)),
        (D::UInt64, Wire::Unsigned8) => Values::Qword(primitive::<UInt64Type>(array)),
        (D::Int8, Wire::Numeric) => integers::<Int8Type>(array),
        (D::Int16, Wire::Numeric) => integers::<Int16Type>(array),
        (D::Int32, Wire::Numeric) => integers::<Int32Type>(array),
        (D::Int64, Wire::Numeric) => integers::<Int64Type>(array),
        (D::UInt8, Wire::Numeric) => integers::<UInt8Type>(array),
        (D::UInt16, Wire::Numeric) => integers::<UInt16Type>(array),
        (D::UInt32, Wire::Numeric) => integers::<UInt32Type>(array),
        (D::UInt64, Wire::Numeric) => integers::<UInt64Type>(array),
        (D::Float16, Wire::Float4) => {
            let values = primitive::<Float16Type>(array);
            Values::HalfAsFloat4(Box::new(move |row| values[row].to_f32()))
        }
        (D::Float32, Wire::Float4) => Values::Float4(primitive::<Float32Type>(array)),
        (D::Float64, Wire::Float8) => Values::Float8(primitive::<Float64Type>(array)),
        (D::Float32, Wire::Float8) => Values::Float4AsFloat8(primitive::<Float32Type>(array)),
        (D::Decimal128(_, scale), Wire::Numeric) => Values::Decimal128(primitive::<Decimal128Type>(array), *scale),
        (D::Decimal256(_, scale), Wire::Numeric) => Values::Decimal256(primitive::<Decimal256Type>(array), *scale),
        (D::Utf8, Wire::Numeric) => {
            let text = array.as_string::<i32>();
            Values::NumericText(text.value_offsets(), text.value_data())
        }
        (D::Utf8, Wire::Text | Wire::VersionedText(_)) => {
            let text = array.as_string::<i32>();
            let (ends, bytes) = (text.value_offsets(), text.value_data());
            Values::Text(ends, bytes, TextForm { version: wire.text_version(), may_hold_nul: holds_nul(ends, bytes) })
        }
        (D::LargeUtf8, Wire::Text | Wire::VersionedText(_)) => {
            let text = array.as_string::<i64>();
            let (ends, bytes) = (text.value_offsets(), text.value_data());
            Values::LargeText(ends, bytes, TextForm { version: wire.text_version(), may_hold_nul: holds_nul(ends, bytes) })
        }
        (D::Binary, Wire::Bytea) => {
            let bytes = array.as_binary::<i32>();
            Values::Bytes(bytes.value_offsets(), bytes.value_data())
        }
        (D::LargeBinary, Wire::Bytea) => {
            let bytes = array.as_binary::<i64>();
            Values::LargeBytes(bytes.value_offsets(), bytes.value_data())
        }
        (D::FixedSizeBinary(16), Wire::Uuid) => Values::FixedBytes(16, array.as_fixed_size_binary().value_data()),
        (D::FixedSizeBinary(width), Wire::Bytea) => {
            Values::FixedBytes(usize::try_from(*width).ok()?, array.as_fixed_size_binary().value_data())
        }
        (D::Date32, Wire::Date) => Values::Date(primitive::<Date32Type>(array), origin),
        (D::Date64, Wire::Date) => Values::DateMillis(primitive::<Date64Type>(array)),
        (D::Time32(unit), Wire::Time) => match unit {
            TimeUnit::Second => Values::Time32(primitive::<Time32SecondType>(array), Scale::of(*unit)),
            TimeUnit::Millisecond => Values::Time32(primitive::<Time32MillisecondType>(array), Scale::of(*unit)),
            TimeUnit::Microsecond | TimeUnit::Nanosecond => return None,
        },
        (D::Time64(unit), Wire::Time) => match unit {
            TimeUnit::Microsecond => Values::Time64(primitive::<Time64MicrosecondType>(array), Scale::of(*unit)),
            TimeUnit::Nanosecond => Values::Time64(primitive::<Time64NanosecondType>(array), Scale::of(*unit)),
            TimeUnit::Second | TimeUnit::Millisecond => return None,
        },
        (D::Timestamp(unit, zone), Wire::Timestamp { zoned }) if zone.is_some() == *zoned => {
            let values = match unit {
                TimeUnit::Second => primitive::<TimestampSecondType>(array),
                TimeUnit::Millisecond => primitive::<TimestampMillisecondType>(array),
                TimeUnit::Microsecond => primitive::<TimestampMicrosecondType>(array),
                TimeUnit::Nanosecond => primitive::<TimestampNanosecondType>(array),
            };
            Values::Timestamp(values, Scale::of(*unit), origin)
        }
        (D::Duration(unit), Wire::Interval) => {
            let values = match unit {
                TimeUnit::Second => primitive::<DurationSecondType>(array),
                TimeUnit::Millisecond => primitive::<DurationMillisecondType>(array),
                TimeUnit::Microsecond => primitive::<DurationMicrosecondType>(array),
                TimeUnit::Nanosecond => primitive::<DurationNanosecondType>(array),
            };
            Values::Duration(values, Scale::of(*unit))
        }
        (D::Interval(unit), Wire::Interval) => match unit {
            IntervalUnit::YearMonth => Values::Months(primitive::<IntervalYearMonthType>(array)),
            IntervalUnit::DayTime => Values::DayTime(primitive::<IntervalDayTimeType>(array)),
            IntervalUnit::MonthDayNano => Values::MonthDayNano(primitive::<IntervalMonthDayNanoType>(array)),
        },
        (D::List(_), Wire::Array { element, oid }) => {
            let list = array.as_list::<i32>();
            let child = Column::bind(list.values().as_ref(), element, origin)?;
            Values::List(Ends::Small(list.value_offsets()), Box::new(child), *oid)
        }
        (D::LargeList(_), Wire::Array { element, oid }) => {
            let list = array.as_list::<i64>();
            let child = Column::bind(list.values().as_ref(), element, origin)?;
            Values::List(Ends::Large(list.value_offsets()), Box::new(child), *oid)
        }
        (D::FixedSizeList(_, width), Wire::Array { element, oid }) => {
            let list = array.as_fixed_size_list();
            let child = Column::bind(list.values().as_ref(), element, origin)?;
            Values::List(Ends::Fixed(usize::try_from(*width).ok()?), Box::new(child), *oid)
        }
        _ => return Rare::bind(array, wire, origin).map(|rare| Values::Rare(Box::new(rare))),
    })
}

fn integers<T: ArrowPrimitiveType<Native: Into<i128>>>(array: &dyn Array) -> Values<'_> {
    let values = primitive::<T>(array);
    Values::IntAsNumeric(Box::new(move |row| values[row].into()))
}

/// Length and value in one go.
#[inline]
fn field2(out: &mut Vec<u8>, value: [u8; 2]) {
    out.extend_from_slice(&[0, 0, 0, 2, value[0], value[1]]);
}

#[inline]
fn field4(out: &mut Vec<u8>, value: [u8; 4]) {
    out.extend_from_slice(&[0, 0, 0, 4, value[0], value[1], value[2], value[3]]);
}

#[inline]
pub(super) fn field8(out: &mut Vec<u8>, value: [u8; 8]) {
    out.extend_from_slice(&[0, 0, 0, 8, value[0], value[1], value[2], value[3], value[4], value[5], value[6], value[7]]);
}

#[inline]
fn field_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), CellFault> {
    let length = i32::try_from(bytes.len()).map_err(|_| CellFault::TooLong)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

#[inline]
fn field_text(out: &mut Vec<u8>, bytes: &[u8], form: TextForm) -> Result<(), CellFault> {
    if form.may_hold_nul && bytes.contains(&0) {
        return Err(CellFault::Nul);
    }
    let Some(version) = form.version else { return field_bytes(out, bytes) };
    let length = i32::try_from(bytes.len() + 1).map_err(|_| CellFault::TooLong)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.push(version);
    out.extend_from_slice(bytes);
    Ok(())
}

fn field_interval(out: &mut Vec<u8>, months: i32, days: i32, micros: i64) {
    out.extend_from_slice(&16_i32.to_be_bytes());
    out.extend_from_slice(&micros.to_be_bytes());
    out.extend_from_slice(&days.to_be_bytes());
    out.extend_from_slice(&months.to_be_bytes());
}

fn nanos_to_micros(nanos: i64) -> Result<i64, CellFault> {
    if nanos % 1000 == 0 { Ok(nanos / 1000) } else { Err(CellFault::NotExact) }
}

impl Values<'_> {
    #[inline]
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), CellFault> {
        match self {
            Self::Null => out.extend_from_slice(&NULL_FIELD),
            Self::Bool(values) => out.extend_from_slice(&[0, 0, 0, 1, u8::from(values.value(row))]),
            Self::Int2(values) => field2(out, values[row].to_be_bytes()),
            Self::Int4(values) => field4(out, values[row].to_be_bytes()),
            Self::Int8(values) => field8(out, values[row].to_be_bytes()),
            Self::TinyAsInt2(values) => field2(out, i16::from(values[row]).to_be_bytes()),
            Self::ByteAsInt2(values) => field2(out, i16::from(values[row]).to_be_bytes()),
            Self::Int2AsInt4(values) => field4(out, i32::from(values[row]).to_be_bytes()),
            Self::WordAsInt4(values) => field4(out, i32::from(values[row]).to_be_bytes()),
            Self::Int2AsInt8(values) => field8(out, i64::from(values[row]).to_be_bytes()),
            Self::Int4AsInt8(values) => field8(out, i64::from(values[row]).to_be_bytes()),
            Self::DwordAsInt8(values) => field8(out, i64::from(values[row]).to_be_bytes()),
            Self::Dword(values) => field4(out, values[row].to_be_bytes()),
            Self::Qword(values) => field8(out, values[row].to_be_bytes()),
            Self::IntAsNumeric(value) => numeric::write_i128(out, value(row), 0)?,
            Self::Float4(values) => field4(out, values[row].to_be_bytes()),
            Self::Float8(values) => field8(out, values[row].to_be_bytes()),
            Self::Float4AsFloat8(values) => field8(out, f64::from(values[row]).to_be_bytes()),
            Self::HalfAsFloat4(value) => field4(out, value(row).to_be_bytes()),
            Self::Decimal128(values, scale) => numeric::write_i128(out, values[row], *scale)?,
            Self::Decimal256(values, scale) => numeric::write_i256(out, values[row], *scale)?,
            Self::NumericText(ends, bytes) => {
                let text = std::str::from_utf8(&bytes[ends[row].as_usize()..ends[row + 1].as_usize()]);
                numeric::write_text(out, text.map_err(|_| CellFault::NotANumber)?)?;
            }
            Self::Text(ends, bytes, form) => field_text(out, &bytes[ends[row].as_usize()..ends[row + 1].as_usize()], *form)?,
            Self::LargeText(ends, bytes, form) => field_text(out, &bytes[ends[row].as_usize()..ends[row + 1].as_usize()], *form)?,
            Self::Bytes(ends, bytes) => field_bytes(out, &bytes[ends[row].as_usize()..ends[row + 1].as_usize()])?,
            Self::LargeBytes(ends, bytes) => field_bytes(out, &bytes[ends[row].as_usize()..ends[row + 1].as_usize()])?,
            Self::FixedBytes(width, bytes) => field_bytes(out, &bytes[row * width..(row + 1) * width])?,
            Self::Date(values, origin) => {
                let days = match values[row] {
                    infinite @ (i32::MAX | i32::MIN) if origin.postgres => infinite,
                    days => days.checked_sub(EPOCH_DAYS).ok_or(CellFault::OutOfRange)?,
                };
                field4(out, days.to_be_bytes());
            }
            Self::DateMillis(values) => {
                if values[row] % 86_400_000 != 0 {
                    return Err(CellFault::NotExact);
                }
                let days = i32::try_from(values[row] / 86_400_000).map_err(|_| CellFault::OutOfRange)?;
                field4(out, days.checked_sub(EPOCH_DAYS).ok_or(CellFault::OutOfRange)?.to_be_bytes());
            }
            Self::Time32(values, scale) => field8(out, scale.micros(i64::from(values[row]))?.to_be_bytes()),
            Self::Time64(values, scale) => field8(out, scale.micros(values[row])?.to_be_bytes()),
            Self::Timestamp(values, scale, origin) => {
                let micros = match values[row] {
                    infinite @ (i64::MAX | i64::MIN) if origin.postgres => infinite,
                    moment => scale.micros(moment)?.checked_sub(EPOCH_MICROS).ok_or(CellFault::OutOfRange)?,
                };
                field8(out, micros.to_be_bytes());
            }
            Self::Months(values) => field_interval(out, values[row], 0, 0),
            Self::DayTime(values) => field_interval(out, 0, values[row].days, i64::from(values[row].milliseconds) * 1000),
            Self::MonthDayNano(values) => {
                let value = values[row];
                field_interval(out, value.months, value.days, nanos_to_micros(value.nanoseconds)?);
            }
            Self::Duration(values, scale) => field_interval(out, 0, 0, scale.micros(values[row])?),
            Self::List(ends, child, oid) => return write_list(out, ends.of(row), child, *oid),
            Self::Dictionary(key, values) => return values.write(key(row), out),
            Self::Rare(rare) => return rare.write(row, out),
        }
        Ok(())
    }
}

/// An array of one dimension with the lower bound 1: dimensions, null flag, element type, length, lower bound, elements.
fn write_list(out: &mut Vec<u8>, (first, end): (usize, usize), child: &Column<'_>, oid: u32) -> Result<(), CellFault> {
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    if first == end {
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&oid.to_be_bytes());
    } else {
        let count = i32::try_from(end - first).map_err(|_| CellFault::TooLong)?;
        out.extend_from_slice(&1_i32.to_be_bytes());
        out.extend_from_slice(&i32::from(child.nulls.is_some()).to_be_bytes());
        out.extend_from_slice(&oid.to_be_bytes());
        out.extend_from_slice(&count.to_be_bytes());
        out.extend_from_slice(&1_i32.to_be_bytes());
        for row in first..end {
            child.write(row, out)?;
        }
    }
    let length = i32::try_from(out.len() - length_at - 4).map_err(|_| CellFault::TooLong)?;
    out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}
