//! Host calls on a native target: they reach the fake host of the current thread.

use super::{LogLevel, MetricKind, RawEvent, StateScope};
use crate::testing::{Emitted, with_host};
use crate::{Checkpoint, ConnectorError, DeadLetter, KeyRange, Position, Truncate};
use std::time::Duration;

pub(crate) fn emit_schema(stream: u32, schema_id: u32, ipc: Vec<u8>) -> Result<(), ConnectorError> {
    with_host(|host| host.emit(Emitted::Schema { stream, schema_id, ipc }))
}

pub(crate) fn offer_batch(stream: u32, schema_id: u32, rows: u32, ipc: &[u8], _wait: Duration) -> Result<bool, ConnectorError> {
    with_host(|host| host.offer(|| Emitted::Batch { stream, schema_id, rows, ipc: ipc.to_vec() }))
}

pub(crate) fn offer_dlq_records(letters: &[DeadLetter], _wait: Duration) -> Result<bool, ConnectorError> {
    with_host(|host| host.offer(|| Emitted::DeadLetters(letters.to_vec())))
}

pub(crate) fn offer_truncate(truncate: &Truncate, _wait: Duration) -> Result<bool, ConnectorError> {
    with_host(|host| host.offer(|| Emitted::Truncate(truncate.clone())))
}

pub(crate) fn offer_range(stream: u32, range: &KeyRange, _wait: Duration) -> Result<bool, ConnectorError> {
    with_host(|host| host.offer(|| Emitted::ReplaceRange { stream, range: range.clone() }))
}

pub(crate) fn report_dead_letters(letters: &[DeadLetter]) -> Result<(), ConnectorError> {
    with_host(|host| host.emit(Emitted::DeadLetters(letters.to_vec())))
}

pub(crate) fn offer_barrier(position: &Position, _wait: Duration) -> Result<bool, ConnectorError> {
    with_host(|host| host.offer(|| Emitted::Barrier(position.clone())))
}

pub(crate) fn durable_position() -> Option<Position> {
    with_host(|host| host.durable_position())
}

pub(crate) fn next_event() -> Result<RawEvent, ConnectorError> {
    with_host(|host| Ok(host.next_event()))
}

pub(crate) fn forward_barrier(id: u64, state: Option<Vec<u8>>) -> Result<(), ConnectorError> {
    with_host(|host| host.emit(Emitted::ForwardedBarrier { id, state }))
}

pub(crate) fn checkpoint(checkpoint: &Checkpoint) -> Result<(), ConnectorError> {
    with_host(|host| {
        host.acknowledge(checkpoint);
        Ok(())
    })
}

pub(crate) fn state_get(scope: &StateScope, key: &str) -> Result<Option<Vec<u8>>, ConnectorError> {
    with_host(|host| Ok(host.state_get(scope, key)))
}

pub(crate) fn state_put(scope: &StateScope, key: &str, value: &[u8]) -> Result<(), ConnectorError> {
    with_host(|host| {
        host.state_set(scope, key, Some(value));
        Ok(())
    })
}

pub(crate) fn state_cas(
    scope: &StateScope,
    key: &str,
    expected: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<bool, ConnectorError> {
    with_host(|host| {
        let hit = host.state_get(scope, key).as_deref() == expected;
        if hit {
            host.state_set(scope, key, value);
        }
        Ok(hit)
    })
}

pub(crate) fn log(level: LogLevel, message: &str, fields: &[(&str, &str)]) {
    with_host(|host| host.log(level, message, fields));
}

pub(crate) fn metric(name: &str, kind: MetricKind, value: f64, labels: &[(&str, &str)]) {
    with_host(|host| host.metric(name, kind, value, labels));
}

pub(crate) fn mark(point: &str) {
    with_host(|host| host.mark(point));
}
