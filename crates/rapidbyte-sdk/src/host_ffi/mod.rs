//! The host's calls, typed. Most connectors need only `log`, `metric` and the state calls; batches and barriers go through
//! [`SourceOutput`](crate::SourceOutput), [`TransformOutput`](crate::TransformOutput) and [`Input`](crate::Input), which
//! call these.

use crate::{Barrier, ConnectorError, DeadLetter, KeyRange, Position, Receipt, Truncate};
use std::time::Duration;

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(target_family = "wasm")]
mod wasm;

#[cfg(not(target_family = "wasm"))]
use native as backend;
#[cfg(target_family = "wasm")]
use wasm as backend;

/// How loud a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Data is at risk.
    Error,
    /// Unexpected, and mended.
    Warn,
    /// A milestone.
    Info,
    /// For the engineer.
    Debug,
    /// For the engineer at night.
    Trace,
}

/// What a metric's value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Added to what was counted before.
    Counter,
    /// Takes the place of the value before.
    Gauge,
    /// One observation.
    Histogram,
}

/// Whose a key is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StateScope {
    /// The pipeline's.
    Pipeline,
    /// One stream's.
    Stream(String),
}

/// An event as it comes over the wire.
#[derive(Debug)]
pub enum RawEvent {
    /// A schema message.
    Schema {
        /// Index into the request's streams.
        stream: u32,
        /// Its id within the stream.
        schema_id: u32,
        /// Encapsulated Arrow IPC.
        ipc: Vec<u8>,
    },
    /// Batch messages.
    Batch {
        /// Index into the request's streams.
        stream: u32,
        /// The id its schema came under.
        schema_id: u32,
        /// Rows in it.
        rows: u32,
        /// Encapsulated Arrow IPC.
        ipc: Vec<u8>,
    },
    /// See [`crate::Event::DeadLetters`].
    DeadLetters(Vec<DeadLetter>),
    /// See [`crate::Event::Truncate`].
    Truncate(Truncate),
    /// See [`crate::Event::ReplaceRange`].
    ReplaceRange {
        /// Index into the request's streams.
        stream: u32,
        /// The keys.
        range: KeyRange,
    },
    /// See [`crate::Event::Heartbeat`].
    Heartbeat,
    /// See [`crate::Event::Barrier`].
    Barrier(Barrier),
    /// Nothing follows.
    End,
    /// An event of a later minor version.
    Other {
        /// Its name.
        name: String,
    },
}

/// Announces a schema: one encapsulated Arrow IPC schema message. Ids of a stream ascend.
pub fn emit_schema(stream: u32, schema_id: u32, ipc: Vec<u8>) -> Result<(), ConnectorError> {
    backend::emit_schema(stream, schema_id, ipc)
}

/// Asks again until it was taken; any wait serves, since the host can cancel one.
fn until_taken(mut offer: impl FnMut(Duration) -> Result<bool, ConnectorError>) -> Result<(), ConnectorError> {
    while !offer(Duration::from_secs(60))? {}
    Ok(())
}

/// Hands a batch on: encapsulated Arrow IPC messages. Waits while the channel is full.
pub fn emit_batch(stream: u32, schema_id: u32, rows: u32, ipc: Vec<u8>) -> Result<(), ConnectorError> {
    until_taken(|wait| offer_batch(stream, schema_id, rows, &ipc, wait))
}

/// As [`emit_batch`]; `false` = there was no room within `wait`, and nothing was taken.
pub fn offer_batch(stream: u32, schema_id: u32, rows: u32, ipc: &[u8], wait: Duration) -> Result<bool, ConnectorError> {
    backend::offer_batch(stream, schema_id, rows, ipc, wait)
}

/// Hands rows on that could not be processed. Waits while the channel is full.
pub fn emit_dlq_records(letters: &[DeadLetter]) -> Result<(), ConnectorError> {
    until_taken(|wait| offer_dlq_records(letters, wait))
}

/// As [`emit_dlq_records`]; `false` = there was no room within `wait`, and nothing was taken.
pub fn offer_dlq_records(letters: &[DeadLetter], wait: Duration) -> Result<bool, ConnectorError> {
    backend::offer_dlq_records(letters, wait)
}

/// The stream was emptied at the source. Waits while the channel is full.
pub fn emit_truncate(truncate: &Truncate) -> Result<(), ConnectorError> {
    until_taken(|wait| offer_truncate(truncate, wait))
}

