//! The exact text of any value, for people, dead letters and text formats.
//!
//! Nothing is rounded and nothing depends on a locale: integers and decimals with all their digits, floats in the shortest
//! form that reads back the same, dates and times in ISO 8601 with the digits of their unit (`Z` after those with a time
//! zone, which are instants), bytes in Base64, UUIDs with dashes, lists and structs as JSON.

use super::split;
use crate::ConnectorError;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float16Type, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalYearMonthType,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, OffsetSizeTrait};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, IntervalUnit, TimeUnit};
use std::fmt::{Display, Write};

/// What a value's text is in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextKind {
    /// There is no value.
    Null,
    /// Valid JSON as it stands: a number, `true`, a list.
    Bare,
    /// Has to be quoted.
    Quoted,
}

type WriteValue<'a> = Box<dyn Fn(usize, &mut String) -> TextKind + 'a>;

/// The texts of one column's values; the column is looked at once.
pub struct ColumnText<'a> {
    nulls: Option<NullBuffer>,
    write: WriteValue<'a>,
}

impl<'a> ColumnText<'a> {
    /// The texts of a column. A type without an exact text (a union, a view) is an error that names the column.
    pub fn new(field: &Field, array: &'a ArrayRef) -> Result<Self, ConnectorError> {
        Self::with_decimals(field, array, TextKind::Bare)
    }

    /// As [`ColumnText::new`], with decimals quoted in JSON, also within lists and structs: most readers of JSON take a bare
    /// number for a double.
    pub fn quoting_decimals(field: &Field, array: &'a ArrayRef) -> Result<Self, ConnectorError> {
        Self::with_decimals(field, array, TextKind::Quoted)
    }

    fn with_decimals(field: &Field, array: &'a ArrayRef, decimals: TextKind) -> Result<Self, ConnectorError> {
        Ok(Self { nulls: array.logical_nulls(), write: writer(field, array, decimals)? })
    }

    /// Appends the text of a row and says what it is. Nothing is appended for a null.
    pub fn write(&self, row: usize, out: &mut String) -> TextKind {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) { TextKind::Null } else { (self.write)(row, out) }
    }

    /// Appends a row as JSON.
    pub fn write_json(&self, row: usize, out: &mut String) {
        let start = out.len();
        match self.write(row, out) {
            TextKind::Null => out.push_str("null"),
            TextKind::Bare => {}
            TextKind::Quoted if !out.as_bytes()[start..].iter().any(|byte| escapes(*byte)) => {
                out.insert(start, '"');
                out.push('"');
            }
            TextKind::Quoted => {
                let text = out.split_off(start);
                push_json_string(&text, out);
            }
        }
    }
}

/// Whether a JSON string can't hold the byte as it stands.
fn escapes(byte: u8) -> bool {
    byte < 0x20 || matches!(byte, b'"' | b'\\' | 0x7f)
}

/// Appends a text as a JSON string.
pub fn push_json_string(text: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if !escapes(byte) {
            continue;
        }
        // Every byte that is escaped is ASCII, so slicing here keeps characters whole.
        out.push_str(&text[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            other => put(out, format_args!("\\u{other:04x}")),
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

fn put(out: &mut String, text: impl Display) {
    // Writing to a string does not fail.
    let _ = write!(out, "{text}");
}

/// A value written by its native form.
fn native<'a, T: ArrowPrimitiveType>(
    array: &'a ArrayRef,
    kind: TextKind,
    write: impl Fn(T::Native, &mut String) + 'a,
) -> WriteValue<'a> {
    let array = array.as_primitive::<T>();
    Box::new(move |row, out| {
        write(array.value(row), out);
        kind
    })
}

fn number<T: ArrowPrimitiveType>(array: &ArrayRef) -> WriteValue<'_>
where
    T::Native: Display,
{
    native::<T>(array, TextKind::Bare, |value, out| put(out, value))
}

fn decimal<T: DecimalType>(array: &ArrayRef, kind: TextKind) -> WriteValue<'_> {
    let array = array.as_primitive::<T>();
    Box::new(move |row, out| {
        out.push_str(&array.value_as_string(row));
        kind
    })
}

