//! The Wasmtime host: loads connectors, runs them in a sandbox, and joins them.
//!
//! A [`Runtime`] holds the engine of the process. [`Runtime::load`] makes a [`Connector`] of a packed component, from which
//! instances are opened: [`SourceInstance`], [`DestinationInstance`], [`TransformInstance`], each with a store of its own.
//! [`link`] joins two of them. Everything a guest hands over is checked before it is used, and nothing it does can make the
//! host panic; dropping a call's future stops it, even in the middle of a loop.

mod aot;
mod convert;
mod error;
#[cfg(feature = "crash-points")]
mod fault;
mod grants;
mod host;
mod instance;
mod ipc;
mod limits;
mod link;
mod mark;
mod net;
mod requests;
mod runtime;
mod timings;
mod wasi;
mod world;

mod destination;
mod digest;
mod dry_run;
mod source;
mod transform;
mod transform_state;

mod wit;

pub use destination::DestinationInstance;
pub use digest::DigestInstance;
pub use dry_run::{DryRunInstance, PlannedStream};
pub use error::{GuestError, HostError, HostErrorKind, Trap, TrapKind};
pub use grants::{DirGrant, Grants};
pub use host::{
    Acknowledged, BarrierDecision, BarrierGate, MetricKind, NoState, NoTelemetry, StateAccess, StateScope, TelemetrySink,
};
pub use instance::InstanceOptions;
pub use limits::{InstanceLimits, MemoryPool};
pub use link::{Barrier, Compression, Event, EventReceiver, EventSender, LinkOptions, MemoryBudget, Sent, link};
pub use mark::mark;
pub use net::{HostPattern, HostPatternError, NetworkGrant, Resolve, SystemResolver};
pub use requests::{
    ClaimStream, ClaimedStream, DiscoveredStream, PartitionPlan, PlanRequest, PrepareRequest, PublishRequest, ReadRequest,
    TransformRequest, WriteRequest, WriteStream,
};
pub use runtime::{AotMode, Connector, Runtime, RuntimeOptions};
pub use source::SourceInstance;
pub use timings::{HostTimings, TimingsSnapshot};
pub use transform::TransformInstance;
pub use transform_state::{OtherMark, StateMark};
pub use wasi::{OpenStdout, StdoutMode};
