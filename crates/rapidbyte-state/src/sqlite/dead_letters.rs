//! The table `dead_letters`.

use super::checksum::Checksum;
use super::pipelines;
use super::rows::{self, Stored, select, signed, stream_key};
use super::runs::{check_run_id, cut};
use crate::checkpoint::check_stream;
use crate::dead_letter::{DeadLetterEntry, DeadLetterKey, DeadLetterSummary, MAX_DEAD_LETTER_BYTES};
use crate::error::StateError;
use crate::pipeline::{PipelineId, check_length, check_name};
use rapidbyte_types::{DeadLetter, ErrorCategory, StreamName};
use rusqlite::{Connection, Row, Transaction, params};

struct LetterRow {
    summary: DeadLetterSummary,
    record_sum: i64,
}

impl Stored for LetterRow {
    const TABLE: &'static str = "dead_letters";
    const COLUMNS: &'static str = "id, pipeline, stream, generation, partition, seq, ordinal, run_id, error_message, \
                                   error_category, failed_at_ms, record_sum, sum, \
                                   EXISTS (SELECT 1 FROM replay_letters AS l JOIN replays AS r USING (replay_id) \
                                   WHERE l.letter = dead_letters.id AND r.finished_at_ms IS NOT NULL) AS replayed";

    fn from_row(row: &Row<'_>) -> Result<Self, StateError> {
        let key = DeadLetterKey {
            pipeline: rows::pipeline(row, "pipeline")?,
            stream: rows::stream(row, "stream")?,
            generation: rows::unsigned(row, "generation")?,
            partition: row.get("partition")?,
            seq: rows::unsigned(row, "seq")?,
            ordinal: rows::unsigned(row, "ordinal")?,
        };
        let summary = DeadLetterSummary {
            id: rows::unsigned(row, "id")?,
            key,
            run_id: row.get("run_id")?,
            error_message: row.get("error_message")?,
            error_category: rows::word(row, "error_category", ErrorCategory::ALL, ErrorCategory::as_str)?,
            failed_at_ms: rows::unsigned(row, "failed_at_ms")?,
            replayed: rows::flag(row, "replayed")?,
        };
        Ok(Self { summary, record_sum: row.get("record_sum")? })
    }

    fn sum(&self) -> i64 {
        // Whether it was replayed is another table's.
        let DeadLetterSummary { id: _, key, run_id, error_message, error_category, failed_at_ms, replayed: _ } = &self.summary;
        Checksum::of(Self::TABLE)
            .text(&key.pipeline.to_string())
            .text(&stream_key(&key.stream))
            .int(key.generation)
            .text(&key.partition)
            .int(key.seq)
            .int(key.ordinal)
            .text(run_id)
            .text(error_message)
            .text(error_category.as_str())
            .int(*failed_at_ms)
            .bytes(&self.record_sum.to_le_bytes())
            .finish()
    }
}

fn record_sum(record: &str) -> i64 {
    Checksum::of("dead_letters.record").text(record).finish()
}

pub(super) fn add(tx: &Transaction<'_>, letters: &[DeadLetterEntry]) -> Result<u64, StateError> {
    let before = total(tx)?;
    let mut known: Option<PipelineId> = None;
    for entry in letters {
        if known != Some(entry.key.pipeline) {
            pipelines::require(tx, entry.key.pipeline)?;
            known = Some(entry.key.pipeline);
        }
        put(tx, entry)?;
    }
    Ok(total(tx)?.saturating_sub(before))
}

fn put(tx: &Transaction<'_>, entry: &DeadLetterEntry) -> Result<(), StateError> {
    let DeadLetterEntry { key, run_id, letter } = entry;
    check_stream(&key.stream)?;
    check_name("partition id", &key.partition)?;
    check_run_id(run_id)?;
    check_length("dead letter's record", letter.record_json.len(), MAX_DEAD_LETTER_BYTES)?;
    let row = LetterRow {
        summary: DeadLetterSummary {
            id: 0,
            key: key.clone(),
            run_id: run_id.clone(),
            error_message: cut(&letter.error_message).to_owned(),
            error_category: letter.error_category,
            failed_at_ms: letter.failed_at_ms,
            replayed: false,
        },
        record_sum: record_sum(&letter.record_json),
    };
    tx.execute(
        "INSERT INTO dead_letters (pipeline, stream, generation, partition, seq, ordinal, run_id, error_message, error_category,
                                   failed_at_ms, record_sum, sum, record)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
         ON CONFLICT (pipeline, stream, generation, partition, seq, ordinal) DO UPDATE SET
             run_id = excluded.run_id, error_message = excluded.error_message, error_category = excluded.error_category,
             failed_at_ms = excluded.failed_at_ms, record_sum = excluded.record_sum, sum = excluded.sum,
             record = excluded.record",
        params![
            key.pipeline.to_string(),
            stream_key(&key.stream),
            signed(key.generation, "the generation")?,
            key.partition,
            signed(key.seq, "the seq")?,
            signed(key.ordinal, "the ordinal")?,
            run_id,
            row.summary.error_message,
            letter.error_category.as_str(),
            signed(letter.failed_at_ms, "the time")?,
            row.record_sum,
            row.sum(),
            letter.record_json,
        ],
    )?;
    Ok(())
}

fn total(connection: &Connection) -> Result<u64, StateError> {
    count_where(connection, "", [])
}

fn count_where(connection: &Connection, tail: &str, params: impl rusqlite::Params) -> Result<u64, StateError> {
    let found: i64 = connection.query_row(&format!("SELECT count(*) FROM dead_letters {tail}"), params, |row| row.get(0))?;
    Ok(found.unsigned_abs())
}

pub(super) fn list(
    connection: &Connection,
    pipeline: PipelineId,
    stream: Option<&StreamName>,
    after: u64,
    limit: u32,
) -> Result<Vec<DeadLetterSummary>, StateError> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let rows: Vec<LetterRow> = select(
        connection,
        "WHERE pipeline = ?1 AND (?2 IS NULL OR stream = ?2) AND id > ?3 ORDER BY id LIMIT ?4",
        params![pipeline.to_string(), stream.map(stream_key), after, limit],
    )?;
    Ok(rows.into_iter().map(|row| row.summary).collect())
}

pub(super) fn one(connection: &Connection, id: u64) -> Result<Option<DeadLetterEntry>, StateError> {
    let Ok(id) = i64::try_from(id) else {
        return Ok(None);
    };
    let Some(row) = rows::select_one::<LetterRow>(connection, "WHERE id = ?1", [id])? else {
        return Ok(None);
    };
    let record_json: String = connection.query_row("SELECT record FROM dead_letters WHERE id = ?1", [id], |row| row.get(0))?;
    if record_sum(&record_json) != row.record_sum {
        return Err(rows::damaged("dead_letters", "a record does not match its checksum"));
    }
    let DeadLetterSummary { id: _, key, run_id, error_message, error_category, failed_at_ms, replayed: _ } = row.summary;
    let letter = DeadLetter { stream: 0, record_json, error_message, error_category, failed_at_ms };
    Ok(Some(DeadLetterEntry { key, run_id, letter }))
}

pub(super) fn count(connection: &Connection, pipeline: PipelineId, stream: Option<&StreamName>) -> Result<u64, StateError> {
    count_where(
        connection,
        "WHERE pipeline = ?1 AND (?2 IS NULL OR stream = ?2)",
        params![pipeline.to_string(), stream.map(stream_key)],
    )
}
