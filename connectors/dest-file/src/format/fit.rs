//! How columns are stored when their values may lie beyond what a file can hold, by the declared policy.

use super::values::{Bounds, Unfit, infinity, may_be_unfit, unfit_rows};
use crate::config::{Format, UnsupportedValues};
use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, LargeListArray, ListArray, PrimitiveArray, RecordBatch, StructArray};
use arrow_buffer::i256;
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use rapidbyte_sdk::text::{ColumnText, TextKind};
use rapidbyte_sdk::{ConnectorError, split};
use std::sync::Arc;

const BEYOND: &str = "a value beyond its column's type (`NaN`, infinite or out of its range), which files can't hold";
const NO_NEAREST: &str = "a value without a nearest one that the column's type holds (`NaN`, or an array of another shape)";

/// Intervals of a source that may split them have no bounds as text, which is what files hold of them anyway.
fn is_open_interval(field: &Field) -> bool {
    split::may_split(field) && matches!(split::whole(&Arc::new(field.clone())).data_type(), DataType::Interval(_))
}

/// Whether values of the column may not fit.
fn at_risk(field: &Field) -> bool {
    split::may_split(field) || may_be_unfit(field.data_type())
}

fn as_text(field: &Field) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.remove("ARROW:extension:name");
    metadata.remove(split::KEY);
    metadata.insert("rapidbyte.stored_as".into(), format!("{}, as text", field.data_type()));
    Field::new(field.name(), DataType::Utf8, field.is_nullable()).with_metadata(metadata)
}

/// The same with NULL allowed at every depth.
fn loosened(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::List(item) => DataType::List(Arc::new(loosened(item))),
        DataType::LargeList(item) => DataType::LargeList(Arc::new(loosened(item))),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| Arc::new(loosened(field))).collect::<Fields>()),
        other => other.clone(),
    };
    field.clone().with_data_type(data_type).with_nullable(true)
}

/// The columns as files hold them. It is the same for a column that is split and for one that may be.
pub(crate) fn stored(schema: &Schema, policy: UnsupportedValues) -> SchemaRef {
    let store = |field: &Arc<Field>| {
        let whole = split::whole(field);
        match policy {
            _ if is_open_interval(field) => Arc::new(as_text(&whole)),
            UnsupportedValues::Text if at_risk(&whole) => Arc::new(as_text(&whole)),
            UnsupportedValues::Null if at_risk(&whole) => Arc::new(loosened(&whole)),
            _ => whole,
        }
    };
    Arc::new(Schema::new_with_metadata(schema.fields().iter().map(store).collect::<Vec<_>>(), schema.metadata().clone()))
}

/// The columns of a batch as they are stored, and the rows that can't be, in order, each with the first column at fault: what
/// stands in those rows is not to be stored.
pub(crate) fn fit(
    batch: &RecordBatch,
    stored: &Schema,
    policy: UnsupportedValues,
    format: &Format,
) -> Result<(Vec<ArrayRef>, Vec<Unfit>), ConnectorError> {
    let mut arrays = Vec::with_capacity(batch.num_columns());
    let mut unfit = Vec::new();
    let incoming = batch.schema_ref().fields().iter().zip(batch.columns());
    for (column, ((field, array), stored)) in incoming.zip(stored.fields()).enumerate() {
        let mut refuse = |row, why| unfit.push(Unfit { row, column, why });
        let parts = if split::is_split(field) { split::parts(array.as_ref()) } else { None };
        arrays.push(if *stored.data_type() == DataType::Utf8 && at_risk(field) {
            texts(field, array)?
        } else {
            let whole = match &parts {
                None => array.clone(),
                Some(parts) => {
                    let rows = (0..array.len()).filter(|row| parts.text.is_valid(*row));
                    match policy {
                        UnsupportedValues::Null => parts.value.clone(),
                        UnsupportedValues::Clamp => {
                            let (clamped, left) = nearest(parts);
                            left.into_iter().for_each(|row| refuse(row, NO_NEAREST));
                            clamped
                        }
                        UnsupportedValues::Fail | UnsupportedValues::Text => {
                            rows.for_each(|row| refuse(row, BEYOND));
                            parts.value.clone()
                        }
                    }
                }
            };
            match policy {
                UnsupportedValues::Fail | UnsupportedValues::Text => {
                    unfit.extend(unfit_rows(&whole, column, format));
                    whole
                }
                UnsupportedValues::Null => mended(&whole, stored.data_type(), false, format)?,
                UnsupportedValues::Clamp => mended(&whole, stored.data_type(), true, format)?,
            }
        });
    }
    unfit.sort_by_key(|unfit| (unfit.row, unfit.column));
    unfit.dedup_by_key(|unfit| unfit.row);
    Ok((arrays, unfit))
}

