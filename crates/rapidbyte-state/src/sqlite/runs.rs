//! The tables `runs` and `stream_results`.

use super::checksum::Checksum;
use super::pipelines;
use super::rows::{self, Stored, maybe_signed, select, select_one, signed, stream_key};
use crate::checkpoint::check_stream;
use crate::error::{ErrorKind, StateError};
use crate::pipeline::{MAX_NAME_BYTES, PipelineId, check_length, check_name};
use crate::run::{RunError, RunGuard, RunOutcome, RunRecord, RunStatus, RunTotals, StreamResult, StreamStatus};
use rapidbyte_types::ErrorCategory;
use rusqlite::{Connection, Row, Transaction, params};

/// Messages and hints are for people; what lies beyond is cut.
const MAX_MESSAGE_BYTES: usize = 16 << 10;
/// A dozen phases per stream of a large pipeline.
const MAX_TIMINGS_BYTES: usize = 64 << 10;

struct RunRow {
    ordinal: u64,
    record: RunRecord,
}

impl Stored for RunRow {
    const TABLE: &'static str = "runs";
    const COLUMNS: &'static str = "ordinal, run_id, pipeline, status, started_at_ms, finished_at_ms, duration_ms, error_category, \
                                   error_code, error_message, error_hint, rows_read, bytes_read, rows_written, bytes_written, \
                                   timings_json, sum";

    fn from_row(row: &Row<'_>) -> Result<Self, StateError> {
        let hint: Option<String> = row.get("error_hint")?;
        let category: Option<String> = row.get("error_category")?;
        let error = match (category, row.get("error_code")?, row.get("error_message")?) {
            (Some(category), Some(code), Some(message)) => {
                let category = rows::known(&category, "error_category", ErrorCategory::ALL, ErrorCategory::as_str)?;
                Some(RunError { category, code, message, hint })
            }
            (None, None, None) if hint.is_none() => None,
            _ => return Err(rows::damaged(Self::TABLE, "half an error")),
        };
        let record = RunRecord {
            run_id: row.get("run_id")?,
            pipeline: rows::pipeline(row, "pipeline")?,
            status: rows::word(row, "status", RunStatus::ALL, RunStatus::as_str)?,
            started_at_ms: rows::unsigned(row, "started_at_ms")?,
            finished_at_ms: rows::maybe_unsigned(row, "finished_at_ms")?,
            duration_ms: rows::maybe_unsigned(row, "duration_ms")?,
            error,
            totals: RunTotals {
                rows_read: rows::unsigned(row, "rows_read")?,
                bytes_read: rows::unsigned(row, "bytes_read")?,
                rows_written: rows::unsigned(row, "rows_written")?,
                bytes_written: rows::unsigned(row, "bytes_written")?,
            },
            timings_json: row.get("timings_json")?,
        };
        Ok(Self { ordinal: rows::unsigned(row, "ordinal")?, record })
    }

    fn sum(&self) -> i64 {
        let RunRecord { run_id, pipeline, status, started_at_ms, finished_at_ms, duration_ms, error, totals, timings_json } =
            &self.record;
        let error = error.as_ref();
        Checksum::of(Self::TABLE)
            .int(self.ordinal)
            .text(run_id)
            .text(&pipeline.to_string())
            .text(status.as_str())
            .int(*started_at_ms)
            .maybe_int(*finished_at_ms)
            .maybe_int(*duration_ms)
            .maybe_text(error.map(|error| error.category.as_str()))
            .maybe_text(error.map(|error| error.code.as_str()))
            .maybe_text(error.map(|error| error.message.as_str()))
            .maybe_text(error.and_then(|error| error.hint.as_deref()))
            .int(totals.rows_read)
            .int(totals.bytes_read)
            .int(totals.rows_written)
            .int(totals.bytes_written)
            .maybe_text(timings_json.as_deref())
            .finish()
    }
}

struct ResultRow {
    run: u64,
    result: StreamResult,
}

impl Stored for ResultRow {
    const TABLE: &'static str = "stream_results";
    const COLUMNS: &'static str = "run, stream, status, rows, bytes, partitions, skipped, dead_letters, sum";

