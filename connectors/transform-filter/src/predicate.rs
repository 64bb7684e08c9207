//! Conditions made ready for a column's type.

use crate::config::{Comparison, Condition, Part, Test};
use crate::operand;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_buffer::BooleanBuffer;
use arrow_schema::{DataType, Field, TimeUnit};
use rapidbyte_sdk::ConnectorError;
use serde_json::Value;
use std::cmp::Ordering;
use std::collections::HashSet;

/// The rows of a column where something holds.
type Holds = Box<dyn Fn(&ArrayRef) -> BooleanBuffer>;

/// Whether something holds of a value.
type Asks<T> = Box<dyn Fn(&T) -> bool>;

/// A condition on a column of a known type.
pub(crate) struct Ready {
    pub(crate) column: usize,
    holds: Holds,
}

impl Ready {
    /// The rows where the condition holds; never where there is no value, unless that is what it asks.
    pub(crate) fn holds(&self, array: &ArrayRef) -> BooleanBuffer {
        (self.holds)(array)
    }

    /// Makes a condition ready, or says why its operand does not fit the column.
    pub(crate) fn new(condition: &Condition, column: usize, field: &Field) -> Result<Self, ConnectorError> {
        if let Test::IsNull(null) = condition.test {
            return Ok(Self {
                column,
                holds: Box::new(move |array| match array.logical_nulls() {
                    Some(nulls) if null => !nulls.inner(),
                    Some(nulls) => nulls.inner().clone(),
                    None if null => BooleanBuffer::new_unset(array.len()),
                    None => BooleanBuffer::new_set(array.len()),
                }),
            });
        }
        let values = typed(condition, field, field.data_type())?;
        // Where there is no value, no comparison holds.
        let holds = move |array: &ArrayRef| {
            let held = values(array);
            match array.logical_nulls() {
                Some(nulls) => &held & nulls.inner(),
                None => held,
            }
        };
        Ok(Self { column, holds: Box::new(holds) })
    }
}

fn refuse(condition: &Condition, field: &Field, code: &str, message: &str) -> ConnectorError {
    ConnectorError::schema(
        code,
        format!("predicate `{}` on column `{}` of type {}: {message}", condition.op.as_str(), field.name(), type_name(field)),
    )
}

fn type_name(field: &Field) -> String {
    if is_uuid(field) { "uuid".into() } else { field.data_type().to_string() }
}

fn is_uuid(field: &Field) -> bool {
    *field.data_type() == DataType::FixedSizeBinary(16)
        && field.metadata().get("ARROW:extension:name").is_some_and(|name| name == "arrow.uuid")
}

/// A test of one value of type `T`, from operands that `read` makes of JSON.
fn value_test<T: 'static>(
    condition: &Condition,
    field: &Field,
    read: impl Fn(&Value) -> Result<T, String>,
    order: impl Fn(&T, &T) -> Option<Ordering> + 'static,
) -> Result<Asks<T>, ConnectorError> {
    let read = |value: &Value| {
        read(value)
            .map_err(|needed| refuse(condition, field, "operand_type", &needed).with_hint("give a value of the column's own type"))
    };
    match &condition.test {
        Test::Compare(comparison, value) => {
            let (comparison, operand): (Comparison, T) = (*comparison, read(value)?);
            Ok(Box::new(move |value| comparison.holds(order(value, &operand))))
        }
        Test::OneOf(values, wanted) => {
            let mut operands = values.iter().map(read).collect::<Result<Vec<T>, _>>()?;
            let wanted = *wanted;
            // Operands have an order among themselves: no float that is not a number gets here.
            operands.sort_by(|a, b| order(a, b).unwrap_or(Ordering::Equal));
            Ok(Box::new(move |value| {
                let found = operands.binary_search_by(|operand| order(operand, value).unwrap_or(Ordering::Greater)).is_ok();
                found == wanted
            }))
        }
        Test::Text(..) => Err(refuse(condition, field, "operator_type", "only text can be looked into")
            .with_hint("use `eq`, `lt`, `gt`, `in`, … for this column")),
        Test::IsNull(_) => unreachable!("null tests need no values"),
    }
}

