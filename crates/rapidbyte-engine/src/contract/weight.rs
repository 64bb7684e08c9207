//! How much a row is, before text is made of it: a hostile source may say "a billion nulls" in a few bytes.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, OffsetSizeTrait, RecordBatch};
use arrow_schema::DataType;
use std::ops::Range;

/// What an element counts at least, as on PostgreSQL's wire, where each has its length before it.
const ELEMENT: usize = 4;

/// Whether a row has no more than so many bytes.
pub(super) fn fits(batch: &RecordBatch, row: usize, bytes: usize) -> bool {
    let mut left = bytes;
    batch.columns().iter().all(|column| take(column, row..row + 1, &mut left).is_some())
}

fn spend(left: &mut usize, bytes: usize) -> Option<()> {
    *left = left.checked_sub(bytes)?;
    Some(())
}

fn elements(range: &Range<usize>) -> usize {
    range.len().saturating_mul(ELEMENT)
}

fn span<O: OffsetSizeTrait>(offsets: &[O], range: &Range<usize>) -> Range<usize> {
    offsets[range.start].as_usize()..offsets[range.end].as_usize()
}

/// Takes the weight of values off what is left; `None` if that is not enough.
fn take(array: &ArrayRef, range: Range<usize>, left: &mut usize) -> Option<()> {
    spend(left, elements(&range))?;
    match array.data_type() {
        DataType::Utf8 => spend(left, span(array.as_string::<i32>().value_offsets(), &range).len()),
        DataType::LargeUtf8 => spend(left, span(array.as_string::<i64>().value_offsets(), &range).len()),
        DataType::Binary => spend(left, span(array.as_binary::<i32>().value_offsets(), &range).len()),
        DataType::LargeBinary => spend(left, span(array.as_binary::<i64>().value_offsets(), &range).len()),
        DataType::FixedSizeBinary(size) => spend(left, usize::try_from(*size).ok()?.checked_mul(range.len())?),
        DataType::List(_) => take(array.as_list::<i32>().values(), span(array.as_list::<i32>().value_offsets(), &range), left),
        DataType::LargeList(_) => take(array.as_list::<i64>().values(), span(array.as_list::<i64>().value_offsets(), &range), left),
        DataType::FixedSizeList(_, size) => {
            let size = usize::try_from(*size).ok()?;
            let inner = range.start.checked_mul(size)?..range.end.checked_mul(size)?;
            take(array.as_fixed_size_list().values(), inner, left)
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let inner = span(map.value_offsets(), &range);
            take(map.keys(), inner.clone(), left)?;
            take(map.values(), inner, left)
        }
        DataType::Struct(_) => array.as_struct().columns().iter().try_for_each(|member| take(member, range.clone(), left)),
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            if dictionary.values().is_empty() {
                return Some(());
            }
            let keys = dictionary.normalized_keys();
            range.into_iter().try_for_each(|row| take(dictionary.values(), keys[row]..keys[row] + 1, left))
        }
        _ => Some(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{DictionaryArray, FixedSizeListArray, Int64Array, ListArray, NullArray, StringArray, types::Int32Type};
    use arrow_buffer::OffsetBuffer;
    use arrow_schema::Field;
    use std::sync::Arc;

    fn weighs(array: ArrayRef, at_least: usize, at_most: usize) {
        let batch = RecordBatch::try_from_iter([("c", array)]).unwrap();
        assert!(!fits(&batch, 0, at_least - 1), "{at_least}");
        assert!(fits(&batch, 0, at_most), "{at_most}");
    }

    #[test]
    fn rows_weigh_what_they_hold() {
        weighs(Arc::new(Int64Array::from(vec![1])), 4, 4);
        weighs(Arc::new(StringArray::from(vec!["x".repeat(100), "y".repeat(1000)])), 104, 104);
        let words: DictionaryArray<Int32Type> = vec!["x".repeat(100).as_str()].into_iter().collect();
        weighs(Arc::new(words), 100, 108);
        let item = Arc::new(Field::new("item", DataType::Null, true));
        let many =
            ListArray::new(Arc::clone(&item), OffsetBuffer::from_lengths([1 << 28]), Arc::new(NullArray::new(1 << 28)), None);
        weighs(Arc::new(many), 1 << 30, (1 << 30) + 4);
        let fixed = FixedSizeListArray::new(item, 1 << 28, Arc::new(NullArray::new(1 << 28)), None);
        weighs(Arc::new(fixed), 1 << 30, (1 << 30) + 4);
    }
}
