//! A running source.

use crate::error::{GuestError, HostError, HostErrorKind};
use crate::host::{BarrierGate, OutputState};
use crate::instance::{Guest, InstanceOptions, call, call_fallible, check_spec, open_request};
use crate::ipc::{Refusal, check_schema};
use crate::link::EventSender;
use crate::requests::{DiscoveredStream, PartitionPlan, PlanRequest, ReadRequest};
use crate::runtime::Connector;
use crate::wit::exports::rapidbyte::connector::source as exports;
use rapidbyte_types::{CheckItem, ConnectorError, MAX_POSITION_BYTES, Position, ReadSummary, RunContext, StreamContext};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::watch;

/// Streams one `discover` may list, and partitions one plan may have.
const MAX_LISTED: usize = 100_000;
const MAX_IDENTITY: usize = 4 << 10;

/// One instance of a source, with a store of its own. Dropping a call's future stops the guest and spoils the instance.
pub struct SourceInstance {
    guest: Guest,
    exports: exports::Guest,
}

impl SourceInstance {
    /// Instantiates, compares `spec` with the manifest, and opens.
    ///
    /// # Errors
    /// When a grant can't be given, the component contradicts its manifest, or `open` fails.
    pub async fn open(connector: &Arc<Connector>, options: &InstanceOptions) -> Result<Self, GuestError> {
        let mut guest = Guest::new(connector, options).await?;
        let exports = exports::GuestIndices::new(connector.pre())
            .and_then(|indices| indices.load(&mut guest.store, &guest.instance))
            .map_err(|error| {
                HostError::new(HostErrorKind::Protocol, "the component's functions have other types").because(error)
            })?;
        let spec = call!(guest, call_timeout, exports.call_spec(&mut guest.store))?;
        check_spec(connector, spec.into())?;
        let request = open_request(options);
        call_fallible!(guest, call_timeout, exports.call_open(&mut guest.store, &request))?;
        Ok(Self { guest, exports })
    }

    /// The next calls are for the stream that these options name, with its state and within its limits for batches and time. All
    /// else must be as the instance was opened with.
    pub fn turn_to(&mut self, options: &InstanceOptions) {
        self.guest.turn_to(options);
    }

    /// Whether another call makes sense: the last one was not stopped and did not trap, and the guest was never refused memory.
    pub fn is_sound(&self) -> bool {
        self.guest.is_sound()
    }

    /// The guest's memory, in bytes. It never shrinks.
    pub fn memory(&self) -> usize {
        self.guest.memory()
    }

    /// Looks at the server and each stream.
    ///
    /// # Errors
    /// As every call: the connector's own error, a trap, or the host's failure.
    pub async fn check(&mut self, streams: Vec<StreamContext>) -> Result<Vec<CheckItem>, GuestError> {
        let Self { guest, exports } = self;
        let streams = crate::convert::all(streams);
        let items = call_fallible!(guest, call_timeout, exports.call_check(&mut guest.store, &streams))?;
        Ok(guest.check_items(items))
    }

    /// Lists the streams; every schema has passed the structural check.
    ///
    /// # Errors
    /// As every call.
    pub async fn discover(&mut self) -> Result<Vec<DiscoveredStream>, GuestError> {
        let Self { guest, exports } = self;
        let found = call_fallible!(guest, call_timeout, exports.call_discover(&mut guest.store))?;
        if found.len() > MAX_LISTED {
            return Err(violation(format!("`discover` lists {} streams, {MAX_LISTED} are allowed", found.len())));
        }
        let found: Vec<DiscoveredStream> = crate::convert::all(found);
        for stream in &found {
            check_schema(&stream.schema)
                .map_err(|Refusal(why)| violation(format!("`discover` gives stream `{}` an invalid schema: {why}", stream.name)))?;
        }
        Ok(found)
    }

