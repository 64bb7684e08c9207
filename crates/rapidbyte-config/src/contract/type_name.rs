//! The neutral names of column types.

use std::fmt;
use std::str::FromStr;

/// The deepest nesting of a list.
const MAX_DEPTH: u32 = 8;

/// What times count in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Seconds.
    Second,
    /// Milliseconds.
    Millisecond,
    /// Microseconds.
    Microsecond,
    /// Nanoseconds.
    Nanosecond,
}

impl Unit {
    fn as_str(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Millisecond => "ms",
            Self::Microsecond => "us",
            Self::Nanosecond => "ns",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Second, Self::Millisecond, Self::Microsecond, Self::Nanosecond].into_iter().find(|unit| unit.as_str() == text)
    }
}

/// A column's type as contracts name it. Layouts that differ in encoding alone (a dictionary, larger offsets) have one name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TypeName {
    /// `boolean`.
    Boolean,
    /// `int8` to `int64`, by bits.
    Int(u8),
    /// `uint8` to `uint64`, by bits.
    UInt(u8),
    /// `float32` and `float64`, by bits.
    Float(u8),
    /// `decimal(p,s)`.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: i8,
    },
    /// `utf8`.
    Utf8,
    /// `binary`, and `binary(n)` for values of one length.
    Binary(Option<u32>),
    /// `uuid`.
    Uuid,
    /// `date`.
    Date,
    /// `time`; any unit without one.
    Time(Option<Unit>),
    /// `timestamp` (no time zone); any unit without one.
    Timestamp(Option<Unit>),
    /// `timestamptz` (an instant); any unit without one.
    TimestampTz(Option<Unit>),
    /// `interval`.
    Interval,
    /// `list(…)`.
    List(Box<TypeName>),
}

/// A name that is none of a type. It does not repeat the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownType;

impl fmt::Display for UnknownType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "types are `boolean`, `int8` to `int64`, `uint8` to `uint64`, `float32`, `float64`, `decimal(p,s)`, `utf8`, `binary`, \
             `binary(n)`, `uuid`, `date`, `time`, `timestamp`, `timestamptz`, `interval` and `list(…)`; times take a unit, as `timestamp(ms)`",
        )
    }
}

impl std::error::Error for UnknownType {}

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timed = |f: &mut fmt::Formatter<'_>, name: &str, unit: &Option<Unit>| match unit {
            Some(unit) => write!(f, "{name}({})", unit.as_str()),
            None => f.write_str(name),
        };
        match self {
            Self::Boolean => f.write_str("boolean"),
            Self::Int(bits) => write!(f, "int{bits}"),
            Self::UInt(bits) => write!(f, "uint{bits}"),
            Self::Float(bits) => write!(f, "float{bits}"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Utf8 => f.write_str("utf8"),
            Self::Binary(None) => f.write_str("binary"),
            Self::Binary(Some(length)) => write!(f, "binary({length})"),
            Self::Uuid => f.write_str("uuid"),
            Self::Date => f.write_str("date"),
            Self::Time(unit) => timed(f, "time", unit),
            Self::Timestamp(unit) => timed(f, "timestamp", unit),
            Self::TimestampTz(unit) => timed(f, "timestamptz", unit),
            Self::Interval => f.write_str("interval"),
            Self::List(item) => write!(f, "list({item})"),
        }
    }
}

impl FromStr for TypeName {
    type Err = UnknownType;

    fn from_str(text: &str) -> Result<Self, UnknownType> {
        parse(text, 0).ok_or(UnknownType)
    }
}

/// A number without signs, blanks or zeros in front.
fn number<T: FromStr + ToString>(text: &str) -> Option<T> {
    text.parse::<T>().ok().filter(|number| number.to_string() == text)
}

fn parse(text: &str, depth: u32) -> Option<TypeName> {
    let (name, inner) = match text.split_once('(') {
        Some((name, rest)) => (name, Some(rest.strip_suffix(')')?)),
        None => (text, None),
    };
    let unit = || inner.map(Unit::parse).map_or(Some(None), |unit| unit.map(Some));
    Some(match (name, inner) {
        ("boolean", None) => TypeName::Boolean,
        ("int8" | "int16" | "int32" | "int64", None) => TypeName::Int(number(&name[3..])?),
        ("uint8" | "uint16" | "uint32" | "uint64", None) => TypeName::UInt(number(&name[4..])?),
        ("float32" | "float64", None) => TypeName::Float(number(&name[5..])?),
        ("decimal", Some(inner)) => {
            let (precision, scale) = inner.split_once(',')?;
            let (precision, scale) = (number::<u8>(precision)?, number::<i8>(scale.trim_start())?);
            if !(1..=76).contains(&precision) || scale.unsigned_abs() > precision {
                return None;
            }
            TypeName::Decimal { precision, scale }
        }
        ("utf8", None) => TypeName::Utf8,
        ("binary", None) => TypeName::Binary(None),
        ("binary", Some(length)) => TypeName::Binary(Some(number(length).filter(|length| (1..=1 << 26).contains(length))?)),
        ("uuid", None) => TypeName::Uuid,
        ("date", None) => TypeName::Date,
        ("time", _) => TypeName::Time(unit()?),
        ("timestamp", _) => TypeName::Timestamp(unit()?),
        ("timestamptz", _) => TypeName::TimestampTz(unit()?),
        ("interval", None) => TypeName::Interval,
        ("list", Some(inner)) if depth < MAX_DEPTH => TypeName::List(Box::new(parse(inner, depth + 1)?)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_they_are_written() {
        for name in [
            "boolean",
            "int8",
            "int16",
            "int32",
            "int64",
            "uint8",
            "uint64",
            "float32",
            "float64",
            "decimal(12,2)",
            "decimal(5,-2)",
            "utf8",
            "binary",
            "binary(20)",
            "uuid",
            "date",
            "time",
            "time(ns)",
            "timestamp",
            "timestamp(ms)",
            "timestamptz(s)",
            "timestamptz",
            "interval",
            "list(int32)",
            "list(list(decimal(76,0)))",
        ] {
            assert_eq!(name.parse::<TypeName>().map(|name| name.to_string()), Ok(name.to_owned()));
        }
        assert_eq!("decimal(12, 2)".parse(), Ok(TypeName::Decimal { precision: 12, scale: 2 }));
    }

    #[test]
    fn others_are_refused() {
        let deep = format!("{}int8{}", "list(".repeat(100), ")".repeat(100));
        for name in [
            "",
            "int",
            "int128",
            "Int64",
            "text",
            "decimal",
            "decimal(0,0)",
            "decimal(77,0)",
            "decimal(5,6)",
            "decimal(5)",
            "decimal(05,2)",
            "decimal(5,2",
            "float16",
            "timestamp()",
            "timestamp(m)",
            "date(s)",
            "list",
            "list()",
            "binary(0)",
            "utf8(3)",
            "int64 ",
            deep.as_str(),
        ] {
            assert_eq!(name.parse::<TypeName>(), Err(UnknownType), "{name}");
        }
    }
}
