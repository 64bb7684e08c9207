//! Values as exact text, one column of a batch at a time: types are looked at once per batch, not per value.

use super::calendar;
use super::types::is_uuid;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, DecimalType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    IntervalDayTimeType, IntervalMonthDayNanoType, IntervalYearMonthType, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, OffsetSizeTrait, RecordBatch};
use arrow_schema::{DataType, IntervalUnit, TimeUnit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use calendar::put;
use std::fmt::Display;

type Write<'a> = Box<dyn Fn(usize, &mut Vec<u8>) + 'a>;

/// How a column's values are written.
enum Values<'a> {
    /// JSON as it stands: numbers, booleans.
    Bare(Write<'a>),
    /// ASCII that needs quotes in JSON and no escapes: dates, decimals, base64.
    Quoted(Write<'a>),
    /// A float: bare, or quoted when it is not finite, which JSON can't say.
    Float { finite: Box<dyn Fn(usize) -> bool + 'a>, write: Write<'a> },
    /// Any text.
    Text(Box<dyn Fn(usize) -> &'a str + 'a>),
    /// Lists and structs: JSON.
    Nested(Write<'a>),
}

/// One column of a batch.
pub(super) struct Column<'a> {
    array: &'a dyn Array,
    values: Values<'a>,
}

/// The columns of a batch.
pub(super) fn columns(batch: &RecordBatch) -> Vec<Column<'_>> {
    let schema = batch.schema_ref();
    batch.columns().iter().zip(schema.fields()).map(|(array, field)| Column::new(array.as_ref(), is_uuid(field))).collect()
}

impl<'a> Column<'a> {
    pub(super) fn new(array: &'a dyn Array, uuid: bool) -> Self {
        Self { array, values: values(array, uuid) }
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        // `NullArray` has no validity buffer, so its rows do not say that they are null.
        self.array.is_null(row) || self.array.data_type() == &DataType::Null
    }

    /// The value as CSV has it before quoting. Not for NULL.
    pub(super) fn write_plain(&self, row: usize, out: &mut Vec<u8>) {
        match &self.values {
            Values::Bare(write) | Values::Quoted(write) | Values::Float { write, .. } | Values::Nested(write) => write(row, out),
            Values::Text(text) => out.extend_from_slice(text(row).as_bytes()),
        }
    }

    /// The value as JSON.
    pub(super) fn write_json(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            out.extend_from_slice(b"null");
            return;
        }
        match &self.values {
            Values::Bare(write) | Values::Nested(write) => write(row, out),
            Values::Float { finite, write } if finite(row) => write(row, out),
            Values::Quoted(write) | Values::Float { write, .. } => {
                out.push(b'"');
                write(row, out);
                out.push(b'"');
            }
            Values::Text(text) => write_json_text(text(row), out),
        }
    }
}

/// A JSON string.
pub(super) fn write_json_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..=31 => b"",
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[from..at]);
        from = at + 1;
        if escape.is_empty() {
            put(out, format_args!("\\u{byte:04x}"));
        } else {
            out.extend_from_slice(escape);
        }
    }
    out.extend_from_slice(&text.as_bytes()[from..]);
    out.push(b'"');
}

