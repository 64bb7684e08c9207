//! Digests of rows, for `verify`.

use crate::{ConnectorError, DigestRequest, KeyDigest, PinRequest, Pinned, RangeDigest};

/// Digests rows where they are. Optional: a source or destination that implements it says so in `connector_main!`.
///
/// Two connectors compare whose [`Pinned::method`]s are equal. The encoding of values is described in `docs/design/verify.md`.
/// Called after `init` in the order `pin`, any of the others, perhaps `pin` again for a later view, `close`. Writes nothing.
pub trait DigestRanges {
    /// Fixes one view of a stream's rows, in place of an earlier one. A source looks at the stream's table, a destination at the
    /// stream's target. `None` = it is not there.
    fn pin(&mut self, request: &PinRequest) -> Result<Option<Pinned>, ConnectorError>;

    /// Digests the pinned rows by ranges of the key's hash. Ranges without rows may be left out.
    fn digest(&mut self, request: &DigestRequest) -> Result<Vec<RangeDigest>, ConnectorError>;

    /// The keys of some ranges with their digests, at most `max` of them.
    fn list_keys(&mut self, request: &DigestRequest, ranges: &[u32], max: u32) -> Result<Vec<KeyDigest>, ConnectorError>;
}