/// A test of native values by their order.
fn native<T: ArrowPrimitiveType>(
    condition: &Condition,
    field: &Field,
    read: impl Fn(&Value) -> Result<T::Native, String>,
) -> Result<Holds, ConnectorError>
where
    T::Native: PartialOrd + 'static,
{
    let test = value_test::<T::Native>(condition, field, read, |a, b| a.partial_cmp(b))?;
    Ok(Box::new(move |array| {
        let values = array.as_primitive::<T>().values();
        BooleanBuffer::collect_bool(values.len(), |row| test(&values[row]))
    }))
}

fn integers<T: ArrowPrimitiveType>(
    condition: &Condition,
    field: &Field,
    min: T::Native,
    max: T::Native,
) -> Result<Holds, ConnectorError>
where
    T::Native: PartialOrd + Into<i128> + TryFrom<i128> + 'static,
{
    native::<T>(condition, field, |value| {
        let number = operand::integer(value, min.into(), max.into())?;
        T::Native::try_from(number).map_err(|_| "a smaller number is needed".to_owned())
    })
}

fn decimals<T: ArrowPrimitiveType>(condition: &Condition, field: &Field, precision: u8, scale: i8) -> Result<Holds, ConnectorError>
where
    T::Native: PartialOrd + TryFrom<i128> + 'static,
{
    native::<T>(condition, field, |value| {
        let number = operand::decimal(value, precision, scale)?;
        T::Native::try_from(number).map_err(|_| "a smaller number is needed".to_owned())
    })
}

/// A test of texts.
fn text_test(condition: &Condition, field: &Field) -> Result<Asks<str>, ConnectorError> {
    let read = |value: &Value| {
        operand::text(value).map_err(|needed| refuse(condition, field, "operand_type", &needed).with_hint("quote the value"))
    };
    Ok(match &condition.test {
        Test::Compare(comparison, value) => {
            let (comparison, operand) = (*comparison, read(value)?);
            Box::new(move |text| comparison.holds(Some(text.cmp(operand.as_str()))))
        }
        Test::OneOf(values, wanted) => {
            let operands = values.iter().map(read).collect::<Result<HashSet<String>, _>>()?;
            let wanted = *wanted;
            Box::new(move |text| operands.contains(text) == wanted)
        }
        Test::Text(part, wanted) => {
            let (part, wanted) = (*part, wanted.clone());
            Box::new(move |text| match part {
                Part::Anywhere => text.contains(&wanted),
                Part::Start => text.starts_with(&wanted),
                Part::End => text.ends_with(&wanted),
            })
        }
        Test::IsNull(_) => unreachable!("null tests need no values"),
    })
}

