//! Column types: how values travel in COPY BINARY, and what an Arrow field becomes.

use crate::evolution::Earlier;
use crate::identity::Identity;
use arrow_schema::{DataType, Field, TimeUnit};

/// How the values of a column travel: the send form of its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wire {
    Bool,
    Int2,
    Int4,
    Int8,
    /// `oid`, `xid`, `cid`.
    Unsigned4,
    /// `xid8`, `pg_lsn`.
    Unsigned8,
    Float4,
    Float8,
    Numeric,
    /// Hundredths, as 64 bits.
    Money,
    /// `"char"`: one byte.
    Char,
    /// Every type whose send form is its text: `text`, `varchar`, `char`, `name`, `json`, `citext`, enums.
    Text,
    /// Text after a version byte: `jsonb`, `ltree`.
    VersionedText(u8),
    Bytea,
    Uuid,
    Date,
    Time,
    Timestamp {
        zoned: bool,
    },
    Interval,
    Array {
        element: Box<Wire>,
        oid: u32,
    },
    /// Types whose values come as their text.
    OfText(OfText),
}

/// Types with a send form of their own that is made of their text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OfText {
    Inet,
    Cidr,
    /// `macaddr` and `macaddr8`, by their bytes.
    Mac(usize),
    Bits,
    TimeTz,
    Lsn,
    Xid8,
    Cid,
    Tid,
    Snapshot,
    /// Geometric types that are so many numbers: `point`, `line`, `lseg`, `box`, `circle`.
    Numbers(usize),
    Path,
    Polygon,
}

impl Wire {
    /// The wire form of a type of `pg_catalog`; `None` for those whose send form this connector does not write.
    pub(crate) fn of_builtin(typname: &str) -> Option<Self> {
        Some(match typname {
            "bool" => Self::Bool,
            "int2" => Self::Int2,
            "int4" => Self::Int4,
            "int8" => Self::Int8,
            "oid" | "xid" | "cid" => Self::Unsigned4,
            "xid8" | "pg_lsn" => Self::Unsigned8,
            "float4" => Self::Float4,
            "float8" => Self::Float8,
            "numeric" => Self::Numeric,
            "money" => Self::Money,
            "char" => Self::Char,
            "text" | "varchar" | "bpchar" | "name" | "json" => Self::Text,
            "jsonb" => Self::VersionedText(1),
            "bytea" => Self::Bytea,
            "uuid" => Self::Uuid,
            "date" => Self::Date,
            "time" => Self::Time,
            "timestamp" => Self::Timestamp { zoned: false },
            "timestamptz" => Self::Timestamp { zoned: true },
            "interval" => Self::Interval,
            _ => return None,
        })
    }

    /// The wire form of a type of `pg_catalog` whose values come as text; `None` for those that the server has to cast.
    pub(crate) fn of_text(typname: &str) -> Option<Self> {
        Some(Self::OfText(match typname {
            "inet" => OfText::Inet,
            "cidr" => OfText::Cidr,
            "macaddr" => OfText::Mac(6),
            "macaddr8" => OfText::Mac(8),
            "bit" | "varbit" => OfText::Bits,
            "timetz" => OfText::TimeTz,
            "pg_lsn" => OfText::Lsn,
            "xid8" => OfText::Xid8,
            "cid" => OfText::Cid,
            "tid" => OfText::Tid,
            "txid_snapshot" | "pg_snapshot" => OfText::Snapshot,
            "point" => OfText::Numbers(2),
            "line" | "circle" => OfText::Numbers(3),
            "lseg" | "box" => OfText::Numbers(4),
            "path" => OfText::Path,
            "polygon" => OfText::Polygon,
            "jsonpath" => return Some(Self::VersionedText(1)),
            "refcursor" => return Some(Self::Text),
            _ => return None,
        }))
    }

    /// The byte before the text of a value.
    pub(crate) fn text_version(&self) -> Option<u8> {
        match self {
            Self::VersionedText(version) => Some(*version),
            _ => None,
        }
    }
}

