//! How changes travel: the columns a source of changes puts behind those of the table.
//!
//! A batch of changes has the table's columns, then a before-image for each column the source can give one of
//! ([`BEFORE_PREFIX`]), then [`OP`], [`LSN`], [`SEQ`], [`COMMIT_TIME`] and [`UNCHANGED`]. All but `OP`, `LSN` and `SEQ` may be NULL.
//!
//! - **insert**: the row. **update**: the new row. **delete**: what is known of the old row, its key at least.
//! - Before-images are those of the old row, where it was told: always for a delete; for an update if the key was changed, or
//!   if the source tells all of the old row.
//! - A column named in `UNCHANGED` has a value that was not told, since it was not changed: its NULL must not be written.
//! - Changes are ordered by (`LSN`, `SEQ`). A change lies at or before a position exactly if its `LSN` is not beyond it.

use arrow_schema::{DataType, Field, TimeUnit};
use std::sync::Arc;

/// What begins the name of every column that is not the user's.
pub const RESERVED_PREFIX: &str = "_rb_";
/// `insert`, `update` or `delete`; in a change log also `truncate`.
pub const OP: &str = "_rb_op";
/// A number that grows with the source's commits: the same for all changes of a transaction.
pub const LSN: &str = "_rb_lsn";
/// The place of the change in its transaction, from 1.
pub const SEQ: &str = "_rb_seq";
/// When the transaction was committed, by the source's clock.
pub const COMMIT_TIME: &str = "_rb_commit_time";
/// Names of columns whose value was not told, since it was not changed.
pub const UNCHANGED: &str = "_rb_unchanged";
/// What stands before a column's name in that of its before-image.
pub const BEFORE_PREFIX: &str = "_rb_before_";

/// What a row of changes says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeOp {
    /// A row is new.
    Insert,
    /// A row has changed.
    Update,
    /// A row is gone.
    Delete,
    /// The table was emptied; only in change logs, between stages it is an event of its own.
    Truncate,
}

impl ChangeOp {
    /// The word in the column [`OP`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
        }
    }

    /// The operation of a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Insert, Self::Update, Self::Delete, Self::Truncate].into_iter().find(|op| op.as_str() == word)
    }
}

/// The fields behind the table's and their before-images, in order.
pub fn change_fields() -> [Field; 5] {
    let item = Arc::new(Field::new("item", DataType::Utf8, false));
    [
        Field::new(OP, DataType::Utf8, false),
        Field::new(LSN, DataType::UInt64, false),
        Field::new(SEQ, DataType::Int64, false),
        Field::new(COMMIT_TIME, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new(UNCHANGED, DataType::List(item), true),
    ]
}

/// Whether a column's name is one that only Rapidbyte may give.
pub fn is_reserved(name: &str) -> bool {
    name.get(..RESERVED_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED_PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        for op in [ChangeOp::Insert, ChangeOp::Update, ChangeOp::Delete, ChangeOp::Truncate] {
            assert_eq!(ChangeOp::parse(op.as_str()), Some(op));
        }
        assert_eq!(ChangeOp::parse("upsert"), None);
    }

    #[test]
    fn every_field_has_a_reserved_name() {
        assert!(change_fields().iter().all(|field| is_reserved(field.name())));
        assert!(is_reserved("_RB_x") && !is_reserved("rb_x") && !is_reserved("_r") && !is_reserved("ü_rb_"));
    }
}
