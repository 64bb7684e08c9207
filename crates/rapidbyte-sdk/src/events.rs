//! What reaches transforms and destinations.

use crate::host_ffi::{self, RawEvent};
use crate::{BatchDecoder, ConnectorError, DeadLetter, Position, Receipt};
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use std::collections::HashMap;

/// A point at which reading could go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Barrier {
    /// Ascending within a task, from 1.
    pub id: u64,
    /// Destinations commit here and acknowledge.
    pub commit: bool,
    /// The share ends here.
    pub last: bool,
    /// Where reading would go on.
    pub position: Option<Position>,
    /// State of the transforms before, by their place in the pipeline.
    pub transform_state: Vec<(u32, Vec<u8>)>,
}

/// What a destination has made durable at a barrier. Nothing else moves progress.
///
/// A source marks a [`Position`] with a barrier. The destination commits what came before it together with a receipt for each
/// stream, which repeats the position and its [`CursorType`](crate::CursorType), and then hands both over as a checkpoint:
/// [`Input::acknowledge`]. The host keeps the positions, lets the source confirm them, and gives them back as the request's `resume`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The id of the [`Barrier`], which asked for a commit.
    pub barrier: u64,
    /// One for each stream of the task whose commit this was, by its index; at least one.
    pub receipts: Vec<Receipt>,
}

/// The keys from `low` (exclusive) to `high` (inclusive), as JSON arrays in key order; `None` is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The lower edge.
    pub low: Option<String>,
    /// The upper edge.
    pub high: Option<String>,
}

/// A stream was emptied at the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncate {
    /// Index into the request's streams.
    pub stream: u32,
    /// Where in the source's log it happened, so that a replayed one does not empty newer rows.
    pub position: Option<Position>,
}

/// One event of a task, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The schema of the batches that follow under `schema_id`.
    Schema {
        /// Index into the request's streams.
        stream: u32,
        /// Its id within the stream.
        schema_id: u32,
        /// The columns.
        schema: SchemaRef,
    },
    /// Rows.
    Batch {
        /// Index into the request's streams.
        stream: u32,
        /// The id its schema came under.
        schema_id: u32,
        /// The rows.
        batch: RecordBatch,
        /// Payload bytes on the wire.
        bytes: u64,
    },
    /// Rows that an earlier stage could not process.
    DeadLetters(Vec<DeadLetter>),
    /// The stream was emptied at the source.
    Truncate(Truncate),
    /// Keys of this range are replaced by the batches up to the next event of another kind.
    ReplaceRange {
        /// Index into the request's streams.
        stream: u32,
        /// The keys.
        range: KeyRange,
    },
    /// Nothing has come for a while; the source lives.
    Heartbeat,
    /// A point to resume from.
    Barrier(Barrier),
    /// Nothing follows.
    End,
}

/// The events of one call.
pub struct Input {
    decoders: HashMap<(u32, u32), BatchDecoder>,
    ended: bool,
}

impl Input {
    /// The host makes one for each call; connectors' tests do too.
    pub(crate) fn new() -> Self {
        Self { decoders: HashMap::new(), ended: false }
    }

    /// Waits for the next event. After [`Event::End`] it says `End` again.
    ///
    /// An event of a later minor version of the protocol is an error that names it.
    #[expect(clippy::should_implement_trait, reason = "an error does not end the events, and there is no `None`")]
    pub fn next(&mut self) -> Result<Event, ConnectorError> {
        if self.ended {
            return Ok(Event::End);
        }
        match host_ffi::next_event()? {
            RawEvent::Schema { stream, schema_id, ipc } => {
                let decoder = BatchDecoder::new(&ipc)?;
                let schema = decoder.schema().clone();
                self.decoders.insert((stream, schema_id), decoder);
                Ok(Event::Schema { stream, schema_id, schema })
            }
            RawEvent::Batch { stream, schema_id, rows, ipc } => {
                let decoder = self.decoders.get_mut(&(stream, schema_id)).ok_or_else(|| {
                    ConnectorError::internal(
                        "unknown_schema",
                        format!("a batch of stream {stream} came before its schema {schema_id}"),
                    )
                })?;
                let bytes = ipc.len() as u64;
                let batch = decoder.decode(ipc)?;
                if batch.num_rows() != rows as usize {
                    return Err(ConnectorError::internal(
                        "row_count",
                        format!("a batch of {rows} rows holds {}", batch.num_rows()),
                    ));
                }
                Ok(Event::Batch { stream, schema_id, batch, bytes })
            }
            RawEvent::DeadLetters(letters) => Ok(Event::DeadLetters(letters)),
            RawEvent::Truncate(truncate) => Ok(Event::Truncate(truncate)),
            RawEvent::ReplaceRange { stream, range } => Ok(Event::ReplaceRange { stream, range }),
            RawEvent::Heartbeat => Ok(Event::Heartbeat),
            RawEvent::Barrier(barrier) => Ok(Event::Barrier(barrier)),
            RawEvent::End => {
                self.ended = true;
                Ok(Event::End)
            }
            RawEvent::Other { name } => Err(host_ffi::unknown_event(&name)),
        }
    }

    /// Tells the host of rows this destination could not take; kept by the host once the next acknowledgement is durable.
    pub fn report_dead_letters(&mut self, letters: &[DeadLetter]) -> Result<(), ConnectorError> {
        host_ffi::report_dead_letters(letters)
    }

    /// Tells the host that everything before a barrier is durable. Destinations only, once for each barrier that asked for a
    /// commit, in their order. An error means that the host did not believe it: the call must end with it.
    pub fn acknowledge(&mut self, checkpoint: &Checkpoint) -> Result<(), ConnectorError> {
        host_ffi::checkpoint(checkpoint)
    }
}