/// Values that fit, or the nearest ones that do; and the rows that have none.
fn nearest(parts: &split::Parts<'_>) -> (ArrayRef, Vec<usize>) {
    let mut left = Vec::new();
    let rows = || (0..parts.text.len()).filter(|row| parts.text.is_valid(*row)).map(|row| (row, parts.text.value(row)));
    macro_rules! replace {
        ($of:ty, $edge:expr) => {{
            let array = parts.value.as_primitive::<$of>();
            let mut values: Vec<Option<_>> = array.iter().collect();
            for (row, text) in rows() {
                match $edge(text) {
                    Some(edge) => values[row] = Some(edge),
                    None => left.push(row),
                }
            }
            Arc::new(values.into_iter().collect::<PrimitiveArray<$of>>().with_data_type(array.data_type().clone())) as ArrayRef
        }};
    }
    let clamped = match parts.value.data_type() {
        DataType::Decimal128(precision, _) => {
            let most = 10_i128.pow(u32::from(*precision)) - 1;
            replace!(Decimal128Type, |text| edge(text, most, -most))
        }
        DataType::Decimal256(precision, _) => {
            let most = (0..*precision).fold(i256::ONE, |most, _| most.wrapping_mul(i256::from_i128(10))).wrapping_sub(i256::ONE);
            replace!(Decimal256Type, |text| edge(text, most, most.wrapping_neg()))
        }
        // They are clamped as the format needs it afterwards.
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let side = |text: &str| Some(if text.starts_with('-') { i64::MIN } else { i64::MAX });
            replace!(TimestampMicrosecondType, side)
        }
        _ => {
            left.extend(rows().map(|(row, _)| row));
            parts.value.clone()
        }
    };
    (clamped, left)
}

fn edge<T>(text: &str, most: T, least: T) -> Option<T> {
    match text {
        "Infinity" => Some(most),
        "-Infinity" => Some(least),
        _ => None,
    }
}

/// Dates and times with what does not fit as NULL or as the nearest that does.
fn mended(array: &ArrayRef, target: &DataType, clamp: bool, format: &Format) -> Result<ArrayRef, ConnectorError> {
    fn bounded<T>(array: &ArrayRef, bounds: Option<Bounds>, clamp: bool) -> ArrayRef
    where
        T: ArrowPrimitiveType,
        T::Native: Into<i64> + TryFrom<i64>,
    {
        let (Some(bounds), values) = (bounds, array.as_primitive::<T>()) else { return array.clone() };
        if values.iter().flatten().all(|value| bounds.hold(value.into())) {
            return array.clone();
        }
        let mend = |value: T::Native| {
            let wide: i64 = value.into();
            if bounds.hold(wide) { Some(value) } else { clamp.then(|| bounds.nearest(wide)).and_then(|near| near.try_into().ok()) }
        };
        let mended: PrimitiveArray<T> = values.iter().map(|value| value.and_then(mend)).collect();
        Arc::new(mended.with_data_type(array.data_type().clone()))
    }
    let failed = |error: arrow_schema::ArrowError| ConnectorError::internal("mend", error.to_string());
    let bounds = Bounds::of(array.data_type(), format);
    Ok(match (array.data_type(), target) {
        (DataType::Date32, _) => bounded::<Date32Type>(array, bounds, clamp),
        (DataType::Timestamp(TimeUnit::Second, _), _) => bounded::<TimestampSecondType>(array, bounds, clamp),
        (DataType::Timestamp(TimeUnit::Millisecond, _), _) => bounded::<TimestampMillisecondType>(array, bounds, clamp),
        (DataType::Timestamp(TimeUnit::Microsecond, _), _) => bounded::<TimestampMicrosecondType>(array, bounds, clamp),
        (DataType::Timestamp(TimeUnit::Nanosecond, _), _) => bounded::<TimestampNanosecondType>(array, bounds, clamp),
        (DataType::Time32(TimeUnit::Second), _) => bounded::<Time32SecondType>(array, bounds, clamp),
        (DataType::Time32(_), _) => bounded::<Time32MillisecondType>(array, bounds, clamp),
        (DataType::Time64(TimeUnit::Microsecond), _) => bounded::<Time64MicrosecondType>(array, bounds, clamp),
        (DataType::Time64(_), _) => bounded::<Time64NanosecondType>(array, bounds, clamp),
        (DataType::List(_), DataType::List(item)) => {
            let list = array.as_list::<i32>();
            let values = mended(list.values(), item.data_type(), clamp, format)?;
            Arc::new(ListArray::try_new(item.clone(), list.offsets().clone(), values, list.nulls().cloned()).map_err(failed)?)
        }
        (DataType::LargeList(_), DataType::LargeList(item)) => {
            let list = array.as_list::<i64>();
            let values = mended(list.values(), item.data_type(), clamp, format)?;
            Arc::new(LargeListArray::try_new(item.clone(), list.offsets().clone(), values, list.nulls().cloned()).map_err(failed)?)
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let of = array.as_struct();
            let members = of.columns().iter().zip(fields).map(|(column, field)| mended(column, field.data_type(), clamp, format));
            let members = members.collect::<Result<_, _>>()?;
            Arc::new(StructArray::try_new(fields.clone(), members, of.nulls().cloned()).map_err(failed)?)
        }
        _ => array.clone(),
    })
}

