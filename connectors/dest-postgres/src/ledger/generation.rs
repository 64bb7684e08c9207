//! Loads: one generation per full refresh, open until it is published.

use super::claim::{Hold, Owner, check_epoch};
use super::{damaged, hex, parse, stored, unhex, unhex_text};
use crate::evolution::Earlier;
use crate::identity::Identity;
use crate::names::Table;
use crate::session::Session;
use rapidbyte_sdk::host_ffi::{self, LogLevel};
use rapidbyte_sdk::{ConnectorError, Generation, Partition, PrepareRequest, SyncMode, WriteMode};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// A column of a load's staging table, and what it becomes when it is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LoadColumn {
    pub(crate) name: String,
    /// The staging table's type.
    pub(crate) staged: String,
    /// The target's type; other than `staged` where values travel as text.
    pub(crate) published: String,
    pub(crate) not_null: bool,
    /// The place in the source's primary key, from 1.
    pub(crate) key: Option<u32>,
    /// How many columns that key has.
    #[serde(default)]
    pub(crate) key_len: Option<u32>,
    /// The source computes it.
    pub(crate) generated: bool,
    /// The source numbers it.
    #[serde(default)]
    pub(crate) identity: Option<Identity>,
    /// The stream had columns beside this one that are not among the load's: `new_column: ignore` leaves them out.
    #[serde(default)]
    pub(crate) partial: bool,
    /// What rows show that were there before it. It counts when the column is announced, and not later.
    #[serde(skip)]
    pub(crate) earlier: Earlier,
}

#[cfg(test)]
impl LoadColumn {
    /// A column of one type.
    pub(crate) fn plain(name: &str, sql: &str) -> Self {
        Self {
            name: name.into(),
            staged: sql.into(),
            published: sql.into(),
            not_null: false,
            key: None,
            key_len: None,
            generated: false,
            identity: None,
            partial: false,
            earlier: Earlier::Null,
        }
    }
}

/// All columns of a load, in order.
pub(crate) type Columns = Vec<LoadColumn>;

/// A generation in the ledger.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) published: bool,
    /// Its rows are visible, also if it goes on.
    pub(crate) visible: bool,
    /// An earlier load of the stream is visible there, which this one takes the place of.
    pub(crate) supersedes: Option<String>,
    pub(crate) staging: Table,
    pub(crate) write_mode: WriteMode,
    /// What `publish` said.
    pub(crate) rows: Option<u64>,
    pub(crate) location: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct StoredPartition {
    id: String,
    spec: String,
}

fn store_partitions(partitions: &[Partition]) -> Result<String, ConnectorError> {
    let stored: Vec<StoredPartition> =
        partitions.iter().map(|partition| StoredPartition { id: partition.id.clone(), spec: hex(&partition.spec) }).collect();
    serde_json::to_string(&stored).map_err(|_| ConnectorError::internal("json", "a partition plan can't be written as JSON"))
}

fn partitions(session: &mut Session, stream: i64, number: u64) -> Result<Vec<Partition>, ConnectorError> {
    let rows = session.query_params(
        "SELECT p ->> 'id', p ->> 'spec' FROM _rapidbyte.generations AS g,
             pg_catalog.json_array_elements(g.partitions) WITH ORDINALITY AS e(p, place)
         WHERE g.stream_id = $1 AND g.number = $2 ORDER BY e.place",
        &[stream.into(), stored(number)?.into()],
    )?;
    let read = |row: &postgres_wire::Row| Some(Partition { id: row.get(0)?.to_owned(), spec: unhex(row.get(1)?)? });
    rows.iter().map(|row| read(row).ok_or_else(|| damaged("a partition"))).collect()
}

/// The open generation of a stream.
pub(super) fn open(session: &mut Session, stream: i64) -> Result<Option<Generation>, ConnectorError> {
    let rows = session.query_params(
        "SELECT number, snapshot FROM _rapidbyte.generations WHERE stream_id = $1 AND state = 'open'",
        &[stream.into()],
    )?;
    let Some(row) = rows.first() else { return Ok(None) };
    let number = parse(row, 0, "a generation")?;
    let snapshot = row.get(1).and_then(unhex_text).ok_or_else(|| damaged("a snapshot"))?;
    Ok(Some(Generation { number, snapshot, partitions: partitions(session, stream, number)? }))
}

