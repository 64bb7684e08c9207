//! The component's exports, over the traits.

use crate::bindings::destination::exports::rapidbyte::connector::destination as wd;
use crate::bindings::digest::exports::rapidbyte::connector::digest_ranges as wg;
use crate::bindings::dry_run::exports::rapidbyte::connector::dry_run as wr;
use crate::bindings::imports::rapidbyte::connector::types as w;
use crate::bindings::source::exports::rapidbyte::connector::source as ws;
use crate::bindings::transform::exports::rapidbyte::connector::transform as wt;
use crate::{
    ConnectorError, ConnectorSpec, Destination, DigestRanges, DryRun, Input, PROTOCOL_VERSION, Source, SourceOutput, Transform,
    TransformOutput, convert, parse_config,
};
use serde::Deserialize;
use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;

/// What `connector_main!` knows of a component.
pub trait Exported: 'static {
    /// The connector.
    type Connector: 'static;
    /// Its manifest, as it stands in the source tree.
    const MANIFEST: &'static str;
}

thread_local! {
    // One instance of a component serves one configuration, so one slot is enough. The exports are static functions, and a
    // generic static can't exist, hence `Any`.
    static OPEN: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
}

#[derive(Deserialize)]
struct Identity {
    id: String,
    version: String,
}

fn spec<E: Exported>() -> w::ConnectorSpec {
    // The build of a connector whose manifest is not JSON is caught by packaging; an empty id is refused by the host.
    let identity = serde_json::from_str(E::MANIFEST).unwrap_or(Identity { id: String::new(), version: String::new() });
    convert::spec_to_wit(ConnectorSpec { id: identity.id, version: identity.version, protocol_version: PROTOCOL_VERSION.into() })
}

fn open<E: Exported>(make: impl FnOnce() -> Result<E::Connector, ConnectorError>) -> Result<(), w::ConnectorError> {
    let connector = make().map_err(convert::error_to_wit)?;
    OPEN.with_borrow_mut(|slot| *slot = Some(Box::new(connector)));
    Ok(())
}

fn call<E: Exported, T>(act: impl FnOnce(&mut E::Connector) -> Result<T, ConnectorError>) -> Result<T, w::ConnectorError> {
    OPEN.with_borrow_mut(|slot| match slot.as_mut().and_then(|any| any.downcast_mut::<E::Connector>()) {
        Some(connector) => act(connector),
        None => Err(ConnectorError::internal("not_open", "the connector was called before `open` or after `close`")),
    })
    .map_err(convert::error_to_wit)
}

fn shut() {
    OPEN.with_borrow_mut(|slot| *slot = None);
}

/// The exports of a source.
pub struct SourceExport<E>(PhantomData<E>);

impl<E: Exported> ws::Guest for SourceExport<E>
where
    E::Connector: Source,
{
    fn spec() -> w::ConnectorSpec {
        spec::<E>()
    }

    fn open(request: w::OpenRequest) -> Result<(), w::ConnectorError> {
        let (config, context) = convert::init_from_wit(request);
        open::<E>(|| E::Connector::init(parse_config(&config)?, context))
    }

    fn check(streams: Vec<w::StreamContext>) -> Result<Vec<w::CheckItem>, w::ConnectorError> {
        let streams = convert::contexts_from_wit(streams);
        call::<E, _>(|source| source.validate(&streams)).map(convert::check_items_to_wit)
    }

    fn identity() -> Result<Option<String>, w::ConnectorError> {
        call::<E, _>(Source::identity)
    }

    fn discover() -> Result<Vec<ws::DiscoveredStream>, w::ConnectorError> {
        call::<E, _>(|source| source.discover()?.into_iter().map(convert::discovered_to_wit).collect())
    }

    fn plan_partitions(request: ws::PlanRequest) -> Result<ws::PartitionPlan, w::ConnectorError> {
        let request = convert::plan_request_from_wit(request);
        call::<E, _>(|source| source.plan_partitions(&request)).map(convert::plan_to_wit)
    }

    fn read(request: ws::ReadRequest) -> Result<w::ReadSummary, w::ConnectorError> {
        let request = convert::read_request_from_wit(request);
        call::<E, _>(|source| source.read(&request, &mut SourceOutput::new())).map(convert::read_summary_to_wit)
    }

    fn confirm(position: w::Position) -> Result<(), w::ConnectorError> {
        let position = convert::position_from_wit(position);
        call::<E, _>(|source| source.confirm(&position))
    }

    fn teardown(run: w::RunContext, streams: Vec<w::StreamContext>) -> Result<(), w::ConnectorError> {
        let (run, streams) = (convert::run_from_wit(run), convert::contexts_from_wit(streams));
        call::<E, _>(|source| source.teardown(&run, &streams))
    }

    fn close() -> Result<(), w::ConnectorError> {
        let closed = call::<E, _>(Source::close);
        shut();
        closed
    }
}

/// The exports of a destination.
pub struct DestinationExport<E>(PhantomData<E>);

