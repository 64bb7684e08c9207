//! Custom fields: each is checked once, and becomes a column whose values are a pure function of seed and row.

use crate::column::Column;
use crate::config::{CustomField, FieldType, GeneratorKind, parse_time};
use crate::patterns::uuid_bytes;
use crate::random::Draw;
use rapidbyte_sdk::ConnectorError;
use serde_json::Value;

/// Fields of one configuration. PostgreSQL has room for 1,600 columns in a table.
const MAX_FIELDS: usize = 1000;
/// Choices of one field.
const MAX_CHOICES: usize = 10_000;
/// Bytes of one text.
const MAX_TEXT: usize = 64 << 10;

/// Makes the columns of all custom fields; `taken` are the names before them.
pub(crate) fn columns(fields: &[CustomField], seed: u64, taken: &[String]) -> Result<Vec<Column>, ConnectorError> {
    if fields.len() > MAX_FIELDS {
        return Err(ConnectorError::config("custom_fields", format!("{} custom fields, more than {MAX_FIELDS}", fields.len())));
    }
    let mut columns = Vec::new();
    for (at, field) in fields.iter().enumerate() {
        check_name(field, taken, &fields[..at])?;
        let column = column(field, seed)?;
        let nulls = Draw::new(seed, &format!("custom.{}.null", field.name));
        let percent = u64::from(field.null_percent);
        columns.push(match percent {
            0 => column,
            1..=100 => column.nullable(move |row| nulls.below(row, 100) < percent),
            _ => return Err(wrong(field, format!("`null_percent` is {percent}, not within 0 and 100"))),
        });
    }
    Ok(columns)
}

fn wrong(field: &CustomField, message: impl std::fmt::Display) -> ConnectorError {
    ConnectorError::config("custom_field", format!("custom field `{}`: {message}", field.name))
}

fn check_name(field: &CustomField, taken: &[String], before: &[CustomField]) -> Result<(), ConnectorError> {
    let name = &field.name;
    if name.is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
        return Err(ConnectorError::config(
            "custom_field",
            "a custom field's name is empty, longer than 200 bytes or has control characters",
        ));
    }
    if name.starts_with("_rb_") {
        return Err(wrong(field, "names that begin with `_rb_` are reserved").with_hint("choose another name"));
    }
    if taken.contains(name) || before.iter().any(|other| other.name == *name) {
        return Err(wrong(field, "the stream has a column of this name already").with_hint("choose another name"));
    }
    Ok(())
}

/// Refuses keys that the generator would not read, and ones it can't do without.
fn check_keys(field: &CustomField) -> Result<(), ConnectorError> {
    use GeneratorKind::{Choice, Constant, Random, Range, Sequence};
    let decimal = field.kind == FieldType::Decimal;
    let random_text = field.generator == Random && field.kind == FieldType::Utf8;
    let keys = [
        ("value", field.value.is_some(), field.generator == Constant, true),
        ("values", field.values.is_some(), field.generator == Choice, true),
        ("min", field.min.is_some(), field.generator == Range, true),
        ("max", field.max.is_some(), field.generator == Range, true),
        ("start", field.start.is_some(), field.generator == Sequence, false),
        ("step", field.step.is_some(), field.generator == Sequence, false),
        ("length", field.length.is_some(), random_text, false),
        ("precision", field.precision.is_some(), decimal, false),
        ("scale", field.scale.is_some(), decimal, false),
    ];
    for (key, present, used, needed) in keys {
        if present && !used {
            return Err(
                wrong(field, format!("`{key}` has no meaning for this type and generator")).with_hint(format!("remove `{key}`"))
            );
        }
        if used && needed && !present {
            return Err(wrong(field, format!("`{key}` is missing")));
        }
    }
    Ok(())
}

/// The constant or the choices, as a list that is not empty.
fn listed<T>(field: &CustomField, read: impl Fn(&Value) -> Result<T, ConnectorError>) -> Result<Vec<T>, ConnectorError> {
    let values = match (&field.value, &field.values) {
        (Some(value), _) => std::slice::from_ref(value),
        (None, Some(values)) => values.as_slice(),
        (None, None) => &[],
    };
    if values.is_empty() || values.len() > MAX_CHOICES {
        return Err(wrong(field, format!("`values` has {} entries, not 1 to {MAX_CHOICES}", values.len())));
    }
    values.iter().map(read).collect()
}

fn pick<T: Copy>(values: &[T], draw: Draw, row: u64) -> T {
    values[draw.below(row, values.len() as u64) as usize]
}

