//! Streams that are to begin anew.

use rapidbyte_types::StreamName;

/// A stream whose next run gives up its open load, at the destination too, and begins another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetRecord {
    /// Which stream, by its name at the source.
    pub stream: StreamName,
    /// Unix milliseconds.
    pub asked_at_ms: u64,
}
