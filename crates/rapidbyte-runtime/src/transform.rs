//! A running transform.

use crate::error::{GuestError, HostError, HostErrorKind};
use crate::host::{InputState, OutputState};
use crate::instance::{Guest, InstanceOptions, call, call_fallible, check_spec, open_request};
use crate::link::{EventReceiver, EventSender};
use crate::requests::TransformRequest;
use crate::runtime::Connector;
use crate::source::violation;
use crate::transform_state::StateMark;
use crate::wit::exports::rapidbyte::connector::transform as exports;
use rapidbyte_types::{CheckItem, StreamContext, TransformSummary};
use std::sync::Arc;

/// One instance of a transform, with a store of its own. Dropping a call's future stops the guest and spoils the instance.
pub struct TransformInstance {
    guest: Guest,
    exports: exports::Guest,
}

impl TransformInstance {
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

    /// Looks at what it can without data.
    ///
    /// # Errors
    /// As every call: the connector's own error, a trap, or the host's failure.
    pub async fn check(&mut self, streams: Vec<StreamContext>) -> Result<Vec<CheckItem>, GuestError> {
        let Self { guest, exports } = self;
        let streams = crate::convert::all(streams);
        let items = call_fallible!(guest, call_timeout, exports.call_check(&mut guest.store, &streams))?;
        Ok(guest.check_items(items))
    }

    /// Takes events until the end and passes on what it makes of them; the caller sends the end itself. `place` is its place
    /// in the pipeline, under which its state travels with barriers, behind `mark`. Without a mark it may give none.
    ///
    /// # Errors
    /// As every call. `upstream_closed` and `downstream_closed` are echoes of other stages.
    pub async fn transform(
        &mut self,
        request: TransformRequest,
        place: u32,
        mark: Option<StateMark>,
        receiver: EventReceiver,
        sender: EventSender,
    ) -> Result<TransformSummary, GuestError> {
        let Self { guest, exports } = self;
        let state = guest.store.data_mut();
        state.output = Some(OutputState::placed(sender, place, mark, request.streams.len()));
        state.input = Some(InputState::for_transform(receiver));
        let outcome = call_fallible!(guest, stream_timeout, exports.call_transform(&mut guest.store, &request.into()));
        let state = guest.store.data_mut();
        state.output = None;
        let input = state.input.take();
        let summary = outcome?;
        let Some(input) = input.filter(|input| input.ended) else {
            return Err(violation("`transform` returned before the end of its input".into()));
        };
        if !input.held.is_empty() {
            return Err(violation(format!("`transform` returned with {} barriers not passed on", input.held.len())));
        }
        Ok(summary.into())
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