/// A whole-numbered range: `min` and how many numbers it has, 0 for all 2^64.
fn bounds(field: &CustomField, read: impl Fn(&Value) -> Result<i64, ConnectorError>) -> Result<(i64, u64), ConnectorError> {
    let (Some(min), Some(max)) = (&field.min, &field.max) else { return Err(wrong(field, "`min` and `max` are missing")) };
    let (min, max) = (read(min)?, read(max)?);
    if min > max {
        return Err(wrong(field, "`min` is greater than `max`"));
    }
    Ok((min, (max.wrapping_sub(min) as u64).wrapping_add(1)))
}

fn within((min, count): (i64, u64), draw: Draw, row: u64) -> i64 {
    let step = if count == 0 { draw.bits(row) } else { draw.below(row, count) };
    min.wrapping_add(step as i64)
}

fn column(field: &CustomField, seed: u64) -> Result<Column, ConnectorError> {
    check_keys(field)?;
    let name = field.name.as_str();
    let draw = Draw::new(seed, &format!("custom.{name}"));
    use GeneratorKind::{Choice, Constant, Random, Range, Sequence};
    let not_made = || {
        Err(wrong(field, "this type can't be made by this generator").with_hint(match field.kind {
            FieldType::Int64 => "use `constant`, `choice`, `range` or `sequence`",
            FieldType::Float64 | FieldType::Timestamp | FieldType::Decimal => "use `constant`, `choice` or `range`",
            FieldType::Utf8 | FieldType::Bool | FieldType::Uuid => "use `constant`, `choice` or `random`",
        }))
    };
    Ok(match (field.kind, field.generator) {
        (FieldType::Int64, Constant | Choice) => {
            let values = listed(field, |value| read_int(field, value))?;
            Column::int64(name, move |row| pick(&values, draw, row))
        }
        (FieldType::Int64, Range) => {
            let range = bounds(field, |value| read_int(field, value))?;
            Column::int64(name, move |row| within(range, draw, row))
        }
        (FieldType::Int64, Sequence) => {
            let (start, step) = (field.start.unwrap_or(0), field.step.unwrap_or(1));
            Column::int64(name, move |row| start.wrapping_add(step.wrapping_mul(row as i64)))
        }
        (FieldType::Float64, Constant | Choice) => {
            let values = listed(field, |value| read_float(field, value))?;
            Column::float64(name, move |row| pick(&values, draw, row))
        }
        (FieldType::Float64, Range) => {
            let (Some(min), Some(max)) = (&field.min, &field.max) else { return Err(wrong(field, "`min` and `max` are missing")) };
            let (min, max) = (read_float(field, min)?, read_float(field, max)?);
            if min > max || !(max - min).is_finite() {
                return Err(wrong(field, "`min` is greater than `max`, or their difference is not finite"));
            }
            Column::float64(name, move |row| min + draw.unit(row) * (max - min))
        }
        (FieldType::Utf8, Constant | Choice) => {
            let values = listed(field, |value| read_text(field, value).map(str::to_owned))?;
            let longest = values.iter().map(String::len).max().unwrap_or(0);
            Column::text(name, longest, move |row, bytes| {
                bytes.extend_from_slice(values[draw.below(row, values.len() as u64) as usize].as_bytes());
            })
        }
        (FieldType::Utf8, Random) => random_text(field, seed)?,
        (FieldType::Bool, Constant | Choice) => {
            let values = listed(field, |value| value.as_bool().ok_or_else(|| wrong(field, "a value is not `true` or `false`")))?;
            Column::boolean(name, move |row| pick(&values, draw, row))
        }
        (FieldType::Bool, Random) => Column::boolean(name, move |row| draw.bits(row) >> 63 == 1),
        (FieldType::Timestamp, Constant | Choice) => {
            let values = listed(field, |value| parse_time(name, read_text(field, value)?))?;
            Column::timestamp(name, move |row| pick(&values, draw, row))
        }
        (FieldType::Timestamp, Range) => {
            let range = bounds(field, |value| parse_time(name, read_text(field, value)?))?;
            Column::timestamp(name, move |row| within(range, draw, row))
        }
        (FieldType::Decimal, Constant | Choice) => {
            let (precision, scale) = digits(field)?;
            let values = listed(field, |value| read_decimal(field, value, precision, scale))?;
            Column::decimal(name, precision, scale as i8, move |row| i128::from(pick(&values, draw, row)))
        }
        (FieldType::Decimal, Range) => {
            let (precision, scale) = digits(field)?;
            let range = bounds(field, |value| read_decimal(field, value, precision, scale))?;
            Column::decimal(name, precision, scale as i8, move |row| i128::from(within(range, draw, row)))
        }
        (FieldType::Uuid, Constant | Choice) => {
            let values = listed(field, |value| read_uuid(field, value))?;
            Column::uuid(name, move |row| pick(&values, draw, row))
        }
        (FieldType::Uuid, Random) => {
            let low = Draw::new(seed, &format!("custom.{name}.low"));
            Column::uuid(name, move |row| uuid_bytes(draw.bits(row), low.bits(row)))
        }
        (FieldType::Int64, Random)
        | (FieldType::Float64, Random | Sequence)
        | (FieldType::Utf8, Range | Sequence)
        | (FieldType::Bool, Range | Sequence)
        | (FieldType::Timestamp, Random | Sequence)
        | (FieldType::Decimal, Random | Sequence)
        | (FieldType::Uuid, Range | Sequence) => return not_made(),
    })
}

