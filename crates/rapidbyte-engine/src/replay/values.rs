//! Values from the exact texts of dead letters: the inverse of the SDK's `text` module.

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, DurationMillisecondType,
    DurationNanosecondType, DurationSecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    IntervalDayTimeType, IntervalMonthDayNanoType, IntervalYearMonthType, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, LargeBinaryArray, LargeListArray, LargeStringArray, ListArray,
    NullArray, PrimitiveArray, StringArray, StructArray,
};
use arrow_buffer::{IntervalDayTime, IntervalMonthDayNano, NullBuffer, OffsetBuffer, i256};
use arrow_schema::{DataType, Field, IntervalUnit, TimeUnit};
use std::str::FromStr;
use std::sync::Arc;

/// Which text is wrong, and how.
pub(crate) type Wrong = (usize, String);

fn each<T>(texts: &[Option<&str>], of: &DataType, read: impl Fn(&str) -> Option<T>) -> Result<Vec<Option<T>>, Wrong> {
    let one = |(at, text): (usize, &Option<&str>)| match text {
        None => Ok(None),
        Some(text) => read(text).map(Some).ok_or_else(|| (at, format!("is not of its type `{of}`"))),
    };
    texts.iter().enumerate().map(one).collect()
}

fn primitive<T: ArrowPrimitiveType>(
    texts: &[Option<&str>],
    of: &DataType,
    read: impl Fn(&str) -> Option<T::Native>,
) -> Result<ArrayRef, Wrong> {
    Ok(Arc::new(PrimitiveArray::<T>::from_iter(each(texts, of, read)?).with_data_type(of.clone())))
}

fn number<T: ArrowPrimitiveType>(texts: &[Option<&str>], of: &DataType) -> Result<ArrayRef, Wrong>
where
    T::Native: FromStr,
{
    primitive::<T>(texts, of, |text| text.parse().ok())
}

