//! Receipts: what one commit made durable, in the transaction of its rows.

use super::{damaged, hex, parse, stored, unhex, unhex_text};
use crate::fault;
use crate::ledger::Owner;
use crate::session::Session;
use postgres_wire::Row;
use rapidbyte_sdk::{ConnectorError, Position, Receipt};

/// How far a partition has come with a commit.
#[derive(Debug, Clone)]
pub(crate) struct Progress<'a> {
    pub(crate) generation: u64,
    pub(crate) partition: &'a str,
    /// The commit's own number.
    pub(crate) seq: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) last: bool,
    pub(crate) position: Option<&'a Position>,
    pub(crate) transform_state: &'a [(u32, Vec<u8>)],
}

/// A transform's state may be as large as a message of the server may be, and is twice that in hexadecimal digits: it is
/// stored and read back in pieces.
const STATE_PIECE: usize = 128 << 10;

fn pieces(states: &[(u32, Vec<u8>)]) -> Vec<(u32, String)> {
    let mut pieces = Vec::new();
    for (place, state) in states {
        // A state without bytes is still one.
        let (first, rest) = state.split_at(state.len().min(STATE_PIECE));
        pieces.push((*place, hex(first)));
        pieces.extend(rest.chunks(STATE_PIECE).map(|piece| (*place, hex(piece))));
    }
    pieces
}

/// Writes a receipt if it is the successor of the one before; gives the server's time in milliseconds.
pub(crate) fn write_receipt(
    session: &mut Session,
    owner: &Owner,
    stream: i64,
    progress: &Progress<'_>,
) -> Result<u64, ConnectorError> {
    let state = serde_json::to_string(&pieces(progress.transform_state))
        .map_err(|_| ConnectorError::internal("json", "transform state can't be written as JSON"))?;
    let sql = if progress.seq == 1 {
        "INSERT INTO _rapidbyte.receipts AS r (stream_id, generation, partition, epoch, seq, position_type, position_value,
             rows, bytes, last, transform_state, committed_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, clock_timestamp())
         ON CONFLICT (stream_id, generation, partition) DO NOTHING
         RETURNING (extract(epoch FROM committed_at) * 1000)::bigint"
    } else {
        "UPDATE _rapidbyte.receipts AS r SET epoch = $4, seq = $5, position_type = $6, position_value = $7, rows = $8, bytes = $9,
             last = $10, transform_state = $11, committed_at = clock_timestamp()
         WHERE stream_id = $1 AND generation = $2 AND partition = $3 AND seq = $5::bigint - 1 AND NOT last
         RETURNING (extract(epoch FROM committed_at) * 1000)::bigint"
    };
    let rows = session.query_params(
        sql,
        &[
            stream.into(),
            stored(progress.generation)?.into(),
            progress.partition.into(),
            stored(owner.epoch)?.into(),
            stored(progress.seq)?.into(),
            progress.position.map(|position| position.kind.as_str()).into(),
            progress.position.map(|position| hex(position.value.as_bytes())).into(),
            stored(progress.rows)?.into(),
            stored(progress.bytes)?.into(),
            progress.last.into(),
            state.into(),
        ],
    )?;
    let row = rows.first().ok_or_else(|| fault::fenced(&owner.stream))?;
    parse(row, 0, "a time")
}

/// The newest receipt of each partition of a generation; `index` is the stream's place in the request.
pub(super) fn newest(session: &mut Session, stream: i64, generation: u64, index: u32) -> Result<Vec<Receipt>, ConnectorError> {
    let rows = session.query_params(
        "SELECT partition, epoch, seq, position_type, position_value, rows, bytes, last,
             (extract(epoch FROM committed_at) * 1000)::bigint
         FROM _rapidbyte.receipts WHERE stream_id = $1 AND generation = $2 ORDER BY partition",
        &[stream.into(), stored(generation)?.into()],
    )?;
    let mut receipts = Vec::with_capacity(rows.len());
    for row in &rows {
        let partition = row.get(0).ok_or_else(|| damaged("a partition"))?.to_owned();
        receipts.push(Receipt {
            stream: index,
            generation,
            transform_state: transform_state(session, stream, generation, &partition)?,
            partition,
            epoch: parse(row, 1, "an epoch")?,
            seq: parse(row, 2, "a receipt")?,
            position: position(row)?,
            rows: parse(row, 5, "a count")?,
            bytes: parse(row, 6, "a count")?,
            last: row.get(7) == Some("t"),
            committed_at_ms: parse(row, 8, "a time")?,
        });
    }
    Ok(receipts)
}

