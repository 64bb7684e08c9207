//! Write Rapidbyte connectors.
//!
//! A connector is a WebAssembly component with one of three roles. Implement [`Source`], [`Destination`] or [`Transform`],
//! put a `manifest.json` beside `Cargo.toml`, and name the type:
//!
//! ```ignore
//! rapidbyte_sdk::connector_main!(source, MySource);
//! ```
//!
//! A connector has no sockets, no files but the directories it was granted, and no clock of its own to trust: it reaches the
//! world through [`host_tcp`] and [`host_ffi`], and hands data on as Arrow [`RecordBatch`](arrow_array::RecordBatch)es. Calls look blocking; the host
//! suspends the guest and may cancel it at any of them.
//!
//! On a native target every host call goes to the fake host of [`testing`], so that connectors are tested with plain
//! `cargo test`.

mod config;
mod destination;
mod digest;
mod dry_run;
mod events;
mod output;
mod row_wise;
mod scope;
mod source;
mod transform;

pub mod changes;
pub mod host_ffi;
pub mod host_tcp;
pub mod suggest;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

#[cfg(target_family = "wasm")]
mod bindings;
#[cfg(target_family = "wasm")]
mod convert;
#[cfg(target_family = "wasm")]
mod export;

pub use config::{InitContext, parse_config};
pub use destination::{
    ClaimRequest, ClaimStream, ClaimedStream, Destination, PrepareRequest, PublishRequest, WriteRequest, WriteStream,
};
pub use digest::DigestRanges;
pub use dry_run::{DryRun, PlannedStream};
pub use events::{Barrier, Checkpoint, Event, Input, KeyRange, Truncate};
pub use output::{SchemaId, SourceOutput, TransformOutput};
pub use rapidbyte_types::arrow::{BatchDecoder, BatchEncoder, decode_schema, encode_schema, letter, split, text};
pub use rapidbyte_types::{
    BackoffClass, CheckItem, CheckStatus, ColumnEncoding, CommitState, ConnectorError, ConnectorSpec, CursorType, DataErrorPolicy,
    DeadLetter, DigestColumn, DigestRequest, Effect, EffectKind, ErrorCategory, ErrorScope, Generation, KeyDigest, Limits,
    Lookback, MAX_POSITION_BYTES, MAX_TRANSFORM_STATE_BYTES, NewColumnPolicy, NoRowFilter, NullCursorPolicy, NullabilityPolicy,
    Number, PROTOCOL_VERSION, Partition, PinRequest, Pinned, PlannedTarget, Policies, Position, PublishSummary, RangeDigest,
    ReadPerf, ReadSummary, Receipt, RemovedColumnPolicy, RowFilter, RunContext, SafeBoundary, StreamContext, StreamName, SyncMode,
    TransformSummary, TypeChangePolicy, UnknownWord, WriteMode, WritePerf, WriteSummary,
};
pub use row_wise::RowWise;
pub use scope::Scope;
pub use source::{DiscoveredStream, PartitionPlan, PlanRequest, ReadRequest, Source};
pub use transform::{Transform, TransformRequest};

/// Makes the named type the component's connector: `connector_main!(source, MySource)`, `connector_main!(destination, …)`,
/// `connector_main!(transform, …)`. Reads id and version from the `manifest.json` beside the crate's `Cargo.toml`.
///
/// Optional interfaces that the type implements follow its name: `connector_main!(source, MySource, digest_ranges)` for
/// [`DigestRanges`], `dry_run` for [`DryRun`].
///
/// On a native target it does nothing, so that the crate also builds for tests.
#[macro_export]
macro_rules! connector_main {
    (source, $connector:ty $(, $ability:ident)*) => {
        $crate::connector_main!(@export $connector, SourceExport, export_source, source, $($ability)*);
    };
    (destination, $connector:ty $(, $ability:ident)*) => {
        $crate::connector_main!(@export $connector, DestinationExport, export_destination, destination, $($ability)*);
    };
    (transform, $connector:ty) => {
        $crate::connector_main!(@export $connector, TransformExport, export_transform, transform, );
    };
    (@export $connector:ty, $export:ident, $macro:ident, $world:ident, $($ability:ident)*) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Exported;
            impl $crate::__private::Exported for Exported {
                type Connector = $connector;
                const MANIFEST: &'static str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/manifest.json"));
            }
            type Component = $crate::__private::$export<Exported>;
            $crate::__private::$macro!(Component with_types_in $crate::__private::$world);
            $($crate::connector_main!(@ability Exported, $ability);)*
        };
        $($crate::connector_main!(@implemented $connector, $ability);)*
    };
    (@ability $exported:ident, digest_ranges) => {
        type Digests = $crate::__private::DigestRangesExport<$exported>;
        $crate::__private::export_digest_ranges!(Digests with_types_in $crate::__private::digest);
    };
    (@ability $exported:ident, dry_run) => {
        type DryRuns = $crate::__private::DryRunExport<$exported>;
        $crate::__private::export_dry_run!(DryRuns with_types_in $crate::__private::dry_run);
    };
    (@implemented $connector:ty, dry_run) => {
        const _: () = {
            const fn implements<T: $crate::DryRun>() {}
            implements::<$connector>()
        };
    };
    (@implemented $connector:ty, digest_ranges) => {
        const _: () = {
            const fn implements<T: $crate::DigestRanges>() {}
            implements::<$connector>()
        };
    };
}

#[doc(hidden)]
#[cfg(target_family = "wasm")]
pub mod __private {
    pub use crate::bindings::destination::{self, export_destination};
    pub use crate::bindings::digest::{self, export_digest_ranges};
    pub use crate::bindings::dry_run::{self, export_dry_run};
    pub use crate::bindings::source::{self, export_source};
    pub use crate::bindings::transform::{self, export_transform};
    pub use crate::export::{DestinationExport, DigestRangesExport, DryRunExport, Exported, SourceExport, TransformExport};
}
