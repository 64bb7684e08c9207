//! The stage of a task that stands between its source and everything else.

use super::apply::{Letters, Place};
use super::bind::Bound;
use crate::error::{Cause, EngineError, Stage};
use crate::task::blocking;
use rapidbyte_config::contract::Contract;
use rapidbyte_runtime::{Event, EventReceiver, EventSender};
use rapidbyte_types::arrow::letter::LetterCount;
use rapidbyte_types::arrow::{BatchDecoder, BatchEncoder, encode_schema};
use rapidbyte_types::{ConnectorError, DataErrorPolicy, DeadLetter, StreamContext};
use std::collections::HashMap;
use std::sync::Arc;

/// Letters of one event; more are split, so that little is held by the links at once. Guessed.
const EVENT_BYTES: usize = 1 << 20;

/// A schema with its contract, and what reads and writes its batches.
struct Held {
    bound: Bound,
    decoder: BatchDecoder,
    encoder: BatchEncoder,
}

/// Holds the batches of one stream of a task to its contract; events of others pass.
pub(crate) struct Enforcer {
    /// The stream's place in the task.
    index: u32,
    stream: StreamContext,
    partition: String,
    contract: Arc<Contract>,
    held: HashMap<u32, Held>,
    rows: u64,
    discarded: u64,
    /// Letters since the newest commit.
    letters: LetterCount,
}

impl Enforcer {
    pub(crate) fn new(index: u32, stream: StreamContext, partition: String, contract: Arc<Contract>) -> Self {
        let (held, letters) = (HashMap::new(), LetterCount::default());
        Self { index, stream, partition, contract, held, rows: 0, discarded: 0, letters }
    }

    /// Carries events from one link to the next until the end, and says how many rows were left out and counted.
    ///
    /// # Errors
    /// For the first violation that ends the load, and echoes of neighbours that are gone.
    pub(crate) async fn run(mut self, mut from: EventReceiver, to: EventSender) -> Result<u64, EngineError> {
        let name = self.stream.name.clone();
        let fail = |error| EngineError::new(Stage::Contract, Cause::Connector(error)).in_stream(&name);
        loop {
            let event = from.recv().await.map_err(fail)?;
            let end = event == Event::End;
            let (back, made) = match event {
                // Values are looked at off the threads on which everything else waits.
                Event::Batch { stream, schema_id, bytes, .. } if stream == self.index => {
                    blocking(move || {
                        let made = self.batch(schema_id, bytes);
                        (self, made)
                    })
                    .await?
                }
                event => {
                    let made = self.pass(event);
                    (self, made)
                }
            };
            self = back;
            for event in made.map_err(fail)? {
                to.send(event).await.map_err(fail)?;
            }
            if end {
                return Ok(self.discarded);
            }
        }
    }

    fn pass(&mut self, event: Event) -> Result<Vec<Event>, ConnectorError> {
        match event {
            Event::Schema { stream, schema_id, ipc } if stream == self.index => Ok(vec![self.schema(schema_id, ipc)?]),
            Event::Barrier(barrier) => {
                if barrier.commit {
                    self.letters = LetterCount::default();
                }
                Ok(vec![Event::Barrier(barrier)])
            }
            other => Ok(vec![other]),
        }
    }

    fn schema(&mut self, schema_id: u32, ipc: bytes::Bytes) -> Result<Event, ConnectorError> {
        let decoder = BatchDecoder::new(&ipc)?;
        let bound = Bound::new(&self.contract, &self.stream.name, &self.stream.primary_key, decoder.schema())?;
        let ipc = if bound.unchanged { ipc } else { encode_schema(&bound.schema)?.into() };
        if !bound.left_out.is_empty() {
            tracing::info!(stream = %self.stream.name, columns = bound.left_out.len(), "the contract leaves columns out");
        }
        let encoder = BatchEncoder::new(Arc::clone(&bound.schema))?;
        self.held.insert(schema_id, Held { bound, decoder, encoder });
        Ok(Event::Schema { stream: self.index, schema_id, ipc })
    }

    /// What a batch becomes: the letters of its rows, then the rows that pass.
    fn batch(&mut self, schema_id: u32, bytes: bytes::Bytes) -> Result<Vec<Event>, ConnectorError> {
        let Some(held) = self.held.get_mut(&schema_id) else {
            return Err(ConnectorError::internal("unknown_schema", format!("schema {schema_id} was never announced")));
        };
        let batch = held.decoder.decode(bytes.clone())?;
        let place = Place { partition: &self.partition, rows_before: self.rows };
        let limit = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut letters = Letters {
            stream: self.index,
            max_record_bytes: limit(self.stream.limits.max_record_bytes),
            count: &mut self.letters,
            made: Vec::new(),
        };
        let kept = self.stream.policies.on_data_error == DataErrorPolicy::Dlq;
        let applied = held.bound.apply(&batch, &place, kept.then_some(&mut letters))?;
        let mut events = letter_events(letters.made);
        self.rows += batch.num_rows() as u64;
        if !kept {
            self.discarded += applied.discarded;
        }
        match applied.batch {
            None => {
                let rows = u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
                events.push(Event::Batch { stream: self.index, schema_id, rows, bytes });
            }
            Some(batch) => {
                // A cast may make values larger: what does not fit into one batch goes into several.
                let max = limit(self.stream.limits.max_batch_bytes);
                let mut waiting = vec![batch];
                while let Some(batch) = waiting.pop() {
                    let rows = batch.num_rows();
                    if rows == 0 {
                        continue;
                    }
                    let bytes = held.encoder.encode(&batch)?;
                    if bytes.len() > max && rows > 1 {
                        // What was encoded does not go out, nor do the dictionaries that it told.
                        held.encoder = BatchEncoder::new(Arc::clone(&held.bound.schema))?;
                        waiting.push(batch.slice(rows / 2, rows - rows / 2));
                        waiting.push(batch.slice(0, rows / 2));
                        continue;
                    }
                    let rows = u32::try_from(rows).unwrap_or(u32::MAX);
                    events.push(Event::Batch { stream: self.index, schema_id, rows, bytes: bytes.into() });
                }
            }
        }
        Ok(events)
    }
}

fn letter_events(letters: Vec<DeadLetter>) -> Vec<Event> {
    let (mut events, mut open, mut bytes) = (Vec::new(), Vec::new(), 0);
    for letter in letters {
        bytes += letter.record_json.len() + letter.error_message.len();
        open.push(letter);
        if bytes >= EVENT_BYTES {
            events.push(Event::DeadLetters(std::mem::take(&mut open)));
            bytes = 0;
        }
    }
    if !open.is_empty() {
        events.push(Event::DeadLetters(open));
    }
    events
}

#[cfg(test)]
mod tests;
