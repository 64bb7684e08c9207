//! Host calls as imports of the component.

use super::{LogLevel, MetricKind, RawEvent, StateScope};
use crate::bindings::imports::rapidbyte::connector as wit;
use crate::{Checkpoint, ConnectorError, DeadLetter, KeyRange, Position, Truncate, convert};
use std::time::Duration;

/// How long one call waits in the host before the guest asks again; any value serves, since the host can cancel a wait.
const WAIT_MS: u32 = 60_000;

/// Whether it was taken.
fn taken(emitted: Result<wit::output::EmitOutcome, wit::types::ConnectorError>) -> Result<bool, ConnectorError> {
    Ok(match emitted.map_err(convert::error_from_wit)? {
        wit::output::EmitOutcome::Accepted => true,
        wit::output::EmitOutcome::Full => false,
    })
}

fn millis(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis()).unwrap_or(u32::MAX)
}

pub(crate) fn emit_schema(stream: u32, schema_id: u32, ipc: Vec<u8>) -> Result<(), ConnectorError> {
    wit::output::emit_schema(stream, schema_id, &ipc).map_err(convert::error_from_wit)
}

pub(crate) fn offer_batch(stream: u32, schema_id: u32, rows: u32, ipc: &[u8], wait: Duration) -> Result<bool, ConnectorError> {
    taken(wit::output::emit_batch(stream, schema_id, rows, ipc, millis(wait)))
}

pub(crate) fn offer_dlq_records(letters: &[DeadLetter], wait: Duration) -> Result<bool, ConnectorError> {
    let letters: Vec<_> = letters.iter().cloned().map(convert::dead_letter_to_wit).collect();
    taken(wit::output::emit_dead_letters(&letters, millis(wait)))
}

pub(crate) fn offer_truncate(truncate: &Truncate, wait: Duration) -> Result<bool, ConnectorError> {
    taken(wit::output::emit_truncate(&convert::truncate_to_wit(truncate.clone()), millis(wait)))
}

pub(crate) fn offer_range(stream: u32, range: &KeyRange, wait: Duration) -> Result<bool, ConnectorError> {
    let KeyRange { low, high } = range.clone();
    taken(wit::output::emit_range(&wit::types::RangeEvent { stream, low, high }, millis(wait)))
}

pub(crate) fn report_dead_letters(letters: &[DeadLetter]) -> Result<(), ConnectorError> {
    let letters: Vec<_> = letters.iter().cloned().map(convert::dead_letter_to_wit).collect();
    wit::acknowledge::report_dead_letters(&letters).map_err(convert::error_from_wit)
}

pub(crate) fn offer_barrier(position: &Position, wait: Duration) -> Result<bool, ConnectorError> {
    taken(wit::progress::emit_barrier(&convert::position_to_wit(position.clone()), millis(wait)))
}

pub(crate) fn durable_position() -> Option<Position> {
    wit::progress::durable_position().map(convert::position_from_wit)
}

pub(crate) fn next_event() -> Result<RawEvent, ConnectorError> {
    loop {
        if let Some(event) = wit::input::next_event(WAIT_MS).map_err(convert::error_from_wit)? {
            return Ok(convert::event_from_wit(event));
        }
    }
}

pub(crate) fn forward_barrier(id: u64, state: Option<Vec<u8>>) -> Result<(), ConnectorError> {
    wit::forward::forward_barrier(id, state.as_deref()).map_err(convert::error_from_wit)
}

pub(crate) fn checkpoint(checkpoint: &Checkpoint) -> Result<(), ConnectorError> {
    let Checkpoint { barrier, receipts } = checkpoint;
    let receipts: Vec<_> = receipts.iter().cloned().map(convert::receipt_to_wit).collect();
    wit::acknowledge::acknowledge(*barrier, &receipts).map_err(convert::error_from_wit)
}

fn scope(scope: &StateScope) -> wit::state::StateScope {
    match scope {
        StateScope::Pipeline => wit::state::StateScope::Pipeline,
        StateScope::Stream(name) => wit::state::StateScope::Stream(name.clone()),
    }
}

pub(crate) fn state_get(of: &StateScope, key: &str) -> Result<Option<Vec<u8>>, ConnectorError> {
    wit::state::state_get(&scope(of), key).map_err(convert::error_from_wit)
}

pub(crate) fn state_put(of: &StateScope, key: &str, value: &[u8]) -> Result<(), ConnectorError> {
    wit::state::state_put(&scope(of), key, value).map_err(convert::error_from_wit)
}

pub(crate) fn state_cas(of: &StateScope, key: &str, expected: Option<&[u8]>, value: Option<&[u8]>) -> Result<bool, ConnectorError> {
    wit::state::state_cas(&scope(of), key, expected, value).map_err(convert::error_from_wit)
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn log(level: LogLevel, message: &str, fields: &[(&str, &str)]) {
    let level = match level {
        LogLevel::Error => wit::telemetry::LogLevel::Error,
        LogLevel::Warn => wit::telemetry::LogLevel::Warn,
        LogLevel::Info => wit::telemetry::LogLevel::Info,
        LogLevel::Debug => wit::telemetry::LogLevel::Debug,
        LogLevel::Trace => wit::telemetry::LogLevel::Trace,
    };
    wit::telemetry::log(level, message, &owned(fields));
}

pub(crate) fn metric(name: &str, kind: MetricKind, value: f64, labels: &[(&str, &str)]) {
    let kind = match kind {
        MetricKind::Counter => wit::telemetry::MetricKind::Counter,
        MetricKind::Gauge => wit::telemetry::MetricKind::Gauge,
        MetricKind::Histogram => wit::telemetry::MetricKind::Histogram,
    };
    wit::telemetry::metric(name, kind, value, &owned(labels));
}

pub(crate) fn mark(point: &str) {
    wit::telemetry::mark(point);
}
