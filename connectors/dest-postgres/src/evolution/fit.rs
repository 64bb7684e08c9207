//! Values of a column that has changed its type, as values of the type that the table has: only where nothing is lost.
//!
//! A value fits if the table's column can hold it so that it can be told again: `1.00` in an integer, `2024-02-29T00:00:00` in a
//! date, `007` not in an integer. Each value goes by its exact text; such columns are rare, and a load has few of them.

use super::moment;
use crate::encode::Codec;
use crate::types::Wire;
use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float32Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Date32Array, FixedSizeBinaryArray, Float32Array, Float64Array, Int16Array, Int32Array,
    Int64Array, LargeStringArray, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, TimeUnit};
use rapidbyte_sdk::text::{ColumnText, TextKind};
use rapidbyte_sdk::{ConnectorError, Number, split};
use std::collections::HashSet;
use std::sync::Arc;

/// What the table's column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Goal {
    Bool,
    Int(IntSize),
    /// Precision and scale.
    Numeric(Option<(i64, i64)>),
    Float4,
    Float8,
    /// At most so many characters; of fixed length, blanks at the end say nothing.
    Text {
        longest: Option<usize>,
        padded: bool,
    },
    Date,
    /// Digits of a second.
    Timestamp {
        zoned: bool,
        digits: u32,
    },
    Time {
        digits: u32,
    },
    Uuid,
    Json,
    /// Labels of an enum.
    Labels(HashSet<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IntSize {
    Two,
    Four,
    Eight,
}

/// What the source's column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Integer,
    Number,
    Float4,
    Bool,
    Text,
    /// Text of a fixed length, filled up with blanks.
    Padded,
    Date,
    Timestamp {
        zoned: bool,
    },
    Time,
    Uuid,
}

/// The way from the one to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fit {
    kind: Kind,
    goal: Goal,
    /// What becomes of a value that does not fit: NULL, or an error.
    pub(super) or_null: bool,
}

impl Goal {
    /// Of a type as `format_type()` spells it; `labels` if it is an enum.
    fn of(sql: &str, labels: Option<HashSet<String>>) -> Option<Self> {
        if let Some(labels) = labels {
            return Some(Self::Labels(labels));
        }
        let (name, modifier, rest) = match sql.split_once('(') {
            Some((name, rest)) => {
                let (modifier, rest) = rest.split_once(')')?;
                (name, Some(modifier), rest)
            }
            None => (sql, None, ""),
        };
        let digits = || modifier.map_or(Some(6), |text| text.parse().ok().filter(|digits| *digits <= 6));
        let length = || modifier.map(|text| text.parse::<usize>().ok());
        let zone = if rest.is_empty() { sql.split_once(' ').map_or("", |(_, zone)| zone) } else { rest.trim_start() };
        Some(match name.split_once(' ').map_or(name, |(first, _)| first) {
            "boolean" => Self::Bool,
            "smallint" => Self::Int(IntSize::Two),
            "integer" => Self::Int(IntSize::Four),
            "bigint" => Self::Int(IntSize::Eight),
            "numeric" => Self::Numeric(match modifier {
                None => None,
                Some(text) => {
                    let (precision, scale) = text.split_once(',').unwrap_or((text, "0"));
                    Some((precision.trim().parse().ok()?, scale.trim().parse().ok()?))
                }
            }),
            "real" => Self::Float4,
            "double" => Self::Float8,
            "text" => Self::Text { longest: None, padded: false },
            "character" if name == "character varying" => {
                Self::Text { longest: length().map_or(Some(None), |n| n.map(Some))?, padded: false }
            }
            "character" => Self::Text { longest: Some(length()??), padded: true },
            "date" => Self::Date,
            "timestamp" | "timestamptz" => {
                Self::Timestamp { zoned: zone == "with time zone" || name == "timestamptz", digits: digits()? }
            }
            "time" if zone != "with time zone" => Self::Time { digits: digits()? },
            "uuid" => Self::Uuid,
            "json" => Self::Json,
            _ => return None,
        })
        .filter(|_| !sql.ends_with("[]"))
    }