fn values<'a>(array: &'a dyn Array, uuid: bool) -> Values<'a> {
    match array.data_type() {
        DataType::Boolean => {
            let array = array.as_boolean();
            Values::Bare(Box::new(|row, out| out.extend_from_slice(if array.value(row) { b"true" } else { b"false" })))
        }
        DataType::Int8 => number::<Int8Type>(array),
        DataType::Int16 => number::<Int16Type>(array),
        DataType::Int32 => number::<Int32Type>(array),
        DataType::Int64 => number::<Int64Type>(array),
        DataType::UInt8 => number::<UInt8Type>(array),
        DataType::UInt16 => number::<UInt16Type>(array),
        DataType::UInt32 => number::<UInt32Type>(array),
        DataType::UInt64 => number::<UInt64Type>(array),
        DataType::Float32 => {
            let array = array.as_primitive::<Float32Type>();
            let finite = Box::new(|row| f32::is_finite(array.value(row)));
            Values::Float { finite, write: Box::new(|row, out| float(f64::from(array.value(row)), array.value(row), out)) }
        }
        DataType::Float64 => {
            let array = array.as_primitive::<Float64Type>();
            let finite = Box::new(|row| f64::is_finite(array.value(row)));
            Values::Float { finite, write: Box::new(|row, out| float(array.value(row), array.value(row), out)) }
        }
        DataType::Utf8 => Values::Text(Box::new(|row| array.as_string::<i32>().value(row))),
        DataType::LargeUtf8 => Values::Text(Box::new(|row| array.as_string::<i64>().value(row))),
        DataType::Dictionary(_, value) => {
            let dictionary = array.as_any_dictionary();
            // Without values every row is null, and the call would panic.
            let keys = if dictionary.values().is_empty() { Vec::new() } else { dictionary.normalized_keys() };
            let texts = dictionary.values();
            if **value == DataType::LargeUtf8 {
                Values::Text(Box::new(move |row| texts.as_string::<i64>().value(keys[row])))
            } else {
                Values::Text(Box::new(move |row| texts.as_string::<i32>().value(keys[row])))
            }
        }
        DataType::Binary => Values::Quoted(Box::new(|row, out| base64(array.as_binary::<i32>().value(row), out))),
        DataType::LargeBinary => Values::Quoted(Box::new(|row, out| base64(array.as_binary::<i64>().value(row), out))),
        DataType::FixedSizeBinary(_) => {
            let array = array.as_fixed_size_binary();
            if uuid {
                Values::Quoted(Box::new(|row, out| write_uuid(array.value(row), out)))
            } else {
                Values::Quoted(Box::new(|row, out| base64(array.value(row), out)))
            }
        }
        DataType::Date32 => {
            let array = array.as_primitive::<Date32Type>();
            Values::Quoted(Box::new(|row, out| calendar::write_date(i64::from(array.value(row)), out)))
        }
        DataType::Time32(TimeUnit::Second) => time::<Time32SecondType>(array, 0),
        DataType::Time32(_) => time::<Time32MillisecondType>(array, 3),
        DataType::Time64(TimeUnit::Microsecond) => time::<Time64MicrosecondType>(array, 6),
        DataType::Time64(_) => time::<Time64NanosecondType>(array, 9),
        DataType::Timestamp(TimeUnit::Second, zone) => timestamp::<TimestampSecondType>(array, 0, zone.is_some()),
        DataType::Timestamp(TimeUnit::Millisecond, zone) => timestamp::<TimestampMillisecondType>(array, 3, zone.is_some()),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => timestamp::<TimestampMicrosecondType>(array, 6, zone.is_some()),
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => timestamp::<TimestampNanosecondType>(array, 9, zone.is_some()),
        DataType::Decimal128(precision, scale) => decimal::<Decimal128Type>(array, *precision, *scale),
        DataType::Decimal256(precision, scale) => decimal::<Decimal256Type>(array, *precision, *scale),
        DataType::Interval(unit) => Values::Quoted(interval(array, *unit)),
        DataType::List(_) => list::<i32>(array),
        DataType::LargeList(_) => list::<i64>(array),
        DataType::Struct(_) => object(array),
        // `check_schema` lets nothing else but `Null` pass, whose rows are never written.
        _ => Values::Bare(Box::new(|_, out| out.extend_from_slice(b"null"))),
    }
}

fn number<T>(array: &dyn Array) -> Values<'_>
where
    T: ArrowPrimitiveType,
    T::Native: Display,
{
    let array = array.as_primitive::<T>();
    Values::Bare(Box::new(|row, out| put(out, format_args!("{}", array.value(row)))))
}

/// The shortest text that reads back as the same value of its own width.
fn float(value: f64, shown: impl std::fmt::Debug, out: &mut Vec<u8>) {
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
    } else {
        put(out, format_args!("{shown:?}"));
    }
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
}

fn write_uuid(bytes: &[u8], out: &mut Vec<u8>) {
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        put(out, format_args!("{byte:02x}"));
    }
}

fn time<T>(array: &dyn Array, digits: usize) -> Values<'_>
where
    T: ArrowPrimitiveType,
    T::Native: Into<i64>,
{
    let array = array.as_primitive::<T>();
    let per_second = 10_i64.pow(digits as u32);
    Values::Quoted(Box::new(move |row, out| {
        let value: i64 = array.value(row).into();
        calendar::write_time(value.div_euclid(per_second), value.rem_euclid(per_second), digits, out);
    }))
}

