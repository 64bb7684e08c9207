//! The vocabulary of Rapidbyte.
//!
//! Host and guests speak with the same words: this crate builds for both and depends on nothing but `serde`, and for the
//! feature `arrow` on Arrow. Each type is
//! the plain Rust face of a record in `wit/v2/types.wit`; conversion happens once per side, in a `convert` module.

#[cfg(feature = "arrow")]
pub mod arrow;
mod digest;
mod dry_run;
mod error;
mod filter;
mod generation;
mod incremental;
mod number;
mod stream;
mod summary;
mod words;

pub use digest::{ColumnEncoding, DigestColumn, DigestRequest, KeyDigest, PinRequest, Pinned, RangeDigest};
pub use dry_run::{Effect, EffectKind, PlannedTarget};
pub use error::{BackoffClass, CommitState, ConnectorError, ErrorCategory, ErrorScope};
pub use filter::{NoRowFilter, RowFilter};
pub use generation::{DeadLetter, Generation, Partition, Receipt};
pub use incremental::{Lookback, NullCursorPolicy, SafeBoundary, UnknownBoundary};
pub use number::Number;
pub use stream::{Limits, Policies, Position, RunContext, StreamContext, StreamName};
pub use summary::{
    CheckItem, CheckStatus, ConnectorSpec, PublishSummary, ReadPerf, ReadSummary, TransformSummary, WritePerf, WriteSummary,
};
pub use words::{
    CursorType, DataErrorPolicy, LostSlotPolicy, NewColumnPolicy, NullabilityPolicy, RemovedColumnPolicy, SyncMode,
    TypeChangePolicy, UnknownWord, WriteMode,
};

/// The protocol version a manifest names and a component's world carries.
pub const PROTOCOL_VERSION: &str = "2";

/// The longest position, partition description or plan token that crosses the boundary, in bytes.
pub const MAX_POSITION_BYTES: usize = 64 << 10;

/// The most state a transform may put into one barrier, in bytes.
pub const MAX_TRANSFORM_STATE_BYTES: usize = 1 << 20;
