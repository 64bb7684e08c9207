//! Planning a stream of changes: publication, then slot, then the snapshot of the initial load, in this order.

use super::config::Names;
use super::cut::Cut;
use super::lsn::Lsn;
use super::slot::{self, ServerLog, Slot};
use super::{logged_columns, publication, source_changed, writers};
use crate::PostgresSource;
use crate::catalog::{Relation, columns_of, find_relation, missing_table};
use crate::read::patient;
use postgres_wire::{Connection, quote_qualified};
use rapidbyte_sdk::{ConnectorError, ErrorCategory, Generation, Partition, PartitionPlan, PlanRequest, Position, host_ffi};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What begins the name of a snapshot; a later layout gets another number.
const VERSION: &str = "cdc1";
/// Snapshots held at once. Each is a session at the server.
const MAX_SNAPSHOTS: usize = 32;

/// Everything that must stay the same for a stream's changes to be gone on with, and the cut where they begin.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pinned {
    system: String,
    timeline: String,
    slot: String,
    table: u32,
    cut: Cut,
}

/// What reading changes needs of the plan. It says nothing that ends with the planner.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Token {
    /// The exported snapshot of each table that is still to be loaded.
    snapshots: BTreeMap<u32, String>,
    /// Each table's cut.
    cuts: BTreeMap<u32, String>,
}

/// A session that holds a snapshot.
struct Held {
    connection: Connection,
    id: String,
    cut: Cut,
    /// The tables that it may be used for; `None` = all.
    tables: Option<BTreeSet<u32>>,
}

impl Held {
    fn serves(&self, table: u32) -> bool {
        !self.connection.is_broken() && self.tables.as_ref().is_none_or(|tables| tables.contains(&table))
    }
}

/// The snapshots of this planner's streams, and the token for all of them.
#[derive(Default)]
pub(crate) struct Planner {
    held: Vec<Held>,
    token: Token,
}

impl Pinned {
    fn name(&self) -> String {
        format!("{VERSION}:{}:{}:{}:{}:{}", self.system, self.timeline, self.slot, self.table, self.cut)
    }

    fn read(name: &str) -> Option<Self> {
        let mut parts = name.splitn(6, ':');
        if parts.next()? != VERSION {
            return None;
        }
        let (system, timeline, slot) = (parts.next()?.to_owned(), parts.next()?.to_owned(), parts.next()?.to_owned());
        let (table, cut) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { system, timeline, slot, table, cut })
    }
}

impl Token {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, ConnectorError> {
        serde_json::from_slice(bytes).map_err(|_| ConnectorError::internal("token", "the plan of the changes is malformed"))
    }

    fn write(&self) -> Result<Vec<u8>, ConnectorError> {
        serde_json::to_vec(self).map_err(|_| ConnectorError::internal("token", "the plan of the changes can't be written"))
    }

    /// Where the changes of a table begin.
    pub(crate) fn cut(&self, table: u32) -> Result<Cut, ConnectorError> {
        let cut = self.cuts.get(&table).and_then(|text| text.parse().ok());
        cut.ok_or_else(|| ConnectorError::internal("token", "the plan of the changes lacks one of their tables"))
    }
}

/// The snapshot to read the initial load of a table from.
pub(crate) fn snapshot_of(token: &[u8], table: u32) -> Result<String, ConnectorError> {
    let id = Token::read(token)?.snapshots.remove(&table);
    id.ok_or_else(|| ConnectorError::internal("token", "the plan has no snapshot for this table"))
}

/// Where the changes of a table begin: each that its load has not seen was committed behind it.
pub(crate) fn begins_at(token: &[u8], table: u32) -> Result<Position, ConnectorError> {
    Ok(Token::read(token)?.cut(table)?.low.position())
}

/// Takes a snapshot and keeps it for as long as its session lives.
fn hold(mut connection: Connection, tables: Option<BTreeSet<u32>>) -> Result<Held, ConnectorError> {
    // The session waits while others read.
    connection.batch_execute(&patient(&connection))?;
    let low = slot::insert_lsn(&mut connection)?;
    connection.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    let rows = connection.query("SELECT txid_current_snapshot(), pg_export_snapshot()")?;
    let row = rows.first().ok_or_else(|| ConnectorError::internal("snapshot", "the server gave no snapshot"))?;
    let (snapshot, id) = (row.text(0)?.to_owned(), row.text(1)?.to_owned());
    let high = slot::insert_lsn(&mut connection)?;
    let cut =
        Cut::new(low, high, &snapshot).map_err(|_| ConnectorError::internal("snapshot", "the server gave a malformed snapshot"))?;
    host_ffi::mark("source.snapshot.taken");
    Ok(Held { connection, id, cut, tables })
}

