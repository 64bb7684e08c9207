//! PostgreSQL types and the Arrow types that hold their every value.

use arrow_schema::{DataType, Field, IntervalUnit, TimeUnit};
use rapidbyte_sdk::split;
use std::sync::Arc;

/// Types by their OIDs, which are fixed for built-in types.
pub(crate) mod oid {
    pub(crate) const BOOL: u32 = 16;
    pub(crate) const BYTEA: u32 = 17;
    pub(crate) const CHAR: u32 = 18;
    pub(crate) const NAME: u32 = 19;
    pub(crate) const INT8: u32 = 20;
    pub(crate) const INT2: u32 = 21;
    pub(crate) const INT4: u32 = 23;
    pub(crate) const TEXT: u32 = 25;
    pub(crate) const OID: u32 = 26;
    pub(crate) const XID: u32 = 28;
    pub(crate) const JSON: u32 = 114;
    pub(crate) const XML: u32 = 142;
    pub(crate) const FLOAT4: u32 = 700;
    pub(crate) const FLOAT8: u32 = 701;
    pub(crate) const MONEY: u32 = 790;
    pub(crate) const INET: u32 = 869;
    pub(crate) const BPCHAR: u32 = 1042;
    pub(crate) const VARCHAR: u32 = 1043;
    pub(crate) const DATE: u32 = 1082;
    pub(crate) const TIME: u32 = 1083;
    pub(crate) const TIMESTAMP: u32 = 1114;
    pub(crate) const TIMESTAMPTZ: u32 = 1184;
    pub(crate) const INTERVAL: u32 = 1186;
    pub(crate) const NUMERIC: u32 = 1700;
    pub(crate) const UUID: u32 = 2950;
    pub(crate) const JSONB: u32 = 3802;
}

/// How a column travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// `oid` and `xid`.
    Oid,
    Decimal128 {
        precision: u8,
        scale: i8,
    },
    Decimal256 {
        precision: u8,
        scale: i8,
    },
    /// A numeric as exact text.
    NumericText,
    /// Hundredths, as a decimal.
    Money,
    /// `"char"`: one byte.
    Char,
    /// Types whose send form is their text.
    Text,
    Json,
    Jsonb,
    Bytea,
    Uuid,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
    /// A one-dimensional array of a type with this OID.
    List {
        element: Box<Kind>,
        element_oid: u32,
    },
    /// Everything else: the server casts to text.
    Cast,
    /// What a column becomes when a value does not fit its Arrow type: see [`rapidbyte_sdk::split`].
    Split(Box<Kind>),
}

/// What the catalog says of a column's type, domains resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct BaseType {
    pub(crate) oid: u32,
    pub(crate) typmod: i32,
    pub(crate) name: String,
    /// `pg_type.typtype`.
    pub(crate) class: String,
    /// The element, for true arrays.
    pub(crate) element: Option<Element>,
}

/// The type of an array's elements.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Element {
    pub(crate) oid: u32,
    pub(crate) name: String,
    /// `pg_type.typtype`.
    pub(crate) class: String,
}

/// Precision and scale of `money`: 64 bits of hundredths.
pub(crate) const MONEY_DIGITS: (u8, i8) = (19, 2);

const MAX_DECIMAL128: i32 = 38;
const MAX_DECIMAL256: i32 = 76;

/// A numeric by its type modifier: precision in the upper half, an 11-bit signed scale in the lower.
fn numeric(typmod: i32) -> Kind {
    if typmod < 4 {
        return Kind::NumericText;
    }
    let precision = ((typmod - 4) >> 16) & 0xffff;
    let scale = (((typmod - 4) & 0x7ff) ^ 1024) - 1024;
    let fits = |max: i32| (1..=max).contains(&precision) && (0..=precision).contains(&scale);
    // Both fit their small types: they lie between 0 and 76 here.
    let (p, s) = (precision as u8, scale as i8);
    if fits(MAX_DECIMAL128) {
        Kind::Decimal128 { precision: p, scale: s }
    } else if fits(MAX_DECIMAL256) {
        Kind::Decimal256 { precision: p, scale: s }
    } else {
        Kind::NumericText
    }
}