    fn wire(&self) -> Wire {
        match self {
            Self::Bool => Wire::Bool,
            Self::Int(IntSize::Two) => Wire::Int2,
            Self::Int(IntSize::Four) => Wire::Int4,
            Self::Int(IntSize::Eight) => Wire::Int8,
            Self::Numeric(_) => Wire::Numeric,
            Self::Float4 => Wire::Float4,
            Self::Float8 => Wire::Float8,
            Self::Text { .. } | Self::Json | Self::Labels(_) => Wire::Text,
            Self::Date => Wire::Date,
            Self::Timestamp { zoned, .. } => Wire::Timestamp { zoned: *zoned },
            Self::Time { .. } => Wire::Time,
            Self::Uuid => Wire::Uuid,
        }
    }
}

impl Kind {
    /// Of a field; `pg_type` is its type at a PostgreSQL source.
    fn of(field: &Field, pg_type: Option<&str>) -> Option<Self> {
        let whole = split::whole(&Arc::new(field.clone()));
        let mut data_type = whole.data_type();
        if let DataType::Dictionary(_, values) = data_type {
            data_type = values.as_ref();
        }
        Some(match data_type {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Self::Integer,
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Self::Integer,
            DataType::Decimal128(..) | DataType::Decimal256(..) | DataType::Float64 => Self::Number,
            DataType::Float16 | DataType::Float32 => Self::Float4,
            DataType::Boolean => Self::Bool,
            DataType::Utf8 | DataType::LargeUtf8 => match pg_type {
                Some(name) if name == "numeric" || name.starts_with("numeric(") => Self::Number,
                Some(name) if name == "character" || name.starts_with("character(") => Self::Padded,
                _ => Self::Text,
            },
            DataType::Date32 => Self::Date,
            DataType::Timestamp(_, zone) => Self::Timestamp { zoned: zone.is_some() },
            DataType::Time32(_) | DataType::Time64(_) => Self::Time,
            DataType::FixedSizeBinary(16)
                if field.metadata().get("ARROW:extension:name").is_some_and(|name| name == "arrow.uuid")
                    || pg_type == Some("uuid") =>
            {
                Self::Uuid
            }
            _ => return None,
        })
    }
}

impl Fit {
    /// The way for a column into one of the type `sql`; `None` if there is none on which values keep what they say.
    pub(super) fn new(
        field: &Field,
        pg_type: Option<&str>,
        sql: &str,
        labels: Option<HashSet<String>>,
        or_null: bool,
    ) -> Option<Self> {
        let (kind, goal) = (Kind::of(field, pg_type)?, Goal::of(sql, labels)?);
        let numbers = matches!(kind, Kind::Integer | Kind::Number | Kind::Float4);
        let texts = matches!(kind, Kind::Text | Kind::Padded);
        let known = match &goal {
            Goal::Text { .. } => true,
            Goal::Bool => texts || matches!(kind, Kind::Bool | Kind::Integer),
            Goal::Int(_) => numbers || texts || kind == Kind::Bool,
            Goal::Numeric(_) | Goal::Float4 | Goal::Float8 => numbers || texts,
            Goal::Date => texts || matches!(kind, Kind::Date | Kind::Timestamp { zoned: false }),
            Goal::Timestamp { zoned, .. } => texts || kind == Kind::Timestamp { zoned: *zoned } || (!zoned && kind == Kind::Date),
            Goal::Time { .. } => texts || kind == Kind::Time,
            Goal::Uuid => texts || kind == Kind::Uuid,
            Goal::Json | Goal::Labels(_) => texts,
        };
        known.then_some(Self { kind, goal, or_null })
    }

    /// How the values are written once they fit.
    pub(super) fn codec(&self) -> Codec {
        Codec { wire: self.goal.wire(), postgres: true }
    }

