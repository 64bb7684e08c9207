//! Rows that could not be written, as JSON lines committed with the rows that could.

use crate::control::Control;
use crate::format::Unfit;
use crate::manifest::{FileKind, StagedFile};
use crate::names;
use arrow_array::RecordBatch;
use rapidbyte_sdk::letter::{LetterCount, RowText, letter};
use rapidbyte_sdk::{ConnectorError, DeadLetter, ErrorCategory, WriteStream};
use serde::Serialize;
use std::io::Write;

/// Dead letters since the last commit.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    own: Vec<DeadLetter>,
    arrived: Vec<DeadLetter>,
    count: LetterCount,
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
        self.count.add(&letter)?;
        self.arrived.push(letter);
        Ok(())
    }

    /// Rows of a batch that we give up, in their order.
    pub(crate) fn refused(&mut self, stream: u32, batch: &RecordBatch, unfit: &[Unfit]) -> Result<(), ConnectorError> {
        if unfit.is_empty() {
            return Ok(());
        }
        let texts = RowText::new(batch)?;
        for row in unfit {
            let column = batch.schema_ref().field(row.column).name();
            let words = format!("column `{column}` holds {}", row.why);
            let made = letter(stream, texts.json(row.row), &words, ErrorCategory::Data);
            self.count.add(&made)?;
            self.own.push(made);
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