/// Opens a generation, or adds partitions to the open one; discards any other unpublished one.
pub(crate) fn prepare(session: &mut Session, request: &PrepareRequest, target: &Table) -> Result<(), ConnectorError> {
    let owner = Owner::new(&request.run, &request.context, request.epoch);
    let wanted = &request.generation;
    session.transaction(|session| {
        let stream = check_epoch(session, &owner, Hold::Update)?;
        let open = open(session, stream)?;
        if let Some(open) = &open
            && open.number == wanted.number
        {
            return go_on(session, stream, open, request, target);
        }
        let mut visible = None;
        if let Some(other) = open {
            if request.context.sync_mode == SyncMode::Cdc {
                let before = find(session, stream, other.number)?;
                visible = before.and_then(|load| if load.visible { load.location } else { load.supersedes });
            }
            discard(session, stream, other.number)?;
        }
        let rows = session.query_params("SELECT newest_generation FROM _rapidbyte.streams WHERE id = $1", &[stream.into()])?;
        let newest: u64 = rows.first().map_or(Err(damaged("a stream")), |row| parse(row, 0, "a generation"))?;
        if wanted.number <= newest {
            return Err(ConnectorError::internal(
                "generation_order",
                format!("generation {} of `{}` comes after {newest}", wanted.number, owner.stream),
            ));
        }
        let number = stored(wanted.number)?;
        // On its way to the target the table is for a moment in the schema of the user, where the name must be free.
        let staging = format!("_rb_load_{stream}_{number}");
        session.execute(
            "INSERT INTO _rapidbyte.generations (stream_id, number, snapshot, partitions, write_mode, state, staging, location)
             VALUES ($1, $2, $3, $4, $5, 'open', $6, $7)",
            &[
                stream.into(),
                number.into(),
                hex(wanted.snapshot.as_bytes()).into(),
                store_partitions(&wanted.partitions)?.into(),
                request.context.write_mode.as_str().into(),
                staging.into(),
                visible.or_else(|| location(request, target)).into(),
            ],
        )?;
        session.execute("UPDATE _rapidbyte.streams SET newest_generation = $2 WHERE id = $1", &[stream.into(), number.into()])?;
        Ok(())
    })
}

/// An open-ended load writes to its target from the start; others know theirs when they are published.
fn location(request: &PrepareRequest, target: &Table) -> Option<String> {
    (request.context.sync_mode == SyncMode::Incremental).then(|| target.to_string())
}

fn go_on(
    session: &mut Session,
    stream: i64,
    open: &Generation,
    request: &PrepareRequest,
    target: &Table,
) -> Result<(), ConnectorError> {
    let wanted = &request.generation;
    let of_changes = request.context.sync_mode == SyncMode::Cdc;
    let before = find(session, stream, wanted.number)?.filter(|load| load.visible || !of_changes).and_then(|load| load.location);
    let now = if of_changes { Some(target.to_string()) } else { location(request, target) };
    if let (Some(before), Some(now)) = (before, now)
        && before != now
    {
        return Err(ConnectorError::config(
            "target_changed",
            format!("`{}` has been loaded into `{before}` so far, and `{now}` would get later rows only", request.context.name),
        )
        .with_hint("name the same table and schema again; to begin anew elsewhere, give the pipeline another name"));
    }
    if open.snapshot != wanted.snapshot {
        return Err(ConnectorError::internal(
            "generation_snapshot",
            format!("generation {} of `{}` is open with another snapshot", wanted.number, request.context.name),
        ));
    }
    session.execute(
        "UPDATE _rapidbyte.generations SET write_mode = $3 WHERE stream_id = $1 AND number = $2 AND write_mode <> $3",
        &[stream.into(), stored(wanted.number)?.into(), request.context.write_mode.as_str().into()],
    )?;
    let known: HashSet<&str> = open.partitions.iter().map(|partition| partition.id.as_str()).collect();
    let new: Vec<Partition> =
        wanted.partitions.iter().filter(|partition| !known.contains(partition.id.as_str())).cloned().collect();
    if new.is_empty() {
        return Ok(());
    }
    let all = [open.partitions.clone(), new].concat();
    session.execute(
        "UPDATE _rapidbyte.generations SET partitions = $3 WHERE stream_id = $1 AND number = $2",
        &[stream.into(), stored(wanted.number)?.into(), store_partitions(&all)?.into()],
    )?;
    Ok(())
}

/// Removes a generation with its receipts and its staging table.
fn discard(session: &mut Session, stream: i64, number: u64) -> Result<(), ConnectorError> {
    let rows = session.query_params(
        "DELETE FROM _rapidbyte.generations WHERE stream_id = $1 AND number = $2 RETURNING staging",
        &[stream.into(), stored(number)?.into()],
    )?;
    for row in rows {
        let staging = row.get(0).ok_or_else(|| damaged("a staging table"))?;
        drop_staging(session, &Table::staging(staging))?;
    }
    Ok(())
}

/// Drops a staging table, whoever still writes into it.
pub(crate) fn drop_staging(session: &mut Session, staging: &Table) -> Result<(), ConnectorError> {
    end_overtaken_sessions(session, staging)?;
    session.run(&format!("DROP TABLE IF EXISTS {}", staging.quoted()?))
}

