//! Arrow values as the server would show them, so that both can be compared as text.
//!
//! Texts are compared as they are; what has no simple text is compared in its send form, in hexadecimal.

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Field, IntervalUnit};
use rapidbyte_sdk::split;
use std::sync::Arc;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Rows of `beyond` with a value that does not fit the column's Arrow type.
const BEYOND: &str = "SELECT b.id FROM beyond b WHERE b.id > 1000 AND b.{} IS NOT NULL";

/// The SQL that shows a column in the same words as [`value`].
pub(crate) fn sql(field: &Field) -> String {
    let name = format!("\"{}\"", field.name().replace('"', "\"\""));
    let typname = field.metadata()["rapidbyte.pg.typname"].clone();
    if split::is_split(field) {
        let function = match typname.as_str() {
            name if name.starts_with('_') => "array_send".to_owned(),
            name @ ("timestamptz" | "timestamp" | "numeric" | "interval") => format!("{name}_send"),
            name => panic!("no send function known for {name}"),
        };
        // What fits is shown by its own column; what does not is compared in its send form.
        let whole = sql(&split::whole(&Arc::new(field.clone())));
        let beyond = BEYOND.replace("{}", &name);
        return format!("CASE WHEN id IN ({beyond}) THEN 'send ' || encode({function}({name}), 'hex') ELSE {whole} END");
    }
    match field.data_type() {
        DataType::Float32 => format!("encode(float4send({name}), 'hex')"),
        DataType::Float64 => format!("encode(float8send({name}), 'hex')"),
        DataType::Decimal128(..) if typname == "money" => format!("{name}::numeric::text"),
        DataType::Date32 => format!("encode(date_send({name}), 'hex')"),
        DataType::Time64(_) => format!("encode(time_send({name}), 'hex')"),
        DataType::Timestamp(_, None) => format!("encode(timestamp_send({name}), 'hex')"),
        DataType::Timestamp(_, Some(_)) => format!("encode(timestamptz_send({name}), 'hex')"),
        DataType::Interval(_) => format!("encode(interval_send({name}), 'hex')"),
        DataType::Binary => format!("encode({name}, 'hex')"),
        DataType::FixedSizeBinary(16) => format!("encode(uuid_send({name}), 'hex')"),
        DataType::List(item) if matches!(item.data_type(), DataType::Timestamp(..)) => {
            format!("(SELECT string_agg(encode(timestamp_send(v), 'hex'), ',') FROM unnest({name}) v)")
        }
        DataType::List(_) => format!(
            "CASE WHEN {name} IS NOT NULL THEN (SELECT coalesce(string_agg(coalesce('<' || v || '>', 'null'), ','), '') FROM unnest({name}) v) END"
        ),
        // A cast to text would cut the padding off.
        DataType::Utf8 if typname == "bpchar" => format!("convert_from(bpcharsend({name}), 'UTF8')"),
        _ => format!("{name}::text"),
    }
}

/// A cell; `None` = NULL.
pub(crate) fn value(array: &dyn Array, row: usize) -> Option<String> {
    if array.is_null(row) {
        return None;
    }
    let micros = |micros: i64| match micros {
        i64::MAX | i64::MIN => hex(&micros.to_be_bytes()),
        micros => hex(&(micros - 946_684_800_000_000).to_be_bytes()),
    };
    Some(match array.data_type() {
        DataType::Struct(_) => {
            let parts = split::parts(array).expect("a split column");
            return if parts.send.is_valid(row) {
                assert!(parts.value.is_null(row) && parts.text.is_valid(row));
                Some(format!("send {}", hex(parts.send.value(row))))
            } else {
                assert!(parts.text.is_null(row));
                value(parts.value.as_ref(), row)
            };
        }
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).to_string(),
        DataType::Float32 => hex(&array.as_primitive::<Float32Type>().value(row).to_be_bytes()),
        DataType::Float64 => hex(&array.as_primitive::<Float64Type>().value(row).to_be_bytes()),
        DataType::Decimal128(_, scale) => decimal(&array.as_primitive::<Decimal128Type>().value(row).to_string(), *scale),
        DataType::Decimal256(_, scale) => decimal(&array.as_primitive::<Decimal256Type>().value(row).to_string(), *scale),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Binary => hex(array.as_binary::<i32>().value(row)),
        DataType::FixedSizeBinary(_) => hex(array.as_fixed_size_binary().value(row)),
        DataType::Date32 => match array.as_primitive::<Date32Type>().value(row) {
            days @ (i32::MAX | i32::MIN) => hex(&days.to_be_bytes()),
            days => hex(&(days - 10_957).to_be_bytes()),
        },
        DataType::Time64(_) => hex(&array.as_primitive::<Time64MicrosecondType>().value(row).to_be_bytes()),
        DataType::Timestamp(..) => micros(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            assert_eq!(value.nanoseconds % 1000, 0);
            let (micros, days, months) =
                ((value.nanoseconds / 1000).to_be_bytes(), value.days.to_be_bytes(), value.months.to_be_bytes());
            format!("{}{}{}", hex(&micros), hex(&days), hex(&months))
        }
        DataType::List(item) => {
            let list = array.as_list::<i32>().value(row);
            let plain = matches!(item.data_type(), DataType::Timestamp(..));
            let show = |index| match value(&list, index) {
                Some(text) if plain => text,
                Some(text) => format!("<{text}>"),
                None => "null".to_owned(),
            };
            (0..list.len()).map(show).collect::<Vec<_>>().join(",")
        }
        other => panic!("no rendering of {other}"),
    })
}

fn decimal(digits: &str, scale: i8) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let padded = format!("{digits:0>width$}", width = scale as usize + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale as usize);
    format!("{sign}{whole}.{fraction}")
}

/// Every row of the batches, with the row's first cell in front.
pub(crate) fn rows(batches: &[RecordBatch]) -> Vec<Vec<Option<String>>> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            rows.push(batch.columns().iter().map(|column| value(column, row)).collect());
        }
    }
    rows
}
