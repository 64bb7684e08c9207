//! The tables `epochs`, `checkpoints` and `generations`: what only moves forward.

use super::checksum::Checksum;
use super::pipelines;
use super::resets;
use super::rows::{self, Stored, select, select_one, signed, stream_key};
use crate::checkpoint::{Checkpoint, DurableReceipt, Mirrored, check_stream};
use crate::error::{ErrorKind, StateError};
use crate::generation::{GenerationRecord, GenerationState};
use crate::pipeline::{PipelineId, check_length};
use rapidbyte_types::{CursorType, MAX_POSITION_BYTES, Position, StreamName};
use rusqlite::{Connection, Row, Transaction, params};

/// What to do when destination and store remember different pasts.
const TWO_HISTORIES: &str = "the destination looks set back to an older copy, or shared by two state files; use a new state file \
                             to go by the destination alone";

pub(super) struct EpochRow {
    pub(super) pipeline: PipelineId,
    pub(super) stream: StreamName,
    pub(super) epoch: u64,
}

impl Stored for EpochRow {
    const TABLE: &'static str = "epochs";
    const COLUMNS: &'static str = "pipeline, stream, epoch, sum";

    fn from_row(row: &Row<'_>) -> Result<Self, StateError> {
        Ok(Self {
            pipeline: rows::pipeline(row, "pipeline")?,
            stream: rows::stream(row, "stream")?,
            epoch: rows::unsigned(row, "epoch")?,
        })
    }

    fn sum(&self) -> i64 {
        Checksum::of(Self::TABLE).text(&self.pipeline.to_string()).text(&stream_key(&self.stream)).int(self.epoch).finish()
    }
}

pub(super) struct GenerationRow {
    pub(super) pipeline: PipelineId,
    pub(super) stream: StreamName,
    pub(super) record: GenerationRecord,
}

impl Stored for GenerationRow {
    const TABLE: &'static str = "generations";
    const COLUMNS: &'static str = "pipeline, stream, number, snapshot, state, sum";

    fn from_row(row: &Row<'_>) -> Result<Self, StateError> {
        let record = GenerationRecord {
            number: rows::unsigned(row, "number")?,
            snapshot: row.get("snapshot")?,
            state: rows::word(row, "state", GenerationState::ALL, GenerationState::as_str)?,
        };
        Ok(Self { pipeline: rows::pipeline(row, "pipeline")?, stream: rows::stream(row, "stream")?, record })
    }

    fn sum(&self) -> i64 {
        Checksum::of(Self::TABLE)
            .text(&self.pipeline.to_string())
            .text(&stream_key(&self.stream))
            .int(self.record.number)
            .text(&self.record.snapshot)
            .text(self.record.state.as_str())
            .finish()
    }
}

impl Stored for Checkpoint {
    const TABLE: &'static str = "checkpoints";
    const COLUMNS: &'static str = "pipeline, stream, generation, partition, epoch, seq, position_type, position_value, rows, \
                                   bytes, last, committed_at_ms, sum";

    fn from_row(row: &Row<'_>) -> Result<Self, StateError> {
        let position = match (row.get::<_, Option<String>>("position_type")?, row.get::<_, Option<String>>("position_value")?) {
            (Some(kind), Some(value)) => {
                Some(Position { kind: rows::known(&kind, "position_type", CursorType::ALL, CursorType::as_str)?, value })
            }
            (None, None) => None,
            _ => return Err(rows::damaged(Self::TABLE, "half a position")),
        };
        Ok(Self {
            pipeline: rows::pipeline(row, "pipeline")?,
            stream: rows::stream(row, "stream")?,
            generation: rows::unsigned(row, "generation")?,
            partition: row.get("partition")?,
            epoch: rows::unsigned(row, "epoch")?,
            seq: rows::unsigned(row, "seq")?,
            position,
            rows: rows::unsigned(row, "rows")?,
            bytes: rows::unsigned(row, "bytes")?,
            last: rows::flag(row, "last")?,
            committed_at_ms: rows::unsigned(row, "committed_at_ms")?,
        })
    }

