//! Rules about single values, prepared for one type of column.

use super::kinds::{is_uuid, plain};
use super::moment;
use super::number::{Number, units};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_buffer::i256;
use arrow_schema::{DataType, Field, TimeUnit};
use rapidbyte_config::contract::{Literal, Range, compile_regex};
use rapidbyte_types::ConnectorError;
use rapidbyte_types::arrow::text::ColumnText;
use regex::Regex;
use std::collections::HashSet;

/// The rules of a contract, by the names of their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    Type,
    Nullable,
    NotNull,
    Range,
    Regex,
    OneOf,
}

impl Rule {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Nullable => "nullable",
            Self::NotNull => "not_null",
            Self::Range => "range",
            Self::Regex => "regex",
            Self::OneOf => "one_of",
        }
    }
}

/// What values of a column are compared as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Whole numbers of units: integers, decimals.
    Units { scale: i8 },
    /// Days since 1970, so many units each.
    Days { per_day: i64 },
    /// Parts of a second of a day.
    OfDay { digits: usize },
    /// Parts of a second since 1970.
    Moments { digits: usize, zoned: bool },
    /// Single or double floats.
    Floats { single: bool },
    /// Numbers in text.
    Numbers,
    /// Text by its code points.
    Texts,
    /// Equal or not, by their exact text.
    Exact,
}

