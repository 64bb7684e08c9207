//! The host's calls, typed. Most connectors need only `log`, `metric` and the state calls; batches and barriers go through
//! [`SourceOutput`](crate::SourceOutput), [`TransformOutput`](crate::TransformOutput) and [`Input`](crate::Input), which
//! call these.

use crate::{Barrier, Checkpoint, ConnectorError, DeadLetter, KeyRange, Position, Truncate};
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

/// The next schema, batch or barrier, the specification's `next-batch`; `None` when nothing follows. For connectors that take
/// rows and nothing else: heartbeats are passed over, dead letters, truncations and ranges are refused (`unsupported_event`).
pub fn next_batch() -> Result<Option<RawEvent>, ConnectorError> {
    let refused = |what: &str| {
        Err(ConnectorError::internal("unsupported_event", format!("this connector takes rows, and the host sent {what}")))
    };
    loop {
        return match next_event()? {
            RawEvent::Heartbeat => continue,
            RawEvent::End => Ok(None),
            event @ (RawEvent::Batch { .. } | RawEvent::Schema { .. } | RawEvent::Barrier(_)) => Ok(Some(event)),
            RawEvent::DeadLetters(_) => refused("dead letters"),
            RawEvent::Truncate(_) => refused("a truncation"),
            RawEvent::ReplaceRange { .. } => refused("a range of keys to replace"),
            RawEvent::Other { name } => Err(unknown_event(&name)),
        };
    }
}

/// An event of a later minor version can't be skipped: nobody here knows what would be lost.
pub(crate) fn unknown_event(name: &str) -> ConnectorError {
    ConnectorError::internal("unknown_event", format!("the host sent an event `{name}` that this connector does not know"))
        .with_hint("update the connector")
}

/// Passes a barrier on with this transform's state. Transforms only.
pub fn forward_barrier(id: u64, state: Option<Vec<u8>>) -> Result<(), ConnectorError> {
    if state.as_ref().is_some_and(|state| state.len() > crate::MAX_TRANSFORM_STATE_BYTES) {
        return Err(ConnectorError::internal("transform_state_size", "the state of a transform is larger than 1 MiB"));
    }
    backend::forward_barrier(id, state)
}

