//! Types of fields that can be decoded. Flatbuffers hold any number where a width, a unit or a count belongs, and decoders of
//! Arrow panic at those that mean nothing.

use arrow_ipc::{DateUnit, Field, Int, IntervalUnit, Precision, TimeUnit, Type};

fn integer(int: Int<'_>) -> bool {
    matches!(int.bitWidth(), 8 | 16 | 32 | 64)
}

fn unit(unit: TimeUnit) -> bool {
    matches!(unit, TimeUnit::SECOND | TimeUnit::MILLISECOND | TimeUnit::MICROSECOND | TimeUnit::NANOSECOND)
}

/// Digits that a decimal of so many bits holds.
fn digits(bits: i32) -> Option<i32> {
    match bits {
        32 => Some(9),
        64 => Some(18),
        128 => Some(38),
        256 => Some(76),
        _ => None,
    }
}

/// Whether the parameters of a field's type mean something. Its children are looked at on their own.
pub(super) fn is_known(field: Field<'_>) -> bool {
    if let Some(dictionary) = field.dictionary()
        && !dictionary.indexType().is_some_and(integer)
    {
        return false;
    }
    let children = field.children().map_or(0, |children| children.len());
    match field.type_type() {
        Type::Int => field.type_as_int().is_some_and(integer),
        Type::FloatingPoint => field
            .type_as_floating_point()
            .is_some_and(|float| matches!(float.precision(), Precision::HALF | Precision::SINGLE | Precision::DOUBLE)),
        Type::Decimal => field.type_as_decimal().is_some_and(|decimal| {
            let (precision, scale) = (decimal.precision(), decimal.scale());
            digits(decimal.bitWidth())
                .is_some_and(|most| (1..=most).contains(&precision) && (-precision..=precision).contains(&scale))
        }),
        Type::Date => field.type_as_date().is_some_and(|date| matches!(date.unit(), DateUnit::DAY | DateUnit::MILLISECOND)),
        Type::Time => field.type_as_time().is_some_and(|time| {
            matches!(
                (time.bitWidth(), time.unit()),
                (32, TimeUnit::SECOND | TimeUnit::MILLISECOND) | (64, TimeUnit::MICROSECOND | TimeUnit::NANOSECOND)
            )
        }),
        Type::Timestamp => field.type_as_timestamp().is_some_and(|timestamp| unit(timestamp.unit())),
        Type::Duration => field.type_as_duration().is_some_and(|duration| unit(duration.unit())),
        Type::Interval => field.type_as_interval().is_some_and(|interval| {
            matches!(interval.unit(), IntervalUnit::YEAR_MONTH | IntervalUnit::DAY_TIME | IntervalUnit::MONTH_DAY_NANO)
        }),
        Type::FixedSizeBinary => field.type_as_fixed_size_binary().is_some_and(|fixed| fixed.byteWidth() >= 0),
        Type::FixedSizeList => children == 1 && field.type_as_fixed_size_list().is_some_and(|list| list.listSize() >= 0),
        Type::List | Type::LargeList => children == 1,
        Type::Map => {
            let entries = field.children().filter(|children| children.len() == 1).map(|children| children.get(0));
            let pair = |entries: Field<'_>| {
                entries.type_type() == Type::Struct_ && entries.children().is_some_and(|members| members.len() == 2)
            };
            field.type_as_map().is_some() && entries.is_some_and(pair)
        }
        _ => true,
    }
}
