//! What a run tells whoever watches it.

use crate::error::EngineError;
use rapidbyte_types::StreamName;
use std::time::Duration;

/// Something happened. Texts are redacted already.
#[derive(Debug)]
pub enum RunEvent<'a> {
    /// The pipeline has been loaded and the run recorded.
    Started {
        /// The run's UUID.
        run_id: &'a str,
        /// The pipeline's name.
        pipeline: &'a str,
        /// Streams to be moved.
        streams: usize,
    },
    /// A stream is about to be moved.
    Planned {
        /// Its name.
        stream: &'a StreamName,
        /// Shares still to be read.
        partitions: usize,
        /// An interrupted run is gone on with.
        resumed: bool,
    },
    /// A batch has left the source.
    Read {
        /// Its stream.
        stream: &'a StreamName,
        /// Its rows.
        rows: u64,
        /// Its payload bytes.
        bytes: u64,
    },
    /// A commit is durable.
    Committed {
        /// Its stream.
        stream: &'a StreamName,
        /// Rows since the commit before.
        rows: u64,
        /// Payload bytes since the commit before.
        bytes: u64,
    },
    /// A stream failed and will be tried again.
    Retrying {
        /// Its name.
        stream: &'a StreamName,
        /// The attempt that failed, from 1.
        attempt: u32,
        /// How long until the next.
        wait: Duration,
        /// Why.
        error: &'a EngineError,
    },
    /// A stream's rows are visible.
    Published {
        /// Its name.
        stream: &'a StreamName,
        /// Rows of the load.
        rows: u64,
        /// Where they are.
        location: &'a str,
    },
    /// A stream was given up.
    Failed {
        /// Its name.
        stream: &'a StreamName,
        /// Why.
        error: &'a EngineError,
    },
    /// The loads are done, and changes are read as they come until the run is asked to stop. Again after each failure.
    Following,
    /// How long ago the newest change that is durable was committed at the source. Comes with commits of a run that follows.
    Lag {
        /// By the clocks of both machines.
        lag: Duration,
    },
    /// The first rows that reached the destination in this run.
    Peek {
        /// Their stream.
        stream: &'a StreamName,
        /// A table, ready to be shown.
        table: &'a str,
    },
}

/// Watches a run. Called from many threads, often; must not block.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: RunEvent<'_>);
}

/// Nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn event(&self, _event: RunEvent<'_>) {}
}