/// A float and whether it is finite; others have no place in JSON but as text.
fn push_float(value: f64, shortest: impl Display, out: &mut String) -> TextKind {
    if value.is_finite() {
        put(out, shortest);
        return TextKind::Bare;
    }
    out.push_str(match value {
        value if value.is_nan() => "NaN",
        value if value > 0.0 => "Infinity",
        _ => "-Infinity",
    });
    TextKind::Quoted
}

/// Parts of a second: how many of a unit, and their digits.
fn unit(unit: TimeUnit) -> (i64, usize) {
    match unit {
        TimeUnit::Second => (1, 0),
        TimeUnit::Millisecond => (1_000, 3),
        TimeUnit::Microsecond => (1_000_000, 6),
        TimeUnit::Nanosecond => (1_000_000_000, 9),
    }
}

fn push_fraction(parts: i64, digits: usize, out: &mut String) {
    if digits > 0 {
        put(out, format_args!(".{parts:0digits$}"));
    }
}

/// Year, month and day of a day since 1970 in the proleptic Gregorian calendar (Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Appends a day, counted from 1970-01-01: `2024-02-29`, and `+10000-01-01` or `-0043-03-15` outside of the years 0 to 9999.
pub fn push_date(days: i64, out: &mut String) {
    let (year, month, day) = civil(days);
    // ISO 8601 gives years of other than four digits a sign.
    match year {
        0..=9999 => put(out, format_args!("{year:04}")),
        _ => put(out, format_args!("{year:+05}")),
    }
    put(out, format_args!("-{month:02}-{day:02}"));
}

fn push_time(value: i64, (per_second, digits): (i64, usize), out: &mut String) {
    let seconds = value.div_euclid(per_second);
    put(out, format_args!("{:02}:{:02}:{:02}", seconds.div_euclid(3600), seconds / 60 % 60, seconds % 60));
    push_fraction(value.rem_euclid(per_second), digits, out);
}

/// Appends a time of day in parts of a second: `13:37:00.500`.
pub fn push_time_of_day(value: i64, of: TimeUnit, out: &mut String) {
    push_time(value, unit(of), out);
}

/// Appends a moment in parts of a second since 1970: `2024-02-29T13:37:00.500`, with `Z` if it is an instant.
pub fn push_instant(value: i64, of: TimeUnit, zoned: bool, out: &mut String) {
    push_timestamp(value, unit(of), zoned, out);
}

fn push_timestamp(value: i64, unit: (i64, usize), zoned: bool, out: &mut String) {
    let per_day = 86_400 * unit.0;
    push_moment(value.div_euclid(per_day), value.rem_euclid(per_day), unit, zoned, out);
}

/// Appends a moment: a day counted from 1970-01-01 and microseconds of that day.
pub fn push_micros(days: i64, of_day: i64, zoned: bool, out: &mut String) {
    push_moment(days, of_day, unit(TimeUnit::Microsecond), zoned, out);
}

fn push_moment(days: i64, of_day: i64, unit: (i64, usize), zoned: bool, out: &mut String) {
    push_date(days, out);
    out.push('T');
    push_time(of_day, unit, out);
    if zoned {
        out.push('Z');
    }
}

/// `T1.500S`, with the sign of the whole.
fn push_seconds(value: i64, (per_second, digits): (i64, usize), out: &mut String) {
    out.push('T');
    if value < 0 {
        out.push('-');
    }
    let value = value.unsigned_abs();
    let per_second = per_second.unsigned_abs();
    put(out, value / per_second);
    push_fraction((value % per_second).cast_signed(), digits, out);
    out.push('S');
}

fn timestamps<T: ArrowPrimitiveType<Native = i64>>(array: &ArrayRef, of: TimeUnit, zoned: bool) -> WriteValue<'_> {
    native::<T>(array, TextKind::Quoted, move |value, out| push_timestamp(value, unit(of), zoned, out))
}

fn times<T: ArrowPrimitiveType>(array: &ArrayRef, of: TimeUnit) -> WriteValue<'_>
where
    T::Native: Into<i64>,
{
    native::<T>(array, TextKind::Quoted, move |value, out| push_time(value.into(), unit(of), out))
}