    /// Their Arrow type then.
    #[cfg(test)]
    fn data_type(&self) -> DataType {
        match &self.goal {
            Goal::Bool => DataType::Boolean,
            Goal::Int(IntSize::Two) => DataType::Int16,
            Goal::Int(IntSize::Four) => DataType::Int32,
            Goal::Int(IntSize::Eight) => DataType::Int64,
            Goal::Numeric(_) => DataType::Utf8,
            Goal::Float4 => DataType::Float32,
            Goal::Float8 => DataType::Float64,
            Goal::Text { .. } | Goal::Json | Goal::Labels(_) => DataType::LargeUtf8,
            Goal::Date => DataType::Date32,
            Goal::Timestamp { zoned, .. } => DataType::Timestamp(TimeUnit::Microsecond, zoned.then(|| "UTC".into())),
            Goal::Time { .. } => DataType::Time64(TimeUnit::Microsecond),
            Goal::Uuid => DataType::FixedSizeBinary(16),
        }
    }

    /// The column's values as those of the table's type. Those that have none are NULL; where that is not what is wanted, their
    /// rows are added to `misfits`, in order. `None` if the array is not of the field's type.
    pub(super) fn apply(&self, field: &Field, array: &ArrayRef, misfits: &mut Vec<usize>) -> Option<ArrayRef> {
        let texts = Texts::new(field, array).ok()?;
        Some(match &self.goal {
            Goal::Bool => Arc::new(self.each(&texts, misfits, |text| self.bool(text)).collect::<BooleanArray>()),
            Goal::Int(IntSize::Two) => {
                Arc::new(self.each(&texts, misfits, |text| i16::try_from(self.integer(text)?).ok()).collect::<Int16Array>())
            }
            Goal::Int(IntSize::Four) => {
                Arc::new(self.each(&texts, misfits, |text| i32::try_from(self.integer(text)?).ok()).collect::<Int32Array>())
            }
            Goal::Int(IntSize::Eight) => Arc::new(self.each(&texts, misfits, |text| self.integer(text)).collect::<Int64Array>()),
            Goal::Numeric(within) => {
                Arc::new(self.each(&texts, misfits, |text| self.numeric(text, *within)).collect::<StringArray>())
            }
            Goal::Float4 => Arc::new(
                self.each(&texts, misfits, |text| self.float(text, |value: f32| format!("{value:?}"))).collect::<Float32Array>(),
            ),
            Goal::Float8 if self.kind == Kind::Float4 => {
                // Widened, not written again: its shortest text is another number in the wider type.
                let Some(values) = array.as_primitive_opt::<Float32Type>() else { return halves(array) };
                Arc::new(values.iter().map(|value| value.map(f64::from)).collect::<Float64Array>())
            }
            Goal::Float8 => Arc::new(
                self.each(&texts, misfits, |text| self.float(text, |value: f64| format!("{value:?}"))).collect::<Float64Array>(),
            ),
            Goal::Text { longest, padded } => {
                Arc::new(self.each(&texts, misfits, |text| self.text(text, *longest, *padded)).collect::<LargeStringArray>())
            }
            Goal::Json => Arc::new(self.each(&texts, misfits, json).collect::<LargeStringArray>()),
            Goal::Labels(labels) => {
                let known = |text: &str| labels.contains(text).then(|| text.to_owned());
                Arc::new(self.each(&texts, misfits, known).collect::<LargeStringArray>())
            }
            Goal::Date => Arc::new(self.each(&texts, misfits, |text| self.date(text)).collect::<Date32Array>()),
            Goal::Timestamp { zoned, digits } => {
                let made =
                    self.each(&texts, misfits, |text| self.timestamp(text, *zoned, *digits)).collect::<TimestampMicrosecondArray>();
                Arc::new(if *zoned { made.with_timezone("UTC") } else { made })
            }
            Goal::Time { digits } => {
                let time = |text: &str| moment::time(text).filter(|micros| whole(*micros, *digits));
                Arc::new(self.each(&texts, misfits, time).collect::<Time64MicrosecondArray>())
            }
            Goal::Uuid => {
                let values: Vec<Option<[u8; 16]>> = self.each(&texts, misfits, uuid).collect();
                Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.into_iter(), 16).ok()?)
            }
        })
    }

    fn each<T>(
        &self,
        texts: &Texts<'_>,
        misfits: &mut Vec<usize>,
        read: impl Fn(&str) -> Option<T>,
    ) -> std::vec::IntoIter<Option<T>> {
        let mut values = Vec::with_capacity(texts.rows);
        let mut text = String::new();
        for row in 0..texts.rows {
            text.clear();
            if !texts.write(row, &mut text) {
                values.push(None);
                continue;
            }
            let value = read(&text);
            if value.is_none() && !self.or_null {
                misfits.push(row);
            }
            values.push(value);
        }
        values.into_iter()
    }

    fn number(&self, text: &str) -> Option<Number> {
        match self.kind {
            Kind::Text | Kind::Padded => Number::read_plain(text),
            _ => Number::read(text),
        }
    }

    fn bool(&self, text: &str) -> Option<bool> {
        match (self.kind, text) {
            (Kind::Integer, "1") | (_, "true") => Some(true),
            (Kind::Integer, "0") | (_, "false") => Some(false),
            _ => None,
        }
    }

    fn integer(&self, text: &str) -> Option<i64> {
        match (self.kind, text) {
            (Kind::Bool, "true") => Some(1),
            (Kind::Bool, _) => Some(0),
            // As text it would lose its point.
            (Kind::Text | Kind::Padded, text) if text.contains('.') => None,
            _ => self.number(text)?.integer(),
        }
    }

    fn numeric(&self, text: &str, within: Option<(i64, i64)>) -> Option<String> {
        let special = match text {
            "NaN" => true,
            "Infinity" | "-Infinity" => within.is_none(),
            _ => false,
        };
        if special && !matches!(self.kind, Kind::Text | Kind::Padded) {
            return Some(text.to_owned());
        }
        let number = self.number(text)?;
        let Some((precision, scale)) = within else { return Some(text.to_owned()) };
        // Text has all its digits for a reason; of a number, zeros at the end may go.
        let written = text.split_once('.').map_or(0, |(_, fraction)| fraction.len() as i64);
        let keeps = !matches!(self.kind, Kind::Text | Kind::Padded) || written <= scale.max(0);
        (keeps && number.is_within(precision, scale)).then(|| text.to_owned())
    }

    /// A float whose shortest text is the same number.
    fn float<T: std::str::FromStr + Copy>(&self, text: &str, shortest: impl Fn(T) -> String) -> Option<T> {
        let value: T = text.parse().ok()?;
        match text {
            "NaN" | "Infinity" | "-Infinity" => (!matches!(self.kind, Kind::Text | Kind::Padded)).then_some(value),
            // A zero of floats has a sign, which its text keeps.
            _ if self.number(text)? == Number::read(&shortest(value))? => Some(value),
            _ => None,
        }
    }

    fn text(&self, text: &str, longest: Option<usize>, padded: bool) -> Option<String> {
        let text = if padded && self.kind == Kind::Padded { text.trim_end_matches(' ') } else { text };
        let fits = longest.is_none_or(|longest| text.chars().count() <= longest);
        (fits && !(padded && text.ends_with(' '))).then(|| text.to_owned())
    }

    fn date(&self, text: &str) -> Option<i32> {
        match text {
            "infinity" if self.is_moment() => Some(i32::MAX),
            "-infinity" if self.is_moment() => Some(i32::MIN),
            _ if matches!(self.kind, Kind::Timestamp { .. }) => {
                let micros = moment::timestamp(text, false)?;
                (micros % 86_400_000_000 == 0).then(|| i32::try_from(micros / 86_400_000_000).ok())?
            }
            _ => i32::try_from(moment::date(text)?).ok(),
        }
    }

    fn timestamp(&self, text: &str, zoned: bool, digits: u32) -> Option<i64> {
        match text {
            "infinity" if self.is_moment() => Some(i64::MAX),
            "-infinity" if self.is_moment() => Some(i64::MIN),
            _ if self.kind == Kind::Date => moment::date(text)?.checked_mul(86_400_000_000),
            _ => moment::timestamp(text, zoned).filter(|micros| whole(*micros, digits)),
        }
    }

    fn is_moment(&self) -> bool {
        matches!(self.kind, Kind::Date | Kind::Timestamp { .. })
    }
}

