//! Record batches as the wire carries them: one encapsulated Arrow IPC schema message, then encapsulated dictionary and
//! record-batch messages. Source: Apache Arrow columnar format, "Encapsulated message format".

use crate::ConnectorError;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::reader::{RecordBatchDecoder, read_dictionary};
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions, StreamEncoder, write_message};
use arrow_ipc::{MessageHeader, convert::fb_to_schema, root_as_message};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use std::collections::HashMap;
use std::sync::Arc;

const CONTINUATION: [u8; 4] = [0xff; 4];

fn broken(error: &ArrowError) -> ConnectorError {
    ConnectorError::internal("arrow_ipc", format!("Arrow IPC: {error}"))
}

fn malformed(what: &str) -> ConnectorError {
    ConnectorError::internal("arrow_ipc", format!("Arrow IPC: {what}"))
}

/// One encapsulated schema message.
pub fn encode_schema(schema: &Schema) -> Result<Vec<u8>, ConnectorError> {
    let options = IpcWriteOptions::default();
    let mut tracker = DictionaryTracker::new(false);
    let encoded = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(schema, &mut tracker, &options);
    let mut bytes = Vec::new();
    write_message(&mut bytes, encoded, &options).map_err(|e| broken(&e))?;
    Ok(bytes)
}

/// The schema in one encapsulated schema message.
pub fn decode_schema(ipc: &[u8]) -> Result<Schema, ConnectorError> {
    let (head, _) = split_message(ipc)?;
    let message = root_as_message(head).map_err(|_| malformed("a message is not a valid flatbuffer"))?;
    let schema = message.header_as_schema().ok_or_else(|| malformed("expected a schema message"))?;
    Ok(fb_to_schema(schema))
}

/// Splits off the flatbuffer of the first message; the rest begins with its body.
fn split_message(bytes: &[u8]) -> Result<(&[u8], &[u8]), ConnectorError> {
    let rest = bytes.strip_prefix(&CONTINUATION).ok_or_else(|| malformed("a message does not begin with its marker"))?;
    let (size, rest) = rest.split_first_chunk::<4>().ok_or_else(|| malformed("a message ends in its length"))?;
    let size = u32::from_le_bytes(*size) as usize;
    if size > rest.len() {
        return Err(malformed("a message is shorter than its length says"));
    }
    Ok(rest.split_at(size))
}

/// Encodes the batches of one schema.
pub struct BatchEncoder {
    schema: SchemaRef,
    encoder: StreamEncoder,
    started: bool,
}

impl BatchEncoder {
    /// An encoder for batches of `schema`.
    pub fn new(schema: SchemaRef) -> Result<Self, ConnectorError> {
        let encoder = StreamEncoder::try_new(&schema).map_err(|e| broken(&e))?;
        Ok(Self { schema, encoder, started: false })
    }

    /// The schema of every batch.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The batch as encapsulated messages, in one allocation.
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, ConnectorError> {
        let buffers = self.encoder.encode(batch).map_err(|e| broken(&e))?;
        let total = buffers.iter().map(Buffer::len).sum();
        let mut bytes = Vec::with_capacity(total);
        for buffer in &buffers {
            bytes.extend_from_slice(buffer);
        }
        if !self.started {
            // The stream encoder puts the schema before its first batch; it has travelled on its own already.
            self.started = true;
            let (head, _) = split_message(&bytes)?;
            let length = 8 + head.len();
            bytes.drain(..length);
        }
        Ok(bytes)
    }
}

/// Decodes the batches of one schema; remembers its dictionaries.
pub struct BatchDecoder {
    schema: SchemaRef,
    dictionaries: HashMap<i64, ArrayRef>,
}

impl BatchDecoder {
    /// A decoder for batches of the schema in `ipc`.
    pub fn new(ipc: &[u8]) -> Result<Self, ConnectorError> {
        Ok(Self { schema: Arc::new(decode_schema(ipc)?), dictionaries: HashMap::new() })
    }

    /// The schema of every batch.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The batch in `bytes`. Buffers point into `bytes` where alignment allows.
    pub fn decode(&mut self, bytes: impl Into<Buffer>) -> Result<RecordBatch, ConnectorError> {
        let whole: Buffer = bytes.into();
        let mut at = 0;
        loop {
            let (head, rest) = split_message(&whole[at..])?;
            let message = root_as_message(head).map_err(|_| malformed("a message is not a valid flatbuffer"))?;
            let body_at = whole.len() - rest.len();
            let body_len = usize::try_from(message.bodyLength())
                .ok()
                .filter(|len| *len <= rest.len())
                .ok_or_else(|| malformed("a body is shorter than its length says"))?;
            let body = whole.slice_with_length(body_at, body_len);
            let version = message.version();
            match message.header_type() {
                MessageHeader::DictionaryBatch => {
                    let dictionary =
                        message.header_as_dictionary_batch().ok_or_else(|| malformed("a dictionary without its header"))?;
                    read_dictionary(&body, dictionary, &self.schema, &mut self.dictionaries, &version).map_err(|e| broken(&e))?;
                    at = body_at + body_len;
                }
                MessageHeader::RecordBatch => {
                    let batch = message.header_as_record_batch().ok_or_else(|| malformed("a batch without its header"))?;
                    return RecordBatchDecoder::try_new(&body, batch, self.schema.clone(), &self.dictionaries, &version)
                        .and_then(RecordBatchDecoder::read_record_batch)
                        .map_err(|e| broken(&e));
                }
                other => return Err(malformed(&format!("unexpected message {other:?}"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int64Array, NullArray, StringArray};
    use arrow_schema::{DataType, Field};

    fn batch(rows: i64) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("name", DataType::Utf8, true),
            Field::new("nothing", DataType::Null, true),
        ]);
        let names: StringArray = (0..rows).map(|i| (i % 3 != 0).then(|| format!("name {i}"))).collect();
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from_iter_values(0..rows)), Arc::new(names), Arc::new(NullArray::new(rows as usize))];
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    #[test]
    fn batches_survive_the_wire() {
        let first = batch(10);
        let mut encoder = BatchEncoder::new(first.schema()).unwrap();
        let mut decoder = BatchDecoder::new(&encode_schema(&first.schema()).unwrap()).unwrap();
        for rows in [10, 1, 0, 1000] {
            let sent = batch(rows);
            let bytes = encoder.encode(&sent).unwrap();
            assert_eq!(decoder.decode(bytes).unwrap(), sent);
        }
    }

    #[test]
    fn truncated_batches_are_errors() {
        let sent = batch(20);
        let mut encoder = BatchEncoder::new(sent.schema()).unwrap();
        let bytes = encoder.encode(&sent).unwrap();
        let mut decoder = BatchDecoder::new(&encode_schema(&sent.schema()).unwrap()).unwrap();
        for length in 0..bytes.len() {
            assert!(decoder.decode(bytes[..length].to_vec()).is_err(), "a batch cut at {length} was accepted");
        }
    }
}
