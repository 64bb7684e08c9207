//! One-dimensional arrays.

use super::ValueError;
use super::column::{ColumnBuilder, FinishError};
use crate::types::Kind;
use arrow_array::{ArrayRef, ListArray};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::FieldRef;
use std::sync::Arc;

/// Lists under construction.
pub(super) struct ListValues {
    offsets: Vec<i32>,
    items: ColumnBuilder,
    field: FieldRef,
    element_oid: u32,
}

fn short() -> ValueError {
    ValueError::Malformed("an array is cut short")
}

fn split_i32(bytes: &[u8]) -> Result<(i32, &[u8]), ValueError> {
    let (head, rest) = bytes.split_first_chunk::<4>().ok_or_else(short)?;
    Ok((i32::from_be_bytes(*head), rest))
}

impl ListValues {
    pub(super) fn new(element: &Kind, element_oid: u32, rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        let field = Arc::new(element.item_field());
        Self { offsets, items: ColumnBuilder::new(element, 0), field, element_oid }
    }

    /// Dimensions, has-nulls flag, element type, then size and lower bound of each dimension, then the elements.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), ValueError> {
        let (dimensions, rest) = split_i32(bytes)?;
        let (_has_nulls, rest) = split_i32(rest)?;
        let (oid, rest) = split_i32(rest)?;
        if oid.cast_unsigned() != self.element_oid {
            return Err(ValueError::Malformed("an array has elements of another type"));
        }
        match dimensions {
            0 if rest.is_empty() => return self.end(),
            1 => {}
            2..=6 => return Err(ValueError::Beyond),
            _ => return Err(ValueError::Malformed("an array has an impossible number of dimensions")),
        }
        let (count, rest) = split_i32(rest)?;
        let (lower_bound, mut rest) = split_i32(rest)?;
        if lower_bound != 1 {
            return Err(ValueError::Beyond);
        }
        for _ in 0..count {
            let (length, after) = split_i32(rest)?;
            rest = match usize::try_from(length) {
                Ok(length) => {
                    let (value, after) = after.split_at_checked(length).ok_or_else(short)?;
                    self.items.push(value)?;
                    after
                }
                Err(_) if length == -1 => {
                    self.items.push_null()?;
                    after
                }
                Err(_) => return Err(ValueError::Malformed("an array element has an impossible length")),
            };
        }
        if !rest.is_empty() || count < 0 {
            return Err(ValueError::Malformed("an array's elements don't match their count"));
        }
        self.end()
    }

    pub(super) fn push_null(&mut self) -> Result<(), ValueError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), ValueError> {
        let end = i32::try_from(self.items.len()).map_err(|_| ValueError::Malformed("a batch holds more than 2^31 elements"))?;
        self.offsets.push(end);
        Ok(())
    }

    pub(super) fn expanded_bytes(&self) -> usize {
        self.items.expanded_bytes()
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.items.truncate(self.offsets.last().map_or(0, |end| end.cast_unsigned() as usize));
    }

    pub(super) fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, FinishError> {
        let mut fresh = Vec::with_capacity(self.offsets.len());
        fresh.push(0);
        let offsets = std::mem::replace(&mut self.offsets, fresh);
        let items = self.items.finish(true)?;
        Ok(Arc::new(ListArray::new(self.field.clone(), OffsetBuffer::new(ScalarBuffer::from(offsets)), items, nulls)))
    }
}