/// Keeps the table from being rewritten or emptied until its load has ended; one that was since the snapshot would look empty.
fn lock(held: &mut Held, relation: &Relation) -> Result<(), ConnectorError> {
    let table = quote_qualified(&relation.schema, &relation.name)?;
    held.connection.batch_execute(&format!("LOCK TABLE {table} IN ACCESS SHARE MODE"))?;
    // The catalog is seen as of the snapshot, functions look at what is there now.
    let rows = held.connection.query_params(
        "SELECT FROM pg_class c WHERE c.oid IN (SELECT $1::oid UNION ALL SELECT p.relid FROM pg_partition_tree($1::oid::regclass) p WHERE p.isleaf)
         AND c.relkind = 'r' AND c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid)",
        &[relation.oid.to_string().into()],
    )?;
    if rows.is_empty() {
        return Ok(());
    }
    let message = format!("`{}` was rewritten or emptied since the snapshot was taken", relation.label());
    Err(ConnectorError::new(ErrorCategory::TransientDb, "table_rewritten", message)
        .with_hint("it is planned again, at another snapshot; if no attempt is left, run again"))
}

/// Whether the pinned load's changes can be gone on with.
fn check_pinned(session: &mut Connection, pinned: &Pinned, log: &ServerLog, names: &Names) -> Result<(), ConnectorError> {
    let slot_name = names.slot.as_str();
    let anew = "load the streams anew";
    if pinned.system != log.system {
        return Err(source_changed("the changes were read from another server", anew));
    }
    if pinned.timeline != log.timeline {
        let message =
            format!("the server was restored or promoted: its log is on timeline {}, and was on {}", log.timeline, pinned.timeline);
        return Err(source_changed(message, anew));
    }
    if pinned.slot != slot_name {
        return Err(source_changed(
            format!("the changes were read from replication slot `{}`, and now are to be from `{slot_name}`", pinned.slot),
            format!("set `replication_slot: {}` again, or {anew}", pinned.slot),
        ));
    }
    match Slot::find(session, slot_name)? {
        Some(slot) => slot.usable(names).map(|_| ()),
        None => Err(slot::missing(slot_name)),
    }
}

/// Plans a stream. `max_partitions: 0` says that its load has ended and only its changes are to be read.
pub(crate) fn plan(source: &mut PostgresSource, request: &PlanRequest) -> Result<PartitionPlan, ConnectorError> {
    let names = source.cdc_names()?;
    let (schema, table) = source.table(&request.stream.name);
    let (schema, table) = (schema.to_owned(), table.to_owned());
    let session = source.session()?;
    let Some(relation) = find_relation(session, &schema, &table)? else {
        return Err(missing_table(session, &schema, &table));
    };
    let columns = columns_of(session, &[relation.oid])?.remove(&relation.oid).unwrap_or_default();
    logged_columns(&request.stream, columns)?;
    let planned: Vec<u32> = source.planner.token.cuts.keys().copied().collect();
    let session = source.session()?;
    publication::refuse_nested(session, &relation, &planned)?;
    let log = ServerLog::look(session)?;
    let pinned = request.pinned.as_ref().and_then(|generation| Pinned::read(&generation.snapshot));
    if request.max_partitions == 0 {
        let (Some(pinned), Some(generation)) = (pinned, &request.pinned) else {
            return Err(source_changed("the initial load was made by something else than this connector", "load the streams anew"));
        };
        check_pinned(session, &pinned, &log, &names)?;
        if pinned.table != relation.oid {
            let message = format!("table `{}` was dropped and made again since its initial load", relation.label());
            return Err(source_changed(message, "load the stream anew"));
        }
        // A table that somebody took out of the publication has changes which nobody sent.
        if !publication::sends(session, &names, &relation)? {
            let message = format!("publication `{}` does not send `{}` any more", names.publication, relation.label());
            return Err(source_changed(message, "load the stream anew, which puts the table into it again"));
        }
        source.planner.token.cuts.insert(relation.oid, pinned.cut.to_string());
        let token = source.planner.token.write()?;
        return Ok(PartitionPlan { snapshot: generation.snapshot.clone(), partitions: generation.partitions.clone(), token });
    }
    publish_and_load(source, &relation, &log, request.pinned.as_ref(), pinned)
}

