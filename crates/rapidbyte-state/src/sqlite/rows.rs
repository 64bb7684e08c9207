//! Rows between the file and Rust: numbers, words and checksums looked at on the way in.

use crate::error::{ErrorKind, StateError};
use crate::pipeline::PipelineId;
use rapidbyte_types::StreamName;
use rusqlite::{Connection, Params, Row};

/// A row of one table, with its checksum.
pub(super) trait Stored: Sized {
    const TABLE: &'static str;
    /// What is read; `sum` is among them.
    const COLUMNS: &'static str;

    fn from_row(row: &Row<'_>) -> Result<Self, StateError>;

    /// The checksum this row ought to have.
    fn sum(&self) -> i64;
}

/// Reads rows, refusing any whose checksum does not agree. `tail` is what follows the table's name.
pub(super) fn select<T: Stored>(connection: &Connection, tail: &str, params: impl Params) -> Result<Vec<T>, StateError> {
    let mut statement = connection.prepare(&format!("SELECT {} FROM {} {tail}", T::COLUMNS, T::TABLE))?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(decode(row)?);
    }
    Ok(found)
}

/// Reads the one row there can be.
pub(super) fn select_one<T: Stored>(connection: &Connection, tail: &str, params: impl Params) -> Result<Option<T>, StateError> {
    Ok(select(connection, tail, params)?.pop())
}

pub(super) fn decode<T: Stored>(row: &Row<'_>) -> Result<T, StateError> {
    let value = T::from_row(row)?;
    let stored: i64 = row.get("sum")?;
    if stored != value.sum() {
        return Err(damaged(T::TABLE, "a row does not match its checksum"));
    }
    Ok(value)
}

pub(super) fn damaged(table: &str, what: &str) -> StateError {
    StateError::new(ErrorKind::Corrupt, format!("the state file is damaged: {what} in `{table}`"))
}

/// A number on its way in.
pub(super) fn signed(value: u64, what: &str) -> Result<i64, StateError> {
    i64::try_from(value).map_err(|_| StateError::new(ErrorKind::Limit, format!("{what} is above {}", i64::MAX)))
}

pub(super) fn maybe_signed(value: Option<u64>, what: &str) -> Result<Option<i64>, StateError> {
    value.map(|value| signed(value, what)).transpose()
}

/// A number on its way out; this crate never writes a negative one.
pub(super) fn unsigned(row: &Row<'_>, column: &str) -> Result<u64, StateError> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| damaged(column, "a negative number"))
}

pub(super) fn maybe_unsigned(row: &Row<'_>, column: &str) -> Result<Option<u64>, StateError> {
    match row.get::<_, Option<i64>>(column)? {
        Some(value) => u64::try_from(value).map(Some).map_err(|_| damaged(column, "a negative number")),
        None => Ok(None),
    }
}

pub(super) fn flag(row: &Row<'_>, column: &str) -> Result<bool, StateError> {
    match row.get::<_, i64>(column)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(damaged(column, "a flag that is neither 0 nor 1")),
    }
}

pub(super) fn pipeline(row: &Row<'_>, column: &str) -> Result<PipelineId, StateError> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error: StateError| damaged(column, "a pipeline that is not a UUID").with_source(error))
}

/// A word of a closed set.
pub(super) fn word<T: Copy>(row: &Row<'_>, column: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, StateError> {
    let text: String = row.get(column)?;
    known(&text, column, all, name)
}

pub(super) fn known<T: Copy>(text: &str, column: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, StateError> {
    all.iter().copied().find(|each| name(*each) == text).ok_or_else(|| damaged(column, "an unknown word"))
}

/// A stream's name as one key: JSON, because a name may hold any separator.
pub(super) fn stream_key(stream: &StreamName) -> String {
    serde_json::to_string(&(&stream.namespace, &stream.name)).expect("two strings are always JSON")
}

pub(super) fn stream(row: &Row<'_>, column: &str) -> Result<StreamName, StateError> {
    let text: String = row.get(column)?;
    let (namespace, name) =
        serde_json::from_str(&text).map_err(|error| damaged(column, "a malformed stream name").with_source(error))?;
    Ok(StreamName { namespace, name })
}