/// A column from the texts of its values.
pub(crate) fn array(field: &Field, texts: &[Option<&str>]) -> Result<ArrayRef, Wrong> {
    let of = field.data_type();
    Ok(match of {
        DataType::Null => match texts.iter().position(Option::is_some) {
            Some(at) => return Err((at, "is not null, as its type is".into())),
            None => Arc::new(NullArray::new(texts.len())),
        },
        DataType::Boolean => Arc::new(BooleanArray::from(each(texts, of, |text| text.parse().ok())?)),
        DataType::Int8 => number::<Int8Type>(texts, of)?,
        DataType::Int16 => number::<Int16Type>(texts, of)?,
        DataType::Int32 => number::<Int32Type>(texts, of)?,
        DataType::Int64 => number::<Int64Type>(texts, of)?,
        DataType::UInt8 => number::<UInt8Type>(texts, of)?,
        DataType::UInt16 => number::<UInt16Type>(texts, of)?,
        DataType::UInt32 => number::<UInt32Type>(texts, of)?,
        DataType::UInt64 => number::<UInt64Type>(texts, of)?,
        DataType::Float32 => number::<Float32Type>(texts, of)?,
        DataType::Float64 => number::<Float64Type>(texts, of)?,
        DataType::Decimal128(precision, scale) => {
            primitive::<Decimal128Type>(texts, of, |text| decimal(text, *precision, *scale)?.to_i128())?
        }
        DataType::Decimal256(precision, scale) => primitive::<Decimal256Type>(texts, of, |text| decimal(text, *precision, *scale))?,
        DataType::Utf8 => Arc::new(StringArray::from(texts.to_vec())),
        DataType::LargeUtf8 => Arc::new(LargeStringArray::from(texts.to_vec())),
        DataType::Binary => Arc::new(BinaryArray::from_iter(each(texts, of, base64)?)),
        DataType::LargeBinary => Arc::new(LargeBinaryArray::from_iter(each(texts, of, base64)?)),
        DataType::FixedSizeBinary(width) => fixed(field, texts, *width)?,
        DataType::Date32 => primitive::<Date32Type>(texts, of, |text| i32::try_from(date(text)?).ok())?,
        DataType::Date64 => primitive::<Date64Type>(texts, of, |text| date(text)?.checked_mul(86_400_000))?,
        DataType::Time32(TimeUnit::Second) => primitive::<Time32SecondType>(texts, of, |t| i32::try_from(time(t, 0)?).ok())?,
        DataType::Time32(_) => primitive::<Time32MillisecondType>(texts, of, |t| i32::try_from(time(t, 3)?).ok())?,
        DataType::Time64(TimeUnit::Nanosecond) => primitive::<Time64NanosecondType>(texts, of, |t| time(t, 9))?,
        DataType::Time64(_) => primitive::<Time64MicrosecondType>(texts, of, |t| time(t, 6))?,
        DataType::Timestamp(unit, zone) => {
            let zoned = zone.is_some();
            match unit {
                TimeUnit::Second => primitive::<TimestampSecondType>(texts, of, |t| moment(t, 0, zoned))?,
                TimeUnit::Millisecond => primitive::<TimestampMillisecondType>(texts, of, |t| moment(t, 3, zoned))?,
                TimeUnit::Microsecond => primitive::<TimestampMicrosecondType>(texts, of, |t| moment(t, 6, zoned))?,
                TimeUnit::Nanosecond => primitive::<TimestampNanosecondType>(texts, of, |t| moment(t, 9, zoned))?,
            }
        }
        DataType::Duration(unit) => match unit {
            TimeUnit::Second => primitive::<DurationSecondType>(texts, of, |t| seconds(t.strip_prefix('P')?, 0))?,
            TimeUnit::Millisecond => primitive::<DurationMillisecondType>(texts, of, |t| seconds(t.strip_prefix('P')?, 3))?,
            TimeUnit::Microsecond => primitive::<DurationMicrosecondType>(texts, of, |t| seconds(t.strip_prefix('P')?, 6))?,
            TimeUnit::Nanosecond => primitive::<DurationNanosecondType>(texts, of, |t| seconds(t.strip_prefix('P')?, 9))?,
        },
        DataType::Interval(IntervalUnit::YearMonth) => {
            primitive::<IntervalYearMonthType>(texts, of, |t| t.strip_prefix('P')?.strip_suffix('M')?.parse().ok())?
        }
        DataType::Interval(IntervalUnit::DayTime) => primitive::<IntervalDayTimeType>(texts, of, |text| {
            let (days, rest) = text.strip_prefix('P')?.split_once('D')?;
            Some(IntervalDayTime::new(days.parse().ok()?, i32::try_from(seconds(rest, 3)?).ok()?))
        })?,
        DataType::Interval(IntervalUnit::MonthDayNano) => primitive::<IntervalMonthDayNanoType>(texts, of, |text| {
            let (months, rest) = text.strip_prefix('P')?.split_once('M')?;
            let (days, rest) = rest.split_once('D')?;
            Some(IntervalMonthDayNano::new(months.parse().ok()?, days.parse().ok()?, seconds(rest, 9)?))
        })?,
        DataType::List(item) => {
            let (items, lengths, nulls) = items(item, texts, of)?;
            Arc::new(ListArray::new(Arc::clone(item), OffsetBuffer::from_lengths(lengths), items, nulls))
        }
        DataType::LargeList(item) => {
            let (items, lengths, nulls) = items(item, texts, of)?;
            Arc::new(LargeListArray::new(Arc::clone(item), OffsetBuffer::from_lengths(lengths), items, nulls))
        }
        DataType::Struct(fields) => {
            let rows = each(texts, of, |text| members(text, fields.len()))?;
            let nulls = NullBuffer::from_iter(rows.iter().map(Option::is_some));
            let mut columns = Vec::with_capacity(fields.len());
            for (index, member) in fields.iter().enumerate() {
                let texts: Vec<Option<&str>> = rows.iter().map(|row| row.as_ref().and_then(|row| row[index].as_deref())).collect();
                columns.push(array(member, &texts)?);
            }
            let made = StructArray::try_new(fields.clone(), columns, Some(nulls));
            Arc::new(made.map_err(|_| (0, format!("is not of its type `{of}`")))?)
        }
        DataType::Dictionary(_, values) => {
            let values = array(&field.clone().with_data_type(values.as_ref().clone()), texts)?;
            arrow_cast::cast(&values, of).map_err(|_| (0, format!("can't be put into a `{of}`")))?
        }
        other => return Err((0, format!("has the type `{other}`, which a replay can't write"))),
    })
}

