//! PostgreSQL's binary COPY format into Arrow arrays.

mod column;
mod list;
#[cfg(test)]
mod meter;
mod numeric;
mod rows;
mod split;

#[cfg(test)]
pub(crate) use numeric::text as numeric_text;
pub(crate) use rows::{DecodedColumn, Pushed, RowDecoder, Run};

/// Why a value was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueError {
    /// Legal, but outside what the column's Arrow type holds.
    Beyond,
    /// Not what the type's send form looks like.
    Malformed(&'static str),
}
