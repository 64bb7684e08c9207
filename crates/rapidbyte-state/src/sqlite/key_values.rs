//! The table `key_values`.

use super::checksum::Checksum;
use super::pipelines;
use super::rows::{self, Stored, select, select_one};
use crate::error::{ErrorKind, StateError};
use crate::key_value::{KeyValueScope, MAX_KEYS_PER_SCOPE, check_key, check_value};
use crate::pipeline::PipelineId;
use rusqlite::{Connection, Row, Transaction, params};

pub(super) struct KeyRow {
    pipeline: PipelineId,
    scope: String,
    key: String,
    value_sum: i64,
}

impl Stored for KeyRow {
    const TABLE: &'static str = "key_values";
    const COLUMNS: &'static str = "pipeline, scope, key, value_sum, sum";

    fn from_row(row: &Row<'_>) -> Result<Self, StateError> {
        Ok(Self {
            pipeline: rows::pipeline(row, "pipeline")?,
            scope: row.get("scope")?,
            key: row.get("key")?,
            value_sum: row.get("value_sum")?,
        })
    }

    fn sum(&self) -> i64 {
        Checksum::of(Self::TABLE)
            .text(&self.pipeline.to_string())
            .text(&self.scope)
            .text(&self.key)
            .bytes(&self.value_sum.to_le_bytes())
            .finish()
    }
}

fn value_sum(value: &[u8]) -> i64 {
    Checksum::of("key_values.value").bytes(value).finish()
}

const ONE: &str = "WHERE pipeline = ?1 AND scope = ?2 AND key = ?3";

pub(super) fn get(
    connection: &Connection,
    pipeline: PipelineId,
    scope: &KeyValueScope,
    key: &str,
) -> Result<Option<Vec<u8>>, StateError> {
    scope.check()?;
    check_key(key)?;
    let at = params![pipeline.to_string(), scope.encode(), key];
    let Some(row) = select_one::<KeyRow>(connection, ONE, at)? else {
        return Ok(None);
    };
    let value: Vec<u8> = connection.query_row(&format!("SELECT value FROM key_values {ONE}"), at, |row| row.get(0))?;
    if value_sum(&value) != row.value_sum {
        return Err(rows::damaged(KeyRow::TABLE, "a value does not match its checksum"));
    }
    Ok(Some(value))
}

pub(super) fn put(
    tx: &Transaction<'_>,
    pipeline: PipelineId,
    scope: &KeyValueScope,
    key: &str,
    value: &[u8],
) -> Result<(), StateError> {
    scope.check()?;
    restore(tx, pipeline, &scope.encode(), key, value)
}

/// Sets a value in a scope as it is stored.
pub(super) fn restore(tx: &Transaction<'_>, pipeline: PipelineId, scope: &str, key: &str, value: &[u8]) -> Result<(), StateError> {
    check_key(key)?;
    check_value(value)?;
    pipelines::require(tx, pipeline)?;
    let row = KeyRow { pipeline, scope: scope.to_owned(), key: key.to_owned(), value_sum: value_sum(value) };
    let others: i64 = tx.query_row(
        "SELECT count(*) FROM key_values WHERE pipeline = ?1 AND scope = ?2 AND key <> ?3",
        params![pipeline.to_string(), row.scope, key],
        |row| row.get(0),
    )?;
    if others.unsigned_abs() >= MAX_KEYS_PER_SCOPE as u64 {
        let message = format!("the scope holds {others} keys, at most {MAX_KEYS_PER_SCOPE} are allowed");
        return Err(StateError::new(ErrorKind::Limit, message));
    }
    tx.execute(
        "INSERT INTO key_values (pipeline, scope, key, value_sum, sum, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (pipeline, scope, key) DO UPDATE SET
             value_sum = excluded.value_sum, sum = excluded.sum, value = excluded.value",
        params![pipeline.to_string(), row.scope, key, row.value_sum, row.sum(), value],
    )?;
    Ok(())
}

pub(super) fn cas(
    tx: &Transaction<'_>,
    pipeline: PipelineId,
    scope: &KeyValueScope,
    key: &str,
    expected: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<bool, StateError> {
    if let Some(value) = value {
        check_value(value)?;
    }
    if get(tx, pipeline, scope, key)?.as_deref() != expected {
        return Ok(false);
    }
    match value {
        Some(value) => put(tx, pipeline, scope, key, value)?,
        None => {
            tx.execute(&format!("DELETE FROM key_values {ONE}"), params![pipeline.to_string(), scope.encode(), key])?;
        }
    }
    Ok(true)
}

/// Scope, key and value of everything a pipeline's connectors have stored.
pub(super) fn all(connection: &Connection, pipeline: PipelineId) -> Result<Vec<(String, String, Vec<u8>)>, StateError> {
    let keys: Vec<KeyRow> = select(connection, "WHERE pipeline = ?1 ORDER BY scope, key", [pipeline.to_string()])?;
    let read = |row: KeyRow| {
        let at = params![pipeline.to_string(), row.scope, row.key];
        let value: Vec<u8> = connection.query_row(&format!("SELECT value FROM key_values {ONE}"), at, |row| row.get(0))?;
        if value_sum(&value) != row.value_sum {
            return Err(rows::damaged(KeyRow::TABLE, "a value does not match its checksum"));
        }
        Ok((row.scope, row.key, value))
    };
    keys.into_iter().map(read).collect()
}
