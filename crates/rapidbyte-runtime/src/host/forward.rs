//! `forward`: how a transform passes a barrier on.

use super::{HostState, out_of_place};
use crate::link::Event;
use crate::transform_state::StateMark;
use crate::wit::rapidbyte::connector::forward::Host;
use crate::wit::rapidbyte::connector::types as wit;
use rapidbyte_types::{ConnectorError, MAX_TRANSFORM_STATE_BYTES};

impl HostState {
    async fn forward(&mut self, id: u64, state: Option<Vec<u8>>) -> Result<(), ConnectorError> {
        let refused = |code: &str, message: String| ConnectorError::internal(code, message);
        let (Some(input), Some(output)) = (&mut self.input, &mut self.output) else {
            return Err(out_of_place("forward-barrier", "transform"));
        };
        if let Some(state) = &state {
            if output.mark.is_none() {
                // Several partitions may be under way, and none of their states would be that of the stream.
                let message = "the transform gave a state, and its manifest does not say `stateful: true`".to_owned();
                return Err(refused("undeclared_state", message));
            }
            if state.len() > MAX_TRANSFORM_STATE_BYTES {
                let message = format!("the state has {} bytes, {MAX_TRANSFORM_STATE_BYTES} are allowed", state.len());
                return Err(refused("state_too_large", message));
            }
        }
        match input.held.front() {
            Some(barrier) if barrier.id == id => {}
            Some(barrier) => return Err(refused("barrier_order", format!("barrier {id} was passed on before {}", barrier.id))),
            None => return Err(refused("unknown_barrier", format!("barrier {id} was never seen, or passed on before"))),
        }
        let Some(mut barrier) = input.held.pop_front() else { return Ok(()) };
        if let Some(mark) = &output.mark {
            barrier.transform_state.push((output.place, mark.seal(state)));
            let total: usize = barrier.transform_state.iter().map(|(_, sealed)| sealed.len() - StateMark::BYTES - 1).sum();
            if total > MAX_TRANSFORM_STATE_BYTES {
                let message =
                    format!("the states of all transforms have {total} bytes together, {MAX_TRANSFORM_STATE_BYTES} are allowed");
                return Err(refused("state_too_large", message));
            }
        }
        output.complete = barrier.last;
        output.sender.send(Event::Barrier(barrier)).await
    }
}

impl Host for HostState {
    async fn forward_barrier(&mut self, id: u64, state: Option<Vec<u8>>) -> wasmtime::Result<Result<(), wit::ConnectorError>> {
        Ok(self.forward(id, state).await.map_err(Into::into))
    }
}