    fn from_row(row: &Row<'_>) -> Result<Self, StateError> {
        let result = StreamResult {
            stream: rows::stream(row, "stream")?,
            status: rows::word(row, "status", StreamStatus::ALL, StreamStatus::as_str)?,
            rows: rows::unsigned(row, "rows")?,
            bytes: rows::unsigned(row, "bytes")?,
            partitions: rows::unsigned(row, "partitions")?,
            skipped: rows::unsigned(row, "skipped")?,
            dead_letters: rows::unsigned(row, "dead_letters")?,
        };
        Ok(Self { run: rows::unsigned(row, "run")?, result })
    }

    fn sum(&self) -> i64 {
        let StreamResult { stream, status, rows, bytes, partitions, skipped, dead_letters } = &self.result;
        Checksum::of(Self::TABLE)
            .int(self.run)
            .text(&stream_key(stream))
            .text(status.as_str())
            .int(*rows)
            .int(*bytes)
            .int(*partitions)
            .int(*skipped)
            .int(*dead_letters)
            .finish()
    }
}

fn find(connection: &Connection, run_id: &str) -> Result<Option<RunRow>, StateError> {
    select_one(connection, "WHERE run_id = ?1", [run_id])
}

fn require(connection: &Connection, guard: &RunGuard) -> Result<RunRow, StateError> {
    match find(connection, guard.run_id())? {
        Some(row) if row.record.pipeline == guard.pipeline() => Ok(row),
        _ => Err(StateError::new(ErrorKind::NotFound, format!("the state store knows no run `{}`", guard.run_id()))),
    }
}

fn put(tx: &Transaction<'_>, row: &RunRow) -> Result<(), StateError> {
    let RunRecord { run_id, pipeline, status, started_at_ms, finished_at_ms, duration_ms, error, totals, timings_json } =
        &row.record;
    let error = error.as_ref();
    tx.execute(
        "INSERT INTO runs (ordinal, run_id, pipeline, status, started_at_ms, finished_at_ms, duration_ms, error_category,
                           error_code, error_message, error_hint, rows_read, bytes_read, rows_written, bytes_written,
                           timings_json, sum)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
         ON CONFLICT (ordinal) DO UPDATE SET
             status = excluded.status, finished_at_ms = excluded.finished_at_ms, duration_ms = excluded.duration_ms,
             error_category = excluded.error_category, error_code = excluded.error_code,
             error_message = excluded.error_message, error_hint = excluded.error_hint, rows_read = excluded.rows_read,
             bytes_read = excluded.bytes_read, rows_written = excluded.rows_written, bytes_written = excluded.bytes_written,
             timings_json = excluded.timings_json, sum = excluded.sum",
        params![
            signed(row.ordinal, "the run's number")?,
            run_id,
            pipeline.to_string(),
            status.as_str(),
            signed(*started_at_ms, "the time")?,
            maybe_signed(*finished_at_ms, "the time")?,
            maybe_signed(*duration_ms, "the duration")?,
            error.map(|error| error.category.as_str()),
            error.map(|error| error.code.as_str()),
            error.map(|error| error.message.as_str()),
            error.and_then(|error| error.hint.as_deref()),
            signed(totals.rows_read, "the number of rows")?,
            signed(totals.bytes_read, "the number of bytes")?,
            signed(totals.rows_written, "the number of rows")?,
            signed(totals.bytes_written, "the number of bytes")?,
            timings_json,
            row.sum(),
        ],
    )?;
    Ok(())
}

pub(super) fn begin(tx: &Transaction<'_>, guard: &RunGuard, now_ms: u64) -> Result<Vec<String>, StateError> {
    pipelines::require(tx, guard.pipeline())?;
    if find(tx, guard.run_id())?.is_some() {
        return Err(StateError::new(ErrorKind::Conflict, format!("a run `{}` has been recorded before", guard.run_id())));
    }
    let mut interrupted = Vec::new();
    let left: Vec<RunRow> =
        select(tx, "WHERE pipeline = ?1 AND status = 'running' ORDER BY ordinal", [guard.pipeline().to_string()])?;
    for mut row in left {
        row.record.status = RunStatus::Interrupted;
        put(tx, &row)?;
        interrupted.push(row.record.run_id);
    }
    let newest: Option<i64> = tx.query_row("SELECT max(ordinal) FROM runs", [], |row| row.get(0))?;
    let newest = u64::try_from(newest.unwrap_or(0)).map_err(|_| rows::damaged("runs", "a negative number"))?;
    let record = RunRecord {
        run_id: guard.run_id().to_owned(),
        pipeline: guard.pipeline(),
        status: RunStatus::Running,
        started_at_ms: now_ms,
        finished_at_ms: None,
        duration_ms: None,
        error: None,
        totals: RunTotals::default(),
        timings_json: None,
    };
    put(tx, &RunRow { ordinal: newest.saturating_add(1), record })?;
    Ok(interrupted)
}