/// Floats of 16 bits.
fn halves(array: &ArrayRef) -> Option<ArrayRef> {
    let values = array.as_primitive_opt::<arrow_array::types::Float16Type>()?;
    Some(Arc::new(values.iter().map(|value| value.map(|value| value.to_f64())).collect::<Float64Array>()))
}

/// Whether so many digits of a second are enough.
fn whole(micros: i64, digits: u32) -> bool {
    micros % 10_i64.pow(6 - digits.min(6)) == 0
}

/// Text that is JSON. What a number in it says is the server's to keep.
fn json(text: &str) -> Option<String> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok().map(|_| text.to_owned())
}

/// Text as the server writes it.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    let mut value = [0; 16];
    let mut at = 0;
    for (place, byte) in bytes.iter().enumerate() {
        if matches!(place, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        value[at / 2] = value[at / 2] << 4 | digit;
        at += 1;
    }
    Some(value)
}

/// The exact texts of a column's values.
struct Texts<'a> {
    rows: usize,
    texts: ColumnText<'a>,
    endless: Endless<'a>,
}

/// Moments that PostgreSQL calls infinite, which Arrow has as numbers.
enum Endless<'a> {
    None,
    Days(&'a [i32]),
    Micros(&'a [i64]),
}

impl<'a> Texts<'a> {
    fn new(field: &Field, array: &'a ArrayRef) -> Result<Self, ConnectorError> {
        // A UUID says so here in a way of its own.
        let field = match (array.data_type(), field.metadata().get("rapidbyte.pg.type").map(String::as_str)) {
            (DataType::FixedSizeBinary(16), Some("uuid")) => {
                let mut metadata = field.metadata().clone();
                metadata.insert("ARROW:extension:name".into(), "arrow.uuid".into());
                field.clone().with_metadata(metadata)
            }
            _ => field.clone(),
        };
        let endless = match array.data_type() {
            DataType::Date32 => Endless::Days(array.as_primitive::<Date32Type>().values()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Endless::Micros(array.as_primitive::<TimestampMicrosecondType>().values())
            }
            _ => Endless::None,
        };
        Ok(Self { rows: array.len(), texts: ColumnText::new(&field, array)?, endless })
    }

    /// Appends the text of a row; `false` if it is NULL.
    fn write(&self, row: usize, out: &mut String) -> bool {
        let (most, least) = match self.endless {
            Endless::None => (false, false),
            Endless::Days(days) => (days[row] == i32::MAX, days[row] == i32::MIN),
            Endless::Micros(micros) => (micros[row] == i64::MAX, micros[row] == i64::MIN),
        };
        let is_null = self.texts.write(row, out) == TextKind::Null;
        if !is_null && (most || least) {
            out.clear();
            out.push_str(if most { "infinity" } else { "-infinity" });
        }
        !is_null
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Decimal128Array, TimestampNanosecondArray};
    use std::collections::HashMap;

    fn fit(array: ArrayRef, pg_type: &str, sql: &str, or_null: bool) -> Option<Result<ArrayRef, Vec<usize>>> {
        let metadata = HashMap::from([("rapidbyte.pg.type".to_owned(), pg_type.to_owned())]);
        let field = Field::new("c", array.data_type().clone(), true).with_metadata(metadata);
        let labels = sql.strip_prefix("enum ").map(|labels| labels.split(' ').map(str::to_owned).collect());
        let way = Fit::new(&field, Some(pg_type), sql, labels, or_null)?;
        let mut misfits = Vec::new();
        let made = way.apply(&field, &array, &mut misfits).expect("an array of the field's type");
        assert_eq!(*made.data_type(), way.data_type());
        assert!(way.codec().takes(made.data_type()), "{sql}");
        Some(if misfits.is_empty() { Ok(made) } else { Err(misfits) })
    }

    fn texts(array: &ArrayRef) -> Vec<String> {
        let field = Field::new("c", array.data_type().clone(), true);
        let column = Texts::new(&field, array).unwrap();
        let text = |row| {
            let mut text = String::new();
            if column.write(row, &mut text) { text } else { "NULL".into() }
        };
        (0..array.len()).map(text).collect()
    }

    /// Each value on its own: its text at the destination, or that it does not fit.
    fn each(array: &ArrayRef, pg_type: &str, sql: &str) -> Vec<String> {
        let one = |row| match fit(array.slice(row, 1), pg_type, sql, false).expect("a way") {
            Ok(made) => texts(&made).remove(0),
            Err(misfits) => {
                assert_eq!(misfits, [0]);
                "-".into()
            }
        };
        let alone: Vec<String> = (0..array.len()).map(one).collect();
        // Together, those that do not fit are NULL.
        let together = texts(&fit(array.clone(), pg_type, sql, true).expect("a way").unwrap());
        let nulls: Vec<String> = alone.iter().map(|text| if text == "-" { "NULL".into() } else { text.clone() }).collect();
        assert_eq!(together, nulls);
        let misfits: Vec<usize> = (0..alone.len()).filter(|row| alone[*row] == "-").collect();
        assert_eq!(fit(array.clone(), pg_type, sql, false).expect("a way").err().unwrap_or_default(), misfits);
        alone
    }

    fn strings(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    #[test]
    fn numbers_fit_where_no_digit_is_lost() {
        let ints: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(40_000), Some(i64::MAX), None]));
        assert_eq!(each(&ints, "bigint", "smallint"), ["1", "-", "-", "NULL"]);
        assert_eq!(each(&ints, "bigint", "integer"), ["1", "40000", "-", "NULL"]);
        assert_eq!(each(&ints, "bigint", "numeric(5,2)"), ["1", "-", "-", "NULL"]);
        assert_eq!(each(&ints, "bigint", "double precision"), ["1.0", "40000.0", "-", "NULL"]);
        assert_eq!(each(&ints, "bigint", "character varying(5)"), ["1", "40000", "-", "NULL"]);
        assert_eq!(each(&ints, "bigint", "boolean"), ["true", "-", "-", "NULL"]);
        let decimals: ArrayRef = Arc::new(Decimal128Array::from(vec![100, 150, -12_345]).with_precision_and_scale(10, 2).unwrap());
        assert_eq!(each(&decimals, "numeric(10,2)", "integer"), ["1", "-", "-"]);
        assert_eq!(each(&decimals, "numeric(10,2)", "numeric(3,1)"), ["1.00", "1.50", "-"]);
        assert_eq!(each(&decimals, "numeric(10,2)", "real"), ["1.0", "1.5", "-123.45"]);
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.1, 3.0, 1e300, f64::NAN, -0.5]));
        assert_eq!(each(&floats, "double precision", "numeric(5,2)"), ["0.1", "3.0", "-", "NaN", "-0.5"]);
        assert_eq!(each(&floats, "double precision", "real"), ["0.1", "3.0", "-", "NaN", "-0.5"]);
        assert_eq!(each(&floats, "double precision", "bigint"), ["-", "3", "-", "-", "-"]);
        let reals: ArrayRef = Arc::new(Float32Array::from(vec![0.1, 0.5]));
        assert_eq!(each(&reals, "real", "double precision"), ["0.10000000149011612", "0.5"]);
        let free = strings(&["1e3", "Infinity", "0.10"]);
        assert_eq!(each(&free, "numeric", "numeric(9,1)"), ["1e3", "-", "0.10"]);
    }

    #[test]
    fn text_fits_where_it_would_be_written_again() {
        let values = strings(&["7", "007", " 7", "1.5", "1.50", "-0", "x", ""]);
        assert_eq!(each(&values, "text", "integer"), ["7", "-", "-", "-", "-", "-", "-", "-"]);
        assert_eq!(each(&values, "text", "numeric(4,1)"), ["7", "-", "-", "1.5", "-", "-", "-", "-"]);
        assert_eq!(each(&values, "text", "double precision"), ["7.0", "-", "-", "1.5", "1.5", "-", "-", "-"]);
        assert_eq!(each(&strings(&["abc", "é", "abcd", "ab "]), "text", "character varying(3)"), ["abc", "é", "-", "ab "]);
        assert_eq!(each(&strings(&["abc", "ab "]), "text", "character(3)"), ["abc", "-"]);
        assert_eq!(each(&strings(&["ab   ", "abcd "]), "character(5)", "character(3)"), ["ab", "-"]);
        assert_eq!(each(&strings(&["true", "t", "1"]), "text", "boolean"), ["true", "-", "-"]);
        assert_eq!(each(&strings(&["{\"a\": 1e400}", "{"]), "text", "json"), ["{\"a\": 1e400}", "-"]);
        assert_eq!(each(&strings(&["sad", "glad"]), "text", "enum sad fine"), ["sad", "-"]);
        let id = "00112233-4455-6677-8899-aabbccddeeff";
        let made = fit(strings(&[id]), "text", "uuid", false).unwrap().unwrap();
        assert_eq!(made.as_fixed_size_binary().value(0)[..3], [0x00, 0x11, 0x22]);
        assert_eq!(fit(strings(&[&id.to_uppercase()]), "text", "uuid", false).unwrap().unwrap_err(), [0]);
    }

    #[test]
    fn moments_fit_where_no_time_is_lost() {
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0, 86_400_000_000, 1_500, i64::MAX]));
        assert_eq!(each(&times, "timestamp without time zone", "date"), ["1970-01-01", "1970-01-02", "-", "infinity"]);
        let digits = each(&times, "timestamp without time zone", "timestamp(3) without time zone");
        assert_eq!(digits[2..], ["-", "infinity"]);
        let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1_000, 1]));
        assert_eq!(each(&nanos, "", "timestamp without time zone"), ["1970-01-01T00:00:00.000001", "-"]);
        let days: ArrayRef = Arc::new(Date32Array::from(vec![1, i32::MIN]));
        assert_eq!(each(&days, "date", "timestamp without time zone"), ["1970-01-02T00:00:00.000000", "-infinity"]);
        assert_eq!(each(&strings(&["2024-02-30", "2024-02-29"]), "text", "date"), ["-", "2024-02-29"]);
        assert_eq!(
            each(&strings(&["2024-01-01 00:00:00", "2024-01-01T00:00:00Z"]), "text", "timestamp with time zone"),
            ["-", "2024-01-01T00:00:00.000000Z"]
        );
    }

    #[test]
    fn there_is_no_way_where_a_value_would_say_something_else() {
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC"));
        for sql in ["timestamp without time zone", "date", "integer"] {
            assert!(fit(times.clone(), "timestamp with time zone", sql, false).is_none(), "{sql}");
        }
        for sql in ["jsonb", "integer[]", "inet", "bytea", "interval", "time with time zone", "character varying(x)", "public.odd"]
        {
            assert!(fit(strings(&["1"]), "text", sql, false).is_none(), "{sql}");
        }
        let bytes: ArrayRef = Arc::new(arrow_array::BinaryArray::from(vec![&b"a"[..]]));
        assert!(fit(bytes, "bytea", "text", false).is_none());
    }
}
