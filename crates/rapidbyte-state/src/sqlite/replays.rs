//! The tables `replays` and `replay_letters`.

use super::rows::{self, maybe_unsigned, signed, stream_key};
use crate::dead_letter::{MAX_DEAD_LETTER_BYTES, ReplayRecord};
use crate::error::{ErrorKind, StateError};
use crate::pipeline::{PipelineId, check_length, check_name};
use rusqlite::{Connection, Transaction, params};

pub(super) fn begin(tx: &Transaction<'_>, replay: &ReplayRecord, letters: &[(u64, String)], now_ms: u64) -> Result<(), StateError> {
    check_name("replay id", &replay.id)?;
    tx.execute(
        "INSERT INTO replays (replay_id, pipeline, stream, generation, started_at_ms) VALUES (?1, ?2, ?3, NULL, ?4)",
        params![replay.id, replay.pipeline.to_string(), stream_key(&replay.stream), signed(now_ms, "the time")?],
    )?;
    for (letter, record) in letters {
        check_length("dead letter's record", record.len(), MAX_DEAD_LETTER_BYTES)?;
        let free = tx.execute(
            "INSERT INTO replay_letters (replay_id, letter, record) SELECT ?1, ?2, ?3
             WHERE EXISTS (SELECT 1 FROM dead_letters WHERE id = ?2 AND pipeline = ?4 AND stream = ?5)
                 AND NOT EXISTS (SELECT 1 FROM replay_letters WHERE letter = ?2)",
            params![replay.id, signed(*letter, "the letter")?, record, replay.pipeline.to_string(), stream_key(&replay.stream)],
        )?;
        if free != 1 {
            let message = format!("dead letter {letter} is not of this stream, or was replayed before");
            return Err(StateError::new(ErrorKind::Conflict, message));
        }
    }
    Ok(())
}

pub(super) fn note_generation(tx: &Transaction<'_>, id: &str, generation: u64) -> Result<(), StateError> {
    changed(tx.execute(
        "UPDATE replays SET generation = ?2 WHERE replay_id = ?1 AND finished_at_ms IS NULL",
        params![id, signed(generation, "the generation")?],
    )?)
}

pub(super) fn finish(tx: &Transaction<'_>, id: &str, now_ms: u64) -> Result<(), StateError> {
    changed(tx.execute(
        "UPDATE replays SET finished_at_ms = ?2 WHERE replay_id = ?1 AND finished_at_ms IS NULL",
        params![id, signed(now_ms, "the time")?],
    )?)
}

fn changed(rows: usize) -> Result<(), StateError> {
    match rows {
        1 => Ok(()),
        _ => Err(StateError::new(ErrorKind::NotFound, "there is no such replay under way")),
    }
}

pub(super) fn open(connection: &Connection, pipeline: PipelineId) -> Result<Vec<ReplayRecord>, StateError> {
    let mut statement = connection.prepare(
        "SELECT replay_id, pipeline, stream, generation FROM replays WHERE pipeline = ?1 AND finished_at_ms IS NULL
         ORDER BY started_at_ms, replay_id",
    )?;
    let mut found = statement.query([pipeline.to_string()])?;
    let mut open = Vec::new();
    while let Some(row) = found.next()? {
        open.push(ReplayRecord {
            id: row.get("replay_id")?,
            pipeline: rows::pipeline(row, "pipeline")?,
            stream: rows::stream(row, "stream")?,
            generation: maybe_unsigned(row, "generation")?,
        });
    }
    Ok(open)
}

pub(super) fn letters(connection: &Connection, id: &str) -> Result<Vec<(u64, String)>, StateError> {
    let mut statement = connection.prepare("SELECT letter, record FROM replay_letters WHERE replay_id = ?1 ORDER BY letter")?;
    let mut found = statement.query([id])?;
    let mut letters = Vec::new();
    while let Some(row) = found.next()? {
        letters.push((rows::unsigned(row, "letter")?, row.get("record")?));
    }
    Ok(letters)
}