fn durations<T: ArrowPrimitiveType<Native = i64>>(array: &ArrayRef, of: TimeUnit) -> WriteValue<'_> {
    native::<T>(array, TextKind::Quoted, move |value, out| {
        out.push('P');
        push_seconds(value, unit(of), out);
    })
}

fn push_base64(bytes: &[u8], out: &mut String) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            out.push(if at <= chunk.len() { char::from(LETTERS[(bits >> (18 - 6 * at)) as usize & 63]) } else { '=' });
        }
    }
}

fn push_uuid(bytes: &[u8], out: &mut String) {
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        put(out, format_args!("{byte:02x}"));
    }
}

fn is_uuid(field: &Field) -> bool {
    field.metadata().get("ARROW:extension:name").is_some_and(|name| name == "arrow.uuid")
}

fn lists<'a, O: OffsetSizeTrait>(item: &Field, array: &'a ArrayRef, decimals: TextKind) -> Result<WriteValue<'a>, ConnectorError> {
    let list = array.as_list::<O>();
    let items = ColumnText::with_decimals(item, list.values(), decimals)?;
    Ok(Box::new(move |row, out| {
        let offsets = list.value_offsets();
        push_items(&items, offsets[row].as_usize()..offsets[row + 1].as_usize(), out)
    }))
}

fn push_items(items: &ColumnText<'_>, range: std::ops::Range<usize>, out: &mut String) -> TextKind {
    out.push('[');
    for at in range.clone() {
        if at > range.start {
            out.push(',');
        }
        items.write_json(at, out);
    }
    out.push(']');
    TextKind::Bare
}

