//! Columns with values beyond their Arrow type.
//!
//! A source that meets a legal value which the column's Arrow type does not hold (`NaN` in a decimal, a timestamp after the
//! last that 64 bits count) announces its schema again with this one column *split*: a struct of
//!
//! | member | type | holds |
//! |---|---|---|
//! | `value` | the column's type | the value, where it fits |
//! | `send` | binary | else the value in the source's own binary form |
//! | `text` | utf8 | and its exact text, as [`super::text`] would write it |
//!
//! The struct is null where the column is. Destinations that know the source's form write `send` as it is; others follow their
//! policy for values they can't hold, with `text` at hand. Columns to which this may happen say so from the beginning.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, StringArray};
use arrow_schema::{DataType, Field, Fields};
use std::sync::Arc;

/// The key of a field's metadata: `may` or `is`.
pub const KEY: &str = "rapidbyte.split";

/// Whether the column may come split later on, or is now.
pub fn may_split(field: &Field) -> bool {
    field.metadata().contains_key(KEY)
}

/// Whether the column is split.
pub fn is_split(field: &Field) -> bool {
    field.metadata().get(KEY).is_some_and(|state| state == "is") && whole_type(field.data_type()).is_some()
}

fn with(field: &Field, data_type: DataType, state: &str) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(KEY.into(), state.into());
    Field::new(field.name(), data_type, field.is_nullable()).with_metadata(metadata)
}

/// The field, telling that its column may come split.
pub fn mark(field: &Field) -> Field {
    with(field, field.data_type().clone(), "may")
}

/// The members of a split column of a type.
pub fn members(data_type: &DataType) -> Fields {
    Fields::from(vec![
        Field::new("value", data_type.clone(), true),
        Field::new("send", DataType::Binary, true),
        Field::new("text", DataType::Utf8, true),
    ])
}

/// The field of the same column once it is split.
pub fn split(field: &Field) -> Field {
    with(field, DataType::Struct(members(field.data_type())), "is")
}

fn whole_type(data_type: &DataType) -> Option<&DataType> {
    let DataType::Struct(fields) = data_type else { return None };
    let [value, send, text] = fields.as_ref() else { return None };
    let named = value.name() == "value" && send.name() == "send" && text.name() == "text";
    (named && *send.data_type() == DataType::Binary && *text.data_type() == DataType::Utf8).then(|| value.data_type())
}

/// The field of the column as it was before it was split; any other field as it is.
pub fn whole(field: &Arc<Field>) -> Arc<Field> {
    match whole_type(field.data_type()) {
        Some(data_type) if is_split(field) => Arc::new(with(field, data_type.clone(), "may")),
        _ => field.clone(),
    }
}

/// The members of a split column's array.
pub struct Parts<'a> {
    /// Values that fit.
    pub value: &'a ArrayRef,
    /// Others in the source's own form.
    pub send: &'a BinaryArray,
    /// Their exact texts.
    pub text: &'a StringArray,
}

/// The members of an array with the shape of a split column.
pub fn parts(array: &dyn Array) -> Option<Parts<'_>> {
    whole_type(array.data_type())?;
    let [value, send, text] = array.as_struct().columns() else { return None };
    Some(Parts { value, send: send.as_binary(), text: text.as_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_split_and_whole_again() {
        let field = mark(&Field::new("n", DataType::Decimal128(5, 2), false));
        assert!(may_split(&field) && !is_split(&field));
        let halves = split(&field);
        assert!(is_split(&halves) && !halves.is_nullable());
        assert_eq!(*whole(&Arc::new(halves)), field);
        let plain = Arc::new(Field::new("n", DataType::Int32, true));
        assert_eq!(whole(&plain), plain);
        // A struct of that shape is split only if it says so.
        let alike = Field::new("n", DataType::Struct(members(&DataType::Int32)), true);
        assert!(!is_split(&alike));
    }
}
