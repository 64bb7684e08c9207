//! Values that no format here can hold: PostgreSQL's infinities, its `24:00:00`, and years that RFC 3339 can't write.

use crate::config::Format;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array, ArrowPrimitiveType, PrimitiveArray, RecordBatch};
use arrow_schema::{DataType, TimeUnit};

const SECONDS_OF_DAY: i64 = 86_400;
/// 0001-01-01 and 9999-12-31: what RFC 3339 can say, but for its year 0, which many readers refuse.
const FIRST_DAY: i64 = -719_162;
const LAST_DAY: i64 = 2_932_896;

/// A row with a value that can't be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfit {
    pub(crate) row: usize,
    pub(crate) column: usize,
    pub(crate) why: &'static str,
}

const INFINITE: &str = "an infinite date or timestamp, which files can't hold";
const MIDNIGHT: &str = "the time 24:00:00 or one beyond a day, which files can't hold";
const YEAR: &str = "a date outside of the years 0001 to 9999, which text files can't hold";

/// The rows that can't be written, in order, each with the first column at fault.
pub(crate) fn unfit_rows(batch: &RecordBatch, format: &Format) -> Vec<Unfit> {
    let text = !matches!(format, Format::Parquet { .. });
    let mut found: Vec<Unfit> = Vec::new();
    for (column, array) in batch.columns().iter().enumerate() {
        if may_be_unfit(array.data_type()) {
            for row in 0..array.len() {
                if let Some(why) = unfit(array.as_ref(), row, text) {
                    found.push(Unfit { row, column, why });
                }
            }
        }
    }
    found.sort_by_key(|unfit| (unfit.row, unfit.column));
    found.dedup_by_key(|unfit| unfit.row);
    found
}

fn may_be_unfit(data_type: &DataType) -> bool {
    match data_type {
        DataType::Date32 | DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_) => true,
        DataType::List(field) | DataType::LargeList(field) => may_be_unfit(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| may_be_unfit(field.data_type())),
        _ => false,
    }
}

fn unfit(array: &dyn Array, row: usize, text: bool) -> Option<&'static str> {
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().value(row);
            if matches!(days, i32::MAX | i32::MIN) { Some(INFINITE) } else { beyond(text, i64::from(days)) }
        }
        DataType::Timestamp(TimeUnit::Second, _) => timestamp(array.as_primitive::<TimestampSecondType>(), row, 1, text),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            timestamp(array.as_primitive::<TimestampMillisecondType>(), row, 1_000, text)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            timestamp(array.as_primitive::<TimestampMicrosecondType>(), row, 1_000_000, text)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            timestamp(array.as_primitive::<TimestampNanosecondType>(), row, 1_000_000_000, text)
        }
        DataType::Time32(TimeUnit::Second) => time(array.as_primitive::<Time32SecondType>(), row, 1),
        DataType::Time32(_) => time(array.as_primitive::<Time32MillisecondType>(), row, 1_000),
        DataType::Time64(TimeUnit::Microsecond) => time(array.as_primitive::<Time64MicrosecondType>(), row, 1_000_000),
        DataType::Time64(_) => time(array.as_primitive::<Time64NanosecondType>(), row, 1_000_000_000),
        DataType::List(_) => {
            let values = array.as_list::<i32>().value(row);
            (0..values.len()).find_map(|i| unfit(values.as_ref(), i, text))
        }
        DataType::LargeList(_) => {
            let values = array.as_list::<i64>().value(row);
            (0..values.len()).find_map(|i| unfit(values.as_ref(), i, text))
        }
        DataType::Struct(_) => array.as_struct().columns().iter().find_map(|column| unfit(column.as_ref(), row, text)),
        _ => None,
    }
}

fn beyond(text: bool, days: i64) -> Option<&'static str> {
    (text && !(FIRST_DAY..=LAST_DAY).contains(&days)).then_some(YEAR)
}

fn timestamp<T>(array: &PrimitiveArray<T>, row: usize, per_second: i64, text: bool) -> Option<&'static str>
where
    T: ArrowPrimitiveType<Native = i64>,
{
    match array.value(row) {
        i64::MAX | i64::MIN => Some(INFINITE),
        value => beyond(text, value.div_euclid(per_second).div_euclid(SECONDS_OF_DAY)),
    }
}

fn time<T>(array: &PrimitiveArray<T>, row: usize, per_second: i64) -> Option<&'static str>
where
    T: ArrowPrimitiveType,
    T::Native: Into<i64>,
{
    let value: i64 = array.value(row).into();
    (!(0..SECONDS_OF_DAY * per_second).contains(&value)).then_some(MIDNIGHT)
}

/// PostgreSQL's word for an infinite date or timestamp.
pub(super) fn infinity(array: &dyn Array, row: usize) -> Option<&'static str> {
    let value = match array.data_type() {
        DataType::Date32 => match array.as_primitive::<Date32Type>().value(row) {
            i32::MAX => i64::MAX,
            i32::MIN => i64::MIN,
            _ => 0,
        },
        DataType::Timestamp(TimeUnit::Microsecond, _) => array.as_primitive::<TimestampMicrosecondType>().value(row),
        _ => 0,
    };
    match value {
        i64::MAX => Some("infinity"),
        i64::MIN => Some("-infinity"),
        _ => None,
    }
}
