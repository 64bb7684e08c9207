//! `output`: what sources and transforms put on their way.

use super::pollables::Interest;
use super::{HostState, out_of_place, wait};
use crate::ipc::{Refusal, Shape, check_schema};
use crate::link::{Event, EventSender, Sent, downstream_closed};
use crate::timings::Step;
use crate::transform_state::StateMark;
use crate::wit::rapidbyte::connector::output::{EmitOutcome, Host};
use crate::wit::rapidbyte::connector::types as wit;
use bytes::Bytes;
use rapidbyte_types::{ConnectorError, ErrorCategory, ErrorScope, MAX_POSITION_BYTES, Position};
use std::collections::HashMap;
use std::sync::Arc;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::DynPollable;

/// Schemas of one task beside one for each stream; an id more is a defect of the guest, not evolution.
const MAX_SCHEMAS: usize = 1_024;
/// Dead letters in one call.
const MAX_LETTERS: usize = 10_000;
/// The longest error text of a dead letter.
const MAX_LETTER_MESSAGE: usize = 8 << 10;

/// What the host does with a barrier of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarrierDecision {
    /// The barrier's number, ascending from 1.
    pub id: u64,
    /// Whether destinations commit at it.
    pub commit: bool,
    /// Whether no data follows.
    pub last: bool,
}

/// Decides which of a source's barriers travel on. Called in the order of the source's own calls.
pub trait BarrierGate: Send {
    /// A batch is about to go out: its place is certain, and no receiver has seen it.
    fn batch(&mut self, stream: u32, rows: u32, bytes: u64);
    /// A change without rows is about to go out, a truncate or a replaced range: its place is certain, too.
    fn rowless(&mut self);
    /// The source stands at `position`. `None` = this barrier goes no further.
    fn barrier(&mut self, position: &Position) -> Option<BarrierDecision>;
}

/// The state of one `read` or `transform`.
pub(crate) struct OutputState {
    pub(crate) sender: EventSender,
    pub(crate) gate: Option<Box<dyn BarrierGate>>,
    /// A transform's place in the pipeline.
    pub(crate) place: u32,
    /// What stands before its state, if it has any.
    pub(crate) mark: Option<StateMark>,
    streams: usize,
    shapes: HashMap<(u32, u32), Shape>,
    newest: Vec<Option<u32>>,
    /// The share's last barrier has gone out: what came after it would never be committed.
    pub(crate) complete: bool,
}

impl OutputState {
    /// For a source.
    pub(crate) fn gated(sender: EventSender, gate: Box<dyn BarrierGate>, streams: usize) -> Self {
        Self { gate: Some(gate), ..Self::placed(sender, 0, None, streams) }
    }

    /// For the transform at `place`.
    pub(crate) fn placed(sender: EventSender, place: u32, mark: Option<StateMark>, streams: usize) -> Self {
        Self { sender, gate: None, place, mark, streams, shapes: HashMap::new(), newest: vec![None; streams], complete: false }
    }

    fn stream(&self, stream: u32) -> Result<usize, ConnectorError> {
        let index = stream as usize;
        if index < self.streams {
            Ok(index)
        } else {
            Err(refused("unknown_stream", format!("stream {stream} is not among the {} of this task", self.streams)))
        }
    }

    fn learn(&mut self, stream: u32, schema_id: u32, ipc: &[u8]) -> Result<(), ConnectorError> {
        let index = self.stream(stream)?;
        if self.newest[index].is_some_and(|newest| schema_id <= newest) {
            return Err(refused("schema_id_order", format!("schema {schema_id} of stream {stream} is not above the one before")));
        }
        let most = MAX_SCHEMAS + self.streams;
        if self.shapes.len() >= most {
            return Err(refused("too_many_schemas", format!("a task of {} streams has at most {most} schemas", self.streams)));
        }
        let shape = check_schema(ipc).map_err(|Refusal(why)| refused("invalid_schema", why))?;
        if !shape.has_columns() {
            return Err(refused("invalid_schema", "the schema has no columns".into()));
        }
        self.shapes.insert((stream, schema_id), shape);
        self.newest[index] = Some(schema_id);
        Ok(())
    }