    fn sum(&self) -> i64 {
        Checksum::of(Self::TABLE)
            .text(&self.pipeline.to_string())
            .text(&stream_key(&self.stream))
            .int(self.generation)
            .text(&self.partition)
            .int(self.epoch)
            .int(self.seq)
            .maybe_text(self.position.as_ref().map(|position| position.kind.as_str()))
            .maybe_text(self.position.as_ref().map(|position| position.value.as_str()))
            .int(self.rows)
            .int(self.bytes)
            .int(u64::from(self.last))
            .int(self.committed_at_ms)
            .finish()
    }
}

pub(super) fn epoch(connection: &Connection, pipeline: PipelineId, stream: &StreamName) -> Result<u64, StateError> {
    let row: Option<EpochRow> =
        select_one(connection, "WHERE pipeline = ?1 AND stream = ?2", [pipeline.to_string(), stream_key(stream)])?;
    Ok(row.map_or(0, |row| row.epoch))
}

pub(super) fn streams(connection: &Connection, pipeline: PipelineId) -> Result<Vec<StreamName>, StateError> {
    let rows: Vec<EpochRow> = select(connection, "WHERE pipeline = ?1 ORDER BY stream", [pipeline.to_string()])?;
    Ok(rows.into_iter().map(|row| row.stream).collect())
}

pub(super) fn advance_epoch(
    tx: &Transaction<'_>,
    pipeline: PipelineId,
    stream: &StreamName,
    expected: u64,
    next: u64,
) -> Result<(), StateError> {
    check_stream(stream)?;
    pipelines::require(tx, pipeline)?;
    if next <= expected {
        return Err(StateError::new(ErrorKind::Limit, format!("epoch {next} is not beyond {expected}")));
    }
    let stored = epoch(tx, pipeline, stream)?;
    if stored != expected {
        return Err(fenced(stream, expected, stored));
    }
    set_epoch(tx, pipeline, stream, next)
}

pub(super) fn set_epoch(tx: &Transaction<'_>, pipeline: PipelineId, stream: &StreamName, epoch: u64) -> Result<(), StateError> {
    let row = EpochRow { pipeline, stream: stream.clone(), epoch };
    tx.execute(
        "INSERT INTO epochs (pipeline, stream, epoch, sum) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (pipeline, stream) DO UPDATE SET epoch = excluded.epoch, sum = excluded.sum",
        params![pipeline.to_string(), stream_key(stream), signed(epoch, "the epoch")?, row.sum()],
    )?;
    Ok(())
}

/// Refuses a holder that has been overtaken, and takes over an epoch this store had not heard of.
fn hold(tx: &Transaction<'_>, pipeline: PipelineId, stream: &StreamName, holder: u64) -> Result<(), StateError> {
    pipelines::require(tx, pipeline)?;
    let stored = epoch(tx, pipeline, stream)?;
    if holder < stored {
        return Err(fenced(stream, holder, stored));
    }
    if holder > stored { set_epoch(tx, pipeline, stream, holder) } else { Ok(()) }
}

fn fenced(stream: &StreamName, held: u64, stored: u64) -> StateError {
    StateError::new(ErrorKind::Fenced, format!("stream `{stream}` is at epoch {stored}, this run knew {held}"))
}

