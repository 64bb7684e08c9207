//! Operands, read as the column's own type. One that does not fit is refused: a cast could let rows through that were meant
//! to stay behind.

use arrow_schema::TimeUnit;
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use serde_json::Value;

/// Digits of a decimal number that survive the way through a 64-bit float, as YAML numbers take it.
const FLOAT_DIGITS: usize = 15;

/// A whole number within bounds.
pub(crate) fn integer(value: &Value, min: i128, max: i128) -> Result<i128, String> {
    let number = match value {
        Value::Number(number) => number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)),
        _ => None,
    };
    number.filter(|number| (min..=max).contains(number)).ok_or_else(|| format!("a whole number from {min} to {max} is needed"))
}

/// The unscaled number of a decimal. Text is exact; a number as YAML reads it is taken where it must have been exact too.
pub(crate) fn decimal(value: &Value, precision: u8, scale: i8) -> Result<i128, String> {
    let kind = format!("decimal({precision}, {scale})");
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        Value::Number(number) => {
            let text = number.to_string();
            if text.contains(['e', 'E']) || text.bytes().filter(u8::is_ascii_digit).count() > FLOAT_DIGITS {
                return Err(format!("a number of so many digits is not exact, {kind} is needed; write it in quotes"));
            }
            text
        }
        _ => return Err(format!("{kind} is needed")),
    };
    parse_decimal(&text, precision, scale).ok_or_else(|| format!("{kind} is needed"))
}

fn parse_decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (negative, body) = text.strip_prefix('-').map_or((false, text), |body| (true, body));
    let (whole, fraction) = body.split_once('.').unwrap_or((body, "0"));
    if whole.is_empty() || fraction.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Zeros at the end say nothing about the value.
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let shift = i32::from(scale) - i32::try_from(fraction.len()).ok()?;
    let (digits, shift) = if shift < 0 {
        // A negative scale keeps no low digits; what is cut has to be zeros.
        let cut = usize::try_from(-shift).ok()?;
        if !fraction.is_empty() || digits.len() < cut && !digits.is_empty() {
            return None;
        }
        let kept = digits.len().saturating_sub(cut);
        if digits[kept..].bytes().any(|byte| byte != b'0') {
            return None;
        }
        (&digits[..kept], 0)
    } else {
        (digits, shift)
    };
    if digits.is_empty() {
        return Some(0);
    }
    if digits.len() + usize::try_from(shift).ok()? > usize::from(precision) {
        return None;
    }
    let unscaled = digits.parse::<i128>().ok()?.checked_mul(10_i128.checked_pow(shift.try_into().ok()?)?)?;
    Some(if negative { -unscaled } else { unscaled })
}

/// A float of 64 bits.
pub(crate) fn float64(value: &Value) -> Result<f64, String> {
    // A whole number above 2^53 may not have a float of its own.
    let exact = |number: &serde_json::Number| number.as_i64().is_none_or(|whole| whole.unsigned_abs() <= 1 << 53);
    match value {
        Value::Number(number) if exact(number) => number.as_f64().filter(|float| float.is_finite()),
        _ => None,
    }
    .ok_or_else(|| "a number is needed".to_owned())
}

/// A float of 32 bits: the one nearest to what was written, as literals are in most languages.
pub(crate) fn float32(value: &Value) -> Result<f32, String> {
    float64(value)?;
    let text = value.to_string();
    text.parse::<f32>().ok().filter(|float| float.is_finite()).ok_or_else(|| "a number of 32 bits is needed".to_owned())
}

/// `true` or `false`.
pub(crate) fn boolean(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "`true` or `false` is needed".to_owned())
}

/// Text.
pub(crate) fn text(value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| "text is needed; write it in quotes".to_owned())
}

/// Days since 1970.
pub(crate) fn date(value: &Value) -> Result<i64, String> {
    value
        .as_str()
        .and_then(|text| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok())
        .map(|date| date.signed_duration_since(NaiveDate::default()).num_days())
        .ok_or_else(|| "a date is needed, as in `2024-02-29`".to_owned())
}

/// Units since 1970 at UTC, of a time with an offset where the column has a time zone, and of one without where it has none.
pub(crate) fn timestamp(value: &Value, unit: TimeUnit, zoned: bool) -> Result<i64, String> {
    let example = if zoned { "2024-02-29T12:30:00Z" } else { "2024-02-29T12:30:00" };
    let needed = || format!("a timestamp is needed, as in `{example}`");
    let text = value.as_str().ok_or_else(needed)?;
    let time = if zoned {
        DateTime::parse_from_rfc3339(text).map_err(|_| needed())?.naive_utc()
    } else {
        ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
            .iter()
            .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
            .ok_or_else(needed)?
    };
    let time = time.and_utc();
    // Seconds and nanoseconds rather than nanoseconds alone, which end in the year 2262.
    in_units(time.timestamp(), time.timestamp_subsec_nanos(), unit)
}

/// Units since midnight.
pub(crate) fn time_of_day(value: &Value, unit: TimeUnit) -> Result<i64, String> {
    let time = value
        .as_str()
        .and_then(|text| NaiveTime::parse_from_str(text, "%H:%M:%S%.f").ok())
        .ok_or_else(|| "a time is needed, as in `12:30:00`".to_owned())?;
    in_units(time.num_seconds_from_midnight().into(), time.nanosecond(), unit)
}