fn position(row: &Row) -> Result<Option<Position>, ConnectorError> {
    if row.get(3).is_none() {
        return Ok(None);
    }
    let value = row.get(4).and_then(unhex_text).ok_or_else(|| damaged("a position"))?;
    Ok(Some(Position::new(parse(row, 3, "a position")?, value)))
}

fn transform_state(
    session: &mut Session,
    stream: i64,
    generation: u64,
    partition: &str,
) -> Result<Vec<(u32, Vec<u8>)>, ConnectorError> {
    let rows = session.query_params(
        "SELECT e.state ->> 0, e.state ->> 1 FROM _rapidbyte.receipts AS r,
             pg_catalog.json_array_elements(r.transform_state) WITH ORDINALITY AS e(state, place)
         WHERE r.stream_id = $1 AND r.generation = $2 AND r.partition = $3 ORDER BY e.place",
        &[stream.into(), stored(generation)?.into(), partition.into()],
    )?;
    let read = |row: &Row| Some((row.get(0)?.parse::<u32>().ok()?, unhex(row.get(1)?)?));
    let mut states: Vec<(u32, Vec<u8>)> = Vec::new();
    for row in &rows {
        let (place, piece) = read(row).ok_or_else(|| damaged("transform state"))?;
        match states.last_mut() {
            Some((of, state)) if *of == place => state.extend_from_slice(&piece),
            _ => states.push((place, piece)),
        }
    }
    Ok(states)
}

/// The position of a partition's newest receipt.
pub(crate) fn place_of(
    session: &mut Session,
    stream: i64,
    generation: u64,
    partition: &str,
) -> Result<Option<Position>, ConnectorError> {
    let rows = session.query_params(
        "SELECT NULL, NULL, NULL, position_type, position_value FROM _rapidbyte.receipts
         WHERE stream_id = $1 AND generation = $2 AND partition = $3",
        &[stream.into(), stored(generation)?.into(), partition.into()],
    )?;
    rows.first().map_or(Ok(None), position)
}

/// Partitions of the plan without a `last` receipt.
pub(crate) fn unfinished_partitions(session: &mut Session, stream: i64, generation: u64) -> Result<Vec<String>, ConnectorError> {
    let rows = session.query_params(
        "SELECT p ->> 'id' FROM _rapidbyte.generations AS g, pg_catalog.json_array_elements(g.partitions) AS e(p)
         WHERE g.stream_id = $1 AND g.number = $2 AND NOT EXISTS (SELECT FROM _rapidbyte.receipts AS r
             WHERE r.stream_id = g.stream_id AND r.generation = g.number AND r.partition = p ->> 'id' AND r.last)",
        &[stream.into(), stored(generation)?.into()],
    )?;
    Ok(rows.iter().map(|row| row.get(0).unwrap_or("?").to_owned()).collect())
}

/// Rows of a generation, by its receipts.
pub(crate) fn written_rows(session: &mut Session, stream: i64, generation: u64) -> Result<u64, ConnectorError> {
    let rows = session.query_params(
        "SELECT coalesce(sum(rows), 0)::bigint FROM _rapidbyte.receipts WHERE stream_id = $1 AND generation = $2",
        &[stream.into(), stored(generation)?.into()],
    )?;
    rows.first().map_or(Err(damaged("a count")), |row| parse(row, 0, "a count"))
}
