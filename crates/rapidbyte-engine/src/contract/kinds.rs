//! Names of types in contracts, and the Arrow types they stand for.

use arrow_schema::{DataType, Field, IntervalUnit, TimeUnit};
use rapidbyte_config::contract::{TypeName, Unit};

const EXTENSION: &str = "ARROW:extension:name";
const UUID: &str = "arrow.uuid";

/// The type of the values, whatever their encoding.
pub(super) fn plain(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain(values),
        other => other,
    }
}

/// Whether values are UUIDs.
pub(super) fn is_uuid(field: &Field) -> bool {
    *plain(field.data_type()) == DataType::FixedSizeBinary(16) && field.metadata().get(EXTENSION).is_some_and(|name| name == UUID)
}

/// Whether a column that is not split has the type of this name.
pub(super) fn matches(name: &TypeName, field: &Field) -> bool {
    let data_type = plain(field.data_type());
    let timed = |wanted: &Option<Unit>, unit: &TimeUnit| wanted.is_none_or(|wanted| time_unit(wanted) == *unit);
    match (name, data_type) {
        (TypeName::Boolean, DataType::Boolean)
        | (TypeName::Int(8), DataType::Int8)
        | (TypeName::Int(16), DataType::Int16)
        | (TypeName::Int(32), DataType::Int32)
        | (TypeName::Int(64), DataType::Int64)
        | (TypeName::UInt(8), DataType::UInt8)
        | (TypeName::UInt(16), DataType::UInt16)
        | (TypeName::UInt(32), DataType::UInt32)
        | (TypeName::UInt(64), DataType::UInt64)
        | (TypeName::Float(32), DataType::Float32)
        | (TypeName::Float(64), DataType::Float64)
        | (TypeName::Utf8, DataType::Utf8 | DataType::LargeUtf8)
        | (TypeName::Date, DataType::Date32 | DataType::Date64)
        | (TypeName::Interval, DataType::Interval(_)) => true,
        (
            TypeName::Decimal { precision, scale },
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) | DataType::Decimal256(p, s),
        ) => precision == p && scale == s,
        (TypeName::Binary(None), DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_)) => !is_uuid(field),
        (TypeName::Binary(Some(length)), DataType::FixedSizeBinary(size)) => {
            u32::try_from(*size).is_ok_and(|size| size == *length) && !is_uuid(field)
        }
        (TypeName::Uuid, DataType::FixedSizeBinary(16)) => is_uuid(field),
        (TypeName::Time(wanted), DataType::Time32(unit) | DataType::Time64(unit))
        | (TypeName::Timestamp(wanted), DataType::Timestamp(unit, None))
        | (TypeName::TimestampTz(wanted), DataType::Timestamp(unit, Some(_))) => timed(wanted, unit),
        (TypeName::List(inner), DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)) => {
            matches(inner, item)
        }
        _ => false,
    }
}

fn time_unit(unit: Unit) -> TimeUnit {
    match unit {
        Unit::Second => TimeUnit::Second,
        Unit::Millisecond => TimeUnit::Millisecond,
        Unit::Microsecond => TimeUnit::Microsecond,
        Unit::Nanosecond => TimeUnit::Nanosecond,
    }
}

/// The field that values of `from` are cast to, or nothing for a type that nothing is cast to. What the source says of its own
/// type no longer holds; the column's place in the key does.
pub(super) fn target(name: &TypeName, from: &Field) -> Option<Field> {
    let unit = |unit: &Option<Unit>| unit.map_or(TimeUnit::Microsecond, time_unit);
    let data_type = match name {
        TypeName::Boolean => DataType::Boolean,
        TypeName::Int(8) => DataType::Int8,
        TypeName::Int(16) => DataType::Int16,
        TypeName::Int(32) => DataType::Int32,
        TypeName::Int(_) => DataType::Int64,
        TypeName::UInt(8) => DataType::UInt8,
        TypeName::UInt(16) => DataType::UInt16,
        TypeName::UInt(32) => DataType::UInt32,
        TypeName::UInt(_) => DataType::UInt64,
        TypeName::Float(32) => DataType::Float32,
        TypeName::Float(_) => DataType::Float64,
        TypeName::Decimal { precision, scale } if *precision <= 38 => DataType::Decimal128(*precision, *scale),
        TypeName::Decimal { precision, scale } => DataType::Decimal256(*precision, *scale),
        TypeName::Utf8 => DataType::Utf8,
        TypeName::Uuid => DataType::FixedSizeBinary(16),
        TypeName::Date => DataType::Date32,
        TypeName::Time(of) => match unit(of) {
            of @ (TimeUnit::Second | TimeUnit::Millisecond) => DataType::Time32(of),
            of => DataType::Time64(of),
        },
        TypeName::Timestamp(of) => DataType::Timestamp(unit(of), None),
        TypeName::TimestampTz(of) => DataType::Timestamp(unit(of), Some("UTC".into())),
        TypeName::Binary(_) | TypeName::Interval | TypeName::List(_) => return None,
    };
    let mut metadata = from.metadata().clone();
    metadata.retain(|key, _| [super::bind::KEY_ORDINAL, super::bind::KEY_LENGTH].contains(&key.as_str()));
    if *name == TypeName::Uuid {
        metadata.insert(EXTENSION.to_owned(), UUID.to_owned());
    }
    Some(Field::new(from.name(), data_type, from.is_nullable()).with_metadata(metadata))
}