fn digits(unit: TimeUnit) -> usize {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// How PostgreSQL's own type of a text column is ordered; text of other sources is text.
fn order_of_text(field: &Field) -> Order {
    let marked = |key: &str| field.metadata().get(key).map(String::as_str);
    let Some(own) = marked("rapidbyte.pg.base_type").or_else(|| marked("rapidbyte.pg.type")) else { return Order::Texts };
    let name = own.split('(').next().unwrap_or(own).trim_end();
    match name {
        _ if own.ends_with(']') => Order::Exact,
        "numeric" => Order::Numbers,
        "text" | "character varying" | "character" | "name" => Order::Texts,
        _ => Order::Exact,
    }
}

fn order(field: &Field) -> Option<Order> {
    Some(match plain(field.data_type()) {
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64 => Order::Units { scale: 0 },
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => Order::Units { scale: *scale },
        DataType::Date32 => Order::Days { per_day: 1 },
        DataType::Date64 => Order::Days { per_day: 86_400_000 },
        DataType::Time32(unit) | DataType::Time64(unit) => Order::OfDay { digits: digits(*unit) },
        DataType::Timestamp(unit, zone) => Order::Moments { digits: digits(*unit), zoned: zone.is_some() },
        DataType::Float32 => Order::Floats { single: true },
        DataType::Float64 => Order::Floats { single: false },
        DataType::Utf8 | DataType::LargeUtf8 => order_of_text(field),
        DataType::Boolean | DataType::Interval(_) | DataType::Duration(_) => Order::Exact,
        DataType::FixedSizeBinary(_) if is_uuid(field) => Order::Exact,
        _ => return None,
    })
}

/// What a value must be, ready to be asked.
pub(super) enum Test {
    Between(i256, i256),
    Among(HashSet<i256>),
    FloatBetween(f64, f64),
    FloatAmong(Vec<f64>),
    NumberBetween(Option<Number>, Option<Number>),
    NumberAmong(HashSet<Number>),
    TextBetween(Option<String>, Option<String>),
    TextAmong(HashSet<String>),
    /// By the exact text of the value.
    ExactAmong(HashSet<String>, Box<Field>),
    Matches(Box<Regex>),
}

fn unusable(field: &Field, message: impl std::fmt::Display, hint: &str) -> ConnectorError {
    ConnectorError::config("contract_unusable", format!("column `{}` of the contract: {message}", field.name())).with_hint(hint)
}

fn no_value(field: &Field, key: &str) -> ConnectorError {
    let forms = match order(field) {
        Some(Order::Days { .. }) => "write days as `2024-01-31`",
        Some(Order::OfDay { .. }) => "write times as `13:37:00`, without finer digits than the column has",
        Some(Order::Moments { zoned: true, .. }) => {
            "write instants as `2024-01-31T13:37:00Z`, or with an offset; without finer digits than the column has"
        }
        Some(Order::Moments { zoned: false, .. }) => "write moments as `2024-01-31` or `2024-01-31T13:37:00`, without a zone",
        Some(Order::Units { .. } | Order::Numbers | Order::Floats { .. }) => "write numbers in digits, as `-12.50`",
        Some(Order::Texts | Order::Exact) | None => "write a value of the column's type",
    };
    unusable(field, format_args!("a value of `{key}` is none of type {}", super::kinds::shown(field)), forms)
}

/// A bound or value as a whole number of the column's units: the nearest one not above, and not below.
fn read_units(order: Order, text: &str) -> Option<(i256, i256)> {
    let exact = |value: i64| (i256::from(value), i256::from(value));
    match order {
        Order::Units { scale } => units(text, scale),
        Order::Days { per_day } => moment::day(text)?.checked_mul(per_day).map(exact),
        Order::OfDay { digits } => moment::of_day(text, digits).map(exact),
        Order::Moments { digits, zoned } => moment::moment(text, digits, zoned).map(exact),
        Order::Floats { .. } | Order::Numbers | Order::Texts | Order::Exact => None,
    }
}

/// A finite float in the column's own width: what else could be equal to its values?
fn read_float(text: &str, single: bool) -> Option<f64> {
    let value = if single { f64::from(text.parse::<f32>().ok()?) } else { text.parse::<f64>().ok()? };
    value.is_finite().then_some(value)
}

impl Test {
    /// Prepares bounds.
    ///
    /// # Errors
    /// When values of the column have no order, or a bound is no value of it.
    pub(super) fn range(field: &Field, range: &Range) -> Result<Self, ConnectorError> {
        let bound = |literal: &Option<Literal>| literal.as_ref().map(|literal| literal.as_str().to_owned());
        let (min, max) = (bound(&range.min), bound(&range.max));
        let wrong = || no_value(field, "range");
        let empty = || unusable(field, "no value lies within `range`", "let `min` be the lesser one");
        let no_order = || {
            let message = format_args!("values of type {} have no order here", super::kinds::shown(field)).to_string();
            unusable(field, message, "leave `range` out; `one_of` and `regex` read the values' text")
        };
        let order = order(field).ok_or_else(no_order)?;
        match order {
            Order::Units { .. } | Order::Days { .. } | Order::OfDay { .. } | Order::Moments { .. } => {
                let read = |text: Option<String>| text.map(|text| read_units(order, &text).ok_or_else(wrong)).transpose();
                let (min, max) = (read(min)?, read(max)?);
                let (min, max) = (min.map_or(i256::MIN, |(_, above)| above), max.map_or(i256::MAX, |(below, _)| below));
                if min > max { Err(empty()) } else { Ok(Self::Between(min, max)) }
            }
            Order::Floats { .. } => {
                let read = |text: Option<String>| text.map(|text| read_float(&text, false).ok_or_else(wrong)).transpose();
                let (min, max) = (read(min)?.unwrap_or(f64::NEG_INFINITY), read(max)?.unwrap_or(f64::INFINITY));
                if min > max { Err(empty()) } else { Ok(Self::FloatBetween(min, max)) }
            }
            Order::Numbers => {
                let finite = |number: &Number| matches!(number, Number::Finite { .. });
                let read =
                    |text: Option<String>| text.map(|text| Number::parse(&text).filter(finite).ok_or_else(wrong)).transpose();
                let (min, max) = (read(min)?, read(max)?);
                if matches!((&min, &max), (Some(min), Some(max)) if min > max) {
                    Err(empty())
                } else {
                    Ok(Self::NumberBetween(min, max))
                }
            }
            Order::Texts => {
                if matches!((&min, &max), (Some(min), Some(max)) if min > max) {
                    Err(empty())
                } else {
                    Ok(Self::TextBetween(min, max))
                }
            }
            Order::Exact => Err(no_order()),
        }
    }

    /// Prepares a list of values.
    ///
    /// # Errors
    /// When values of the column can't be compared, or one of the list is none of it.
    pub(super) fn one_of(field: &Field, list: &[Literal]) -> Result<Self, ConnectorError> {
        let wrong = || no_value(field, "one_of");
        let texts = || list.iter().map(|literal| literal.as_str());
        let Some(order) = order(field) else {
            let message = format_args!("values of type {} can't be compared", super::kinds::shown(field)).to_string();
            return Err(unusable(field, message, "leave `one_of` out"));
        };
        Ok(match order {
            Order::Units { .. } | Order::Days { .. } | Order::OfDay { .. } | Order::Moments { .. } => {
                let read = |text| read_units(order, text).filter(|(below, above)| below == above).map(|(value, _)| value);
                Self::Among(texts().map(|text| read(text).ok_or_else(wrong)).collect::<Result<_, _>>()?)
            }
            Order::Floats { single } => {
                Self::FloatAmong(texts().map(|text| read_float(text, single).ok_or_else(wrong)).collect::<Result<_, _>>()?)
            }
            Order::Numbers => {
                Self::NumberAmong(texts().map(|text| Number::parse(text).ok_or_else(wrong)).collect::<Result<_, _>>()?)
            }
            Order::Texts => Self::TextAmong(texts().map(str::to_owned).collect()),
            Order::Exact
                if *plain(field.data_type()) == DataType::Boolean && texts().any(|text| text != "true" && text != "false") =>
            {
                return Err(wrong());
            }
            Order::Exact => Self::ExactAmong(texts().map(str::to_owned).collect(), Box::new(field.clone())),
        })
    }

    /// Prepares a regular expression.
    ///
    /// # Errors
    /// When the column is no text.
    pub(super) fn regex(field: &Field, expression: &Literal) -> Result<Self, ConnectorError> {
        if !matches!(plain(field.data_type()), DataType::Utf8 | DataType::LargeUtf8) {
            let message = format!("`regex` reads text, and the column is {}", super::kinds::shown(field));
            return Err(unusable(
                field,
                message,
                "leave `regex` out, or cast the column with `type: utf8` and `on_violation: coerce`",
            ));
        }
        let compiled =
            compile_regex(expression).map_err(|_| unusable(field, "`regex` is no regular expression", "mend `regex`"))?;
        Ok(Self::Matches(Box::new(compiled)))
    }

    /// Whether values that the column's Arrow type can't hold break the rule; a regular expression is never asked, as text always
    /// fits.
    pub(super) fn breaks_beyond(&self) -> bool {
        !matches!(self, Self::Matches(_))
    }

    /// Says of each value whether it breaks the rule; what it says of NULLs means nothing.
    ///
    /// # Errors
    /// When the array is not of the type that the rule was prepared for.
    pub(super) fn broken(&self, array: &ArrayRef) -> Result<Vec<bool>, ConnectorError> {
        if let DataType::Dictionary(..) = array.data_type() {
            // Each of its values is asked once, however many rows have it.
            let dictionary = array.as_any_dictionary();
            let of_values = self.broken(dictionary.values())?;
            if of_values.is_empty() {
                return Ok(vec![false; array.len()]);
            }
            return Ok(dictionary.normalized_keys().into_iter().map(|key| of_values.get(key).copied().unwrap_or(false)).collect());
        }
        let rows = 0..array.len();
        Ok(match self {
            Self::Between(min, max) => {
                let value = whole_numbers(array)?;
                rows.map(|row| !(*min..=*max).contains(&value(row))).collect()
            }
            Self::Among(values) => {
                let value = whole_numbers(array)?;
                rows.map(|row| !values.contains(&value(row))).collect()
            }
            // NaN lies within no range, and is equal to nothing.
            Self::FloatBetween(min, max) => {
                let value = floats(array)?;
                rows.map(|row| !(*min..=*max).contains(&value(row))).collect()
            }
            Self::FloatAmong(values) => {
                let value = floats(array)?;
                rows.map(|row| !values.contains(&value(row))).collect()
            }
            Self::NumberBetween(min, max) => {
                let text = texts(array)?;
                let within = |number: Number| {
                    number != Number::NaN
                        && min.as_ref().is_none_or(|min| number >= *min)
                        && max.as_ref().is_none_or(|max| number <= *max)
                };
                rows.map(|row| !Number::parse(text(row)).is_some_and(within)).collect()
            }
            Self::NumberAmong(values) => {
                let text = texts(array)?;
                rows.map(|row| !Number::parse(text(row)).is_some_and(|number| values.contains(&number))).collect()
            }
            Self::TextBetween(min, max) => {
                let text = texts(array)?;
                let within = |text: &str| {
                    min.as_ref().is_none_or(|min| text >= min.as_str()) && max.as_ref().is_none_or(|max| text <= max.as_str())
                };
                rows.map(|row| !within(text(row))).collect()
            }
            Self::TextAmong(values) => {
                let text = texts(array)?;
                rows.map(|row| !values.contains(text(row))).collect()
            }
            Self::ExactAmong(values, field) => {
                let exact = ColumnText::new(field, array)?;
                let mut text = String::new();
                let mut broken = Vec::with_capacity(array.len());
                for row in rows {
                    text.clear();
                    exact.write(row, &mut text);
                    broken.push(!values.contains(&text));
                }
                broken
            }
            Self::Matches(regex) => {
                let text = texts(array)?;
                rows.map(|row| !regex.is_match(text(row))).collect()
            }
        })
    }
}

fn other_type() -> ConnectorError {
    ConnectorError::internal("contract_type", "a batch has a column of another type than its schema")
}

type Read<'a, T> = Box<dyn Fn(usize) -> T + 'a>;

fn integers<T: ArrowPrimitiveType>(array: &ArrayRef) -> Read<'_, i256>
where
    T::Native: Into<i128>,
{
    let array = array.as_primitive::<T>();
    Box::new(move |row| i256::from_i128(array.value(row).into()))
}

/// Values as whole numbers of their unit.
pub(super) fn whole_numbers(array: &ArrayRef) -> Result<Read<'_, i256>, ConnectorError> {
    Ok(match array.data_type() {
        DataType::Int8 => integers::<Int8Type>(array),
        DataType::Int16 => integers::<Int16Type>(array),
        DataType::Int32 => integers::<Int32Type>(array),
        DataType::Int64 => integers::<Int64Type>(array),
        DataType::UInt8 => integers::<UInt8Type>(array),
        DataType::UInt16 => integers::<UInt16Type>(array),
        DataType::UInt32 => integers::<UInt32Type>(array),
        DataType::UInt64 => integers::<UInt64Type>(array),
        DataType::Decimal32(..) => integers::<Decimal32Type>(array),
        DataType::Decimal64(..) => integers::<Decimal64Type>(array),
        DataType::Decimal128(..) => integers::<Decimal128Type>(array),
        DataType::Decimal256(..) => {
            let array = array.as_primitive::<Decimal256Type>();
            Box::new(move |row| array.value(row))
        }
        DataType::Date32 => integers::<Date32Type>(array),
        DataType::Date64 => integers::<Date64Type>(array),
        DataType::Time32(TimeUnit::Second) => integers::<Time32SecondType>(array),
        DataType::Time32(_) => integers::<Time32MillisecondType>(array),
        DataType::Time64(TimeUnit::Nanosecond) => integers::<Time64NanosecondType>(array),
        DataType::Time64(_) => integers::<Time64MicrosecondType>(array),
        DataType::Timestamp(TimeUnit::Second, _) => integers::<TimestampSecondType>(array),
        DataType::Timestamp(TimeUnit::Millisecond, _) => integers::<TimestampMillisecondType>(array),
        DataType::Timestamp(TimeUnit::Microsecond, _) => integers::<TimestampMicrosecondType>(array),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => integers::<TimestampNanosecondType>(array),
        _ => return Err(other_type()),
    })
}

fn floats(array: &ArrayRef) -> Result<Read<'_, f64>, ConnectorError> {
    Ok(match array.data_type() {
        DataType::Float32 => {
            let array = array.as_primitive::<Float32Type>();
            Box::new(move |row| f64::from(array.value(row)))
        }
        DataType::Float64 => {
            let array = array.as_primitive::<Float64Type>();
            Box::new(move |row| array.value(row))
        }
        _ => return Err(other_type()),
    })
}

fn texts<'a>(array: &'a ArrayRef) -> Result<Read<'a, &'a str>, ConnectorError> {
    Ok(match array.data_type() {
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            Box::new(move |row| array.value(row))
        }
        DataType::LargeUtf8 => {
            let array = array.as_string::<i64>();
            Box::new(move |row| array.value(row))
        }
        _ => return Err(other_type()),
    })
}

#[cfg(test)]
mod tests;