pub(super) fn mirror(tx: &Transaction<'_>, durable: &DurableReceipt) -> Result<Mirrored, StateError> {
    let (pipeline, stream, receipt) = (durable.pipeline(), durable.stream(), durable.receipt());
    hold(tx, pipeline, stream, durable.holder_epoch())?;
    let new = Checkpoint {
        pipeline,
        stream: stream.clone(),
        generation: receipt.generation,
        partition: receipt.partition.clone(),
        epoch: receipt.epoch,
        seq: receipt.seq,
        position: receipt.position.clone(),
        rows: receipt.rows,
        bytes: receipt.bytes,
        last: receipt.last,
        committed_at_ms: receipt.committed_at_ms,
    };
    if newest_generation(tx, pipeline, stream)? > new.generation {
        return Ok(Mirrored::Behind);
    }
    let stored: Option<Checkpoint> = select_one(
        tx,
        "WHERE pipeline = ?1 AND stream = ?2 AND generation = ?3 AND partition = ?4",
        params![pipeline.to_string(), stream_key(stream), signed(new.generation, "the generation")?, new.partition],
    )?;
    if let Some(stored) = stored {
        if stored.seq > new.seq {
            return Ok(Mirrored::Behind);
        }
        if stored == new {
            return Ok(Mirrored::AlreadyThere);
        }
        if stored.seq == new.seq {
            let message = format!(
                "stream `{stream}` has two receipts for generation {}, partition `{}`, seq {}",
                new.generation, new.partition, new.seq
            );
            return Err(StateError::new(ErrorKind::Conflict, message).with_hint(TWO_HISTORIES));
        }
    }
    put_checkpoint(tx, &new)?;
    Ok(Mirrored::Advanced)
}

pub(super) fn put_checkpoint(tx: &Transaction<'_>, new: &Checkpoint) -> Result<(), StateError> {
    tx.execute(
        "INSERT INTO checkpoints (pipeline, stream, generation, partition, epoch, seq, position_type, position_value, rows, bytes,
                                  last, committed_at_ms, sum)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
         ON CONFLICT (pipeline, stream, generation, partition) DO UPDATE SET
             epoch = excluded.epoch, seq = excluded.seq, position_type = excluded.position_type,
             position_value = excluded.position_value, rows = excluded.rows, bytes = excluded.bytes, last = excluded.last,
             committed_at_ms = excluded.committed_at_ms, sum = excluded.sum",
        params![
            new.pipeline.to_string(),
            stream_key(&new.stream),
            signed(new.generation, "the generation")?,
            new.partition,
            signed(new.epoch, "the epoch")?,
            signed(new.seq, "the seq")?,
            new.position.as_ref().map(|position| position.kind.as_str()),
            new.position.as_ref().map(|position| position.value.as_str()),
            signed(new.rows, "the number of rows")?,
            signed(new.bytes, "the number of bytes")?,
            new.last,
            signed(new.committed_at_ms, "the time")?,
            new.sum(),
        ],
    )?;
    Ok(())
}

/// The highest generation either table has heard of, 0 if none.
fn newest_generation(connection: &Connection, pipeline: PipelineId, stream: &StreamName) -> Result<u64, StateError> {
    let recorded = generations(connection, pipeline, stream)?.first().map_or(0, |newest| newest.number);
    let mirrored = checkpoints(connection, pipeline, stream)?.first().map_or(0, |checkpoint| checkpoint.generation);
    Ok(recorded.max(mirrored))
}

pub(super) fn checkpoints(
    connection: &Connection,
    pipeline: PipelineId,
    stream: &StreamName,
) -> Result<Vec<Checkpoint>, StateError> {
    select(
        connection,
        "WHERE pipeline = ?1 AND stream = ?2
         AND generation = (SELECT max(generation) FROM checkpoints WHERE pipeline = ?1 AND stream = ?2) ORDER BY partition",
        [pipeline.to_string(), stream_key(stream)],
    )
}

pub(super) fn pipeline_checkpoints(connection: &Connection, pipeline: PipelineId) -> Result<Vec<Checkpoint>, StateError> {
    let all: Vec<Checkpoint> =
        select(connection, "WHERE pipeline = ?1 ORDER BY stream, generation DESC, partition", [pipeline.to_string()])?;
    let mut newest: Vec<Checkpoint> = Vec::with_capacity(all.len());
    for checkpoint in all {
        match newest.last() {
            Some(kept) if kept.stream == checkpoint.stream && kept.generation != checkpoint.generation => {}
            _ => newest.push(checkpoint),
        }
    }
    Ok(newest)
}

