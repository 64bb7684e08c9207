//! Where sources and transforms put what they make.

use crate::{
    Barrier, BatchEncoder, ConnectorError, DeadLetter, Event, KeyRange, Position, ReadPerf, ReadSummary, TransformSummary,
    Truncate, encode_schema, host_ffi,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use std::collections::HashMap;
use std::time::Duration;

/// A schema that has been announced; batches name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SchemaId {
    stream: u32,
    id: u32,
}

/// The most bytes that the frame of a batch takes for each column, beside its values.
const FRAME_BYTES_PER_COLUMN: u64 = 512;

/// How long an offer waits where nothing else is to be done meanwhile.
const LONG: Duration = Duration::from_secs(60);

/// What is done now and then while there is no room.
struct Meanwhile {
    every: Duration,
    act: Box<dyn FnMut() -> Result<(), ConnectorError>>,
}

/// What both outputs share: schemas announced and batches encoded.
#[derive(Default)]
struct Emitter {
    meanwhile: Option<Meanwhile>,
    encoders: HashMap<SchemaId, BatchEncoder>,
    next_id: HashMap<u32, u32>,
    records: u64,
    bytes: u64,
    batches: u64,
}

impl Emitter {
    fn schema(&mut self, stream: u32, schema: SchemaRef) -> Result<SchemaId, ConnectorError> {
        let next = self.next_id.entry(stream).or_insert(0);
        let id = SchemaId { stream, id: *next };
        host_ffi::emit_schema(stream, id.id, encode_schema(&schema)?)?;
        *next += 1;
        self.encoders.insert(id, BatchEncoder::new(schema)?);
        Ok(id)
    }

    fn batch(&mut self, schema: SchemaId, batch: &RecordBatch) -> Result<(), ConnectorError> {
        let rows = u32::try_from(batch.num_rows())
            .map_err(|_| ConnectorError::internal("batch_rows", "a batch holds more than 4,294,967,295 rows"))?;
        if rows == 0 {
            return Ok(());
        }
        let encoder = self
            .encoders
            .get_mut(&schema)
            .ok_or_else(|| ConnectorError::internal("unknown_schema", "a batch was emitted under a schema of another output"))?;
        let ipc = encoder.encode(batch)?;
        self.records += u64::from(rows);
        self.bytes += ipc.len() as u64;
        self.batches += 1;
        self.until_taken(|wait| host_ffi::offer_batch(schema.stream, schema.id, rows, &ipc, wait))
    }

    /// Offers until it was taken.
    fn until_taken(&mut self, mut offer: impl FnMut(Duration) -> Result<bool, ConnectorError>) -> Result<(), ConnectorError> {
        while !offer(self.meanwhile.as_ref().map_or(LONG, |meanwhile| meanwhile.every))? {
            if let Some(meanwhile) = &mut self.meanwhile {
                (meanwhile.act)()?;
            }
        }
        Ok(())
    }
}

/// The output of a source's `read`.
#[derive(Default)]
pub struct SourceOutput {
    emitter: Emitter,
    barriers: u64,
    skipped: u64,
}

impl SourceOutput {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// While a call of this output waits for room, `act` is called about every `every`: the way to keep a session alive under
    /// back-pressure. An error of it ends the call. Takes the place of the one named before.
    pub fn meanwhile(&mut self, every: Duration, act: impl FnMut() -> Result<(), ConnectorError> + 'static) {
        self.emitter.meanwhile = Some(Meanwhile { every, act: Box::new(act) });
    }

    /// Announces the columns of the batches to come. A changed schema is announced again and gets an id of its own.
    pub fn schema(&mut self, stream: u32, schema: SchemaRef) -> Result<SchemaId, ConnectorError> {
        self.emitter.schema(stream, schema)
    }

    /// Hands rows on; waits while the channel is full. A batch without rows is left out.
    pub fn batch(&mut self, schema: SchemaId, batch: &RecordBatch) -> Result<(), ConnectorError> {
        self.emitter.batch(schema, batch)
    }

    /// Reading could go on from `position`: everything emitted so far lies at or before it.
    pub fn barrier(&mut self, position: &Position) -> Result<(), ConnectorError> {
        self.barriers += 1;
        self.emitter.until_taken(|wait| host_ffi::offer_barrier(position, wait))
    }

    /// Rows that could not be read. The host counts them.
    pub fn dead_letters(&mut self, letters: &[DeadLetter]) -> Result<(), ConnectorError> {
        self.emitter.until_taken(|wait| host_ffi::offer_dlq_records(letters, wait))
    }

    /// The stream was emptied at the source.
    pub fn truncate(&mut self, truncate: &Truncate) -> Result<(), ConnectorError> {
        self.emitter.until_taken(|wait| host_ffi::offer_truncate(truncate, wait))
    }

    /// The keys of the range are replaced by the batches up to the next event of another kind.
    pub fn replace_range(&mut self, stream: u32, range: &KeyRange) -> Result<(), ConnectorError> {
        self.emitter.until_taken(|wait| host_ffi::offer_range(stream, range, wait))
    }

    /// Counts rows left out by policy.
    pub fn skipped(&mut self, rows: u64) {
        self.skipped += rows;
    }

    /// What went through, with the connector's own timings.
    pub fn summary(&self, perf: ReadPerf) -> ReadSummary {
        ReadSummary {
            records: self.emitter.records,
            bytes: self.emitter.bytes,
            batches_emitted: self.emitter.batches,
            checkpoint_count: self.barriers,
            records_skipped: self.skipped,
            perf,
        }
    }
}

