//! A running destination.

use crate::error::{GuestError, HostError, HostErrorKind};
use crate::host::{AckState, Acknowledged, InputState, PublishState};
use crate::instance::{Guest, InstanceOptions, call, call_fallible, check_spec, open_request};
use crate::link::EventReceiver;
use crate::requests::{ClaimStream, ClaimedStream, PrepareRequest, PublishRequest, WriteRequest};
use crate::runtime::Connector;
use crate::source::violation;
use crate::wit::exports::rapidbyte::connector::destination as exports;
use rapidbyte_types::{CheckItem, DeadLetter, PublishSummary, RunContext, StreamContext, WriteSummary};
use std::sync::Arc;

/// One instance of a destination, with a store of its own. Dropping a call's future stops the guest and spoils the instance.
pub struct DestinationInstance {
    guest: Guest,
    exports: exports::Guest,
}

impl DestinationInstance {
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

    /// Looks at the destination and each target.
    ///
    /// # Errors
    /// As every call: the connector's own error, a trap, or the host's failure.
    pub async fn check(&mut self, streams: Vec<StreamContext>) -> Result<Vec<CheckItem>, GuestError> {
        let Self { guest, exports } = self;
        let streams = crate::convert::all(streams);
        let items = call_fallible!(guest, call_timeout, exports.call_check(&mut guest.store, &streams))?;
        Ok(guest.check_items(items))
    }

    /// Takes the right to write. The answer has the order of the request, and every epoch is above the known one.
    ///
    /// # Errors
    /// As every call.
    pub async fn claim(&mut self, run: RunContext, streams: Vec<ClaimStream>) -> Result<Vec<ClaimedStream>, GuestError> {
        let Self { guest, exports } = self;
        let known: Vec<u64> = streams.iter().map(|stream| stream.known_epoch).collect();
        let request = exports::ClaimRequest { run: run.into(), streams: crate::convert::all(streams) };
        let claimed = call_fallible!(guest, call_timeout, exports.call_claim(&mut guest.store, &request))?;
        let mut claimed: Vec<ClaimedStream> = crate::convert::all(claimed);
        if claimed.len() != known.len() {
            return Err(violation(format!("`claim` answers for {} streams, {} were asked for", claimed.len(), known.len())));
        }
        if claimed.iter().zip(&known).any(|(stream, known)| stream.epoch <= *known) {
            return Err(violation("`claim` gives an epoch that is not above the known one".into()));
        }
        for stream in &mut claimed {
            stream.location = guest.words(&stream.location);
        }
        Ok(claimed)
    }

    /// Opens a generation, or goes on with it.
    ///
    /// # Errors
    /// As every call.
    pub async fn prepare(&mut self, request: PrepareRequest) -> Result<(), GuestError> {
        let Self { guest, exports } = self;
        call_fallible!(guest, call_timeout, exports.call_prepare(&mut guest.store, &request.into()))
    }

    /// Takes events until the end. `acknowledged` hears of every commit, in order; when this returns well there is none open.
    ///
    /// # Errors
    /// As every call. `upstream_closed` is an echo of the stage before.
    pub async fn write(
        &mut self,
        request: WriteRequest,
        receiver: EventReceiver,
        acknowledged: Box<dyn Acknowledged>,
    ) -> Result<WriteSummary, GuestError> {
        let Self { guest, exports } = self;
        let state = guest.store.data_mut();
        state.input = Some(InputState::for_destination(receiver));
        state.acks = Some(AckState::new(request.streams.clone(), acknowledged));
        let outcome = call_fallible!(guest, stream_timeout, exports.call_write(&mut guest.store, &request.into()));
        let state = guest.store.data_mut();
        let ended = state.input.take().is_some_and(|input| input.ended);
        let open = state.acks.take().map_or(0, |acks| acks.open());
        let summary = outcome?;
        if !ended {
            return Err(violation("`write` returned before the end of its input".into()));
        }
        if open > 0 {
            return Err(violation(format!("`write` returned with {open} commits not acknowledged")));
        }
        Ok(summary.into())
    }

    /// Makes a generation visible. Gives also the rows that this act has put into the destination's dead-letter table.
    ///
    /// # Errors
    /// As every call.
    pub async fn publish(&mut self, request: PublishRequest) -> Result<(PublishSummary, Vec<DeadLetter>), GuestError> {
        let Self { guest, exports } = self;
        guest.store.data_mut().published = Some(PublishState::new(request.context.clone()));
        let outcome = call_fallible!(guest, call_timeout, exports.call_publish(&mut guest.store, &request.into()));
        let letters = guest.store.data_mut().published.take().map_or_else(Vec::new, PublishState::into_letters);
        let mut summary = PublishSummary::from(outcome?);
        summary.location = guest.words(&summary.location);
        Ok((summary, letters))
    }

    /// Removes what the pipeline left beside the data.
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

    /// Whether whoever read its standard output has gone away.
    pub fn output_closed(&self) -> bool {
        self.guest.output_closed()
    }
}