pub(super) fn generations(
    connection: &Connection,
    pipeline: PipelineId,
    stream: &StreamName,
) -> Result<Vec<GenerationRecord>, StateError> {
    let rows: Vec<GenerationRow> =
        select(connection, "WHERE pipeline = ?1 AND stream = ?2 ORDER BY number DESC", [pipeline.to_string(), stream_key(stream)])?;
    Ok(rows.into_iter().map(|row| row.record).collect())
}

pub(super) fn record_generation(
    tx: &Transaction<'_>,
    pipeline: PipelineId,
    stream: &StreamName,
    epoch: u64,
    new: &GenerationRecord,
) -> Result<Mirrored, StateError> {
    check_stream(stream)?;
    check_length("snapshot's name", new.snapshot.len(), MAX_POSITION_BYTES)?;
    if new.number == 0 || epoch == 0 {
        return Err(StateError::new(ErrorKind::Limit, "generations and epochs count from 1"));
    }
    hold(tx, pipeline, stream, epoch)?;
    if newest_generation(tx, pipeline, stream)? > new.number {
        return Ok(Mirrored::Behind);
    }
    let newest = generations(tx, pipeline, stream)?.into_iter().next();
    if let Some(stored) = newest.filter(|stored| stored.number == new.number) {
        if stored.snapshot != new.snapshot {
            let message = format!("generation {} of stream `{stream}` is known with another snapshot", new.number);
            return Err(StateError::new(ErrorKind::Conflict, message).with_hint(TWO_HISTORIES));
        }
        if stored.state >= new.state {
            return Ok(if stored.state == new.state { Mirrored::AlreadyThere } else { Mirrored::Behind });
        }
    }
    let (id, key, number) = (pipeline.to_string(), stream_key(stream), signed(new.number, "the generation")?);
    put_generation(tx, &GenerationRow { pipeline, stream: stream.clone(), record: new.clone() })?;
    // A generation that was open has been discarded; one that was published is kept for show until the next is.
    tx.execute(
        "DELETE FROM generations WHERE pipeline = ?1 AND stream = ?2 AND number < ?3 AND (state = 'open' OR ?4 = 'published')",
        params![id, key, number, new.state.as_str()],
    )?;
    tx.execute("DELETE FROM checkpoints WHERE pipeline = ?1 AND stream = ?2 AND generation < ?3", params![id, key, number])?;
    // In the same transaction: a generation that has begun is not begun anew.
    resets::done(tx, pipeline, stream)?;
    Ok(Mirrored::Advanced)
}

pub(super) fn put_generation(tx: &Transaction<'_>, row: &GenerationRow) -> Result<(), StateError> {
    let GenerationRecord { number, snapshot, state } = &row.record;
    tx.execute(
        "INSERT INTO generations (pipeline, stream, number, snapshot, state, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (pipeline, stream, number) DO UPDATE SET state = excluded.state, sum = excluded.sum",
        params![
            row.pipeline.to_string(),
            stream_key(&row.stream),
            signed(*number, "the generation")?,
            snapshot,
            state.as_str(),
            row.sum()
        ],
    )?;
    Ok(())
}

/// Forgets generations and checkpoints of a stream, to make room for others.
pub(super) fn forget(tx: &Transaction<'_>, pipeline: PipelineId, stream: &StreamName) -> Result<(), StateError> {
    for table in [GenerationRow::TABLE, Checkpoint::TABLE] {
        let sql = format!("DELETE FROM {table} WHERE pipeline = ?1 AND stream = ?2");
        tx.execute(&sql, params![pipeline.to_string(), stream_key(stream)])?;
    }
    Ok(())
}
