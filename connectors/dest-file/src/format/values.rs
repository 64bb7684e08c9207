//! Values that no format here can hold: PostgreSQL's infinities, its `24:00:00`, and years that RFC 3339 can't write.

use crate::config::Format;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array, ArrayRef};
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

/// The rows of a column that can't be written.
pub(super) fn unfit_rows(array: &ArrayRef, column: usize, format: &Format) -> Vec<Unfit> {
    if !may_be_unfit(array.data_type()) {
        return Vec::new();
    }
    let rows = 0..array.len();
    rows.filter_map(|row| unfit(array.as_ref(), row, format).map(|why| Unfit { row, column, why })).collect()
}

/// What a format can hold of dates and times, in the units of their type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    least: i64,
    most: i64,
}

impl Bounds {
    /// None for types without bounds.
    pub(super) fn of(data_type: &DataType, format: &Format) -> Option<Self> {
        let text = !matches!(format, Format::Parquet { .. });
        Some(match data_type {
            DataType::Date32 if text => Self { least: FIRST_DAY, most: LAST_DAY },
            // The largest and smallest integer mean infinity.
            DataType::Date32 => Self { least: i64::from(i32::MIN) + 1, most: i64::from(i32::MAX) - 1 },
            DataType::Timestamp(unit, _) if text => {
                let of_day = SECONDS_OF_DAY * per_second(*unit);
                Self { least: FIRST_DAY.saturating_mul(of_day).max(i64::MIN + 1), most: (LAST_DAY + 1).saturating_mul(of_day) - 1 }
            }
            DataType::Timestamp(..) => Self { least: i64::MIN + 1, most: i64::MAX - 1 },
            DataType::Time32(unit) | DataType::Time64(unit) => Self { least: 0, most: SECONDS_OF_DAY * per_second(*unit) - 1 },
            _ => return None,
        })
    }

    pub(super) fn hold(self, value: i64) -> bool {
        (self.least..=self.most).contains(&value)
    }

    pub(super) fn nearest(self, value: i64) -> i64 {
        value.clamp(self.least, self.most)
    }
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

pub(super) fn may_be_unfit(data_type: &DataType) -> bool {
    match data_type {
        DataType::Date32 | DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_) => true,
        DataType::List(field) | DataType::LargeList(field) => may_be_unfit(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| may_be_unfit(field.data_type())),
        _ => false,
    }
}

fn unfit(array: &dyn Array, row: usize, format: &Format) -> Option<&'static str> {
    if array.is_null(row) {
        return None;
    }
    let inside = |list: &dyn Array| (0..list.len()).find_map(|at| unfit(list, at, format));
    let value: i64 = match array.data_type() {
        DataType::Date32 => array.as_primitive::<Date32Type>().value(row).into(),
        DataType::Timestamp(TimeUnit::Second, _) => array.as_primitive::<TimestampSecondType>().value(row),
        DataType::Timestamp(TimeUnit::Millisecond, _) => array.as_primitive::<TimestampMillisecondType>().value(row),
        DataType::Timestamp(TimeUnit::Microsecond, _) => array.as_primitive::<TimestampMicrosecondType>().value(row),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => array.as_primitive::<TimestampNanosecondType>().value(row),
        DataType::Time32(TimeUnit::Second) => array.as_primitive::<Time32SecondType>().value(row).into(),
        DataType::Time32(_) => array.as_primitive::<Time32MillisecondType>().value(row).into(),
        DataType::Time64(TimeUnit::Microsecond) => array.as_primitive::<Time64MicrosecondType>().value(row),
        DataType::Time64(_) => array.as_primitive::<Time64NanosecondType>().value(row),
        DataType::List(_) => return inside(array.as_list::<i32>().value(row).as_ref()),
        DataType::LargeList(_) => return inside(array.as_list::<i64>().value(row).as_ref()),
        DataType::Struct(_) => return array.as_struct().columns().iter().find_map(|column| unfit(column.as_ref(), row, format)),
        _ => return None,
    };
    let bounds = Bounds::of(array.data_type(), format)?;
    let infinite = match array.data_type() {
        DataType::Date32 => value == i64::from(i32::MAX) || value == i64::from(i32::MIN),
        _ => value == i64::MAX || value == i64::MIN,
    };
    match array.data_type() {
        _ if bounds.hold(value) => None,
        DataType::Time32(_) | DataType::Time64(_) => Some(MIDNIGHT),
        _ if infinite => Some(INFINITE),
        _ => Some(YEAR),
    }
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
