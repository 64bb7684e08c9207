//! The table `resets`: streams whose next run begins anew.

use super::checksum::Checksum;
use super::pipelines;
use super::rows::{self, Stored, select, signed, stream_key};
use crate::checkpoint::check_stream;
use crate::error::StateError;
use crate::pipeline::PipelineId;
use crate::reset::ResetRecord;
use rapidbyte_types::StreamName;
use rusqlite::{Connection, Row, Transaction, params};

pub(super) struct ResetRow {
    pub(super) pipeline: PipelineId,
    pub(super) record: ResetRecord,
}

impl Stored for ResetRow {
    const TABLE: &'static str = "resets";
    const COLUMNS: &'static str = "pipeline, stream, asked_at_ms, sum";

    fn from_row(row: &Row<'_>) -> Result<Self, StateError> {
        let record = ResetRecord { stream: rows::stream(row, "stream")?, asked_at_ms: rows::unsigned(row, "asked_at_ms")? };
        Ok(Self { pipeline: rows::pipeline(row, "pipeline")?, record })
    }

    fn sum(&self) -> i64 {
        Checksum::of(Self::TABLE)
            .text(&self.pipeline.to_string())
            .text(&stream_key(&self.record.stream))
            .int(self.record.asked_at_ms)
            .finish()
    }
}

pub(super) fn ask(tx: &Transaction<'_>, pipeline: PipelineId, record: &ResetRecord) -> Result<(), StateError> {
    check_stream(&record.stream)?;
    pipelines::require(tx, pipeline)?;
    let row = ResetRow { pipeline, record: record.clone() };
    tx.execute(
        "INSERT INTO resets (pipeline, stream, asked_at_ms, sum) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (pipeline, stream) DO UPDATE SET asked_at_ms = excluded.asked_at_ms, sum = excluded.sum",
        params![pipeline.to_string(), stream_key(&record.stream), signed(record.asked_at_ms, "the time")?, row.sum()],
    )?;
    Ok(())
}

pub(super) fn done(tx: &Transaction<'_>, pipeline: PipelineId, stream: &StreamName) -> Result<(), StateError> {
    tx.execute("DELETE FROM resets WHERE pipeline = ?1 AND stream = ?2", params![pipeline.to_string(), stream_key(stream)])?;
    Ok(())
}

pub(super) fn all(connection: &Connection, pipeline: PipelineId) -> Result<Vec<ResetRecord>, StateError> {
    let rows: Vec<ResetRow> = select(connection, "WHERE pipeline = ?1 ORDER BY stream", [pipeline.to_string()])?;
    Ok(rows.into_iter().map(|row| row.record).collect())
}
