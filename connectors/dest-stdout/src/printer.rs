//! Writes the text of a format out, and notices when nobody reads it any more.

use arrow_array::{RecordBatch, new_empty_array};
use arrow_schema::Schema;
use rapidbyte_sdk::ConnectorError;
use rapidbyte_sdk::text::ColumnText;
use std::io::{ErrorKind, Write};

/// WASI takes at most this much in one call. Lines are kept whole within a call as far as they fit, so that tasks that print
/// at the same time don't tear each other's lines.
const CHUNK: usize = 4096;

/// Text is handed on when so much has come together.
const BUFFER: usize = 256 << 10;

/// What became of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Printed {
    /// It is on its way.
    Yes,
    /// The reader has gone away.
    Closed,
}

/// Turns rows into text.
pub(crate) trait Format {
    /// New columns for a stream.
    fn schema(&mut self, stream: u32, schema_id: u32);
    /// Appends rows. `sink` may be called in between to hand text on.
    fn batch(
        &mut self,
        stream: u32,
        schema_id: u32,
        batch: &RecordBatch,
        out: &mut String,
        sink: &mut dyn FnMut(&mut String) -> Result<Printed, ConnectorError>,
    ) -> Result<Printed, ConnectorError>;
    /// Appends a note on rows that were left out.
    fn left_out(&mut self, rows: u64, out: &mut String);
}

/// A format, its buffer, and where it goes.
pub(crate) struct Printer<'a> {
    format: Box<dyn Format>,
    room: Option<u64>,
    left_out: u64,
    buffer: String,
    out: &'a mut dyn Write,
}

impl<'a> Printer<'a> {
    pub(crate) fn new(format: Box<dyn Format>, max_rows: Option<u64>, out: &'a mut dyn Write) -> Self {
        Self { format, room: max_rows, left_out: 0, buffer: String::new(), out }
    }

    pub(crate) fn schema(&mut self, stream: u32, schema_id: u32, schema: &Schema) -> Result<Printed, ConnectorError> {
        for field in schema.fields() {
            // A type that can't be printed is told before the first row rather than after some.
            ColumnText::new(field, &new_empty_array(field.data_type()))?;
        }
        self.format.schema(stream, schema_id);
        Ok(Printed::Yes)
    }

    pub(crate) fn batch(&mut self, stream: u32, schema_id: u32, batch: &RecordBatch) -> Result<Printed, ConnectorError> {
        let rows = batch.num_rows() as u64;
        let shown = self.room.map_or(rows, |room| room.min(rows));
        self.left_out += rows - shown;
        if let Some(room) = &mut self.room {
            *room -= shown;
        }
        if shown == 0 {
            return Ok(Printed::Yes);
        }
        let head = batch.slice(0, usize::try_from(shown).unwrap_or(usize::MAX).min(batch.num_rows()));
        let out = &mut *self.out;
        let mut sink = |buffer: &mut String| if buffer.len() < BUFFER { Ok(Printed::Yes) } else { hand_on(out, buffer) };
        self.format.batch(stream, schema_id, &head, &mut self.buffer, &mut sink)
    }

    /// Hands everything on, at the end with a note on what was left out.
    pub(crate) fn flush(&mut self, last: bool) -> Result<Printed, ConnectorError> {
        if last && self.left_out > 0 {
            self.format.left_out(self.left_out, &mut self.buffer);
            self.left_out = 0;
        }
        match hand_on(self.out, &mut self.buffer)? {
            Printed::Yes => outcome(self.out.flush()),
            Printed::Closed => Ok(Printed::Closed),
        }
    }
}

fn hand_on(out: &mut dyn Write, buffer: &mut String) -> Result<Printed, ConnectorError> {
    let mut rest = buffer.as_bytes();
    while !rest.is_empty() {
        let limit = rest.len().min(CHUNK);
        // Up to the last line that fits; a line longer than a chunk goes in pieces.
        let length = rest[..limit].iter().rposition(|byte| *byte == b'\n').map_or(limit, |end| end + 1);
        if outcome(out.write_all(&rest[..length]))? == Printed::Closed {
            buffer.clear();
            return Ok(Printed::Closed);
        }
        rest = &rest[length..];
    }
    buffer.clear();
    Ok(Printed::Yes)
}

fn outcome(result: std::io::Result<()>) -> Result<Printed, ConnectorError> {
    match result {
        Ok(()) => Ok(Printed::Yes),
        Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::WriteZero) => Ok(Printed::Closed),
        // Under WASI a closed pipe and a full disk look alike here. The host knows which it was: it ends the run well after a
        // closed pipe, whatever is said here, and reports this error after anything else.
        Err(error) => Err(ConnectorError::internal("stdout_write", format!("standard output can't be written: {}", error.kind()))
            .with_hint("look at what standard output is redirected to: its disk may be full")),
    }
}
