//! The table `pipelines`.

use super::checksum::Checksum;
use super::rows::{self, Stored, select, select_one};
use crate::error::{ErrorKind, StateError};
use crate::pipeline::{PipelineId, PipelineRecord, check_name};
use rusqlite::{Connection, Row, Transaction, params};

/// The identity of a source that no run has reached yet. Not a name that any source may have: those are not empty.
const UNKNOWN: &str = "";

impl Stored for PipelineRecord {
    const TABLE: &'static str = "pipelines";
    const COLUMNS: &'static str = "id, name, source_identity, created_at_ms, sum";

    fn from_row(row: &Row<'_>) -> Result<Self, StateError> {
        Ok(Self {
            id: rows::pipeline(row, "id")?,
            name: row.get("name")?,
            source_identity: row.get("source_identity")?,
            created_at_ms: rows::unsigned(row, "created_at_ms")?,
        })
    }

    fn sum(&self) -> i64 {
        Checksum::of(Self::TABLE)
            .text(&self.id.to_string())
            .text(&self.name)
            .text(&self.source_identity)
            .int(self.created_at_ms)
            .finish()
    }
}

pub(super) fn resolve(tx: &Transaction<'_>, name: &str, identity: &str, now_ms: u64) -> Result<PipelineRecord, StateError> {
    check_name("pipeline name", name)?;
    check_name("source identity", identity)?;
    if let Some(mut found) = find(tx, name)? {
        if found.source_identity == identity {
            return Ok(found);
        }
        if found.source_identity == UNKNOWN {
            identity.clone_into(&mut found.source_identity);
            tx.execute(
                "UPDATE pipelines SET source_identity = ?2, sum = ?3 WHERE id = ?1",
                params![found.id.to_string(), identity, found.sum()],
            )?;
            return Ok(found);
        }
        let message = format!("pipeline `{name}` began with another source, and its progress does not fit this one");
        return Err(StateError::new(ErrorKind::IdentityMismatch, message).with_hint(
            "give the pipeline another name to load the new source from its start, or set its `source` back to what it was",
        ));
    }
    insert(tx, PipelineId::derived(name, identity), name, identity, now_ms)
}

pub(super) fn announce(tx: &Transaction<'_>, name: &str, source_kind: &str, now_ms: u64) -> Result<PipelineRecord, StateError> {
    check_name("pipeline name", name)?;
    check_name("source kind", source_kind)?;
    match find(tx, name)? {
        Some(found) => Ok(found),
        None => insert(tx, PipelineId::derived(name, source_kind), name, UNKNOWN, now_ms),
    }
}

fn insert(tx: &Transaction<'_>, id: PipelineId, name: &str, identity: &str, now_ms: u64) -> Result<PipelineRecord, StateError> {
    let record = PipelineRecord { id, name: name.to_owned(), source_identity: identity.to_owned(), created_at_ms: now_ms };
    put(tx, &record)?;
    Ok(record)
}

pub(super) fn put(tx: &Transaction<'_>, record: &PipelineRecord) -> Result<(), StateError> {
    let PipelineRecord { id, name, source_identity, created_at_ms } = record;
    tx.execute(
        "INSERT INTO pipelines (id, name, source_identity, created_at_ms, sum) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![id.to_string(), name, source_identity, rows::signed(*created_at_ms, "the time")?, record.sum()],
    )?;
    Ok(())
}

pub(super) fn find(connection: &Connection, name: &str) -> Result<Option<PipelineRecord>, StateError> {
    select_one(connection, "WHERE name = ?1", [name])
}

pub(super) fn all(connection: &Connection) -> Result<Vec<PipelineRecord>, StateError> {
    select(connection, "ORDER BY name", [])
}

/// Refuses a pipeline this store has not made.
pub(super) fn require(connection: &Connection, id: PipelineId) -> Result<(), StateError> {
    match select_one::<PipelineRecord>(connection, "WHERE id = ?1", [id.to_string()])? {
        Some(_) => Ok(()),
        None => Err(StateError::new(ErrorKind::NotFound, format!("the state store knows no pipeline `{id}`"))),
    }
}
