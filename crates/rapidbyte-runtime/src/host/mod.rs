//! What a guest can call: one file per capability, each with its own state and limits.

mod acknowledge;
mod forward;
mod input;
mod net;
mod output;
mod pollables;
mod progress;
mod state;
mod telemetry;

pub use acknowledge::Acknowledged;
pub use output::{BarrierDecision, BarrierGate};
pub use state::{NoState, StateAccess, StateScope};
pub use telemetry::{MetricKind, NoTelemetry, TelemetrySink};

pub(crate) use acknowledge::{AckState, PublishState};
pub(crate) use input::InputState;
pub(crate) use output::OutputState;
pub(crate) use telemetry::{Labels, TelemetryState};

use crate::limits::Limiter;
use crate::net::NetState;
use crate::timings::HostTimings;
use crate::wit::rapidbyte::connector::net::NetError;
use rapidbyte_types::{ConnectorError, Position};
use std::sync::Arc;
use tokio::sync::watch;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// Everything the host keeps for one instance.
pub(crate) struct HostState {
    pub(crate) table: ResourceTable,
    pub(crate) wasi: WasiCtx,
    pub(crate) limiter: Limiter,
    pub(crate) net: NetState,
    pub(crate) telemetry: TelemetryState,
    pub(crate) state: Arc<dyn StateAccess>,
    pub(crate) timings: Arc<HostTimings>,
    pub(crate) max_batch_bytes: usize,
    /// Its number, for the sweeps of faults.
    #[cfg(feature = "crash-points")]
    pub(crate) instance: u64,
    /// Set for the length of a `read` or `transform`.
    pub(crate) output: Option<OutputState>,
    /// Set for the length of a `write` or `transform`.
    pub(crate) input: Option<InputState>,
    /// Set for the length of a `write`.
    pub(crate) acks: Option<AckState>,
    /// Set for the length of a `publish`: dead letters of that act.
    pub(crate) published: Option<PublishState>,
    /// Set for the length of a `read`.
    pub(crate) durable: Option<watch::Receiver<Option<Position>>>,
}

impl HostState {
    /// What a sweep of faults wants of a call that may fail: that it does, or that the guest traps. Nothing in a release.
    #[cfg(feature = "crash-points")]
    pub(crate) fn struck(&self) -> wasmtime::Result<Option<NetError>> {
        match crate::fault::strike(self.instance) {
            crate::fault::Struck::Nothing => Ok(None),
            crate::fault::Struck::Error => Ok(Some(crate::fault::failure())),
            crate::fault::Struck::Trap => Err(crate::fault::trap()),
        }
    }

    #[cfg(not(feature = "crash-points"))]
    #[inline]
    pub(crate) fn struck(&self) -> wasmtime::Result<Option<NetError>> {
        Ok(None)
    }
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// What a guest is told that calls a function outside the one it belongs to.
pub(crate) fn out_of_place(function: &str, within: &str) -> ConnectorError {
    ConnectorError::internal("out_of_place", format!("`{function}` was called outside `{within}`"))
}

/// A waiting time as asked for by a guest.
pub(crate) fn wait(ms: u32) -> std::time::Duration {
    std::time::Duration::from_millis(ms.into())
}

impl crate::wit::rapidbyte::connector::types::Host for HostState {}