fn writer<'a>(field: &Field, array: &'a ArrayRef, decimals: TextKind) -> Result<WriteValue<'a>, ConnectorError> {
    use TextKind::{Bare, Quoted};
    Ok(match array.data_type() {
        DataType::Null => Box::new(|_, _| TextKind::Null),
        DataType::Boolean => {
            let array = array.as_boolean();
            Box::new(move |row, out| {
                out.push_str(if array.value(row) { "true" } else { "false" });
                Bare
            })
        }
        DataType::Int8 => number::<Int8Type>(array),
        DataType::Int16 => number::<Int16Type>(array),
        DataType::Int32 => number::<Int32Type>(array),
        DataType::Int64 => number::<Int64Type>(array),
        DataType::UInt8 => number::<UInt8Type>(array),
        DataType::UInt16 => number::<UInt16Type>(array),
        DataType::UInt32 => number::<UInt32Type>(array),
        DataType::UInt64 => number::<UInt64Type>(array),
        DataType::Float16 => {
            let array = array.as_primitive::<Float16Type>();
            Box::new(move |row, out| {
                let value = array.value(row).to_f32();
                push_float(value.into(), format_args!("{value:?}"), out)
            })
        }
        DataType::Float32 => {
            let array = array.as_primitive::<Float32Type>();
            Box::new(move |row, out| {
                let value = array.value(row);
                push_float(value.into(), format_args!("{value:?}"), out)
            })
        }
        DataType::Float64 => {
            let array = array.as_primitive::<Float64Type>();
            Box::new(move |row, out| {
                let value = array.value(row);
                push_float(value, format_args!("{value:?}"), out)
            })
        }
        DataType::Decimal32(..) => decimal::<Decimal32Type>(array, decimals),
        DataType::Decimal64(..) => decimal::<Decimal64Type>(array, decimals),
        DataType::Decimal128(..) => decimal::<Decimal128Type>(array, decimals),
        DataType::Decimal256(..) => decimal::<Decimal256Type>(array, decimals),
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            Box::new(move |row, out| {
                out.push_str(array.value(row));
                Quoted
            })
        }
        DataType::LargeUtf8 => {
            let array = array.as_string::<i64>();
            Box::new(move |row, out| {
                out.push_str(array.value(row));
                Quoted
            })
        }
        DataType::Binary => {
            let array = array.as_binary::<i32>();
            Box::new(move |row, out| {
                push_base64(array.value(row), out);
                Quoted
            })
        }
        DataType::LargeBinary => {
            let array = array.as_binary::<i64>();
            Box::new(move |row, out| {
                push_base64(array.value(row), out);
                Quoted
            })
        }
        DataType::FixedSizeBinary(size) => {
            let uuid = *size == 16 && is_uuid(field);
            let array = array.as_fixed_size_binary();
            Box::new(move |row, out| {
                if uuid {
                    push_uuid(array.value(row), out)
                } else {
                    push_base64(array.value(row), out)
                }
                Quoted
            })
        }
        DataType::Date32 => native::<Date32Type>(array, Quoted, |days, out| push_date(days.into(), out)),
        DataType::Date64 => native::<Date64Type>(array, Quoted, |millis, out| push_date(millis.div_euclid(86_400_000), out)),
        DataType::Time32(of @ TimeUnit::Second) => times::<Time32SecondType>(array, *of),
        DataType::Time32(of) => times::<Time32MillisecondType>(array, *of),
        DataType::Time64(of @ TimeUnit::Microsecond) => times::<Time64MicrosecondType>(array, *of),
        DataType::Time64(of) => times::<Time64NanosecondType>(array, *of),
        DataType::Timestamp(of, zone) => match of {
            TimeUnit::Second => timestamps::<TimestampSecondType>(array, *of, zone.is_some()),
            TimeUnit::Millisecond => timestamps::<TimestampMillisecondType>(array, *of, zone.is_some()),
            TimeUnit::Microsecond => timestamps::<TimestampMicrosecondType>(array, *of, zone.is_some()),
            TimeUnit::Nanosecond => timestamps::<TimestampNanosecondType>(array, *of, zone.is_some()),
        },
        DataType::Duration(of) => match of {
            TimeUnit::Second => durations::<DurationSecondType>(array, *of),
            TimeUnit::Millisecond => durations::<DurationMillisecondType>(array, *of),
            TimeUnit::Microsecond => durations::<DurationMicrosecondType>(array, *of),
            TimeUnit::Nanosecond => durations::<DurationNanosecondType>(array, *of),
        },
        DataType::Interval(IntervalUnit::YearMonth) => {
            native::<IntervalYearMonthType>(array, Quoted, |months, out| put(out, format_args!("P{months}M")))
        }
        DataType::Interval(IntervalUnit::DayTime) => native::<IntervalDayTimeType>(array, Quoted, |value, out| {
            put(out, format_args!("P{}D", value.days));
            push_seconds(value.milliseconds.into(), unit(TimeUnit::Millisecond), out);
        }),
        DataType::Interval(IntervalUnit::MonthDayNano) => native::<IntervalMonthDayNanoType>(array, Quoted, |value, out| {
            put(out, format_args!("P{}M{}D", value.months, value.days));
            push_seconds(value.nanoseconds, unit(TimeUnit::Nanosecond), out);
        }),
        DataType::List(item) => lists::<i32>(item, array, decimals)?,
        DataType::LargeList(item) => lists::<i64>(item, array, decimals)?,
        DataType::FixedSizeList(item, size) => {
            let items = ColumnText::with_decimals(item, array.as_fixed_size_list().values(), decimals)?;
            let size = usize::try_from(*size).unwrap_or(0);
            Box::new(move |row, out| push_items(&items, row * size..(row + 1) * size, out))
        }
        DataType::Struct(_) if split::is_split(field) => split_column(field, array, decimals)?,
        DataType::Struct(fields) => {
            let mut columns = Vec::new();
            for (field, column) in fields.iter().zip(array.as_struct().columns()) {
                let mut key = String::new();
                push_json_string(field.name(), &mut key);
                columns.push((key, ColumnText::with_decimals(field, column, decimals)?));
            }
            Box::new(move |row, out| {
                for (at, (key, column)) in columns.iter().enumerate() {
                    out.push(if at == 0 { '{' } else { ',' });
                    out.push_str(key);
                    out.push(':');
                    column.write_json(row, out);
                }
                out.push_str(if columns.is_empty() { "{}" } else { "}" });
                Bare
            })
        }
        DataType::Map(entries, _) => {
            // Keys need not be text nor unique, so a map is the list of its entries.
            let map = array.as_map();
            let DataType::Struct(fields) = entries.data_type() else { return Err(no_text(field)) };
            let [key, value] = fields.as_ref() else { return Err(no_text(field)) };
            let (keys, values) =
                (ColumnText::with_decimals(key, map.keys(), decimals)?, ColumnText::with_decimals(value, map.values(), decimals)?);
            Box::new(move |row, out| {
                let offsets = map.value_offsets();
                let range = offsets[row] as usize..offsets[row + 1] as usize;
                out.push('[');
                for at in range.clone() {
                    out.push_str(if at > range.start { ",[" } else { "[" });
                    keys.write_json(at, out);
                    out.push(',');
                    values.write_json(at, out);
                    out.push(']');
                }
                out.push(']');
                Bare
            })
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let values = ColumnText::with_decimals(field, dictionary.values(), decimals)?;
            // Without values every row is null, and asking for its keys would panic.
            let keys = if dictionary.values().is_empty() { Vec::new() } else { dictionary.normalized_keys() };
            Box::new(move |row, out| values.write(keys[row], out))
        }
        DataType::Utf8View
        | DataType::BinaryView
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::Union(..)
        | DataType::RunEndEncoded(..) => return Err(no_text(field)),
    })
}

