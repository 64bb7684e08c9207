//! What tables of changes have beside the source's columns.

use crate::catalog::{self, Relation};
use crate::config::Deletes;
use crate::merge;
use crate::names::Table;
use crate::publish::{from_text, sees_all_rows};
use crate::session::Session;
use crate::transfer::Transfer;
use postgres_wire::quote_ident;
use rapidbyte_sdk::changes::{COMMIT_TIME, ChangeOp, LSN, OP, SEQ, UNCHANGED};
use rapidbyte_sdk::{ConnectorError, WriteMode};

/// When a row was deleted at the source, where deleted rows are kept.
pub(crate) const DELETED_AT: &str = "_rb_deleted_at";

/// Columns of ours, each with its declaration. Rows of loads are inserts without a place in the log.
pub(crate) fn dresses(mode: WriteMode, deletes: Deletes) -> &'static [(&'static str, &'static str)] {
    match (mode, deletes) {
        (WriteMode::Append | WriteMode::Replace, _) => {
            &[(OP, "text DEFAULT 'insert'"), (LSN, "pg_lsn"), (SEQ, "bigint"), (COMMIT_TIME, "timestamptz"), (UNCHANGED, "text[]")]
        }
        (WriteMode::Upsert, Deletes::Soft) => &[(DELETED_AT, "timestamptz")],
        (WriteMode::Upsert, Deletes::Hard) => &[],
    }
}

/// The statement that gives a table one of them.
pub(crate) fn dressing(target: &Table, name: &str, sql: &str) -> Result<String, ConnectorError> {
    Ok(format!("ALTER TABLE {} ADD COLUMN {} {sql}", target.quoted()?, quote_ident(name)?))
}

/// Gives a table those that it lacks.
pub(crate) fn dress(session: &mut Session, target: &Table, mode: WriteMode, deletes: Deletes) -> Result<(), ConnectorError> {
    let quoted = target.quoted()?;
    for (name, sql) in dresses(mode, deletes) {
        // Whoever is not the owner may use a table that has them all.
        let there = session.query_params(
            "SELECT FROM pg_catalog.pg_attribute WHERE attrelid = $1::regclass AND attname = $2 AND NOT attisdropped",
            &[(&quoted).into(), (*name).into()],
        )?;
        if there.is_empty() {
            session.run(&dressing(target, name, sql)?)?;
        }
    }
    Ok(())
}

/// Refuses a table that is gone: changes of rows that are not there any more would be all that it holds.
pub(crate) fn ensure_target(
    session: &mut Session,
    target: &Table,
    mode: WriteMode,
    deletes: Deletes,
) -> Result<(), ConnectorError> {
    merge::lock_target(session, target)?;
    relation(session, target)?;
    dress(session, target, mode, deletes)
}

fn relation(session: &mut Session, target: &Table) -> Result<Relation, ConnectorError> {
    catalog::relation(session, target)?.ok_or_else(|| {
        ConnectorError::schema("missing_table", format!("`{target}` is gone, and with it the rows before the changes"))
            .with_hint("load the stream from the start after `rapidbyte state reset`")
    })
}

/// Adds an emptied table to a change log, with its place in the source's.
pub(crate) fn log_truncate(session: &mut Session, target: &Table, (lsn, seq): (u64, i64)) -> Result<(), ConnectorError> {
    let sql = format!(
        "INSERT INTO {} ({}, {}, {}) VALUES ('{}', '{:X}/{:X}', {seq})",
        target.quoted()?,
        quote_ident(OP)?,
        quote_ident(LSN)?,
        quote_ident(SEQ)?,
        ChangeOp::Truncate.as_str(),
        lsn >> 32,
        lsn & 0xffff_ffff
    );
    session.run(&sql)
}

/// Removes rows that a complete load does not have: they were deleted while nobody read the log.
pub(crate) fn remove_missing(session: &mut Session, transfer: &Transfer<'_>, deletes: Deletes) -> Result<(), ConnectorError> {
    let Transfer { load, columns, target, key, .. } = *transfer;
    let mut same = Vec::with_capacity(key.len());
    for name in key {
        let quoted = quote_ident(name)?;
        let staged = format!("_rb_staged.{quoted}");
        let value = match columns.iter().find(|column| column.name == *name && column.staged != column.published) {
            Some(column) => from_text(&staged, &column.published),
            None => staged,
        };
        same.push(format!("{value} = _rb.{quoted}"));
    }
    let missing = format!("NOT EXISTS (SELECT FROM {} AS _rb_staged WHERE {})", load.staging.quoted()?, same.join(" AND "));
    sees_all_rows(session, target)?;
    delete(session, target, deletes, &missing)
}

/// Deletes rows of the target, known as `_rb`, or marks them as deleted now.
pub(super) fn delete(session: &mut Session, target: &Table, deletes: Deletes, condition: &str) -> Result<(), ConnectorError> {
    let rows = target.own_rows(relation(session, target)?.kind)?;
    session.run(&match deletes {
        Deletes::Hard => format!("DELETE FROM {rows} AS _rb WHERE {condition}"),
        Deletes::Soft => {
            let mark = quote_ident(DELETED_AT)?;
            format!("UPDATE {rows} AS _rb SET {mark} = pg_catalog.clock_timestamp() WHERE _rb.{mark} IS NULL AND {condition}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ours_are_reserved() {
        assert!(crate::changes::is_own(DELETED_AT));
    }
}