/// Ends the sessions of this role that still hold a lock on a staging table, as far as the server lets this role do it. They
/// belong to attempts that can't commit any more, and a server may keep such a session for hours after its client is gone.
///
/// To be called with the stream's row held for update by its present epoch, when no writer of that epoch is left.
pub(crate) fn end_overtaken_sessions(session: &mut Session, staging: &Table) -> Result<(), ConnectorError> {
    let rows = session.query_params(
        "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(a.pid))
         FROM pg_catalog.pg_stat_activity AS a
         WHERE a.usename = current_user AND a.pid <> pg_catalog.pg_backend_pid() AND a.pid IN
             (SELECT l.pid FROM pg_catalog.pg_locks AS l WHERE l.locktype = 'relation' AND l.granted
              AND l.relation = pg_catalog.to_regclass($1)
              AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database()))",
        &[staging.quoted()?.into()],
    )?;
    let ended = rows.first().and_then(|row| row.get(0)).unwrap_or("0");
    if ended != "0" {
        host_ffi::log(LogLevel::Warn, "ended sessions of an overtaken run", &[("sessions", ended), ("staging", &staging.name)]);
    }
    Ok(())
}

/// A generation by its number.
pub(crate) fn find(session: &mut Session, stream: i64, number: u64) -> Result<Option<Load>, ConnectorError> {
    let rows = session.query_params(
        "SELECT state, staging, write_mode, rows, location, published_at IS NOT NULL FROM _rapidbyte.generations WHERE stream_id = $1 AND number = $2",
        &[stream.into(), stored(number)?.into()],
    )?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (visible, location) = (row.get(5) == Some("t"), row.get(4).map(str::to_owned));
    Ok(Some(Load {
        published: row.get(0) == Some("published"),
        visible,
        supersedes: location.clone().filter(|_| !visible),
        staging: Table::staging(row.get(1).ok_or_else(|| damaged("a staging table"))?),
        write_mode: parse(row, 2, "a write mode")?,
        rows: row.get(3).map(|_| parse(row, 3, "a count")).transpose()?,
        location,
    }))
}

/// The columns of a generation's staging table; `None` until a writer has seen a schema.
pub(crate) fn columns(session: &mut Session, stream: i64, number: u64) -> Result<Option<Columns>, ConnectorError> {
    let rows = session.query_params(
        "SELECT e.columns FROM _rapidbyte.generations AS g LEFT JOIN LATERAL
             pg_catalog.json_array_elements_text(g.columns) WITH ORDINALITY AS e(columns, place) ON true
         WHERE g.stream_id = $1 AND g.number = $2 AND g.columns IS NOT NULL ORDER BY e.place",
        &[stream.into(), stored(number)?.into()],
    )?;
    if rows.is_empty() {
        return Ok(None);
    }
    let read = |text: &str| serde_json::from_str(text).map_err(|_| damaged("columns"));
    rows.iter().filter_map(|row| row.get(0)).map(read).collect::<Result<_, _>>().map(Some)
}

/// The open generation that a writer was told of. Any other state means that somebody has gone on without it.
pub(crate) fn open_load(session: &mut Session, owner: &Owner, stream: i64, number: u64) -> Result<Load, ConnectorError> {
    match find(session, stream, number)? {
        Some(load) if !load.published => Ok(load),
        _ => Err(crate::fault::fenced(&owner.stream)),
    }
}

/// What stands in the place of a snapshot's name once a load can't be gone on with. No run's name is like it.
const SPOILED: &str = "_rb_spoiled";

/// Makes sure that no run goes on with a load. It stays open for the writers beside this one, so that their errors do not cover
/// up the one that counts.
pub(crate) fn spoil(session: &mut Session, stream: i64, number: u64) -> Result<(), ConnectorError> {
    session.execute(
        "UPDATE _rapidbyte.generations SET snapshot = $3 WHERE stream_id = $1 AND number = $2 AND state = 'open'",
        &[stream.into(), stored(number)?.into(), hex(SPOILED.as_bytes()).into()],
    )?;
    Ok(())
}

/// Notes the columns of the staging table.
pub(crate) fn set_columns(session: &mut Session, stream: i64, number: u64, columns: &Columns) -> Result<(), ConnectorError> {
    let json = serde_json::to_string(columns).map_err(|_| ConnectorError::internal("json", "columns can't be written as JSON"))?;
    session.execute(
        "UPDATE _rapidbyte.generations SET columns = $3 WHERE stream_id = $1 AND number = $2",
        &[stream.into(), stored(number)?.into(), json.into()],
    )?;
    Ok(())
}

/// Notes that the rows of a generation are visible. It is closed with that, unless it goes on with changes. Older ones have
/// nothing more to say.
pub(crate) fn set_visible(
    session: &mut Session,
    stream: i64,
    number: u64,
    rows: u64,
    location: &str,
    goes_on: bool,
) -> Result<(), ConnectorError> {
    let number = stored(number)?;
    // The columns of a load are held against those of the changes behind it.
    let next = if goes_on { "" } else { "state = 'published'," };
    session.execute(
        &format!(
            "UPDATE _rapidbyte.generations SET {next} rows = $3, location = $4, published_at = clock_timestamp()
             WHERE stream_id = $1 AND number = $2"
        ),
        &[stream.into(), number.into(), stored(rows)?.into(), location.into()],
    )?;
    session.execute("DELETE FROM _rapidbyte.generations WHERE stream_id = $1 AND number < $2", &[stream.into(), number.into()])?;
    Ok(())
}