/// Scalars by OID.
fn scalar(oid: u32, typmod: i32) -> Option<Kind> {
    Some(match oid {
        oid::BOOL => Kind::Bool,
        oid::INT2 => Kind::Int2,
        oid::INT4 => Kind::Int4,
        oid::INT8 => Kind::Int8,
        oid::FLOAT4 => Kind::Float4,
        oid::FLOAT8 => Kind::Float8,
        oid::OID | oid::XID => Kind::Oid,
        oid::NUMERIC => numeric(typmod),
        oid::MONEY => Kind::Money,
        oid::CHAR => Kind::Char,
        oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME => Kind::Text,
        oid::JSON => Kind::Json,
        oid::JSONB => Kind::Jsonb,
        oid::BYTEA => Kind::Bytea,
        oid::UUID => Kind::Uuid,
        oid::DATE => Kind::Date,
        oid::TIME => Kind::Time,
        oid::TIMESTAMP => Kind::Timestamp,
        oid::TIMESTAMPTZ => Kind::TimestampTz,
        oid::INTERVAL => Kind::Interval,
        _ => return None,
    })
}

/// Types made by users or extensions whose send form is their text: enums, citext.
fn textual(class: &str, name: &str) -> bool {
    class == "e" || (class == "b" && name == "citext")
}

impl Kind {
    /// How a column of this type travels.
    pub(crate) fn of(base: &BaseType) -> Self {
        if textual(&base.class, &base.name) {
            return Self::Text;
        }
        if base.class != "b" {
            return Self::Cast;
        }
        if let Some(element) = &base.element {
            let kind = if textual(&element.class, &element.name) { Some(Self::Text) } else { scalar(element.oid, base.typmod) };
            return match kind {
                // Their arrays are rare, and text is what their scalars would need at most destinations anyway.
                None | Some(Self::Interval | Self::Oid) => Self::Cast,
                Some(kind) => Self::List { element: Box::new(kind), element_oid: element.oid },
            };
        }
        scalar(base.oid, base.typmod).unwrap_or(Self::Cast)
    }

    /// Whether the Arrow type leaves out values that the column may hold.
    pub(crate) fn may_split(&self) -> bool {
        matches!(
            self,
            Self::Decimal128 { .. }
                | Self::Decimal256 { .. }
                | Self::Timestamp
                | Self::TimestampTz
                | Self::Interval
                | Self::List { .. }
                | Self::Split(_)
        )
    }

    /// The OID the server must report for the column, when it is known beforehand.
    pub(crate) fn expected_oid(&self, base: &BaseType) -> u32 {
        if *self == Self::Cast { oid::TEXT } else { base.oid }
    }