pub(super) fn finish(tx: &Transaction<'_>, guard: &RunGuard, outcome: &RunOutcome) -> Result<(), StateError> {
    if outcome.status == RunStatus::Running {
        return Err(StateError::new(ErrorKind::Limit, "a run can't end as `running`"));
    }
    if let Some(error) = &outcome.error {
        check_length("error code", error.code.len(), MAX_NAME_BYTES)?;
    }
    if let Some(timings) = &outcome.timings_json {
        check_length("timing breakdown", timings.len(), MAX_TIMINGS_BYTES)?;
    }
    let mut row = require(tx, guard)?;
    if row.record.status != RunStatus::Running {
        let message = format!("run `{}` has ended already, as `{}`", guard.run_id(), row.record.status);
        return Err(StateError::new(ErrorKind::Conflict, message));
    }
    row.record.status = outcome.status;
    row.record.finished_at_ms = Some(outcome.finished_at_ms);
    row.record.duration_ms = Some(outcome.duration_ms);
    row.record.totals = outcome.totals;
    row.record.timings_json.clone_from(&outcome.timings_json);
    row.record.error = outcome.error.as_ref().map(|error| RunError {
        category: error.category,
        code: error.code.clone(),
        message: cut(&error.message).to_owned(),
        hint: error.hint.as_deref().map(|hint| cut(hint).to_owned()),
    });
    put(tx, &row)
}

pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_MESSAGE_BYTES)]
}

pub(super) fn record_stream(tx: &Transaction<'_>, guard: &RunGuard, result: &StreamResult) -> Result<(), StateError> {
    check_stream(&result.stream)?;
    let row = ResultRow { run: require(tx, guard)?.ordinal, result: result.clone() };
    tx.execute(
        "INSERT INTO stream_results (run, stream, status, rows, bytes, partitions, skipped, dead_letters, sum)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (run, stream) DO UPDATE SET
             status = excluded.status, rows = excluded.rows, bytes = excluded.bytes, partitions = excluded.partitions,
             skipped = excluded.skipped, dead_letters = excluded.dead_letters, sum = excluded.sum",
        params![
            signed(row.run, "the run's number")?,
            stream_key(&result.stream),
            result.status.as_str(),
            signed(result.rows, "the number of rows")?,
            signed(result.bytes, "the number of bytes")?,
            signed(result.partitions, "the number of partitions")?,
            signed(result.skipped, "the number of rows skipped")?,
            signed(result.dead_letters, "the number of dead letters")?,
            row.sum(),
        ],
    )?;
    Ok(())
}

pub(super) fn recent(connection: &Connection, pipeline: Option<PipelineId>, limit: u32) -> Result<Vec<RunRecord>, StateError> {
    let rows: Vec<RunRow> = match pipeline {
        Some(pipeline) => {
            select(connection, "WHERE pipeline = ?1 ORDER BY ordinal DESC LIMIT ?2", params![pipeline.to_string(), limit])?
        }
        None => select(connection, "ORDER BY ordinal DESC LIMIT ?1", [limit])?,
    };
    Ok(rows.into_iter().map(|row| row.record).collect())
}

pub(super) fn one(connection: &Connection, run_id: &str) -> Result<Option<RunRecord>, StateError> {
    Ok(find(connection, run_id)?.map(|row| row.record))
}

pub(super) fn results(connection: &Connection, run_id: &str) -> Result<Vec<StreamResult>, StateError> {
    let Some(run) = find(connection, run_id)? else {
        return Ok(Vec::new());
    };
    let rows: Vec<ResultRow> = select(connection, "WHERE run = ?1 ORDER BY stream", [signed(run.ordinal, "the run's number")?])?;
    Ok(rows.into_iter().map(|row| row.result).collect())
}

pub(super) fn check_run_id(run_id: &str) -> Result<(), StateError> {
    check_name("run id", run_id)
}
