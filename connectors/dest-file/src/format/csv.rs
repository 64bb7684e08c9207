//! CSV after RFC 4180, with `\n` as line end. NULL is the unquoted null text; text that equals it, or is empty, is quoted.

use super::TextOut;
use super::sink::Sink;
use super::text::columns;
use crate::config::CsvOptions;
use arrow_array::RecordBatch;
use arrow_schema::Schema;
use rapidbyte_sdk::ConnectorError;
use rapidbyte_sdk::text::TextKind;

/// Handed on to the file at about this size.
const CHUNK_BYTES: usize = 64 << 10;

/// A CSV file that is being written.
pub(crate) struct CsvFile {
    out: TextOut,
    delimiter: u8,
    null: Vec<u8>,
}

impl CsvFile {
    pub(super) fn new(gzip: bool, options: &CsvOptions, schema: &Schema, sink: Sink) -> Result<Self, ConnectorError> {
        let delimiter = options.delimiter.byte();
        let null = options.null.clone().into_bytes();
        let mut file = Self { out: TextOut::new(gzip, sink), delimiter, null };
        if options.header {
            let mut line = Vec::new();
            for (i, field) in schema.fields().iter().enumerate() {
                file.separate(i, &mut line);
                file.write_field(field.name().as_bytes(), &mut line);
            }
            line.push(b'\n');
            file.out.write(&line)?;
        }
        Ok(file)
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), ConnectorError> {
        let columns = columns(batch)?;
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let mut value = String::new();
        for row in 0..batch.num_rows() {
            for (i, column) in columns.iter().enumerate() {
                self.separate(i, &mut chunk);
                value.clear();
                match column.write(row, &mut value) {
                    TextKind::Null => chunk.extend_from_slice(&self.null),
                    TextKind::Bare | TextKind::Quoted => self.write_field(value.as_bytes(), &mut chunk),
                }
            }
            chunk.push(b'\n');
            if chunk.len() >= CHUNK_BYTES {
                self.out.write(&chunk)?;
                chunk.clear();
            }
        }
        self.out.write(&chunk)
    }

    fn separate(&self, column: usize, line: &mut Vec<u8>) {
        if column > 0 {
            line.push(self.delimiter);
        }
    }

    fn write_field(&self, value: &[u8], line: &mut Vec<u8>) {
        let special = |byte: &u8| *byte == self.delimiter || matches!(byte, b'"' | b'\r' | b'\n');
        // Readers trim blanks, so text that begins or ends with one is quoted too.
        let blank = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
        let quoted =
            value.is_empty() || value == self.null || blank(value.first()) || blank(value.last()) || value.iter().any(special);
        if !quoted {
            line.extend_from_slice(value);
            return;
        }
        line.push(b'"');
        for byte in value {
            if *byte == b'"' {
                line.push(b'"');
            }
            line.push(*byte);
        }
        line.push(b'"');
    }

    pub(super) fn bytes(&self) -> u64 {
        self.out.bytes()
    }

    pub(super) fn finish(self) -> Result<Sink, ConnectorError> {
        self.out.finish()
    }
}
