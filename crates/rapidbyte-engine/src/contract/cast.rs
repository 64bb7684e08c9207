//! Exact casts: a value becomes one of another type only where it can be told again.
//!
//! Values go by their exact text, so that there is one rule for each pair of types and none that rounds.

use super::kinds::plain;
use super::moment;
use super::number::{Number, units};
use super::rule::whole_numbers;
use crate::replay::values;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::i256;
use arrow_schema::{DataType, Field, TimeUnit};
use rapidbyte_types::ConnectorError;
use rapidbyte_types::arrow::text::{ColumnText, TextKind};
use rapidbyte_types::arrow::{split, text};

/// From one type to another.
#[derive(Debug, Clone)]
pub(super) struct Cast {
    from: Field,
    to: Field,
    way: Way,
}

/// What the text of a value is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Every value fits; no text is needed.
    Widen,
    /// A number of the source; `strict` if it comes from text, where `1.0` and `007` are not `1` and `7`.
    Number { strict: bool },
    /// 0 and 1.
    Bit,
    /// `true` and `false`.
    Word,
    /// A day from a moment at midnight.
    Midnight,
    /// A moment, day or time in text.
    Moment,
    /// A UUID in text.
    Uuid,
    /// Its exact text.
    Text,
}

/// Values of the new type, and which rows had none.
pub(super) struct Casted {
    pub(super) array: ArrayRef,
    pub(super) misfits: Vec<bool>,
}

fn is_integer(data_type: &DataType) -> bool {
    data_type.is_integer()
}

fn is_decimal(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..))
}

fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64)
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8)
}

fn widens(from: &DataType, to: &DataType) -> bool {
    use DataType::{Float32, Float64, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64};
    matches!(
        (from, to),
        (Int8, Int16 | Int32 | Int64)
            | (Int16, Int32 | Int64)
            | (Int32, Int64)
            | (UInt8, UInt16 | UInt32 | UInt64 | Int16 | Int32 | Int64)
            | (UInt16, UInt32 | UInt64 | Int32 | Int64)
            | (UInt32, UInt64 | Int64)
            | (Float32, Float64)
    )
}

fn way(from: &Field, to: &DataType) -> Option<Way> {
    let from_type = plain(from.data_type());
    let (text, number) = (is_text(from_type), is_integer(from_type) || is_decimal(from_type) || is_float(from_type));
    Some(match to {
        to if widens(from_type, to) => Way::Widen,
        to if is_integer(to) || is_decimal(to) || is_float(to) => match (number, text) {
            (true, _) => Way::Number { strict: false },
            (_, true) => Way::Number { strict: true },
            _ => return None,
        },
        DataType::Boolean if is_integer(from_type) => Way::Bit,
        DataType::Boolean if text => Way::Word,
        DataType::Date32 if matches!(from_type, DataType::Timestamp(_, None)) => Way::Midnight,
        DataType::Date32 if text => Way::Moment,
        DataType::Time32(_) | DataType::Time64(_) if text || matches!(from_type, DataType::Time32(_) | DataType::Time64(_)) => {
            Way::Moment
        }
        DataType::Timestamp(_, None)
            if text || matches!(from_type, DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64) =>
        {
            Way::Moment
        }
        DataType::Timestamp(_, Some(_)) if text || matches!(from_type, DataType::Timestamp(_, Some(_))) => Way::Moment,
        DataType::FixedSizeBinary(16) if text => Way::Uuid,
        DataType::Utf8 => match from_type {
            DataType::Boolean
            | DataType::Date32
            | DataType::Date64
            | DataType::Time32(_)
            | DataType::Time64(_)
            | DataType::Timestamp(..) => Way::Text,
            DataType::FixedSizeBinary(_) if super::kinds::is_uuid(from) => Way::Text,
            _ if number => Way::Text,
            _ => return None,
        },
        _ => return None,
    })
}

impl Cast {
    /// The cast between two columns that are not split, if there is an exact one.
    pub(super) fn new(from: &Field, to: Field) -> Option<Self> {
        let way = way(from, to.data_type())?;
        Some(Self { from: from.clone(), to, way })
    }