impl<E: Exported> wd::Guest for DestinationExport<E>
where
    E::Connector: Destination,
{
    fn spec() -> w::ConnectorSpec {
        spec::<E>()
    }

    fn open(request: w::OpenRequest) -> Result<(), w::ConnectorError> {
        let (config, context) = convert::init_from_wit(request);
        open::<E>(|| E::Connector::init(parse_config(&config)?, context))
    }

    fn check(streams: Vec<w::StreamContext>) -> Result<Vec<w::CheckItem>, w::ConnectorError> {
        let streams = convert::contexts_from_wit(streams);
        call::<E, _>(|destination| destination.validate(&streams)).map(convert::check_items_to_wit)
    }

    fn claim(request: wd::ClaimRequest) -> Result<Vec<wd::ClaimedStream>, w::ConnectorError> {
        let request = convert::claim_request_from_wit(request);
        let claimed = call::<E, _>(|destination| destination.claim(&request))?;
        Ok(claimed.into_iter().map(convert::claimed_to_wit).collect())
    }

    fn prepare(request: wd::PrepareRequest) -> Result<(), w::ConnectorError> {
        let request = convert::prepare_request_from_wit(request);
        call::<E, _>(|destination| destination.prepare(&request))
    }

    fn write(request: wd::WriteRequest) -> Result<w::WriteSummary, w::ConnectorError> {
        let request = convert::write_request_from_wit(request);
        call::<E, _>(|destination| destination.write(&request, &mut Input::new())).map(convert::write_summary_to_wit)
    }

    fn publish(request: wd::PublishRequest) -> Result<wd::PublishSummary, w::ConnectorError> {
        let request = convert::publish_request_from_wit(request);
        call::<E, _>(|destination| destination.publish(&request)).map(convert::publish_summary_to_wit)
    }

    fn teardown(run: w::RunContext, streams: Vec<w::StreamContext>) -> Result<(), w::ConnectorError> {
        let (run, streams) = (convert::run_from_wit(run), convert::contexts_from_wit(streams));
        call::<E, _>(|destination| destination.teardown(&run, &streams))
    }

    fn close() -> Result<(), w::ConnectorError> {
        let closed = call::<E, _>(Destination::close);
        shut();
        closed
    }
}

/// The exports of a transform.
pub struct TransformExport<E>(PhantomData<E>);

impl<E: Exported> wt::Guest for TransformExport<E>
where
    E::Connector: Transform,
{
    fn spec() -> w::ConnectorSpec {
        spec::<E>()
    }

    fn open(request: w::OpenRequest) -> Result<(), w::ConnectorError> {
        let (config, context) = convert::init_from_wit(request);
        open::<E>(|| E::Connector::init(parse_config(&config)?, context))
    }

    fn check(streams: Vec<w::StreamContext>) -> Result<Vec<w::CheckItem>, w::ConnectorError> {
        let streams = convert::contexts_from_wit(streams);
        call::<E, _>(|transform| transform.validate(&streams)).map(convert::check_items_to_wit)
    }

    fn transform(request: wt::TransformRequest) -> Result<w::TransformSummary, w::ConnectorError> {
        let request = convert::transform_request_from_wit(request);
        call::<E, _>(|transform| transform.transform(&request, &mut Input::new(), &mut TransformOutput::new()))
            .map(convert::transform_summary_to_wit)
    }

    fn close() -> Result<(), w::ConnectorError> {
        let closed = call::<E, _>(Transform::close);
        shut();
        closed
    }
}

/// The digests of a source or a destination.
pub struct DigestRangesExport<E>(PhantomData<E>);

impl<E: Exported> wg::Guest for DigestRangesExport<E>
where
    E::Connector: DigestRanges,
{
    fn pin(request: wg::PinRequest) -> Result<Option<wg::Pinned>, w::ConnectorError> {
        let request = convert::pin_request_from_wit(request);
        call::<E, _>(|connector| connector.pin(&request)).map(|pinned| pinned.map(convert::pinned_to_wit))
    }

    fn digest(request: wg::DigestRequest) -> Result<Vec<wg::RangeDigest>, w::ConnectorError> {
        let request = convert::digest_request_from_wit(request);
        let found = call::<E, _>(|connector| connector.digest(&request))?;
        Ok(found.into_iter().map(convert::range_digest_to_wit).collect())
    }

    fn list_keys(request: wg::DigestRequest, ranges: Vec<u32>, max: u32) -> Result<Vec<wg::KeyDigest>, w::ConnectorError> {
        let request = convert::digest_request_from_wit(request);
        let found = call::<E, _>(|connector| connector.list_keys(&request, &ranges, max))?;
        Ok(found.into_iter().map(convert::key_digest_to_wit).collect())
    }
}

/// The dry runs of a destination.
pub struct DryRunExport<E>(PhantomData<E>);

impl<E: Exported> wr::Guest for DryRunExport<E>
where
    E::Connector: DryRun,
{
    fn dry_run(streams: Vec<wr::PlannedStream>) -> Result<Vec<wr::PlannedTarget>, w::ConnectorError> {
        let planned = call::<E, _>(|connector| {
            let streams = streams.into_iter().map(convert::planned_stream_from_wit).collect::<Result<Vec<_>, _>>()?;
            connector.dry_run(&streams)
        })?;
        Ok(planned.into_iter().map(convert::planned_target_to_wit).collect())
    }
}