/// A type as SQL writes it, and how its values travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColumnType {
    /// `integer`, `numeric(15,2)`, `public.mood`.
    pub(crate) sql: String,
    pub(crate) wire: Wire,
}

impl ColumnType {
    pub(crate) fn new(sql: impl Into<String>, wire: Wire) -> Self {
        Self { sql: sql.into(), wire }
    }

    pub(crate) fn text() -> Self {
        Self::new("text", Wire::Text)
    }
}

/// What the source says of a column beside its Arrow type; the agreement between the two PostgreSQL connectors.
#[derive(Debug, Default)]
pub(crate) struct Marks<'a> {
    /// `format_type()` of the column at the source.
    pub(crate) pg_type: Option<&'a str>,
    /// The base type of a domain.
    pub(crate) base_type: Option<&'a str>,
    pub(crate) encoding: Encoding,
    /// The place in the primary key, from 1.
    pub(crate) pk_ord: Option<u32>,
    /// How many columns the primary key has.
    pub(crate) pk_len: Option<u32>,
    /// It is NOT NULL at the source.
    pub(crate) not_null: bool,
    /// The source computes the column.
    pub(crate) generated: bool,
    /// The source numbers the column.
    pub(crate) identity: Option<Identity>,
    /// The Arrow extension type.
    pub(crate) extension: Option<&'a str>,
    /// The types of the source that the column is made of, as JSON.
    pub(crate) types: Option<&'a str>,
    /// The value that rows show which were there before the column, as the source's type writes it.
    pub(crate) missing: Option<&'a str>,
    /// Such rows may show values that nothing tells.
    pub(crate) untold: bool,
}

/// How values of a PostgreSQL column are carried in Arrow.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// By the Arrow type.
    #[default]
    Natural,
    /// As the type's text.
    Text,
}

impl<'a> Marks<'a> {
    /// What rows show of it that were there before.
    pub(crate) fn earlier(&self) -> Earlier {
        match self.missing {
            Some(value) => Earlier::Value(value.to_owned()),
            None if self.untold => Earlier::Untold,
            None => Earlier::Null,
        }
    }

    /// The marks of a field, or the name of an encoding that is not known.
    pub(crate) fn of(field: &'a Field) -> Result<Self, &'a str> {
        let metadata = field.metadata();
        let get = |key: &str| metadata.get(key).map(String::as_str);
        Ok(Self {
            pg_type: get("rapidbyte.pg.type"),
            base_type: get("rapidbyte.pg.base_type"),
            encoding: match get("rapidbyte.pg.encoding") {
                None => Encoding::Natural,
                Some("text") => Encoding::Text,
                Some(other) => return Err(other),
            },
            pk_ord: get("rapidbyte.pg.pk_ord").and_then(|ord| ord.parse().ok()),
            pk_len: get("rapidbyte.pg.pk_len").and_then(|len| len.parse().ok()),
            not_null: get("rapidbyte.pg.notnull").is_some(),
            generated: get("rapidbyte.pg.generated").is_some(),
            identity: get("rapidbyte.pg.identity").and_then(Identity::of),
            extension: get("ARROW:extension:name"),
            types: get("rapidbyte.pg.types"),
            missing: get("rapidbyte.pg.missing"),
            untold: get("rapidbyte.pg.untold").is_some(),
        })
    }
}

/// Whether text from outside may be put where SQL expects a type. The server's own parser has the last word; this keeps
/// everything that could end or comment out the statement away from it.
pub(crate) fn looks_like_type(text: &str) -> bool {
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ' ' | '.' | ',' | '(' | ')' | '[' | ']' | '$') || !c.is_ascii();
    let mut quoted = false;
    let mut before = ' ';
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            '\0' => return false,
            // A scale may be negative: `numeric(5,-2)`.
            '-' if before == ',' => {}
            c if !quoted && !plain(c) => return false,
            _ => {}
        }
        before = c;
    }
    !quoted && !text.trim().is_empty() && text.len() <= 1024
}