    /// Casts a column, also one that is split or a dictionary. A row without a fitting value is NULL and a misfit.
    ///
    /// # Errors
    /// When the array is not of the type that the cast is for.
    pub(super) fn apply(&self, array: &ArrayRef) -> Result<Casted, ConnectorError> {
        if let Some(parts) = split::parts(array.as_ref()) {
            let mut casted = self.apply(parts.value)?;
            let nulls = array.logical_nulls();
            for row in 0..array.len() {
                // What has no place in the type as it was has none in another.
                casted.misfits[row] |= parts.value.is_null(row) && !nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
            }
            return Ok(casted);
        }
        if let DataType::Dictionary(..) = array.data_type() {
            let dictionary = array.as_any_dictionary();
            let of_values = self.apply(dictionary.values())?;
            let taken = arrow_select::take::take(&of_values.array, dictionary.keys(), None).map_err(|_| broken())?;
            let keys = if of_values.misfits.is_empty() { vec![0; array.len()] } else { dictionary.normalized_keys() };
            let nulls = array.logical_nulls();
            let misfit = |(row, key): (usize, usize)| {
                !nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) && of_values.misfits.get(key).copied().unwrap_or(false)
            };
            return Ok(Casted { array: taken, misfits: keys.into_iter().enumerate().map(misfit).collect() });
        }
        if self.way == Way::Widen {
            let array = arrow_cast::cast(array, self.to.data_type()).map_err(|_| broken())?;
            return Ok(Casted { misfits: vec![false; array.len()], array });
        }
        self.by_text(array)
    }

    fn by_text(&self, array: &ArrayRef) -> Result<Casted, ConnectorError> {
        let plain = self.from.clone().with_data_type(array.data_type().clone());
        let exact = ColumnText::new(&plain, array)?;
        let endless = self.endless(array)?;
        let (mut texts, mut misfits) = (Vec::with_capacity(array.len()), vec![false; array.len()]);
        let mut text = String::new();
        for (row, misfit) in misfits.iter_mut().enumerate() {
            text.clear();
            let fitting = match exact.write(row, &mut text) {
                TextKind::Null => None,
                TextKind::Bare | TextKind::Quoted => {
                    let fitting = if endless.get(row) == Some(&true) { None } else { self.fitting(&text) };
                    *misfit = fitting.is_none();
                    fitting
                }
            };
            texts.push(fitting);
        }
        let texts: Vec<Option<&str>> = texts.iter().map(Option::as_deref).collect();
        let array = values::array(&self.to, &texts).map_err(|_| broken())?;
        Ok(Casted { array, misfits })
    }

    /// Rows that stand for infinity, whose text would be that of a day.
    fn endless(&self, array: &ArrayRef) -> Result<Vec<bool>, ConnectorError> {
        let (least, greatest) = match array.data_type() {
            DataType::Date32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
            DataType::Timestamp(..) => (i64::MIN, i64::MAX),
            _ => return Ok(Vec::new()),
        };
        let number = whole_numbers(array)?;
        let (least, greatest) = (i256::from(least), i256::from(greatest));
        Ok((0..array.len()).map(|row| number(row) == least || number(row) == greatest).collect())
    }

    /// The text of the value in the new type, in the form that it has there.
    fn fitting(&self, value: &str) -> Option<String> {
        match self.way {
            Way::Widen => None,
            Way::Text => Some(value.to_owned()),
            Way::Bit => match value {
                "0" => Some("false".to_owned()),
                "1" => Some("true".to_owned()),
                _ => None,
            },
            Way::Word => matches!(value, "true" | "false").then(|| value.to_owned()),
            Way::Midnight => {
                let (day, time) = value.split_once('T')?;
                time.bytes().all(|byte| matches!(byte, b'0' | b':' | b'.')).then(|| day.to_owned())
            }
            Way::Moment => self.moment(value),
            Way::Uuid => is_uuid_text(value).then(|| value.to_owned()),
            Way::Number { strict } => number(value, self.to.data_type(), strict),
        }
    }

    fn moment(&self, value: &str) -> Option<String> {
        let mut out = String::new();
        match self.to.data_type() {
            DataType::Date32 => {
                let day = i32::try_from(moment::day(value)?).ok()?;
                text::push_date(day.into(), &mut out);
                // The last ones on both sides stand for infinity.
                (day != i32::MAX && day != i32::MIN).then_some(out)
            }
            DataType::Time32(unit) | DataType::Time64(unit) => {
                let digits = digits(*unit);
                let value = moment::of_day(value, digits)?;
                text::push_time_of_day(value, *unit, &mut out);
                Some(out)
            }
            DataType::Timestamp(unit, zone) => {
                let value = moment::moment(value, digits(*unit), zone.is_some())?;
                text::push_instant(value, *unit, zone.is_some(), &mut out);
                (value != i64::MAX && value != i64::MIN).then_some(out)
            }
            _ => None,
        }
    }
}