    /// The Arrow type.
    pub(crate) fn data_type(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Int8 => DataType::Int64,
            Self::Float4 => DataType::Float32,
            Self::Float8 => DataType::Float64,
            Self::Oid => DataType::UInt32,
            Self::Decimal128 { precision, scale } => DataType::Decimal128(*precision, *scale),
            Self::Decimal256 { precision, scale } => DataType::Decimal256(*precision, *scale),
            Self::Money => DataType::Decimal128(MONEY_DIGITS.0, MONEY_DIGITS.1),
            Self::NumericText | Self::Text | Self::Char | Self::Json | Self::Jsonb | Self::Cast => DataType::Utf8,
            Self::Bytea => DataType::Binary,
            Self::Uuid => DataType::FixedSizeBinary(16),
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            Self::List { element, .. } => DataType::List(Arc::new(element.item_field())),
            Self::Split(kind) => DataType::Struct(split::members(&kind.data_type())),
        }
    }

    /// The field of an array's elements of this kind.
    pub(crate) fn item_field(&self) -> Field {
        let extension = self.extension().map(|extension| ("ARROW:extension:name".to_owned(), extension.to_owned()));
        Field::new("item", self.data_type(), true).with_metadata(extension.into_iter().collect())
    }

    /// The value of the field metadata `rapidbyte.pg.encoding`.
    pub(crate) fn encoding(&self) -> Option<&'static str> {
        match self {
            Self::Cast => Some("text"),
            _ => None,
        }
    }

    /// The canonical Arrow extension type.
    pub(crate) fn extension(&self) -> Option<&'static str> {
        match self {
            Self::Uuid => Some("arrow.uuid"),
            Self::Json | Self::Jsonb => Some("arrow.json"),
            _ => None,
        }
    }

    /// Whether an incremental read is likely to be ordered by it.
    pub(crate) fn orders(&self) -> bool {
        matches!(
            self,
            Self::Int2
                | Self::Int4
                | Self::Int8
                | Self::Date
                | Self::Timestamp
                | Self::TimestampTz
                | Self::Decimal128 { .. }
                | Self::Decimal256 { .. }
                | Self::NumericText
        )
    }

    /// Bytes of Arrow memory a row takes whatever its value, roughly.
    pub(crate) fn fixed_width(&self) -> usize {
        match self {
            Self::Bool => 1,
            Self::Int2 => 2,
            Self::Int8 | Self::Float8 | Self::Time | Self::Timestamp | Self::TimestampTz => 8,
            Self::Decimal128 { .. } | Self::Money | Self::Uuid | Self::Interval => 16,
            Self::Decimal256 { .. } => 32,
            Self::Int4 | Self::Float4 | Self::Oid | Self::Date => 4,
            Self::NumericText | Self::Text | Self::Char | Self::Json | Self::Jsonb | Self::Bytea | Self::Cast => 4,
            Self::List { .. } => 4,
            Self::Split(kind) => 8 + kind.fixed_width(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typmod(precision: i32, scale: i32) -> i32 {
        ((precision << 16) | (scale & 0x7ff)) + 4
    }

    #[test]
    fn numerics_go_where_every_value_fits() {
        let cases = [
            (-1, Kind::NumericText),
            (typmod(15, 2), Kind::Decimal128 { precision: 15, scale: 2 }),
            (typmod(38, 38), Kind::Decimal128 { precision: 38, scale: 38 }),
            (typmod(39, 0), Kind::Decimal256 { precision: 39, scale: 0 }),
            (typmod(76, 76), Kind::Decimal256 { precision: 76, scale: 76 }),
            (typmod(77, 2), Kind::NumericText),
            (typmod(1000, 1000), Kind::NumericText),
            (typmod(5, -2), Kind::NumericText),
            (typmod(3, 5), Kind::NumericText),
        ];
        for (typmod, kind) in cases {
            assert_eq!(numeric(typmod), kind, "{typmod}");
        }
    }

    #[test]
    fn unknown_and_user_made_types_are_cast() {
        let base = |oid: u32, class: &str, element: Option<(u32, &str)>| BaseType {
            oid,
            typmod: -1,
            name: "x".into(),
            class: class.into(),
            element: element.map(|(oid, class)| Element { oid, name: "y".into(), class: class.into() }),
        };
        let list = |kind, element_oid| Kind::List { element: Box::new(kind), element_oid };
        assert_eq!(Kind::of(&base(869, "b", None)), Kind::Cast);
        assert_eq!(Kind::of(&base(16_500, "c", None)), Kind::Cast);
        assert_eq!(Kind::of(&base(3904, "r", None)), Kind::Cast);
        assert_eq!(Kind::of(&base(16_500, "e", None)), Kind::Text);
        assert_eq!(Kind::of(&base(1041, "b", Some((869, "b")))), Kind::Cast);
        assert_eq!(Kind::of(&base(1007, "b", Some((23, "b")))), list(Kind::Int4, 23));
        assert_eq!(Kind::of(&base(16_499, "b", Some((16_500, "e")))), list(Kind::Text, 16_500));
        assert_eq!(Kind::of(&base(16_499, "b", Some((16_500, "d")))), Kind::Cast);
    }
}