/// A value where it fits, else its text.
fn split_column<'a>(field: &Field, array: &'a ArrayRef, decimals: TextKind) -> Result<WriteValue<'a>, ConnectorError> {
    let parts = split::parts(array.as_ref()).ok_or_else(|| no_text(field))?;
    let value_field = field.clone().with_data_type(parts.value.data_type().clone());
    let value = ColumnText::with_decimals(&split::mark(&value_field), parts.value, decimals)?;
    Ok(Box::new(move |row, out| match value.write(row, out) {
        TextKind::Null if parts.text.is_valid(row) => {
            out.push_str(parts.text.value(row));
            TextKind::Quoted
        }
        kind => kind,
    }))
}

fn no_text(field: &Field) -> ConnectorError {
    ConnectorError::schema(
        "unsupported_type",
        format!("column `{}` has type {}, which has no exact text", field.name(), field.data_type()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::builder::{ListBuilder, StringDictionaryBuilder};
    use arrow_array::{
        BinaryArray, Date32Array, Decimal128Array, DurationMillisecondArray, FixedSizeBinaryArray, Float32Array, Float64Array,
        Int64Array, IntervalMonthDayNanoArray, NullArray, StringArray, StructArray, Time64MicrosecondArray,
        TimestampMicrosecondArray, UInt64Array,
    };
    use arrow_buffer::IntervalMonthDayNano;
    use std::sync::Arc;

    fn texts(array: impl Array + 'static) -> Vec<String> {
        described(Field::new("c", array.data_type().clone(), true), Arc::new(array))
    }

    fn described(field: Field, array: ArrayRef) -> Vec<String> {
        let column = ColumnText::new(&field, &array).unwrap();
        (0..array.len())
            .map(|row| {
                let mut out = String::new();
                column.write_json(row, &mut out);
                out
            })
            .collect()
    }

    #[test]
    fn numbers_keep_every_digit() {
        assert_eq!(
            texts(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)])),
            ["-9223372036854775808", "null", "9223372036854775807"]
        );
        assert_eq!(texts(UInt64Array::from(vec![u64::MAX])), ["18446744073709551615"]);
        let decimals = |precision, scale, values: Vec<i128>| {
            texts(Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap())
        };
        assert_eq!(decimals(12, 2, vec![1250, -5, 0]), ["12.50", "-0.05", "0.00"]);
        assert_eq!(decimals(38, 0, vec![10_i128.pow(38) - 1]), ["99999999999999999999999999999999999999"]);
        assert_eq!(decimals(5, -2, vec![12]), ["1200"]);
    }

    #[test]
    fn floats_read_back_the_same() {
        let values = vec![0.1, -0.0, 1e300, 5e-324, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        assert_eq!(
            texts(Float64Array::from(values)),
            ["0.1", "-0.0", "1e300", "5e-324", "\"NaN\"", "\"Infinity\"", "\"-Infinity\""]
        );
        assert_eq!(texts(Float32Array::from(vec![0.1_f32])), ["0.1"]);
    }

    #[test]
    fn dates_and_times_are_iso() {
        let dates = vec![0, -1, 19_782, 2_932_896, 2_932_897, -719_529, 11_016];
        let expected = ["1970-01-01", "1969-12-31", "2024-02-29", "9999-12-31", "+10000-01-01", "-0001-12-31", "2000-02-29"];
        assert_eq!(texts(Date32Array::from(dates)), expected.map(|date| format!("\"{date}\"")));
        let micros = vec![1_704_067_200_123_456, -1];
        let local = TimestampMicrosecondArray::from(micros.clone());
        assert_eq!(texts(local), ["\"2024-01-01T00:00:00.123456\"", "\"1969-12-31T23:59:59.999999\""]);
        let zoned = TimestampMicrosecondArray::from(micros).with_timezone("UTC");
        assert_eq!(texts(zoned)[0], "\"2024-01-01T00:00:00.123456Z\"");
        assert_eq!(texts(Time64MicrosecondArray::from(vec![86_400_000_000, 1])), ["\"24:00:00.000000\"", "\"00:00:00.000001\""]);
        assert_eq!(texts(DurationMillisecondArray::from(vec![-1500])), ["\"PT-1.500S\""]);
        let interval = IntervalMonthDayNano::new(14, -3, 1_000_000_001);
        assert_eq!(texts(IntervalMonthDayNanoArray::from(vec![interval])), ["\"P14M-3DT1.000000001S\""]);
    }

    #[test]
    fn the_extremes_of_time_do_not_overflow() {
        for value in [i64::MIN, i64::MAX] {
            assert!(texts(TimestampMicrosecondArray::from(vec![value]))[0].contains('T'));
            assert!(texts(Time64MicrosecondArray::from(vec![value]))[0].contains(':'));
        }
        assert_eq!(texts(Date32Array::from(vec![i32::MAX]))[0], "\"+5881580-07-11\"");
    }

    #[test]
    fn text_and_bytes_are_quoted() {
        assert_eq!(texts(StringArray::from(vec!["a\"\\\n\t\u{1}\u{7f}é😀"])), ["\"a\\\"\\\\\\n\\t\\u0001\\u007fé😀\""]);
        let binary = BinaryArray::from_vec(vec![b"", b"f", b"fo", b"foo", b"foob"]);
        assert_eq!(texts(binary), ["\"\"", "\"Zg==\"", "\"Zm8=\"", "\"Zm9v\"", "\"Zm9vYg==\""]);
        let uuid: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_iter([[0x12_u8; 16]].into_iter()).unwrap());
        let plain = Field::new("c", DataType::FixedSizeBinary(16), false);
        let marked = plain.clone().with_metadata([("ARROW:extension:name".to_owned(), "arrow.uuid".to_owned())].into());
        assert_eq!(described(marked, uuid.clone()), ["\"12121212-1212-1212-1212-121212121212\""]);
        assert_eq!(described(plain, uuid), ["\"EhISEhISEhISEhISEhISEg==\""]);
    }

    #[test]
    fn nested_values_are_json() {
        let mut lists = ListBuilder::new(arrow_array::builder::Int64Builder::new());
        lists.append_value([Some(1), None]);
        lists.append_null();
        lists.append_value([]);
        assert_eq!(texts(lists.finish()), ["[1,null]", "null", "[]"]);
        let name: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        assert_eq!(
            texts(StructArray::from(vec![(Arc::new(Field::new("n\"", DataType::Utf8, false)), name)])),
            ["{\"n\\\"\":\"x\"}"]
        );
        let mut words = StringDictionaryBuilder::<Int32Type>::new();
        words.append_value("a");
        words.append_null();
        words.append_value("a");
        assert_eq!(texts(words.finish()), ["\"a\"", "null", "\"a\""]);
        assert_eq!(texts(NullArray::new(1)), ["null"]);
    }

    #[test]
    fn views_are_refused_by_name() {
        let array: ArrayRef = Arc::new(arrow_array::StringViewArray::from(vec!["x"]));
        let error = ColumnText::new(&Field::new("v", DataType::Utf8View, false), &array).err().unwrap();
        assert!(error.code == "unsupported_type" && error.message.contains("`v`"));
    }
}