fn digits(unit: TimeUnit) -> usize {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

fn broken() -> ConnectorError {
    ConnectorError::internal("contract_cast", "values that fit a type could not be made into it")
}

fn is_uuid_text(text: &str) -> bool {
    let shaped = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    text.len() == 36 && text.bytes().enumerate().all(shaped)
}

/// Whether a text is a number as it would be written: no zeros in front, no sign of zero.
fn is_canonical(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let whole = digits.split('.').next().unwrap_or(digits);
    (whole == "0" || !whole.starts_with('0')) && !(text.starts_with('-') && digits.bytes().all(|byte| matches!(byte, b'0' | b'.')))
}

fn number(text: &str, to: &DataType, strict: bool) -> Option<String> {
    let special = matches!(text, "NaN" | "Infinity" | "-Infinity");
    if is_float(to) {
        if special {
            return Some(text.to_owned());
        }
        // Doubles show large and small ones with an exponent.
        let value: f64 = if *to == DataType::Float32 { text.parse::<f32>().ok()?.into() } else { text.parse().ok()? };
        let shown = if *to == DataType::Float32 { format!("{}", text.parse::<f32>().ok()?) } else { format!("{value}") };
        let plain = plain_digits(text, strict)?;
        let same = value.is_finite() && Number::parse(&shown)? == Number::parse(&plain)? && (!strict || is_canonical(&plain));
        return same.then(|| shown.clone());
    }
    if special {
        return None;
    }
    let plain = plain_digits(text, strict)?;
    if !is_canonical(&plain) {
        return None;
    }
    let (scale, least, most) = match to {
        DataType::Int8 => (0, i128::from(i8::MIN), i128::from(i8::MAX)),
        DataType::Int16 => (0, i128::from(i16::MIN), i128::from(i16::MAX)),
        DataType::Int32 => (0, i128::from(i32::MIN), i128::from(i32::MAX)),
        DataType::Int64 => (0, i128::from(i64::MIN), i128::from(i64::MAX)),
        DataType::UInt8 => (0, 0, i128::from(u8::MAX)),
        DataType::UInt16 => (0, 0, i128::from(u16::MAX)),
        DataType::UInt32 => (0, 0, i128::from(u32::MAX)),
        DataType::UInt64 => (0, 0, i128::from(u64::MAX)),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            let (below, above) = units(&plain, *scale)?;
            let digits = below.to_string();
            let few = digits.trim_start_matches('-').len() <= usize::from(*precision);
            let fraction = plain.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            let strictly = !strict || fraction <= usize::try_from(*scale).unwrap_or(0);
            return (below == above && few && strictly).then_some(plain);
        }
        _ => return None,
    };
    let (below, above) = units(&plain, scale)?;
    if below != above || (strict && plain.contains('.')) {
        return None;
    }
    let value = below.to_i128()?;
    (least..=most).contains(&value).then(|| value.to_string())
}