fn timestamp<T: ArrowPrimitiveType<Native = i64>>(array: &dyn Array, digits: usize, utc: bool) -> Values<'_> {
    let array = array.as_primitive::<T>();
    Values::Quoted(Box::new(move |row, out| calendar::write_timestamp(array.value(row), digits, utc, out)))
}

fn decimal<T: DecimalType>(array: &dyn Array, precision: u8, scale: i8) -> Values<'_> {
    let array = array.as_primitive::<T>();
    Values::Quoted(Box::new(move |row, out| {
        out.extend_from_slice(T::format_decimal(array.value(row), precision, scale).as_bytes());
    }))
}

fn interval(array: &dyn Array, unit: IntervalUnit) -> Write<'_> {
    match unit {
        IntervalUnit::YearMonth => {
            let array = array.as_primitive::<IntervalYearMonthType>();
            Box::new(|row, out| calendar::write_interval(i64::from(array.value(row)), 0, 0, out))
        }
        IntervalUnit::DayTime => {
            let array = array.as_primitive::<IntervalDayTimeType>();
            Box::new(|row, out| {
                let value = array.value(row);
                calendar::write_interval(0, i64::from(value.days), i128::from(value.milliseconds) * 1_000_000, out);
            })
        }
        IntervalUnit::MonthDayNano => {
            let array = array.as_primitive::<IntervalMonthDayNanoType>();
            Box::new(|row, out| {
                let value = array.value(row);
                calendar::write_interval(i64::from(value.months), i64::from(value.days), i128::from(value.nanoseconds), out);
            })
        }
    }
}

fn list<O: OffsetSizeTrait>(array: &dyn Array) -> Values<'_> {
    let array = array.as_list::<O>();
    let uuid = match array.data_type() {
        DataType::List(field) | DataType::LargeList(field) => is_uuid(field),
        _ => false,
    };
    let items = Column::new(array.values().as_ref(), uuid);
    Values::Nested(Box::new(move |row, out| {
        let offsets = array.value_offsets();
        out.push(b'[');
        for item in offsets[row].as_usize()..offsets[row + 1].as_usize() {
            if item > offsets[row].as_usize() {
                out.push(b',');
            }
            items.write_json(item, out);
        }
        out.push(b']');
    }))
}

fn object(array: &dyn Array) -> Values<'_> {
    let array = array.as_struct();
    let members: Vec<(Vec<u8>, Column<'_>)> = array
        .fields()
        .iter()
        .zip(array.columns())
        .map(|(field, column): (_, &ArrayRef)| (key(field.name()), Column::new(column.as_ref(), is_uuid(field))))
        .collect();
    Values::Nested(Box::new(move |row, out| write_object(&members, row, out)))
}

/// A member's name with its colon.
pub(super) fn key(name: &str) -> Vec<u8> {
    let mut key = Vec::new();
    write_json_text(name, &mut key);
    key.push(b':');
    key
}

/// A JSON object of one row.
pub(super) fn write_object(members: &[(Vec<u8>, Column<'_>)], row: usize, out: &mut Vec<u8>) {
    out.push(b'{');
    for (i, (key, column)) in members.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(key);
        column.write_json(row, out);
    }
    out.push(b'}');
}

/// A row for people and for a replay: each value as exact text beside its type.
pub(crate) fn record_json(batch: &RecordBatch, row: usize) -> String {
    let mut out = vec![b'{'];
    for (i, (column, field)) in columns(batch).iter().zip(batch.schema_ref().fields()).enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&key(field.name()));
        out.extend_from_slice(b"{\"type\":");
        write_json_text(&field.data_type().to_string(), &mut out);
        out.extend_from_slice(b",\"value\":");
        if column.is_null(row) {
            out.extend_from_slice(b"null");
        } else if let Some(infinity) = super::values::infinity(column.array, row) {
            write_json_text(infinity, &mut out);
        } else {
            let mut text = Vec::new();
            column.write_plain(row, &mut text);
            write_json_text(&String::from_utf8_lossy(&text), &mut out);
        }
        out.push(b'}');
    }
    out.push(b'}');
    String::from_utf8_lossy(&out).into_owned()
}