fn fixed(field: &Field, texts: &[Option<&str>], width: i32) -> Result<ArrayRef, Wrong> {
    let of = field.data_type();
    let uuid = field.metadata().get("ARROW:extension:name").is_some_and(|name| name == "arrow.uuid");
    let read = |text: &str| {
        let bytes = if uuid && width == 16 { hex(text)? } else { base64(text)? };
        (i32::try_from(bytes.len()).ok() == Some(width)).then_some(bytes)
    };
    let values = each(texts, of, read)?;
    let made = FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.into_iter(), width);
    Ok(Arc::new(made.map_err(|_| (0, format!("is not of its type `{of}`")))?))
}

type Items = (ArrayRef, Vec<usize>, Option<NullBuffer>);

fn items(item: &Field, texts: &[Option<&str>], of: &DataType) -> Result<Items, Wrong> {
    let lists = each(texts, of, elements)?;
    let nulls = NullBuffer::from_iter(lists.iter().map(Option::is_some));
    let lengths = lists.iter().map(|list| list.as_ref().map_or(0, Vec::len)).collect();
    let flat: Vec<Option<&str>> = lists.iter().flatten().flatten().map(Option::as_deref).collect();
    // An element's place among all is not its row's; the list's type is told instead.
    let items = array(item, &flat).map_err(|(_, message)| {
        let at = texts.iter().position(|text| text.is_some_and(|text| text != "[]")).unwrap_or(0);
        (at, message)
    })?;
    Ok((items, lengths, Some(nulls)))
}

/// The texts of a JSON array's elements, each as it stands; `None` = null.
fn elements(json: &str) -> Option<Vec<Option<String>>> {
    let inner = json.trim().strip_prefix('[')?.strip_suffix(']')?;
    pieces(inner)?.into_iter().map(scalar).collect()
}

/// The texts of a JSON object's values, which must be so many and in order.
fn members(json: &str, count: usize) -> Option<Vec<Option<String>>> {
    let inner = json.trim().strip_prefix('{')?.strip_suffix('}')?;
    let entries = pieces(inner)?;
    if entries.len() != count {
        return None;
    }
    let value = |entry: &str| {
        let key = string_end(entry)?;
        scalar(entry[key..].trim_start().strip_prefix(':')?)
    };
    entries.into_iter().map(value).collect()
}

/// Where the JSON string at the beginning ends.
fn string_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return text.starts_with('"').then_some(at + 1),
            _ => {}
        }
    }
    None
}

fn scalar(piece: &str) -> Option<Option<String>> {
    let piece = piece.trim();
    Some(match piece {
        "null" => None,
        "" => return None,
        piece if piece.starts_with('"') => Some(serde_json::from_str(piece).ok()?),
        piece => Some(piece.to_owned()),
    })
}

