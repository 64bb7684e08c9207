//! JSON lines: one object per row.

use super::TextOut;
use super::sink::Sink;
use super::text::{columns, key, write_object};
use arrow_array::RecordBatch;
use arrow_schema::Schema;
use rapidbyte_sdk::ConnectorError;

/// Handed on to the file at about this size.
const CHUNK_BYTES: usize = 64 << 10;

/// A file of JSON lines that is being written.
pub(crate) struct JsonlFile {
    out: TextOut,
    keys: Vec<Vec<u8>>,
}

impl JsonlFile {
    pub(super) fn new(gzip: bool, schema: &Schema, sink: Sink) -> Self {
        let keys = schema.fields().iter().map(|field| key(field.name())).collect();
        Self { out: TextOut::new(gzip, sink), keys }
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), ConnectorError> {
        let members: Vec<_> = self.keys.iter().cloned().zip(columns(batch)).collect();
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        for row in 0..batch.num_rows() {
            write_object(&members, row, &mut chunk);
            chunk.push(b'\n');
            if chunk.len() >= CHUNK_BYTES {
                self.out.write(&chunk)?;
                chunk.clear();
            }
        }
        self.out.write(&chunk)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.out.bytes()
    }

    pub(super) fn finish(self) -> Result<Sink, ConnectorError> {
        self.out.finish()
    }
}