/// Small letters and digits, twelve of each draw of 64 bits.
fn random_text(field: &CustomField, seed: u64) -> Result<Column, ConnectorError> {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    const PER_DRAW: usize = 12;
    let length = field.length.unwrap_or(16) as usize;
    if !(1..=MAX_TEXT).contains(&length) {
        return Err(wrong(field, format!("`length` is {length}, not within 1 and {MAX_TEXT}")));
    }
    let draws: Vec<Draw> =
        (0..length.div_ceil(PER_DRAW)).map(|part| Draw::new(seed, &format!("custom.{}.{part}", field.name))).collect();
    Ok(Column::text(&field.name, length, move |row, bytes| {
        for (part, draw) in draws.iter().enumerate() {
            let bits = draw.bits(row);
            let letters = PER_DRAW.min(length - part * PER_DRAW);
            bytes.extend((0..letters).map(|at| LETTERS[(bits >> (at * 5)) as usize & 31]));
        }
    }))
}

fn digits(field: &CustomField) -> Result<(u8, u8), ConnectorError> {
    let (precision, scale) = (field.precision.unwrap_or(18), field.scale.unwrap_or(2));
    // 18 digits fit into 64 bits, as draws do.
    if !(1..=18).contains(&precision) || scale > precision {
        return Err(wrong(field, format!("decimal({precision}, {scale}) is not within decimal(1, 0) and decimal(18, 18)")));
    }
    Ok((precision, scale))
}

fn read_int(field: &CustomField, value: &Value) -> Result<i64, ConnectorError> {
    value.as_i64().ok_or_else(|| wrong(field, "a value is not a whole number of 64 bits"))
}

fn read_float(field: &CustomField, value: &Value) -> Result<f64, ConnectorError> {
    value.as_f64().filter(|value| value.is_finite()).ok_or_else(|| wrong(field, "a value is not a number"))
}

fn read_text<'v>(field: &CustomField, value: &'v Value) -> Result<&'v str, ConnectorError> {
    value
        .as_str()
        .filter(|text| text.len() <= MAX_TEXT)
        .ok_or_else(|| wrong(field, format!("a value is not text of at most {MAX_TEXT} bytes")))
}

/// The unscaled number of a decimal, which is written as text or as a whole number so that it is exact.
fn read_decimal(field: &CustomField, value: &Value, precision: u8, scale: u8) -> Result<i64, ConnectorError> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_i64() => number.to_string(),
        _ => {
            return Err(wrong(field, "a decimal is neither text nor a whole number")
                .with_hint("write it in quotes, as in `\"12.50\"`, so that it stays exact"));
        }
    };
    let bad = || wrong(field, format!("a value does not fit decimal({precision}, {scale})"));
    let (negative, body) = text.strip_prefix('-').map_or((false, text.as_str()), |body| (true, body));
    let (whole, fraction) = body.split_once('.').unwrap_or((body, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || fraction.len() > usize::from(scale) {
        return Err(bad());
    }
    let unscaled: i64 = format!("{whole}{fraction:0<width$}", width = usize::from(scale)).parse().map_err(|_| bad())?;
    if unscaled >= 10_i64.pow(u32::from(precision)) {
        return Err(bad());
    }
    Ok(if negative { -unscaled } else { unscaled })
}

fn read_uuid(field: &CustomField, value: &Value) -> Result<[u8; 16], ConnectorError> {
    let bad = || wrong(field, "a value is not a UUID").with_hint("write it as `00000000-0000-4000-8000-000000000000`");
    let text = value.as_str().ok_or_else(bad)?;
    let dashes: Vec<usize> = text.bytes().enumerate().filter(|(_, byte)| *byte == b'-').map(|(at, _)| at).collect();
    if text.len() != 36 || dashes != [8, 13, 18, 23] {
        return Err(bad());
    }
    let hex: String = text.chars().filter(|letter| *letter != '-').collect();
    if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(bad());
    }
    u128::from_str_radix(&hex, 16).map(u128::to_be_bytes).map_err(|_| bad())
}
