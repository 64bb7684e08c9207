//! JSON lines: one object per row.

use super::TextOut;
use super::sink::Sink;
use super::text::{columns, key};
use arrow_array::RecordBatch;
use arrow_schema::Schema;
use rapidbyte_sdk::ConnectorError;

/// Handed on to the file at about this size.
const CHUNK_BYTES: usize = 64 << 10;

/// A file of JSON lines that is being written.
pub(crate) struct JsonlFile {
    out: TextOut,
    keys: Vec<String>,
}

impl JsonlFile {
    pub(super) fn new(gzip: bool, schema: &Schema, sink: Sink) -> Self {
        let keys = schema.fields().iter().map(|field| key(field.name())).collect();
        Self { out: TextOut::new(gzip, sink), keys }
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), ConnectorError> {
        let columns = columns(batch)?;
        let mut chunk = String::with_capacity(CHUNK_BYTES);
        for row in 0..batch.num_rows() {
            chunk.push('{');
            for (i, (key, column)) in self.keys.iter().zip(&columns).enumerate() {
                if i > 0 {
                    chunk.push(',');
                }
                chunk.push_str(key);
                column.write_json(row, &mut chunk);
            }
            chunk.push_str("}\n");
            if chunk.len() >= CHUNK_BYTES {
                self.out.write(chunk.as_bytes())?;
                chunk.clear();
            }
        }
        self.out.write(chunk.as_bytes())
    }

    pub(super) fn bytes(&self) -> u64 {
        self.out.bytes()
    }

    pub(super) fn finish(self) -> Result<Sink, ConnectorError> {
        self.out.finish()
    }
}
