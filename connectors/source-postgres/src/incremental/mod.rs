//! Incremental reads: which rows are new, in which order they are read, and from where the next run goes on.
//!
//! The reasons are in `docs/design/incremental.md`.

mod cursor;
mod delivered;
mod horizon;
mod leaves;
mod marker;
mod place;
mod read;

pub(crate) use cursor::{Cursor, check, snapshot};
pub(crate) use delivered::{Delivered, delivered};
pub(crate) use marker::Marker;
pub(crate) use read::read_stream;

use rapidbyte_sdk::{ConnectorError, StreamContext};

/// What an earlier run remembers can't be gone on from.
fn source_changed(stream: &StreamContext, what: &str) -> ConnectorError {
    ConnectorError::data("source_changed", format!("stream `{}`: {what}", stream.name))
        .with_hint("what the stream was begun with is gone; a target that is appended to must be empty before it is loaded again")
}