    fn check(&self, stream: u32, schema_id: u32, rows: u32, ipc: &[u8], max: usize) -> Result<(), ConnectorError> {
        self.stream(stream)?;
        if ipc.len() > max {
            return Err(refused("batch_too_large", format!("the batch has {} bytes, `max_batch_bytes` is {max}", ipc.len()))
                .with_hint("emit smaller batches, or raise `max_batch_bytes`"));
        }
        let shape = self.shapes.get(&(stream, schema_id));
        let shape = shape.ok_or_else(|| refused("unknown_schema", format!("stream {stream} has no schema {schema_id}")))?;
        shape.check_batch(ipc, rows).map_err(|Refusal(why)| refused("invalid_batch", why))
    }
}

impl OutputState {
    async fn send_rowless(&mut self, event: Event, wait_ms: u32) -> Result<EmitOutcome, wit::ConnectorError> {
        let gate = &mut self.gate;
        let placed = || {
            if let Some(gate) = gate {
                gate.rowless();
            }
        };
        outcome(self.sender.send_placed(event, wait(wait_ms), placed).await)
    }
}

/// A complaint about what the guest has handed over: its own defect.
fn refused(code: &str, message: String) -> ConnectorError {
    ConnectorError::internal(code, message).with_scope(ErrorScope::Batch)
}

fn outcome(sent: Sent) -> Result<EmitOutcome, wit::ConnectorError> {
    match sent {
        Sent::Accepted => Ok(EmitOutcome::Accepted),
        Sent::Full => Ok(EmitOutcome::Full),
        Sent::Closed => Err(downstream_closed().into()),
    }
}

impl HostState {
    pub(super) fn output(&mut self, function: &str) -> Result<&mut OutputState, ConnectorError> {
        let output = self.output.as_mut().ok_or_else(|| out_of_place(function, "read` or `transform"))?;
        if output.complete {
            return Err(refused("after_last_barrier", format!("`{function}` came after the last barrier")));
        }
        Ok(output)
    }

    async fn send_schema(&mut self, stream: u32, schema_id: u32, ipc: Vec<u8>) -> Result<(), ConnectorError> {
        let output = self.output("emit-schema")?;
        output.learn(stream, schema_id, &ipc)?;
        output.sender.send(Event::Schema { stream, schema_id, ipc: ipc.into() }).await
    }

    async fn send_batch(
        &mut self,
        stream: u32,
        schema_id: u32,
        rows: u32,
        ipc: Vec<u8>,
        wait_ms: u32,
    ) -> Result<EmitOutcome, wit::ConnectorError> {
        let timings = Arc::clone(&self.timings);
        let _span = timings.span(Step::EmitBatch);
        let max = self.max_batch_bytes;
        let output = self.output("emit-batch")?;
        output.check(stream, schema_id, rows, &ipc, max)?;
        let weight = ipc.len() as u64;
        let event = Event::Batch { stream, schema_id, rows, bytes: Bytes::from(ipc) };
        let gate = &mut output.gate;
        let placed = || {
            if let Some(gate) = gate {
                gate.batch(stream, rows, weight);
            }
        };
        outcome(output.sender.send_placed(event, wait(wait_ms), placed).await)
    }