fn publish_and_load(
    source: &mut PostgresSource,
    relation: &Relation,
    log: &ServerLog,
    generation: Option<&Generation>,
    pinned: Option<Pinned>,
) -> Result<PartitionPlan, ConnectorError> {
    let names = source.cdc_names()?;
    let timeout = source.connect.statement_timeout_seconds.map(Duration::from_secs);
    let session = source.session()?;
    let was_member = publication::ensure(session, &names, relation)?;
    // Who is not to be waited for twice is asked before the slot is made.
    let mut tables = if was_member { publication::sent(session, &names)? } else { Some(BTreeSet::new()) };
    if let Some(tables) = &mut tables {
        tables.insert(relation.oid);
    }
    let made = slot::ensure(session, &names)?;
    let at = match source.planner.held.iter().rposition(|held| held.serves(relation.oid)) {
        Some(at) if was_member => at,
        _ if source.planner.held.len() >= MAX_SNAPSHOTS => {
            let message = format!(
                "{MAX_SNAPSHOTS} tables were put into publication `{}` one by one, which takes a session each",
                names.publication
            );
            // They are in it now, and share one snapshot from the next attempt on.
            return Err(ConnectorError::new(ErrorCategory::TransientDb, "publication_grows", message).with_hint(
                "each attempt goes on with the next ones; if none is left, run again, or add all of them at once by \
                 `ALTER PUBLICATION … ADD TABLE …`",
            ));
        }
        _ => {
            if !made && let Some(tables) = &tables {
                writers::wait(source.session()?, tables, timeout)?;
            }
            let connection = Connection::connect(&source.connect)?;
            source.planner.held.push(hold(connection, tables)?);
            source.planner.held.len() - 1
        }
    };
    let Planner { held, token } = &mut source.planner;
    // Whoever still waits for a snapshot keeps the one it was given.
    let issued =
        pinned.as_ref().and_then(|pinned| held.iter().position(|held| held.cut == pinned.cut && !held.connection.is_broken()));
    let at = issued.unwrap_or(at);
    let snapshot = &mut held[at];
    lock(snapshot, relation)?;
    token.snapshots.insert(relation.oid, snapshot.id.clone());
    token.cuts.insert(relation.oid, snapshot.cut.to_string());
    let name = Pinned {
        system: log.system.clone(),
        timeline: log.timeline.clone(),
        slot: names.slot,
        table: relation.oid,
        cut: snapshot.cut.clone(),
    }
    .name();
    let partitions = match generation {
        Some(generation) if generation.snapshot == name => generation.partitions.clone(),
        _ => vec![Partition { id: "0".into(), spec: Vec::new() }],
    };
    Ok(PartitionPlan { snapshot: name, partitions, token: token.write()? })
}

/// The earliest place from which a stream without a receipt needs the log.
pub(crate) fn earliest(cuts: &[Cut]) -> Lsn {
    cuts.iter().map(|cut| cut.low).min().unwrap_or_default()
}

impl Planner {
    /// Lets the snapshots go.
    pub(crate) fn close(self) {
        for held in self.held {
            held.connection.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_snapshots_read_back() {
        let cut: Cut = "0/1:0/2:730:740:731,735".parse().unwrap();
        let pinned = Pinned { system: "7".into(), timeline: "00000001".into(), slot: "s_1".into(), table: 16_384, cut };
        let name = pinned.name();
        assert_eq!(name, "cdc1:7:00000001:s_1:16384:0/1:0/2:730:740:731,735");
        assert_eq!(Pinned::read(&name), Some(pinned));
        for other in ["", "run:1/1", "cdc2:7:1:s:1:0/1:0/2:1:2:", "cdc1:7:1:s:x:0/1:0/2:1:2:", "cdc1:7:1:s"] {
            assert_eq!(Pinned::read(other), None, "{other}");
        }
    }
}
