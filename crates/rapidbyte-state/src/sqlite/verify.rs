//! Looking a state file over before anything in it is believed.

use super::key_values::KeyRow;
use super::progress::{EpochRow, GenerationRow};
use super::resets::ResetRow;
use super::rows::{Stored, damaged, decode};
use super::schema;
use crate::checkpoint::Checkpoint;
use crate::error::{ErrorKind, StateError};
use crate::pipeline::PipelineRecord;
use rusqlite::Connection;

/// Up to this size indexes are compared with their tables too, which costs a lookup per row.
const THOROUGH_UP_TO_BYTES: u64 = 64 << 20;

/// Refuses a file whose pages, tables, rows or row counts are not as they were written.
pub(super) fn all(connection: &Connection, version: u32) -> Result<(), StateError> {
    // One snapshot: another process may be writing.
    let view = connection.unchecked_transaction()?;
    pages(&view)?;
    schema::verify(&view, version)?;
    let mut looked_over = vec![
        table::<PipelineRecord>(&view)?,
        table::<EpochRow>(&view)?,
        table::<GenerationRow>(&view)?,
        table::<Checkpoint>(&view)?,
        table::<KeyRow>(&view)?,
    ];
    if version >= schema::WITH_RESETS {
        looked_over.push(table::<ResetRow>(&view)?);
    }
    // A table with a ledger that nobody looks at would be trusted blindly.
    let ledgers: i64 = view.query_row("SELECT count(*) FROM ledger", [], |row| row.get(0))?;
    if ledgers.unsigned_abs() != looked_over.len() as u64 {
        return Err(damaged("ledger", "an unknown table"));
    }
    view.rollback()?;
    Ok(())
}

fn pages(connection: &Connection) -> Result<(), StateError> {
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let bytes = pragma("page_count")?.unsigned_abs().saturating_mul(pragma("page_size")?.unsigned_abs());
    let check = if bytes <= THOROUGH_UP_TO_BYTES { "PRAGMA integrity_check(1)" } else { "PRAGMA quick_check(1)" };
    let verdict: String = connection.query_row(check, [], |row| row.get(0))?;
    if verdict == "ok" {
        return Ok(());
    }
    // SQLite's verdict may quote what is stored; it goes no further.
    Err(StateError::new(ErrorKind::Corrupt, "the state file is damaged: its pages don't fit together"))
}

/// Reads every row of a ledgered table and compares their number and checksums with the ledger.
fn table<T: Stored>(connection: &Connection) -> Result<(), StateError> {
    let mut statement = connection.prepare(&format!("SELECT {} FROM {}", T::COLUMNS, T::TABLE))?;
    let mut rows = statement.query([])?;
    let (mut count, mut total) = (0_i64, 0_i64);
    while let Some(row) = rows.next()? {
        count += 1;
        total ^= decode::<T>(row)?.sum();
    }
    let ledger = connection.query_row("SELECT count, total FROM ledger WHERE name = ?1", [T::TABLE], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
    });
    match ledger {
        Ok(expected) if expected == (count, total) => Ok(()),
        Ok(_) => Err(damaged(T::TABLE, "rows are missing or too many")),
        Err(rusqlite::Error::QueryReturnedNoRows) => Err(damaged(T::TABLE, "the ledger is missing")),
        Err(error) => Err(error.into()),
    }
}
