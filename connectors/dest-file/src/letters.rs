//! Rows that could not be written, as JSON lines committed with the rows that could.

use crate::control::{Control, now_ms};
use crate::format::{Unfit, record_json};
use crate::manifest::{FileKind, StagedFile};
use crate::names;
use arrow_array::RecordBatch;
use rapidbyte_sdk::{ConnectorError, DeadLetter, ErrorCategory, WriteStream};
use serde::Serialize;
use std::io::Write;

/// The protocol's limit between two commits.
const MAX_LETTERS: usize = 10_000;
/// Guessed: they are held in guest memory until the commit.
const MAX_BYTES: usize = 64 << 20;

/// Dead letters since the last commit.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    own: Vec<DeadLetter>,
    arrived: Vec<DeadLetter>,
    bytes: usize,
}

#[derive(Serialize)]
struct Line<'a> {
    record: &'a serde_json::value::RawValue,
    error_message: &'a str,
    error_category: ErrorCategory,
    failed_at_ms: u64,
}

impl Letters {
    /// One that an earlier stage gave up.
    pub(crate) fn arrived(&mut self, letter: DeadLetter) -> Result<(), ConnectorError> {
        self.count(&letter)?;
        self.arrived.push(letter);
        Ok(())
    }

    /// One that we give up.
    pub(crate) fn refused(&mut self, stream: u32, batch: &RecordBatch, unfit: &Unfit) -> Result<(), ConnectorError> {
        let column = batch.schema_ref().field(unfit.column).name().clone();
        let letter = DeadLetter {
            stream,
            record_json: record_json(batch, unfit.row)?,
            error_message: format!("column `{column}` holds {}", unfit.why),
            error_category: ErrorCategory::Data,
            failed_at_ms: now_ms(),
        };
        self.count(&letter)?;
        self.own.push(letter);
        Ok(())
    }

    fn count(&mut self, letter: &DeadLetter) -> Result<(), ConnectorError> {
        self.bytes += letter.record_json.len() + letter.error_message.len();
        if self.own.len() + self.arrived.len() >= MAX_LETTERS || self.bytes > MAX_BYTES {
            let message = "more than 10,000 dead letters, or 64 MiB of them, came between two commits";
            return Err(ConnectorError::data("too_many_dead_letters", message)
                .with_hint("look at the newest letters for the cause, or commit more often with `checkpoint_interval_rows`"));
        }
        Ok(())
    }

    /// Those the host does not know of yet.
    pub(crate) fn own(&self) -> &[DeadLetter] {
        &self.own
    }

    /// Makes them durable in a staged file of their own, and forgets them.
    pub(crate) fn stage(
        &mut self,
        control: &Control,
        stream: &WriteStream,
        staging: &(String, String),
        seq: u64,
    ) -> Result<Option<StagedFile>, ConnectorError> {
        let Self { own, arrived, .. } = std::mem::take(self);
        if own.is_empty() && arrived.is_empty() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        for letter in arrived.iter().chain(&own) {
            let broken = |error: serde_json::Error| ConnectorError::internal("dead_letter_json", error.to_string());
            let line = Line {
                record: serde_json::from_str(&letter.record_json).map_err(broken)?,
                error_message: &letter.error_message,
                error_category: letter.error_category,
                failed_at_ms: letter.failed_at_ms,
            };
            serde_json::to_writer(&mut bytes, &line).map_err(broken)?;
            bytes.push(b'\n');
        }
        let name = names::data_file(stream.generation, &stream.partition, seq, 1, "letters.jsonl");
        control.disk.ensure_dir(&staging.1)?;
        let path = format!("{}/{name}", staging.1);
        let mut file = control.disk.create(&path)?;
        file.write_all(&bytes)
            .and_then(|()| file.sync_all())
            .map_err(|error| crate::disk::failed("write the file", &path, error))?;
        let rows = (own.len() + arrived.len()) as u64;
        Ok(Some(StagedFile { kind: FileKind::DeadLetters, directory: staging.0.clone(), name, rows, bytes: bytes.len() as u64 }))
    }
}