/// The column for values of an Arrow type from any source; `None` if PostgreSQL has none that keeps every value.
pub(crate) fn neutral(data_type: &DataType, extension: Option<&str>) -> Option<ColumnType> {
    let column = |sql: &str, wire| Some(ColumnType::new(sql, wire));
    match data_type {
        DataType::Null => Some(ColumnType::text()),
        DataType::Boolean => column("boolean", Wire::Bool),
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => column("smallint", Wire::Int2),
        DataType::UInt16 | DataType::Int32 => column("integer", Wire::Int4),
        DataType::UInt32 | DataType::Int64 => column("bigint", Wire::Int8),
        DataType::UInt64 => column("numeric(20,0)", Wire::Numeric),
        DataType::Float16 | DataType::Float32 => column("real", Wire::Float4),
        DataType::Float64 => column("double precision", Wire::Float8),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            // Servers before 15 know no negative scale and none beyond the precision.
            let sql = if *scale < 0 {
                format!("numeric({},0)", u16::from(*precision) + u16::from(scale.unsigned_abs()))
            } else {
                format!("numeric({},{scale})", (*precision).max(scale.unsigned_abs()))
            };
            Some(ColumnType::new(sql, Wire::Numeric))
        }
        DataType::Utf8 | DataType::LargeUtf8 if extension == Some("arrow.json") => column("json", Wire::Text),
        DataType::Utf8 | DataType::LargeUtf8 => Some(ColumnType::text()),
        DataType::FixedSizeBinary(16) if extension == Some("arrow.uuid") => column("uuid", Wire::Uuid),
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => column("bytea", Wire::Bytea),
        DataType::Date32 | DataType::Date64 => column("date", Wire::Date),
        DataType::Time32(_) | DataType::Time64(_) => column("time", Wire::Time),
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond, zone) => {
            let zoned = zone.is_some();
            column(if zoned { "timestamptz" } else { "timestamp" }, Wire::Timestamp { zoned })
        }
        DataType::Duration(_) | DataType::Interval(_) => column("interval", Wire::Interval),
        DataType::Dictionary(_, values) => neutral(values, extension),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            // An array of arrays is one array of two dimensions, which can't hold rows of different lengths.
            if matches!(item.data_type(), DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..)) {
                return None;
            }
            let element = neutral(item.data_type(), None)?;
            let oid = builtin_oid(&element.wire)?;
            Some(ColumnType::new(format!("{}[]", element.sql), Wire::Array { element: Box::new(element.wire), oid }))
        }
        _ => None,
    }
}

/// Type numbers of `pg_catalog`, which are the same on every server. Source: `pg_type.dat`.
fn builtin_oid(wire: &Wire) -> Option<u32> {
    Some(match wire {
        Wire::Bool => 16,
        Wire::Bytea => 17,
        Wire::Int8 => 20,
        Wire::Int2 => 21,
        Wire::Int4 => 23,
        Wire::Text => 25,
        Wire::Unsigned4 => 26,
        Wire::Float4 => 700,
        Wire::Float8 => 701,
        Wire::Date => 1082,
        Wire::Time => 1083,
        Wire::Timestamp { zoned: false } => 1114,
        Wire::Timestamp { zoned: true } => 1184,
        Wire::Interval => 1186,
        Wire::Numeric => 1700,
        Wire::Uuid => 2950,
        Wire::Money | Wire::Char | Wire::VersionedText(_) | Wire::Unsigned8 | Wire::Array { .. } | Wire::OfText(_) => return None,
    })
}