/// Splits at the commas of the outermost level.
fn pieces(inner: &str) -> Option<Vec<&str>> {
    if inner.trim().is_empty() {
        return Some(Vec::new());
    }
    let (mut found, mut from, mut depth, mut quoted, mut escaped) = (Vec::new(), 0, 0_u32, false, false);
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.checked_sub(1)?,
            b',' if depth == 0 => {
                found.push(inner[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    found.push(inner[from..].trim());
    (depth == 0 && !quoted).then_some(found)
}

/// A decimal as so many units of its scale; nothing is rounded.
fn decimal(text: &str, precision: u8, scale: i8) -> Option<i256> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || !whole.bytes().chain(part.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut units = format!("{whole}{part}");
    let wanted = i64::from(scale) - i64::try_from(part.len()).ok()?;
    if wanted >= 0 {
        units.push_str(&"0".repeat(usize::try_from(wanted).ok()?));
    } else {
        let cut = units.len().checked_sub(usize::try_from(-wanted).ok()?)?;
        if units[cut..].bytes().any(|byte| byte != b'0') {
            return None;
        }
        units.truncate(cut);
    }
    let units = units.trim_start_matches('0');
    if units.len() > usize::from(precision) {
        return None;
    }
    i256::from_string(&format!("{sign}{}", if units.is_empty() { "0" } else { units }))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().filter(|c| *c != '-').map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | *pair.get(1)?).ok()).collect()
}

fn base64(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in digits.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    (bits == 0).then_some(bytes)
}

/// Days since 1970-01-01 of `2024-02-29`, `+10000-01-01` or `-0043-03-15` (Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
pub(crate) fn date(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let mut parts = digits.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if year.len() < 4 || month.len() != 2 || day.len() != 2 {
        return None;
    }
    let number = |digits: &str| if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse::<i64>().ok() } else { None };
    let (year, month, day) = (sign * number(year)?, number(month)?, number(day)?);
    let leap = year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era.checked_mul(146_097)?.checked_add(day_of_era)?.checked_sub(719_468)
}

/// `12.500` with so many digits after the point, as so many parts.
fn parts(text: &str, digits: usize) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() != digits || whole.is_empty() || !whole.bytes().chain(part.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{whole}{part}").parse().ok()
}

/// `13:37:00.123`, up to `24:00:00`.
pub(crate) fn time(text: &str, digits: usize) -> Option<i64> {
    let mut pieces = text.splitn(3, ':');
    let (hour, minute, second) = (pieces.next()?, pieces.next()?, pieces.next()?);
    let (hour, minute): (i64, i64) = (parts(hour, 0)?, parts(minute, 0)?);
    let unit = 10_i64.pow(u32::try_from(digits).ok()?);
    let second = parts(second, digits)?;
    let total = (hour * 60 + minute) * 60 * unit + second;
    (minute < 60 && second < 60 * unit && total <= 86_400 * unit).then_some(total)
}

fn moment(text: &str, digits: usize, zoned: bool) -> Option<i64> {
    let text = if zoned { text.strip_suffix('Z')? } else { text };
    let (day, of_day) = text.split_once('T')?;
    let unit = 10_i128.pow(u32::try_from(digits).ok()?);
    let total = i128::from(date(day)?) * 86_400 * unit + i128::from(time(of_day, digits)?);
    i64::try_from(total).ok()
}

/// `T-1.500S`.
fn seconds(text: &str, digits: usize) -> Option<i64> {
    let text = text.strip_prefix('T')?.strip_suffix('S')?;
    match text.strip_prefix('-') {
        // The least number has no positive counterpart.
        Some(rest) => {
            let (whole, part) = rest.split_once('.').unwrap_or((rest, ""));
            parts_of(whole, part, digits).and_then(|parts| i64::try_from(-parts).ok())
        }
        None => parts(text, digits),
    }
}

