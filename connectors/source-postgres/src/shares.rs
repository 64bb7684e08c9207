//! One table read by several readers, each its share, at one snapshot.
//!
//! The planner holds a transaction: it keeps the snapshot that readers import, and the lock that keeps rows where they are.

use crate::PostgresSource;
use crate::catalog::{Relation, find_relation, missing_table};
use crate::check::supported;
use crate::read::patient;
use postgres_wire::{Connection, TransactionStatus, quote_literal, quote_qualified};
use rapidbyte_sdk::{
    ConnectorError, ErrorCategory, Partition, PartitionPlan, PlanRequest, ReadRequest, StreamContext, StreamName, host_ffi,
};
use serde::{Deserialize, Serialize};

/// The first version that reads a range of row addresses without reading the whole table.
const RANGES_SINCE: u32 = 140_000;

/// A share's description must fit the protocol's 64 KiB.
const MAX_SPEC: usize = 60 << 10;

/// A part of a table: its blocks from `1` up to and without `2`; open where there is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece(u32, Option<u64>, Option<u64>);

/// What one reader reads of a stream, one piece after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Share {
    pub(crate) pieces: Vec<Piece>,
}

/// The snapshot that a stream's readers import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exported {
    stream: StreamName,
    snapshot: String,
}

/// A transaction of the planner with what it pins.
pub(crate) struct Held {
    connection: Connection,
    exported: Exported,
    /// The snapshot's name for the generation. Ids of exported snapshots come again after a restart; runs do not.
    name: String,
    partitions: Vec<Partition>,
}

impl Held {
    /// Whether readers can still import the snapshot.
    fn lives(&mut self) -> bool {
        self.connection.batch_execute("SELECT 1").is_ok() && self.connection.transaction() == TransactionStatus::Open
    }

    pub(crate) fn let_go(self) {
        self.connection.close();
    }
}

/// A table that holds rows itself.
#[derive(Debug, Clone, Copy)]
struct Leaf {
    oid: u32,
    /// Its blocks; none where its rows have no addresses to read ranges of.
    blocks: Option<u64>,
}

/// Plans a full refresh: one share, or several of a large table.
pub(crate) fn plan(source: &mut PostgresSource, request: &PlanRequest) -> Result<PartitionPlan, ConnectorError> {
    let stream = &request.stream.name;
    if let Some(at) = source.held.iter().position(|held| held.exported.stream == *stream) {
        let held = &mut source.held[at];
        let same = request.pinned.as_ref().is_some_and(|pinned| pinned.snapshot == held.name);
        if !(same && held.lives()) {
            source.held.remove(at).let_go();
        }
    }
    if !source.held.iter().any(|held| held.exported.stream == *stream) {
        let made = if request.max_partitions > 1 { hold(source, request)? } else { None };
        let Some(held) = made else {
            return Ok(PartitionPlan::single(format!("run:{}/{}", request.run.run_id, request.run.attempt)));
        };
        source.held.push(held);
    }
    let exported: Vec<&Exported> = source.held.iter().map(|held| &held.exported).collect();
    let token = serde_json::to_vec(&exported).map_err(|error| ConnectorError::internal("token", error.to_string()))?;
    let held = source.held.iter().find(|held| held.exported.stream == *stream);
    let held = held.ok_or_else(|| ConnectorError::internal("snapshot", "the snapshot just taken is missing"))?;
    Ok(PartitionPlan { snapshot: held.name.clone(), partitions: held.partitions.clone(), token })
}

/// Says why a large table is read by one reader.
fn in_one(stream: &StreamName, level: host_ffi::LogLevel, why: &str) {
    host_ffi::log(level, &format!("the table is read in one share: {why}"), &[("stream", &stream.to_string())]);
}

/// Why a relation is not read in shares, whatever its size.
pub(crate) fn unsplit(relation: &Relation) -> Option<&'static str> {
    match relation.kind {
        'r' | 'p' if relation.readable => None,
        'r' | 'p' => Some("rights on single columns do not allow the lock that keeps its rows in place"),
        _ => Some("only tables and partitioned tables are split"),
    }
}