fn typed(condition: &Condition, field: &Field, data_type: &DataType) -> Result<Holds, ConnectorError> {
    Ok(match data_type {
        DataType::Int8 => integers::<Int8Type>(condition, field, i8::MIN, i8::MAX)?,
        DataType::Int16 => integers::<Int16Type>(condition, field, i16::MIN, i16::MAX)?,
        DataType::Int32 => integers::<Int32Type>(condition, field, i32::MIN, i32::MAX)?,
        DataType::Int64 => integers::<Int64Type>(condition, field, i64::MIN, i64::MAX)?,
        DataType::UInt8 => integers::<UInt8Type>(condition, field, u8::MIN, u8::MAX)?,
        DataType::UInt16 => integers::<UInt16Type>(condition, field, u16::MIN, u16::MAX)?,
        DataType::UInt32 => integers::<UInt32Type>(condition, field, u32::MIN, u32::MAX)?,
        DataType::UInt64 => integers::<UInt64Type>(condition, field, u64::MIN, u64::MAX)?,
        DataType::Float32 => native::<Float32Type>(condition, field, operand::float32)?,
        DataType::Float64 => native::<Float64Type>(condition, field, operand::float64)?,
        DataType::Decimal32(precision, scale) => decimals::<Decimal32Type>(condition, field, *precision, *scale)?,
        DataType::Decimal64(precision, scale) => decimals::<Decimal64Type>(condition, field, *precision, *scale)?,
        DataType::Decimal128(precision, scale) => decimals::<Decimal128Type>(condition, field, *precision, *scale)?,
        DataType::Boolean => {
            if !matches!(condition.test, Test::Compare(Comparison::Eq | Comparison::Ne, _) | Test::OneOf(..)) {
                return Err(
                    refuse(condition, field, "operator_type", "`true` and `false` have no order").with_hint("use `eq` or `ne`")
                );
            }
            let test = value_test::<bool>(condition, field, operand::boolean, |a, b| a.partial_cmp(b))?;
            Box::new(move |array| {
                let values = array.as_boolean().values();
                BooleanBuffer::collect_bool(values.len(), |row| test(&values.value(row)))
            })
        }
        DataType::Utf8 => {
            let test = text_test(condition, field)?;
            Box::new(move |array| {
                let values = array.as_string::<i32>();
                BooleanBuffer::collect_bool(values.len(), |row| test(values.value(row)))
            })
        }
        DataType::LargeUtf8 => {
            let test = text_test(condition, field)?;
            Box::new(move |array| {
                let values = array.as_string::<i64>();
                BooleanBuffer::collect_bool(values.len(), |row| test(values.value(row)))
            })
        }
        DataType::Date32 => native::<Date32Type>(condition, field, |value| {
            i32::try_from(operand::date(value)?).map_err(|_| "a nearer date is needed".to_owned())
        })?,
        DataType::Date64 => native::<Date64Type>(condition, field, |value| Ok(operand::date(value)? * 86_400_000))?,
        DataType::Time32(unit) => {
            let read = |value: &Value| {
                let units = operand::time_of_day(value, *unit)?;
                i32::try_from(units).map_err(|_| "a time of day is needed".to_owned())
            };
            match unit {
                TimeUnit::Second => native::<Time32SecondType>(condition, field, read)?,
                _ => native::<Time32MillisecondType>(condition, field, read)?,
            }
        }
        DataType::Time64(unit) => {
            let read = |value: &Value| operand::time_of_day(value, *unit);
            match unit {
                TimeUnit::Microsecond => native::<Time64MicrosecondType>(condition, field, read)?,
                _ => native::<Time64NanosecondType>(condition, field, read)?,
            }
        }
        DataType::Timestamp(unit, zone) => {
            let read = |value: &Value| operand::timestamp(value, *unit, zone.is_some());
            match unit {
                TimeUnit::Second => native::<TimestampSecondType>(condition, field, read)?,
                TimeUnit::Millisecond => native::<TimestampMillisecondType>(condition, field, read)?,
                TimeUnit::Microsecond => native::<TimestampMicrosecondType>(condition, field, read)?,
                TimeUnit::Nanosecond => native::<TimestampNanosecondType>(condition, field, read)?,
            }
        }
        DataType::FixedSizeBinary(16) if is_uuid(field) => {
            let test = value_test::<[u8; 16]>(condition, field, operand::uuid, |a, b| a.partial_cmp(b))?;
            Box::new(move |array| {
                let values = array.as_fixed_size_binary();
                BooleanBuffer::collect_bool(values.len(), |row| {
                    // Every value of a column of this type has 16 bytes.
                    <[u8; 16]>::try_from(values.value(row)).is_ok_and(|value| test(&value))
                })
            })
        }
        DataType::Dictionary(_, of) => {
            let of_values = typed(condition, field, of)?;
            Box::new(move |array| {
                // Each word is looked at once.
                let dictionary = array.as_any_dictionary();
                let held = of_values(dictionary.values());
                let keys = dictionary.normalized_keys();
                BooleanBuffer::collect_bool(keys.len(), |row| keys[row] < held.len() && held.value(keys[row]))
            })
        }
        _ => {
            return Err(refuse(condition, field, "unsupported_type", "values of this type can't be compared")
                .with_hint("use `is_null` or `is_not_null`"));
        }
    })
}