fn parts_of(whole: &str, part: &str, digits: usize) -> Option<i128> {
    if part.len() != digits || whole.is_empty() || !whole.bytes().chain(part.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{whole}{part}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Array;
    use arrow_array::cast::AsArray;

    fn one(data_type: DataType, text: &str) -> Option<ArrayRef> {
        array(&Field::new("c", data_type, true), &[Some(text), None]).ok()
    }

    #[test]
    fn scalars_are_read_exactly() {
        let float = one(DataType::Float64, "0.1").unwrap();
        assert_eq!(float.as_primitive::<Float64Type>().value(0).to_bits(), 0.1_f64.to_bits());
        assert!(one(DataType::Float32, "-Infinity").is_some() && one(DataType::Float64, "NaN").is_some());
        assert_eq!(one(DataType::Int8, "-128").unwrap().as_primitive::<Int8Type>().value(0), -128);
        assert!(one(DataType::Int8, "128").is_none() && one(DataType::Int64, "1.0").is_none());
        let decimal = |text| one(DataType::Decimal128(5, 2), text).map(|a| a.as_primitive::<Decimal128Type>().value(0));
        assert_eq!(decimal("-1.50"), Some(-150));
        assert_eq!(decimal("0.5"), Some(50));
        assert_eq!((decimal("1.505"), decimal("1234.00"), decimal("x"), decimal("")), (None, None, None, None));
        assert_eq!(one(DataType::Decimal128(5, -2), "12300").unwrap().as_primitive::<Decimal128Type>().value(0), 123);
        assert_eq!(one(DataType::Binary, "AP8=").unwrap().as_binary::<i32>().value(0), [0, 255]);
        assert!(one(DataType::Binary, "AP8").is_none() && one(DataType::Binary, "AP9=").is_none());
        assert!(one(DataType::Null, "x").is_none());
    }

    #[test]
    fn moments_are_read_exactly() {
        let days = |text| one(DataType::Date32, text).map(|a| a.as_primitive::<Date32Type>().value(0));
        assert_eq!(days("1970-01-01"), Some(0));
        assert_eq!(days("2000-02-29"), Some(11_016));
        assert_eq!(days("+5881580-07-11"), Some(i32::MAX));
        assert_eq!(days("-0001-01-01"), Some(-719_893));
        assert_eq!((days("2023-02-29"), days("2023-13-01"), days("23-01-01")), (None, None, None));
        let micros = |text, zone: Option<&str>| {
            one(DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into)), text)
                .map(|a| a.as_primitive::<TimestampMicrosecondType>().value(0))
        };
        assert_eq!(micros("1969-12-31T23:59:59.999999", None), Some(-1));
        assert_eq!(micros("+294247-01-10T04:00:54.775807Z", Some("UTC")), Some(i64::MAX));
        assert_eq!((micros("1970-01-01T00:00:00.000000", Some("UTC")), micros("1970-01-01T00:00:00", None)), (None, None));
        let time =
            |text| one(DataType::Time64(TimeUnit::Microsecond), text).map(|a| a.as_primitive::<Time64MicrosecondType>().value(0));
        assert_eq!((time("24:00:00.000000"), time("24:00:00.000001")), (Some(86_400_000_000), None));
        let nanos = |text| {
            one(DataType::Interval(IntervalUnit::MonthDayNano), text).map(|a| a.as_primitive::<IntervalMonthDayNanoType>().value(0))
        };
        assert_eq!(nanos("P-1M2DT-0.000000001S"), Some(IntervalMonthDayNano::new(-1, 2, -1)));
        assert_eq!(nanos("P0M0DT-9223372036.854775808S"), Some(IntervalMonthDayNano::new(0, 0, i64::MIN)));
    }

    #[test]
    fn nested_values_are_read_exactly() {
        let list = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
        let made = one(list.clone(), r#"["a,]\"é", null, ""]"#).unwrap();
        let items = made.as_list::<i32>().value(0);
        let items = items.as_string::<i32>();
        assert_eq!((items.value(0), items.is_null(1), items.value(2), made.is_null(1)), ("a,]\"é", true, "", true));
        assert_eq!(one(list.clone(), "[]").unwrap().as_list::<i32>().value_length(0), 0);
        assert!(one(list, "[1").is_none());
        let fields = vec![Field::new("value", DataType::Int32, true), Field::new("send", DataType::Binary, true)];
        let made = one(DataType::Struct(fields.into()), r#"{"value":null,"send":"AQ=="}"#).unwrap();
        let made = made.as_struct();
        assert!(made.column(0).is_null(0) && made.is_null(1));
        assert_eq!(made.column(1).as_binary::<i32>().value(0), [1]);
    }
}