/// Takes and exports a snapshot, locks the table and cuts it. Nothing where the table is better read by one reader.
fn hold(source: &mut PostgresSource, request: &PlanRequest) -> Result<Option<Held>, ConnectorError> {
    let stream = &request.stream.name;
    let (schema, table) = source.table(stream);
    let (schema, table, above) = (schema.to_owned(), table.to_owned(), source.config.split_above_bytes);
    let session = source.session()?;
    let Some(relation) = find_relation(session, &schema, &table)? else {
        return Err(missing_table(session, &schema, &table));
    };
    let size = relation.estimated_bytes.unwrap_or(0);
    if size <= above {
        return Ok(None);
    }
    if let Some(why) = unsplit(&relation) {
        in_one(stream, host_ffi::LogLevel::Info, why);
        return Ok(None);
    }
    let mut connection = Connection::connect(&source.connect)?;
    supported(&connection)?;
    let settings = patient(&connection);
    host_ffi::mark("source.snapshot.before");
    // The lock comes before the snapshot: a table that is rewritten between the two would look empty.
    connection.batch_execute(&format!(
        "{settings}; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE {} IN ACCESS SHARE MODE",
        quote_qualified(&schema, &table)?
    ))?;
    // Whoever bears the name now is the one that is locked.
    let Some(relation) = find_relation(&mut connection, &schema, &table)? else {
        return Err(missing_table(&mut connection, &schema, &table));
    };
    if let Some(why) = unsplit(&relation) {
        in_one(stream, host_ffi::LogLevel::Info, why);
        return Ok(None);
    }
    let size = relation.estimated_bytes.unwrap_or(0);
    let snapshot = match connection.query("SELECT pg_catalog.pg_export_snapshot()") {
        Ok(rows) => rows.first().and_then(|row| row.get(0)).unwrap_or_default().to_owned(),
        Err(error) if error.server().is_some() => {
            in_one(stream, host_ffi::LogLevel::Warn, &format!("the server exports no snapshot: {error}"));
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    host_ffi::mark("source.snapshot.exported");
    // Behind a pooler or a balancer another session may lead elsewhere.
    if let Err(error) = begin_at(source.session()?, &snapshot) {
        if error.server().is_none() {
            return Err(error.into());
        }
        let _ = source.session()?.batch_execute("ROLLBACK");
        in_one(stream, host_ffi::LogLevel::Warn, &format!("another session can't import the snapshot: {error}"));
        return Ok(None);
    }
    source.session()?.batch_execute("ROLLBACK")?;
    let Some(leaves) = leaves(&mut connection, stream, &relation)? else { return Ok(None) };
    // Each share has a session, and memory of its own: a table that is hardly too large is worth two of them, and no more.
    let worth = u32::try_from(size.div_ceil(above.max(1))).unwrap_or(u32::MAX);
    let shares = cut(&leaves, request.max_partitions.min(worth));
    if shares.len() < 2 {
        return Ok(None);
    }
    let mut partitions = Vec::with_capacity(shares.len());
    for (index, pieces) in shares.into_iter().enumerate() {
        let spec = serde_json::to_vec(&Share { pieces }).map_err(|error| ConnectorError::internal("share", error.to_string()))?;
        if spec.len() > MAX_SPEC {
            in_one(stream, host_ffi::LogLevel::Warn, "it has too many partitions to name them in a share");
            return Ok(None);
        }
        partitions.push(Partition { id: index.to_string(), spec });
    }
    let name = format!("at:{}/{}/{snapshot}", request.run.run_id, request.run.attempt);
    Ok(Some(Held { connection, exported: Exported { stream: stream.clone(), snapshot }, name, partitions }))
}

/// The tables that hold a relation's rows; none where they can't be read each for itself.
fn leaves(connection: &mut Connection, stream: &StreamName, relation: &Relation) -> Result<Option<Vec<Leaf>>, ConnectorError> {
    let of = match relation.kind {
        'p' => "c.oid IN (SELECT p.relid FROM pg_partition_tree($1::oid) p WHERE p.isleaf)",
        _ => "c.oid = $1::oid",
    };
    let sql = format!(
        "SELECT c.oid, has_table_privilege(c.oid, 'SELECT'), c.relrowsecurity, c.relkind = 'r' AND a.amname = 'heap',
                CASE WHEN c.relkind = 'r' THEN pg_relation_size(c.oid) / current_setting('block_size')::bigint END
         FROM pg_class c LEFT JOIN pg_am a ON a.oid = c.relam WHERE {of} ORDER BY c.oid"
    );
    let ranges = connection.server_version() >= RANGES_SINCE;
    let mut found = Vec::new();
    for row in connection.query_params(&sql, &[relation.oid.to_string().into()])? {
        if relation.kind == 'p' && !row.flag(1)? {
            in_one(stream, host_ffi::LogLevel::Info, "the user may read the table and not each of its partitions");
            return Ok(None);
        }
        if relation.kind == 'p' && row.flag(2)? {
            in_one(stream, host_ffi::LogLevel::Info, "one of its partitions has policies of its own");
            return Ok(None);
        }
        let heap = row.get(3) == Some("t");
        let blocks = row.parse(4)?.filter(|_| heap && ranges);
        found.push(Leaf { oid: row.parse(0)?.unwrap_or_default(), blocks });
    }
    Ok(Some(found))
}

/// Cuts tables, laid end to end, into at most `most` shares of about equal size.
fn cut(leaves: &[Leaf], most: u32) -> Vec<Vec<Piece>> {
    let size = |leaf: &Leaf| leaf.blocks.unwrap_or(1).max(1);
    let total: u64 = leaves.iter().map(size).sum();
    let each = total.div_ceil(u64::from(most.max(1))).max(1);
    let (mut shares, mut open, mut filled) = (Vec::new(), Vec::new(), 0);
    for leaf in leaves {
        let (mut from, end) = (0, size(leaf));
        while from < end {
            let to = if leaf.blocks.is_some() { end.min(from + each - filled) } else { end };
            // The last range has no end: rows may lie in blocks that came after the count.
            open.push(Piece(leaf.oid, (from > 0).then_some(from), (to < end).then_some(to)));
            filled += to - from;
            from = to;
            if filled >= each {
                shares.push(std::mem::take(&mut open));
                filled = 0;
            }
        }
    }
    if !open.is_empty() {
        shares.push(open);
    }
    shares
}

/// Begins a transaction at an exported snapshot.
fn begin_at(connection: &mut Connection, snapshot: &str) -> Result<(), postgres_wire::Error> {
    let literal = quote_literal(snapshot)?;
    connection.batch_execute(&format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {literal}"))
}

/// The share that a read is to read; `None` = everything.
pub(crate) fn of(request: &ReadRequest) -> Result<Option<Share>, ConnectorError> {
    match &request.partition {
        Some(partition) if !partition.spec.is_empty() => serde_json::from_slice(&partition.spec)
            .map(Some)
            .map_err(|_| ConnectorError::internal("partition", "the partition was not planned by this version of the connector")),
        _ => Ok(None),
    }
}

/// Begins the reader's transaction at the snapshot of its plan.
pub(crate) fn join(connection: &mut Connection, request: &ReadRequest, stream: &StreamContext) -> Result<(), ConnectorError> {
    let all: Vec<Exported> = serde_json::from_slice(&request.token)
        .map_err(|_| ConnectorError::internal("token", "the plan's token is not one of this connector"))?;
    let Some(exported) = all.into_iter().find(|exported| exported.stream == stream.name) else {
        return Err(ConnectorError::internal("token", format!("the plan holds no snapshot for stream `{}`", stream.name)));
    };
    import(connection, &exported.snapshot, stream)
}

/// Begins a reader's transaction at the planner's snapshot. One that is gone is told as such: the planner's transaction has ended
/// before its time.
pub(crate) fn import(connection: &mut Connection, snapshot: &str, stream: &StreamContext) -> Result<(), ConnectorError> {
    let error = match begin_at(connection, snapshot) {
        Ok(()) => return Ok(()),
        // No such snapshot, or none any more; the words differ by version.
        Err(error) if matches!(error.sqlstate(), Some("22023" | "42704" | "55000")) => error,
        Err(error) => return Err(error.into()),
    };
    let message = format!("stream `{}`: the snapshot that it is read at is gone: {error}", stream.name);
    let hint = "the stream is planned again, at another snapshot; on a standby raise `max_standby_streaming_delay` or set \
                `hot_standby_feedback = on`, so that the snapshot outlives the load";
    Err(ConnectorError::new(ErrorCategory::TransientDb, "snapshot_lost", message).with_hint(hint))
}

/// What stands after `FROM` for each piece of a share, with the condition that cuts it.
pub(crate) fn froms(connection: &mut Connection, share: &Share) -> Result<Vec<(String, Option<String>)>, ConnectorError> {
    let oids: Vec<String> = share.pieces.iter().map(|piece| piece.0.to_string()).collect();
    let rows = connection.query_params(
        "SELECT c.oid, n.nspname, c.relname, c.relkind FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = ANY ($1::pg_catalog.oid[])",
        &[format!("{{{}}}", oids.join(",")).into()],
    )?;
    let mut froms = Vec::with_capacity(share.pieces.len());
    for Piece(oid, from, to) in &share.pieces {
        let Some(row) = rows.iter().find(|row| row.get(0) == Some(oid.to_string().as_str())) else {
            return Err(ConnectorError::internal("partition", "a table of the share is gone, though it was locked"));
        };
        let only = if row.get(3) == Some("r") { "ONLY " } else { "" };
        let mut conditions = Vec::new();
        if let Some(block) = from {
            conditions.push(format!("ctid >= '({block},0)'::pg_catalog.tid"));
        }
        if let Some(block) = to {
            conditions.push(format!("ctid < '({block},0)'::pg_catalog.tid"));
        }
        let condition = (!conditions.is_empty()).then(|| conditions.join(" AND "));
        froms.push((format!("{only}{}", quote_qualified(row.text(1)?, row.text(2)?)?), condition));
    }
    Ok(froms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(oid: u32, blocks: u64) -> Leaf {
        Leaf { oid, blocks: Some(blocks) }
    }

    /// Every block of every table once, whatever lies beyond the last one in the last piece.
    fn assert_whole(leaves: &[Leaf], shares: &[Vec<Piece>]) {
        for leaf in leaves {
            let pieces: Vec<&Piece> = shares.iter().flatten().filter(|piece| piece.0 == leaf.oid).collect();
            assert_eq!((pieces[0].1, pieces[pieces.len() - 1].2), (None, None));
            for pair in pieces.windows(2) {
                assert!(pair[0].2.is_some() && pair[0].2 == pair[1].1, "{pair:?}");
            }
        }
    }

    #[test]
    fn a_table_is_cut_into_equal_ranges_and_the_last_is_open() {
        let shares = cut(&[leaf(7, 10)], 4);
        assert_eq!(
            shares,
            [
                vec![Piece(7, None, Some(3))],
                vec![Piece(7, Some(3), Some(6))],
                vec![Piece(7, Some(6), Some(9))],
                vec![Piece(7, Some(9), None)]
            ]
        );
    }

    #[test]
    fn there_are_never_more_shares_than_asked_for_and_nothing_is_left_out() {
        for most in 1..9 {
            for blocks in [[0, 0, 0], [1, 1, 1], [100, 0, 3], [5, 900, 41], [1, 2, 1_000_000]] {
                let leaves = [leaf(1, blocks[0]), leaf(2, blocks[1]), Leaf { oid: 3, blocks: None }, leaf(4, blocks[2])];
                let shares = cut(&leaves, most);
                assert!(shares.len() <= most as usize && shares.iter().all(|share| !share.is_empty()), "{shares:?}");
                assert_whole(&leaves, &shares);
            }
        }
    }

    #[test]
    fn a_description_reads_back() {
        let share = Share { pieces: vec![Piece(1, None, Some(5)), Piece(u32::MAX, Some(5), None)] };
        let text = serde_json::to_string(&share).unwrap();
        assert_eq!(text, r#"{"pieces":[[1,null,5],[4294967295,5,null]]}"#);
        assert_eq!(serde_json::from_str::<Share>(&text).unwrap(), share);
    }
}