/// A column's type in words: that of contracts where there is one, with the source's own beside it.
pub(super) fn shown(field: &Field) -> String {
    let named = name_of(field).map_or_else(|| field.data_type().to_string(), |name| name.to_string());
    match field.metadata().get("rapidbyte.pg.type") {
        Some(own) => format!("`{named}` (`{own}`)"),
        None => format!("`{named}`"),
    }
}

fn name_of(field: &Field) -> Option<TypeName> {
    let unit = |unit: &TimeUnit| {
        Some(match unit {
            TimeUnit::Second => Unit::Second,
            TimeUnit::Millisecond => Unit::Millisecond,
            TimeUnit::Microsecond => return None,
            TimeUnit::Nanosecond => Unit::Nanosecond,
        })
    };
    Some(match plain(field.data_type()) {
        DataType::Boolean => TypeName::Boolean,
        DataType::Int8 => TypeName::Int(8),
        DataType::Int16 => TypeName::Int(16),
        DataType::Int32 => TypeName::Int(32),
        DataType::Int64 => TypeName::Int(64),
        DataType::UInt8 => TypeName::UInt(8),
        DataType::UInt16 => TypeName::UInt(16),
        DataType::UInt32 => TypeName::UInt(32),
        DataType::UInt64 => TypeName::UInt(64),
        DataType::Float32 => TypeName::Float(32),
        DataType::Float64 => TypeName::Float(64),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => TypeName::Decimal { precision: *precision, scale: *scale },
        DataType::Utf8 | DataType::LargeUtf8 => TypeName::Utf8,
        DataType::FixedSizeBinary(_) if is_uuid(field) => TypeName::Uuid,
        DataType::FixedSizeBinary(size) => TypeName::Binary(u32::try_from(*size).ok()),
        DataType::Binary | DataType::LargeBinary => TypeName::Binary(None),
        DataType::Date32 | DataType::Date64 => TypeName::Date,
        DataType::Time32(of) | DataType::Time64(of) => TypeName::Time(unit(of)),
        DataType::Timestamp(of, None) => TypeName::Timestamp(unit(of)),
        DataType::Timestamp(of, Some(_)) => TypeName::TimestampTz(unit(of)),
        DataType::Interval(IntervalUnit::YearMonth | IntervalUnit::DayTime | IntervalUnit::MonthDayNano) => TypeName::Interval,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            TypeName::List(Box::new(name_of(item)?))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::sync::Arc;

    #[test]
    fn a_type_is_known_by_the_name_that_is_shown_for_it() {
        let item = |data_type| Arc::new(Field::new("item", data_type, true));
        let zone = || Some("UTC".into());
        for (data_type, name) in [
            (DataType::Boolean, "boolean"),
            (DataType::Int16, "int16"),
            (DataType::UInt64, "uint64"),
            (DataType::Float32, "float32"),
            (DataType::Decimal128(12, 2), "decimal(12,2)"),
            (DataType::Decimal256(50, 0), "decimal(50,0)"),
            (DataType::Utf8, "utf8"),
            (DataType::LargeUtf8, "utf8"),
            (DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)), "utf8"),
            (DataType::Binary, "binary"),
            (DataType::FixedSizeBinary(20), "binary(20)"),
            (DataType::Date32, "date"),
            (DataType::Time64(TimeUnit::Microsecond), "time"),
            (DataType::Timestamp(TimeUnit::Millisecond, None), "timestamp(ms)"),
            (DataType::Timestamp(TimeUnit::Microsecond, zone()), "timestamptz"),
            (DataType::Interval(IntervalUnit::MonthDayNano), "interval"),
            (DataType::List(item(DataType::Int32)), "list(int32)"),
        ] {
            let field = Field::new("c", data_type, true);
            assert_eq!(shown(&field), format!("`{name}`"));
            let parsed: TypeName = name.parse().unwrap();
            assert!(matches(&parsed, &field), "{name}");
            let others =
                ["boolean", "int64", "decimal(12,3)", "uuid", "timestamp(s)", "timestamptz(ns)", "list(int64)", "binary(16)"];
            for other in others.into_iter().filter(|other| *other != name) {
                assert!(!matches(&other.parse().unwrap(), &field), "{name} {other}");
            }
        }
    }

    #[test]
    fn a_uuid_is_no_binary() {
        let uuid = Field::new("c", DataType::FixedSizeBinary(16), true)
            .with_metadata(HashMap::from([(EXTENSION.to_owned(), UUID.to_owned())]));
        assert!(matches(&TypeName::Uuid, &uuid) && !matches(&TypeName::Binary(None), &uuid));
        let bytes = Field::new("c", DataType::FixedSizeBinary(16), true);
        assert!(!matches(&TypeName::Uuid, &bytes) && matches(&TypeName::Binary(Some(16)), &bytes));
    }

    #[test]
    fn a_cast_column_keeps_its_place_in_the_key_and_nothing_else() {
        let key = [super::super::bind::KEY_LENGTH, super::super::bind::KEY_ORDINAL];
        let marks = [(key[0], "1"), (key[1], "1"), ("rapidbyte.pg.type", "text"), ("rapidbyte.pg.identity", "a")];
        let marks = marks.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let from = Field::new("c", DataType::Utf8, false).with_metadata(HashMap::from(marks));
        let to = target(&TypeName::Int(64), &from).unwrap();
        assert_eq!(to.data_type(), &DataType::Int64);
        assert!(!to.is_nullable());
        let mut kept: Vec<&String> = to.metadata().keys().collect();
        kept.sort();
        assert_eq!(kept, key);
    }
}