    /// Names the data behind the configuration; `None` = the source can't tell.
    ///
    /// # Errors
    /// As every call.
    pub async fn identity(&mut self) -> Result<Option<String>, GuestError> {
        let Self { guest, exports } = self;
        let identity = call_fallible!(guest, call_timeout, exports.call_identity(&mut guest.store))?;
        match identity {
            Some(name) if name.is_empty() || name.len() > MAX_IDENTITY => {
                Err(violation(format!("`identity` gives a name of {} bytes, allowed are 1 to {MAX_IDENTITY}", name.len())))
            }
            other => Ok(other),
        }
    }

    /// Splits a stream.
    ///
    /// # Errors
    /// As every call.
    pub async fn plan_partitions(&mut self, request: PlanRequest) -> Result<PartitionPlan, GuestError> {
        let Self { guest, exports } = self;
        let plan = call_fallible!(guest, call_timeout, exports.call_plan_partitions(&mut guest.store, &request.into()))?;
        let plan = PartitionPlan::from(plan);
        let longest = plan.partitions.iter().map(|p| p.id.len().max(p.spec.len())).max().unwrap_or(0);
        if longest.max(plan.token.len()).max(plan.snapshot.len()) > MAX_POSITION_BYTES || plan.partitions.len() > MAX_LISTED {
            return Err(violation("a partition plan is larger than the protocol allows".into()));
        }
        let mut ids = HashSet::new();
        if let Some(twice) = plan.partitions.iter().find(|partition| !ids.insert(partition.id.as_str())) {
            return Err(violation(format!("two partitions have the id `{}`", twice.id.chars().take(64).collect::<String>())));
        }
        Ok(plan)
    }

    /// Reads into the link until the share is done. `gate` decides which barriers travel on; `durable` holds the newest
    /// position the destination has made durable. After this the caller sends the last barrier and the end itself.
    ///
    /// # Errors
    /// As every call. `downstream_closed` is an echo of the next stage's failure.
    pub async fn read(
        &mut self,
        request: ReadRequest,
        sender: EventSender,
        gate: Box<dyn BarrierGate>,
        durable: watch::Receiver<Option<Position>>,
    ) -> Result<ReadSummary, GuestError> {
        let Self { guest, exports } = self;
        let state = guest.store.data_mut();
        state.output = Some(OutputState::gated(sender, gate, request.streams.len()));
        state.durable = Some(durable);
        let outcome = call_fallible!(guest, stream_timeout, exports.call_read(&mut guest.store, &request.into()));
        let state = guest.store.data_mut();
        state.output = None;
        state.durable = None;
        Ok(outcome?.into())
    }

    /// Tells that `position` is durable.
    ///
    /// # Errors
    /// As every call.
    pub async fn confirm(&mut self, position: Position) -> Result<(), GuestError> {
        let Self { guest, exports } = self;
        call_fallible!(guest, call_timeout, exports.call_confirm(&mut guest.store, &position.into()))
    }

    /// Removes what the pipeline left at the source.
    ///
    /// # Errors
    /// As every call.
    pub async fn teardown(&mut self, run: RunContext, streams: Vec<StreamContext>) -> Result<(), GuestError> {
        let Self { guest, exports } = self;
        let streams = crate::convert::all(streams);
        call_fallible!(guest, call_timeout, exports.call_teardown(&mut guest.store, &run.into(), &streams))
    }

    /// The store and the exports, for interfaces beside the role's own.
    pub(crate) fn into_parts(self) -> (Guest, exports::Guest) {
        (self.guest, self.exports)
    }

    /// Closes the connector and gives its memory back.
    ///
    /// # Errors
    /// As every call.
    pub async fn close(mut self) -> Result<(), GuestError> {
        let Self { guest, exports } = &mut self;
        call_fallible!(guest, call_timeout, exports.call_close(&mut guest.store))
    }
}

/// A connector that breaks the protocol.
pub(crate) fn violation(what: String) -> GuestError {
    GuestError::Connector(ConnectorError::internal("protocol_violation", what))
}
