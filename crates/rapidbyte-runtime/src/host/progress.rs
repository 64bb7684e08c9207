//! `progress`: a source's barriers, and what has become durable.

use super::pollables::Interest;
use super::{HostState, out_of_place, wait};
use crate::link::{Barrier, Sent, downstream_closed};
use crate::wit::rapidbyte::connector::output::EmitOutcome;
use crate::wit::rapidbyte::connector::progress::Host;
use crate::wit::rapidbyte::connector::types as wit;
use rapidbyte_types::{ConnectorError, MAX_POSITION_BYTES, Position};
use wasmtime::component::Resource;
use wasmtime_wasi::p2::DynPollable;

impl HostState {
    async fn send_barrier(&mut self, position: Position, wait_ms: u32) -> Result<EmitOutcome, ConnectorError> {
        if position.value.len() > MAX_POSITION_BYTES {
            return Err(ConnectorError::internal(
                "position_too_large",
                format!("a position has {} bytes, {MAX_POSITION_BYTES} are allowed", position.value.len()),
            ));
        }
        let output = self.output("emit-barrier")?;
        let Some(gate) = &mut output.gate else { return Err(out_of_place("emit-barrier", "read")) };
        let make = || {
            let decision = gate.barrier(&position)?;
            Some(Barrier {
                id: decision.id,
                commit: decision.commit,
                last: decision.last,
                position: Some(position),
                transform_state: Vec::new(),
            })
        };
        match output.sender.send_barrier(wait(wait_ms), make).await {
            Sent::Accepted => Ok(EmitOutcome::Accepted),
            Sent::Full => Ok(EmitOutcome::Full),
            Sent::Closed => Err(downstream_closed()),
        }
    }
}

impl Host for HostState {
    async fn emit_barrier(
        &mut self,
        position: wit::Position,
        wait_ms: u32,
    ) -> wasmtime::Result<Result<EmitOutcome, wit::ConnectorError>> {
        Ok(self.send_barrier(position.into(), wait_ms).await.map_err(Into::into))
    }

    async fn durable_position(&mut self) -> wasmtime::Result<Option<wit::Position>> {
        let durable = self.durable.as_mut().and_then(|watch| watch.borrow_and_update().clone());
        Ok(durable.map(Into::into))
    }

    async fn subscribe_durable(&mut self) -> wasmtime::Result<Resource<DynPollable>> {
        let interest = match &self.durable {
            Some(watch) => Interest::Durable(watch.clone()),
            None => Interest::Now,
        };
        self.pollable(interest)
    }
}