fn in_units(seconds: i64, nanoseconds: u32, unit: TimeUnit) -> Result<i64, String> {
    let per_second: u32 = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let nanoseconds_each = 1_000_000_000 / per_second;
    // A leap second is written as 1,000,000,000 nanoseconds or more.
    if nanoseconds >= 1_000_000_000 || !nanoseconds.is_multiple_of(nanoseconds_each) {
        return Err(format!("the column counts {per_second} parts of a second, and the value has a finer one"));
    }
    seconds
        .checked_mul(per_second.into())
        .and_then(|units| units.checked_add((nanoseconds / nanoseconds_each).into()))
        .ok_or_else(|| "the time lies beyond what the column can hold".to_owned())
}

/// Sixteen bytes.
pub(crate) fn uuid(value: &Value) -> Result<[u8; 16], String> {
    let needed = || "a UUID is needed, as in `00000000-0000-4000-8000-000000000000`".to_owned();
    let text = value.as_str().ok_or_else(needed)?;
    let dashes_right =
        text.len() == 36 && text.bytes().enumerate().all(|(at, byte)| (byte == b'-') == matches!(at, 8 | 13 | 18 | 23));
    let hex: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    if !dashes_right || hex.len() != 32 {
        return Err(needed());
    }
    u128::from_str_radix(&hex, 16).map(u128::to_be_bytes).map_err(|_| needed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn decimals_are_exact_or_refused() {
        for (value, precision, scale, expected) in [
            (json!("12.50"), 12, 2, Some(1250)),
            (json!(12.5), 12, 2, Some(1250)),
            (json!(12), 12, 2, Some(1200)),
            (json!("-0.05"), 12, 2, Some(-5)),
            (json!("12.500"), 12, 2, Some(1250)),
            (json!("12.505"), 12, 2, None),
            (json!("0012"), 2, 0, Some(12)),
            (json!("100"), 2, 0, None),
            (json!("0.00"), 2, 2, Some(0)),
            (json!("1"), 2, 2, None),
            (json!("1200"), 4, -2, Some(12)),
            (json!("1250"), 4, -2, None),
            (json!("50"), 4, -2, None),
            (json!("99999999999999999999999999999999999999"), 38, 0, Some(10_i128.pow(38) - 1)),
            (json!("999999999999999999999999999999999999999"), 38, 0, None),
            (json!(0.1234567890123456), 38, 20, None),
            (json!(1e20), 38, 0, None),
            (json!(true), 12, 2, None),
            (json!("1e3"), 12, 2, None),
            (json!(""), 12, 2, None),
            (json!("."), 12, 2, None),
            (json!("+1"), 12, 2, None),
            (json!("1."), 12, 2, None),
        ] {
            assert_eq!(decimal(&value, precision, scale).ok(), expected, "{value} as decimal({precision}, {scale})");
        }
    }

    #[test]
    fn times_need_their_zone_and_their_unit() {
        let micros = TimeUnit::Microsecond;
        assert_eq!(timestamp(&json!("2024-01-01T01:00:00.000001+01:00"), micros, true), Ok(1_704_067_200_000_001));
        assert!(timestamp(&json!("2024-01-01T01:00:00"), micros, true).is_err());
        assert_eq!(timestamp(&json!("2024-01-01 00:00:00"), micros, false), Ok(1_704_067_200_000_000));
        assert!(timestamp(&json!("2024-01-01T00:00:00Z"), micros, false).is_err());
        assert!(timestamp(&json!("2024-01-01T00:00:00.5Z"), TimeUnit::Second, true).is_err());
        assert!(timestamp(&json!("9999-01-01T00:00:00Z"), TimeUnit::Nanosecond, true).is_err());
        assert_eq!(timestamp(&json!("1969-12-31T23:59:59.5Z"), TimeUnit::Millisecond, true), Ok(-500));
        assert_eq!(date(&json!("2000-02-29")), Ok(11_016));
        assert!(date(&json!("2001-02-29")).is_err());
        assert_eq!(time_of_day(&json!("00:00:01.5"), TimeUnit::Millisecond), Ok(1500));
    }

    #[test]
    fn numbers_and_uuids_fit_or_are_refused() {
        assert_eq!(integer(&json!(127), i8::MIN.into(), i8::MAX.into()), Ok(127));
        assert!(integer(&json!(128), i8::MIN.into(), i8::MAX.into()).is_err());
        assert!(integer(&json!(1.0), 0, 9).is_err());
        assert!(integer(&json!("1"), 0, 9).is_err());
        assert_eq!(integer(&json!(u64::MAX), 0, u64::MAX.into()), Ok(u64::MAX.into()));
        assert_eq!(float32(&json!(0.1)), Ok(0.1_f32));
        assert!(float32(&json!(1e300)).is_err());
        assert!(float64(&json!((1_i64 << 53) + 1)).is_err());
        assert!(uuid(&json!("00000000-0000-4000-8000-00000000000a")).is_ok());
        for bad in [
            "",
            "00000000-0000-4000-8000-00000000000",
            "000000000-000-4000-8000-00000000000a",
            "é0000000-0000-4000-8000-0000000000a",
        ] {
            assert!(uuid(&json!(bad)).is_err(), "{bad}");
        }
    }
}