/// Tells the host that everything before a barrier is durable; see [`Input::acknowledge`](crate::Input::acknowledge).
/// Destinations only.
pub fn checkpoint(checkpoint: &Checkpoint) -> Result<(), ConnectorError> {
    backend::checkpoint(checkpoint)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Emitted, FakeHost};
    use crate::{CursorType, ErrorCategory, Receipt};

    fn letter(record_json: &str) -> DeadLetter {
        DeadLetter {
            stream: 0,
            record_json: record_json.into(),
            error_message: "unfit".into(),
            error_category: ErrorCategory::Data,
            failed_at_ms: 7,
        }
    }

    fn barrier(id: u64, position: Option<Position>) -> Barrier {
        Barrier { id, commit: true, last: position.is_none(), position, transform_state: Vec::new() }
    }

    #[test]
    fn state_is_kept_by_scope_and_swapped_only_from_what_is_expected() {
        let _host = FakeHost::install();
        let (pipeline, orders) = (StateScope::Pipeline, StateScope::Stream("orders".into()));
        let get = |scope: &StateScope| state_get(scope, "key").unwrap();
        assert_eq!(get(&pipeline), None);
        assert!(!state_cas(&pipeline, "key", Some(b"one"), Some(b"two")).unwrap(), "nothing is there");
        assert_eq!(get(&pipeline), None, "a swap that fails changes nothing");
        assert!(state_cas(&pipeline, "key", None, Some(b"one")).unwrap());
        assert!(!state_cas(&pipeline, "key", None, Some(b"two")).unwrap(), "something is there");
        assert_eq!(get(&pipeline).as_deref(), Some(&b"one"[..]));
        assert_eq!(get(&orders), None, "another's key");
        state_put(&orders, "key", b"its own").unwrap();
        assert!(state_cas(&pipeline, "key", Some(b"one"), None).unwrap());
        assert_eq!((get(&pipeline), get(&orders).as_deref()), (None, Some(&b"its own"[..])));
        let _another = FakeHost::install();
        assert_eq!(get(&orders), None, "a fresh host remembers nothing");
    }

    #[test]
    fn one_dead_letter_is_offered_until_it_is_taken() {
        let host = FakeHost::install();
        host.full_for(2);
        emit_dlq_record(&letter("{}")).unwrap();
        assert_eq!(host.emitted(), [Emitted::DeadLetters(vec![letter("{}")])]);
        host.fail_emits_after(1);
        assert_eq!(emit_dlq_record(&letter("{}")).unwrap_err().code, "closed");
    }

    #[test]
    fn next_batch_gives_rows_and_barriers_and_refuses_the_rest_without_its_values() {
        let host = FakeHost::install();
        let batch = |ipc: &[u8]| RawEvent::Batch { stream: 0, schema_id: 3, rows: 2, ipc: ipc.to_vec() };
        host.feed_event(RawEvent::Heartbeat);
        host.feed_event(RawEvent::Schema { stream: 0, schema_id: 3, ipc: b"columns".to_vec() });
        host.feed_event(batch(b"rows"));
        host.feed_event(RawEvent::Heartbeat);
        host.feed_commit(1, true, None);
        let mut seen = Vec::new();
        while let Some(event) = next_batch().unwrap() {
            seen.push(match event {
                RawEvent::Schema { schema_id, ipc, .. } => format!("schema {schema_id} {}", String::from_utf8(ipc).unwrap()),
                RawEvent::Batch { rows, ipc, .. } => format!("batch {rows} {}", String::from_utf8(ipc).unwrap()),
                RawEvent::Barrier(barrier) => format!("barrier {} {}", barrier.id, barrier.commit),
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(seen, ["schema 3 columns", "batch 2 rows", "barrier 1 true"]);
        assert!(next_batch().unwrap().is_none(), "nothing follows the end");

        let range = KeyRange { low: Some("canary".into()), high: None };
        for (event, code, words) in [
            (RawEvent::DeadLetters(vec![letter("canary")]), "unsupported_event", "dead letters"),
            (RawEvent::Truncate(Truncate { stream: 0, position: None }), "unsupported_event", "a truncation"),
            (RawEvent::ReplaceRange { stream: 0, range }, "unsupported_event", "a range of keys"),
            (RawEvent::Other { name: "compact".into() }, "unknown_event", "`compact`"),
        ] {
            host.feed_event(event);
            let error = next_batch().unwrap_err();
            assert_eq!(error.code, code);
            assert!(error.message.contains(words) && !error.message.contains("canary"), "{error}");
        }
    }

    #[test]
    fn a_checkpoint_reaches_the_host_whole_and_in_order() {
        let host = FakeHost::install();
        let position = Position::new(CursorType::Int64, "41");
        let checkpoint = |barrier: &Barrier, seq: u64| Checkpoint {
            barrier: barrier.id,
            receipts: vec![Receipt {
                stream: 0,
                generation: 2,
                partition: "0".into(),
                epoch: 3,
                seq,
                position: barrier.position.clone(),
                rows: 42,
                bytes: 336,
                last: barrier.last,
                transform_state: Vec::new(),
                committed_at_ms: 7,
            }],
        };
        let made = [checkpoint(&barrier(1, Some(position.clone())), 1), checkpoint(&barrier(2, None), 2)];
        super::checkpoint(&made[0]).unwrap();
        host.input().acknowledge(&made[1]).unwrap();
        assert_eq!(host.checkpoints(), made);
        assert_eq!(host.checkpoints()[0].receipts[0].position, Some(position));
    }
}