/// A number without an exponent; what floats are written as may have one.
fn plain_digits(text: &str, strict: bool) -> Option<String> {
    if strict || Number::parse(text).is_some() {
        return Number::parse(text).map(|_| text.to_owned());
    }
    // The shortest digits of a double stay the same without the exponent.
    text.contains('e').then(|| text.parse::<f64>().ok().filter(|value| value.is_finite()).map(|value| format!("{value}")))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{
        BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int32Array, Int64Array,
        StringArray, TimestampMicrosecondArray, TimestampNanosecondArray, types::Int32Type,
    };
    use std::sync::Arc;

    /// The exact texts of the cast values, `-` for NULLs, `!` for misfits.
    fn cast(array: ArrayRef, to: &str) -> Option<Vec<String>> {
        let from = Field::new("c", array.data_type().clone(), true);
        let to = super::super::kinds::target(&to.parse().unwrap(), &from)?;
        let cast = Cast::new(&from, to.clone())?;
        let Casted { array, misfits } = cast.apply(&array).unwrap();
        assert_eq!(array.data_type(), to.data_type());
        let texts = ColumnText::new(&to, &array).unwrap();
        let shown = |(row, misfit): (usize, &bool)| {
            let mut text = String::new();
            match texts.write(row, &mut text) {
                TextKind::Null if *misfit => "!".to_owned(),
                TextKind::Null => "-".to_owned(),
                TextKind::Bare | TextKind::Quoted => text,
            }
        };
        Some(misfits.iter().enumerate().map(shown).collect())
    }

    fn texts(of: &[&str]) -> ArrayRef {
        Arc::new(of.iter().map(|text| (*text != "-").then_some(*text)).collect::<StringArray>())
    }

    #[test]
    fn text_becomes_what_it_would_be_written_as() {
        let cases = [
            (
                "int32",
                vec!["42", "-7", "007", "1.0", " 1", "2147483648", "+1", "-0", "x", "-"],
                vec!["42", "-7", "!", "!", "!", "!", "!", "!", "!", "-"],
            ),
            (
                "decimal(5,2)",
                vec!["1", "1.5", "1.50", "1.500", "999.99", "1000", "1e2"],
                vec!["1.00", "1.50", "1.50", "!", "999.99", "!", "!"],
            ),
            ("float64", vec!["0.1", "0.1000000000000000055", "1", "NaN", "-Infinity"], vec!["0.1", "!", "1.0", "NaN", "-Infinity"]),
            ("boolean", vec!["true", "false", "t", "1"], vec!["true", "false", "!", "!"]),
            ("date", vec!["2024-02-29", "2023-02-29", "2024-02-29T00:00:00", "infinity"], vec!["2024-02-29", "!", "!", "!"]),
            ("time", vec!["12:00:00", "12:00", "24:00:01"], vec!["12:00:00.000000", "12:00:00.000000", "!"]),
            (
                "timestamp",
                vec!["2024-01-01 12:00:00", "2024-01-01", "2024-01-01T12:00:00Z", "2024-01-01 12:00:00.1234567"],
                vec!["2024-01-01T12:00:00.000000", "2024-01-01T00:00:00.000000", "!", "!"],
            ),
            ("timestamptz(s)", vec!["2024-01-01 12:00:00+02", "2024-01-01 12:00:00"], vec!["2024-01-01T10:00:00Z", "!"]),
            (
                "uuid",
                vec!["00112233-4455-6677-8899-aabbccddeeff", "00112233-4455-6677-8899-AABBCCDDEEFF", "0011"],
                vec!["00112233-4455-6677-8899-aabbccddeeff", "!", "!"],
            ),
        ];
        for (to, from, expected) in cases {
            assert_eq!(cast(texts(&from), to).unwrap(), expected, "{to}");
        }
    }

    #[test]
    fn numbers_keep_every_digit_or_do_not_fit() {
        let decimals = || {
            Arc::new(Decimal128Array::from(vec![Some(100), Some(150), None, Some(99_999)]).with_precision_and_scale(5, 2).unwrap())
        };
        assert_eq!(cast(decimals(), "int64").unwrap(), ["1", "!", "-", "!"]);
        assert_eq!(cast(decimals(), "decimal(6,3)").unwrap(), ["1.000", "1.500", "-", "999.990"]);
        assert_eq!(cast(decimals(), "decimal(4,1)").unwrap(), ["1.0", "1.5", "-", "!"]);
        assert_eq!(cast(decimals(), "utf8").unwrap(), ["1.00", "1.50", "-", "999.99"]);
        let longs = || Arc::new(Int64Array::from(vec![1, 0, i64::MAX, -1]));
        assert_eq!(cast(longs(), "int8").unwrap(), ["1", "0", "!", "-1"]);
        assert_eq!(cast(longs(), "uint64").unwrap(), ["1", "0", "9223372036854775807", "!"]);
        assert_eq!(cast(longs(), "float64").unwrap(), ["1.0", "0.0", "!", "-1.0"]);
        assert_eq!(cast(longs(), "boolean").unwrap(), ["true", "false", "!", "!"]);
        assert_eq!(cast(Arc::new(Int32Array::from(vec![i32::MIN])), "int64").unwrap(), ["-2147483648"]);
        let doubles = || Arc::new(Float64Array::from(vec![0.5, 0.1, 1e20, f64::NAN, -0.0, 1e-7]));
        assert_eq!(
            cast(doubles(), "decimal(30,7)").unwrap(),
            ["0.5000000", "0.1000000", "100000000000000000000.0000000", "!", "!", "0.0000001"]
        );
        assert_eq!(cast(doubles(), "float32").unwrap(), ["0.5", "0.1", "1e20", "NaN", "-0.0", "1e-7"]);
        assert_eq!(cast(Arc::new(Float64Array::from(vec![0.1 + 0.2, 1e300])), "float32").unwrap(), ["!", "!"]);
        assert_eq!(cast(Arc::new(Float32Array::from(vec![1.5])), "int32").unwrap(), ["!"]);
        assert_eq!(cast(Arc::new(BooleanArray::from(vec![true])), "utf8").unwrap(), ["true"]);
    }

    #[test]
    fn moments_keep_every_digit_or_do_not_fit() {
        let micros = || TimestampMicrosecondArray::from(vec![0, 1, i64::MAX]);
        assert_eq!(cast(Arc::new(micros()), "date").unwrap(), ["1970-01-01", "!", "!"]);
        assert_eq!(cast(Arc::new(micros()), "timestamp(ms)").unwrap(), ["1970-01-01T00:00:00.000", "!", "!"]);
        assert_eq!(cast(Arc::new(micros()), "utf8").unwrap(), ["1970-01-01T00:00:00.000000", "1970-01-01T00:00:00.000001", "!"]);
        let nanos = TimestampNanosecondArray::from(vec![1000, 1001]).with_timezone("UTC");
        assert_eq!(cast(Arc::new(nanos), "timestamptz").unwrap(), ["1970-01-01T00:00:00.000001Z", "!"]);
        assert_eq!(cast(Arc::new(Date32Array::from(vec![1, i32::MAX])), "timestamp(s)").unwrap(), ["1970-01-02T00:00:00", "!"]);
        // Which time zone?
        assert_eq!(cast(Arc::new(micros()), "timestamptz"), None);
        assert_eq!(cast(Arc::new(micros().with_timezone("UTC")), "timestamp"), None);
    }

    #[test]
    fn what_has_no_exact_way_has_no_cast() {
        let bytes: ArrayRef = Arc::new(arrow_array::BinaryArray::from(vec![&b"x"[..]]));
        for to in ["utf8", "int64", "binary(1)", "list(int8)", "interval"] {
            assert_eq!(cast(Arc::clone(&bytes), to), None, "{to}");
        }
        assert_eq!(cast(Arc::new(BooleanArray::from(vec![true])), "int8"), None);
    }

    #[test]
    fn dictionaries_and_split_columns_are_cast_by_their_values() {
        let words: DictionaryArray<Int32Type> = vec![Some("1"), None, Some("x"), Some("1")].into_iter().collect();
        assert_eq!(cast(Arc::new(words), "int64").unwrap(), ["1", "-", "!", "1"]);
        let field = split::split(&Field::new("c", DataType::Int32, true));
        let DataType::Struct(members) = field.data_type() else { panic!() };
        let parts: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![Some(7), None, None])),
            Arc::new(arrow_array::BinaryArray::from(vec![None, Some(&b"\x01"[..]), None])),
            Arc::new(StringArray::from(vec![None, Some("NaN"), None])),
        ];
        let valid = arrow_buffer::NullBuffer::from(vec![true, true, false]);
        let array: ArrayRef = Arc::new(arrow_array::StructArray::new(members.clone(), parts, Some(valid)));
        let to = Field::new("c", DataType::Int64, true);
        let casted = Cast::new(&Field::new("c", DataType::Int32, true), to).unwrap().apply(&array).unwrap();
        assert_eq!(casted.misfits, [false, true, false]);
    }
}