    async fn send_letters(&mut self, letters: Vec<wit::DeadLetter>, wait_ms: u32) -> Result<EmitOutcome, wit::ConnectorError> {
        let max = self.max_batch_bytes;
        let output = self.output("emit-dead-letters")?;
        if letters.len() > MAX_LETTERS {
            return Err(refused("too_many_dead_letters", format!("at most {MAX_LETTERS} dead letters go into one call")).into());
        }
        let mut weight = 0;
        for letter in &letters {
            output.stream(letter.stream)?;
            if letter.error_message.len() > MAX_LETTER_MESSAGE {
                return Err(refused("dead_letter_too_large", "a dead letter's error message is too long".into()).into());
            }
            weight += letter.record_json.len() + letter.error_message.len();
        }
        if weight > max {
            return Err(refused("dead_letter_too_large", format!("the dead letters have {weight} bytes, {max} are allowed")).into());
        }
        let letters = crate::convert::all(letters);
        outcome(output.sender.send_timeout(Event::DeadLetters(letters), wait(wait_ms)).await)
    }

    async fn send_truncate(&mut self, event: wit::TruncateEvent, wait_ms: u32) -> Result<EmitOutcome, wit::ConnectorError> {
        let wit::TruncateEvent { stream, position } = event;
        let position = position.map(Position::from);
        if position.as_ref().is_some_and(|position| position.value.len() > MAX_POSITION_BYTES) {
            return Err(refused("position_too_large", format!("a position has at most {MAX_POSITION_BYTES} bytes")).into());
        }
        let output = self.output("emit-truncate")?;
        output.stream(stream)?;
        output.send_rowless(Event::Truncate { stream, position }, wait_ms).await
    }

    async fn send_range(&mut self, event: wit::RangeEvent, wait_ms: u32) -> Result<EmitOutcome, wit::ConnectorError> {
        let wit::RangeEvent { stream, low, high } = event;
        if [&low, &high].into_iter().flatten().any(|bound| bound.len() > MAX_POSITION_BYTES) {
            return Err(refused("range_too_large", format!("a bound has at most {MAX_POSITION_BYTES} bytes")).into());
        }
        let output = self.output("emit-range")?;
        output.stream(stream)?;
        output.send_rowless(Event::ReplaceRange { stream, low, high }, wait_ms).await
    }
}

impl Host for HostState {
    async fn emit_schema(
        &mut self,
        stream: u32,
        schema_id: u32,
        ipc: Vec<u8>,
    ) -> wasmtime::Result<Result<(), wit::ConnectorError>> {
        Ok(self.send_schema(stream, schema_id, ipc).await.map_err(Into::into))
    }

    async fn emit_batch(
        &mut self,
        stream: u32,
        schema_id: u32,
        rows: u32,
        ipc: Vec<u8>,
        wait_ms: u32,
    ) -> wasmtime::Result<Result<EmitOutcome, wit::ConnectorError>> {
        if let Some(error) = self.struck()? {
            return Ok(Err(ConnectorError::new(ErrorCategory::TransientNetwork, "struck", error.message).into()));
        }
        Ok(self.send_batch(stream, schema_id, rows, ipc, wait_ms).await)
    }

    async fn emit_dead_letters(
        &mut self,
        letters: Vec<wit::DeadLetter>,
        wait_ms: u32,
    ) -> wasmtime::Result<Result<EmitOutcome, wit::ConnectorError>> {
        Ok(self.send_letters(letters, wait_ms).await)
    }

    async fn emit_truncate(
        &mut self,
        event: wit::TruncateEvent,
        wait_ms: u32,
    ) -> wasmtime::Result<Result<EmitOutcome, wit::ConnectorError>> {
        Ok(self.send_truncate(event, wait_ms).await)
    }

    async fn emit_range(
        &mut self,
        event: wit::RangeEvent,
        wait_ms: u32,
    ) -> wasmtime::Result<Result<EmitOutcome, wit::ConnectorError>> {
        Ok(self.send_range(event, wait_ms).await)
    }

    async fn subscribe_capacity(&mut self) -> wasmtime::Result<Resource<DynPollable>> {
        let interest = match &self.output {
            Some(output) => Interest::Capacity(output.sender.waiter()),
            None => Interest::Now,
        };
        self.pollable(interest)
    }
}