/// As [`emit_truncate`]; `false` = there was no room within `wait`, and nothing was taken.
pub fn offer_truncate(truncate: &Truncate, wait: Duration) -> Result<bool, ConnectorError> {
    backend::offer_truncate(truncate, wait)
}

/// The keys of the range are replaced by the batches that follow. Waits while the channel is full.
pub fn emit_range(stream: u32, range: &KeyRange) -> Result<(), ConnectorError> {
    until_taken(|wait| offer_range(stream, range, wait))
}

/// As [`emit_range`]; `false` = there was no room within `wait`, and nothing was taken.
pub fn offer_range(stream: u32, range: &KeyRange, wait: Duration) -> Result<bool, ConnectorError> {
    backend::offer_range(stream, range, wait)
}

/// Tells the host of rows a destination could not take.
pub fn report_dead_letters(letters: &[DeadLetter]) -> Result<(), ConnectorError> {
    backend::report_dead_letters(letters)
}

/// Hands one row on that could not be processed.
pub fn emit_dlq_record(letter: &DeadLetter) -> Result<(), ConnectorError> {
    emit_dlq_records(std::slice::from_ref(letter))
}

/// Marks a point to resume from. Waits while the channel is full. Sources only.
pub fn emit_barrier(position: &Position) -> Result<(), ConnectorError> {
    until_taken(|wait| offer_barrier(position, wait))
}

/// As [`emit_barrier`]; `false` = there was no room within `wait`, and nothing was taken. Sources only.
pub fn offer_barrier(position: &Position, wait: Duration) -> Result<bool, ConnectorError> {
    if position.value.len() > crate::MAX_POSITION_BYTES {
        return Err(ConnectorError::internal(
            "position_size",
            format!("a position of {} bytes is too large", position.value.len()),
        ));
    }
    backend::offer_barrier(position, wait)
}

/// The newest position the destination has made durable in this task. Sources only.
pub fn durable_position() -> Option<Position> {
    backend::durable_position()
}

/// Waits for the next event. Transforms and destinations only.
pub fn next_event() -> Result<RawEvent, ConnectorError> {
    backend::next_event()
}

/// The next event that carries a batch, the specification's `next-batch`: other events but `End` are refused, so it is for
/// destinations that take one schema and commit once.
pub fn next_batch() -> Result<Option<RawEvent>, ConnectorError> {
    match next_event()? {
        RawEvent::End => Ok(None),
        event @ (RawEvent::Batch { .. } | RawEvent::Schema { .. }) => Ok(Some(event)),
        other => Err(ConnectorError::internal("unexpected_event", format!("expected a batch, got {other:?}"))),
    }
}

/// Passes a barrier on with this transform's state. Transforms only.
pub fn forward_barrier(id: u64, state: Option<Vec<u8>>) -> Result<(), ConnectorError> {
    if state.as_ref().is_some_and(|state| state.len() > crate::MAX_TRANSFORM_STATE_BYTES) {
        return Err(ConnectorError::internal("transform_state_size", "the state of a transform is larger than 1 MiB"));
    }
    backend::forward_barrier(id, state)
}

/// Tells the host that everything before the barrier is durable. Destinations only, in the order of the barriers.
pub fn checkpoint(barrier_id: u64, receipts: &[Receipt]) -> Result<(), ConnectorError> {
    backend::checkpoint(barrier_id, receipts)
}

/// Reads a value from the pipeline's store.
pub fn state_get(scope: &StateScope, key: &str) -> Result<Option<Vec<u8>>, ConnectorError> {
    backend::state_get(scope, key)
}

/// Writes a value to the pipeline's store. Never put progress there: it belongs into barriers.
pub fn state_put(scope: &StateScope, key: &str, value: &[u8]) -> Result<(), ConnectorError> {
    backend::state_put(scope, key, value)
}

/// Writes `value` (`None` deletes) if the current value equals `expected`; says whether it did.
pub fn state_cas(scope: &StateScope, key: &str, expected: Option<&[u8]>, value: Option<&[u8]>) -> Result<bool, ConnectorError> {
    backend::state_cas(scope, key, expected, value)
}

/// Says something to people: a lower-case fragment, and fields with names, counts and positions — never row values.
pub fn log(level: LogLevel, message: &str, fields: &[(&str, &str)]) {
    backend::log(level, message, fields);
}

/// Reports a number.
pub fn metric(name: &str, kind: MetricKind, value: f64, labels: &[(&str, &str)]) {
    backend::metric(name, kind, value, labels);
}

/// A named point of the work has been reached, such as `dest.commit.sent`. Tests kill the process at such points.
pub fn mark(point: &str) {
    backend::mark(point);
}