/// Whether a column of type `to` holds every value of type `from` exactly as it was. Both are spelled by `format_type()`.
pub(crate) fn widens(from: &str, to: &str) -> bool {
    let (from_name, from_digits) = modifier(from);
    let (to_name, to_digits) = modifier(to);
    match (from_name, to_name) {
        ("smallint", "integer" | "bigint") | ("integer", "bigint") | ("real", "double precision") => true,
        ("smallint" | "integer" | "bigint", "numeric") => to_digits.is_none(),
        ("numeric", "numeric") => match (from_digits, to_digits) {
            (_, None) => true,
            (Some((precision, scale)), Some((wider, finer))) => finer >= scale && wider - finer >= precision - scale,
            (None, Some(_)) => false,
        },
        ("character varying" | "text" | "name", "text") => true,
        ("character varying" | "text" | "name", "character varying") if to_digits.is_none() => true,
        ("character varying", "character varying") => {
            matches!((from_digits, to_digits), (Some((length, _)), Some((longer, _))) if longer >= length)
        }
        _ => false,
    }
}

/// `numeric(15,2)` as its name and numbers.
fn modifier(sql: &str) -> (&str, Option<(i32, i32)>) {
    let split = || {
        let (name, rest) = sql.split_once('(')?;
        let numbers = rest.strip_suffix(')')?;
        let (first, second) = numbers.split_once(',').unwrap_or((numbers, "0"));
        Some((name, (first.trim().parse().ok()?, second.trim().parse().ok()?)))
    };
    split().map_or((sql, None), |(name, numbers)| (name, Some(numbers)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_from_outside_can_not_leave_their_place() {
        for fine in [
            "integer",
            "numeric(15,2)",
            "numeric(5,-2)",
            "character varying(20)[]",
            "public.\"Odd; name\"",
            "timestamp(3) with time zone",
            "\"char\"",
        ] {
            assert!(looks_like_type(fine), "`{fine}` was refused");
        }
        for wrong in ["int; drop table x", "int -- x", "numeric(5,--2)", "int /* x", "int'", "\"open", "", "int\0", "int\n"] {
            assert!(!looks_like_type(wrong), "`{wrong}` was accepted");
        }
    }

    #[test]
    fn decimals_keep_their_digits() {
        let sql = |data_type| neutral(&data_type, None).unwrap().sql;
        assert_eq!(sql(DataType::Decimal128(15, 2)), "numeric(15,2)");
        assert_eq!(sql(DataType::Decimal128(5, -3)), "numeric(8,0)");
        assert_eq!(sql(DataType::Decimal128(2, 5)), "numeric(5,5)");
        assert_eq!(sql(DataType::UInt64), "numeric(20,0)");
    }

    #[test]
    fn only_lossless_ways_are_taken() {
        for (from, to) in [
            ("integer", "bigint"),
            ("bigint", "numeric"),
            ("numeric(10,2)", "numeric(12,3)"),
            ("numeric(10,2)", "numeric"),
            ("character varying(5)", "character varying(9)"),
            ("character varying(5)", "text"),
        ] {
            assert!(widens(from, to), "{from} -> {to}");
        }
        for (from, to) in [
            ("bigint", "integer"),
            ("numeric", "numeric(10,2)"),
            ("numeric(10,2)", "numeric(11,3)x"),
            ("numeric(10,2)", "numeric(10,3)"),
            ("text", "character varying(5)"),
            ("character(5)", "text"),
            ("double precision", "real"),
            ("integer[]", "bigint[]"),
            ("json", "jsonb"),
        ] {
            assert!(!widens(from, to), "{from} -> {to}");
        }
    }

    #[test]
    fn what_can_not_be_held_exactly_is_not_offered() {
        let list = |of: DataType| DataType::List(std::sync::Arc::new(Field::new("item", of, true)));
        assert_eq!(neutral(&list(DataType::Int32), None).unwrap().sql, "integer[]");
        assert!(neutral(&list(list(DataType::Int32)), None).is_none());
        assert!(neutral(&DataType::Struct(vec![Field::new("a", DataType::Int32, true)].into()), None).is_none());
    }
}