/// The output of a transform.
#[derive(Default)]
pub struct TransformOutput {
    emitter: Emitter,
    passed: HashMap<(u32, u32), SchemaId>,
    records_in: u64,
    bytes_in: u64,
    skipped: u64,
}

impl TransformOutput {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Announces the columns of the batches to come.
    pub fn schema(&mut self, stream: u32, schema: SchemaRef) -> Result<SchemaId, ConnectorError> {
        self.emitter.schema(stream, schema)
    }

    /// Hands rows on; waits while the channel is full. A batch without rows is left out.
    pub fn batch(&mut self, schema: SchemaId, batch: &RecordBatch) -> Result<(), ConnectorError> {
        self.emitter.batch(schema, batch)
    }

    /// As [`Self::batch`], for rows that may have grown: a batch beyond `max_batch_bytes` is handed on in parts. A row is not
    /// divided; one that is larger by itself is refused by the host.
    pub fn batch_within(&mut self, schema: SchemaId, batch: &RecordBatch, max_batch_bytes: u64) -> Result<(), ConnectorError> {
        let frame = FRAME_BYTES_PER_COLUMN * batch.num_columns() as u64;
        self.halves(schema, batch, max_batch_bytes.saturating_sub(frame))
    }

    /// Halves a batch until each part stays below the limit.
    fn halves(&mut self, schema: SchemaId, batch: &RecordBatch, limit: u64) -> Result<(), ConnectorError> {
        let rows = batch.num_rows();
        // The bytes of these rows alone: columns that were passed on share the buffer of the whole batch they came in.
        let bytes = |column: &ArrayRef| column.to_data().get_slice_memory_size().map_or(u64::MAX, |bytes| bytes as u64);
        if rows <= 1 || batch.columns().iter().map(bytes).fold(0, u64::saturating_add) <= limit {
            return self.batch(schema, batch);
        }
        let half = rows / 2;
        self.halves(schema, &batch.slice(0, half), limit)?;
        self.halves(schema, &batch.slice(half, rows - half), limit)
    }

    /// Counts what came in, for the summary.
    pub fn received(&mut self, rows: u64, bytes: u64) {
        self.records_in += rows;
        self.bytes_in += bytes;
    }

    /// Counts rows left out by policy.
    pub fn skipped(&mut self, rows: u64) {
        self.skipped += rows;
    }

    /// Rows that could not be processed.
    pub fn dead_letters(&mut self, letters: &[DeadLetter]) -> Result<(), ConnectorError> {
        host_ffi::emit_dlq_records(letters)
    }

    /// Passes a barrier on, with this transform's state as it stands there.
    pub fn barrier(&mut self, barrier: &Barrier, state: Option<Vec<u8>>) -> Result<(), ConnectorError> {
        host_ffi::forward_barrier(barrier.id, state)
    }

    /// Passes any event on unchanged. Heartbeats and `End` need no passing.
    pub fn pass(&mut self, event: Event) -> Result<(), ConnectorError> {
        match event {
            Event::Schema { stream, schema_id, schema } => {
                let id = self.schema(stream, schema)?;
                self.passed.insert((stream, schema_id), id);
                Ok(())
            }
            Event::Batch { stream, schema_id, batch, bytes } => {
                let id = *self.passed.get(&(stream, schema_id)).ok_or_else(|| {
                    ConnectorError::internal("unknown_schema", format!("schema {schema_id} of stream {stream} was not passed on"))
                })?;
                self.received(batch.num_rows() as u64, bytes);
                self.batch(id, &batch)
            }
            Event::DeadLetters(letters) => self.dead_letters(&letters),
            Event::Barrier(barrier) => self.barrier(&barrier, None),
            Event::Heartbeat | Event::End => Ok(()),
            Event::Truncate(truncate) => host_ffi::emit_truncate(&truncate),
            Event::ReplaceRange { stream, range } => host_ffi::emit_range(stream, &range),
        }
    }

    /// What went through.
    pub fn summary(&self) -> TransformSummary {
        TransformSummary {
            records_in: self.records_in,
            records_out: self.emitter.records,
            bytes_in: self.bytes_in,
            bytes_out: self.emitter.bytes,
            batches_emitted: self.emitter.batches,
            records_skipped: self.skipped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CursorType;
    use crate::testing::{Emitted, FakeHost};
    use std::cell::Cell;
    use std::rc::Rc;

    #[test]
    fn something_is_done_while_there_is_no_room() {
        let host = FakeHost::install();
        let mut output = host.source_output();
        let done = Rc::new(Cell::new(0));
        let count = Rc::clone(&done);
        output.meanwhile(Duration::from_millis(1), move || {
            count.set(count.get() + 1);
            if count.get() < 3 { Ok(()) } else { Err(ConnectorError::internal("lost", "the session was lost")) }
        });
        let position = Position::new(CursorType::Lsn, "0/1");
        host.full_for(2);
        output.barrier(&position).unwrap();
        assert_eq!((done.get(), host.emitted()), (2, vec![Emitted::Barrier(position.clone())]));
        host.full_for(5);
        assert_eq!(output.barrier(&position).unwrap_err().code, "lost");
        assert_eq!(host.emitted().len(), 1, "nothing was taken");
    }
}