/// Every value as its exact text.
fn texts(field: &Field, array: &ArrayRef) -> Result<ArrayRef, ConnectorError> {
    let mut builder = StringBuilder::with_capacity(array.len(), array.len() * 12);
    let writer = Writer::new(field, array)?;
    let mut text = String::new();
    for row in 0..array.len() {
        text.clear();
        if writer.write(row, &mut text) { builder.append_value(&text) } else { builder.append_null() }
    }
    Ok(Arc::new(builder.finish()))
}

/// The texts of a column: those of the SDK, with PostgreSQL's words for what is infinite, and its form of arrays.
enum Writer<'a> {
    Split(Box<Writer<'a>>, split::Parts<'a>),
    List(&'a ListArray, Box<Writer<'a>>),
    Plain(&'a ArrayRef, ColumnText<'a>),
}

impl<'a> Writer<'a> {
    fn new(field: &Field, array: &'a ArrayRef) -> Result<Self, ConnectorError> {
        if split::is_split(field)
            && let Some(parts) = split::parts(array.as_ref())
        {
            let whole = split::whole(&Arc::new(field.clone()));
            return Ok(Self::Split(Box::new(Self::new(&whole, parts.value)?), parts));
        }
        if let DataType::List(item) = array.data_type() {
            let list = array.as_list::<i32>();
            return Ok(Self::List(list, Box::new(Self::new(item, list.values())?)));
        }
        Ok(Self::Plain(array, ColumnText::new(field, array)?))
    }

    /// Appends the text of a row; false for NULL.
    fn write(&self, row: usize, out: &mut String) -> bool {
        match self {
            Self::Split(_, parts) if parts.text.is_valid(row) => out.push_str(parts.text.value(row)),
            Self::Split(value, _) => return value.write(row, out),
            Self::List(list, _) if list.is_null(row) => return false,
            Self::List(list, items) => {
                out.push('{');
                let ends = list.value_offsets();
                for at in ends[row]..ends[row + 1] {
                    if at > ends[row] {
                        out.push(',');
                    }
                    push_item(items, at as usize, out);
                }
                out.push('}');
            }
            Self::Plain(array, _) if infinity(array.as_ref(), row).is_some() && array.is_valid(row) => {
                out.push_str(infinity(array.as_ref(), row).unwrap_or_default());
            }
            Self::Plain(_, texts) => return texts.write(row, out) != TextKind::Null,
        }
        true
    }
}

/// An element as it stands in PostgreSQL's form of an array.
fn push_item(items: &Writer<'_>, at: usize, out: &mut String) {
    let mut text = String::new();
    if !items.write(at, &mut text) {
        out.push_str("NULL");
        return;
    }
    let special = |c: char| matches!(c, '"' | '\\' | '{' | '}' | ',' | '\t' | '\n' | '\r' | ' ' | '\u{b}' | '\u{c}');
    // A list within a list stands as it is.
    if matches!(items, Writer::List(..)) || !(text.is_empty() || text.eq_ignore_ascii_case("null") || text.contains(special)) {
        out.push_str(&text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}
