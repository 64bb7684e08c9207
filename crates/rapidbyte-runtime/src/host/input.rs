//! `input`: what reaches transforms and destinations.

use super::pollables::Interest;
use super::{HostState, out_of_place, wait};
use crate::link::{Barrier, Event, EventReceiver};
use crate::timings::Step;
use crate::wit::rapidbyte::connector::input as wit_input;
use crate::wit::rapidbyte::connector::types as wit;
use rapidbyte_types::ConnectorError;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::DynPollable;

/// Commits a destination may have open when it asks for the next event: one in flight while the next window loads.
const MAX_OPEN_COMMITS: usize = 2;

/// The state of one `write` or `transform`.
pub(crate) struct InputState {
    receiver: EventReceiver,
    /// Barriers a transform has seen and not passed on.
    pub(crate) held: VecDeque<Barrier>,
    /// The guest is a transform, which passes barriers on.
    holds_barriers: bool,
    pub(crate) ended: bool,
}

impl InputState {
    /// For a destination.
    pub(crate) fn for_destination(receiver: EventReceiver) -> Self {
        Self { receiver, held: VecDeque::new(), holds_barriers: false, ended: false }
    }

    /// For a transform.
    pub(crate) fn for_transform(receiver: EventReceiver) -> Self {
        Self { receiver, held: VecDeque::new(), holds_barriers: true, ended: false }
    }
}

fn to_wit(event: Event) -> wit_input::Event {
    match event {
        Event::Schema { stream, schema_id, ipc } => {
            wit_input::Event::Schema(wit_input::SchemaEvent { stream, schema_id, ipc: ipc.into() })
        }
        Event::Batch { stream, schema_id, rows, bytes } => {
            wit_input::Event::Batch(wit_input::BatchEvent { stream, schema_id, rows, ipc: bytes.into() })
        }
        Event::DeadLetters(letters) => wit_input::Event::DeadLetters(crate::convert::all(letters)),
        Event::Truncate { stream, position } => {
            wit_input::Event::Truncate(wit::TruncateEvent { stream, position: position.map(Into::into) })
        }
        Event::ReplaceRange { stream, low, high } => wit_input::Event::ReplaceRange(wit::RangeEvent { stream, low, high }),
        Event::Barrier(Barrier { id, commit, last, position, transform_state }) => {
            wit_input::Event::Barrier(wit_input::BarrierEvent {
                id,
                commit,
                last,
                position: position.map(Into::into),
                transform_state,
            })
        }
        Event::Heartbeat => wit_input::Event::Heartbeat,
        Event::End => wit_input::Event::End,
    }
}

impl HostState {
    async fn take_event(&mut self, wait_ms: u32) -> Result<Option<wit_input::Event>, ConnectorError> {
        let timings = Arc::clone(&self.timings);
        let _span = timings.span(Step::NextBatch);
        let until = Instant::now() + wait(wait_ms);
        let Some(input) = &mut self.input else { return Err(out_of_place("next-event", "write` or `transform")) };
        if input.ended {
            return Err(ConnectorError::internal("past_the_end", "`next-event` was called after `end`"));
        }
        if self.acks.as_ref().is_some_and(|acks| acks.open() >= MAX_OPEN_COMMITS) {
            return Err(ConnectorError::internal(
                "barrier_unacknowledged",
                format!("`next-event` was called with {MAX_OPEN_COMMITS} commits not acknowledged"),
            ));
        }
        let left = until.saturating_duration_since(Instant::now());
        let Some(mut event) = input.receiver.recv_timeout(left).await? else { return Ok(None) };
        match &mut event {
            Event::Barrier(barrier) => {
                if input.holds_barriers {
                    // It waits here whole; the guest is not shown what other transforms have given.
                    let Barrier { id, commit, last, position, .. } = &*barrier;
                    let shown =
                        Barrier { id: *id, commit: *commit, last: *last, position: position.clone(), transform_state: Vec::new() };
                    input.held.push_back(std::mem::replace(barrier, shown));
                }
                if barrier.commit
                    && let Some(acks) = &mut self.acks
                {
                    acks.expect(barrier);
                }
            }
            Event::End => input.ended = true,
            Event::DeadLetters(letters) => {
                if let Some(acks) = &mut self.acks {
                    acks.arrive(letters)?;
                }
            }
            Event::Schema { .. } | Event::Batch { .. } | Event::Truncate { .. } | Event::ReplaceRange { .. } | Event::Heartbeat => {
            }
        }
        Ok(Some(to_wit(event)))
    }
}

impl wit_input::Host for HostState {
    async fn next_event(&mut self, wait_ms: u32) -> wasmtime::Result<Result<Option<wit_input::Event>, wit::ConnectorError>> {
        Ok(self.take_event(wait_ms).await.map_err(Into::into))
    }

    async fn subscribe_event(&mut self) -> wasmtime::Result<Resource<DynPollable>> {
        let interest = match &self.input {
            Some(input) => Interest::Event(input.receiver.waiter()),
            None => Interest::Now,
        };
        self.pollable(interest)
    }
}
