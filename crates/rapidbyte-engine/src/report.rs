//! What a run did, for people and programs.

use crate::task::Moved;
use rapidbyte_types::{ReadPerf, StreamName, WritePerf};
use serde::Serialize;
use std::time::Duration;

/// Nanoseconds spent in each step, summed over tasks. Steps of different tasks and stages overlap, so the sum may exceed the
/// run's duration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Timings {
    /// Connectors reaching their servers.
    pub connect: u64,
    /// The source waiting for its query to start.
    pub query: u64,
    /// The source waiting for bytes.
    pub fetch: u64,
    /// The source making Arrow.
    pub encode: u64,
    /// The destination reading Arrow.
    pub decode: u64,
    /// The destination handing bytes on.
    pub flush: u64,
    /// The destination making them durable.
    pub commit: u64,
    /// The host making instances.
    pub vm_setup: u64,
    /// Sources and transforms waiting for room.
    pub emit_batch: u64,
    /// Transforms and destinations waiting for batches.
    pub next_batch: u64,
    /// The host packing frames.
    pub compress: u64,
    /// The host unpacking them.
    pub decompress: u64,
}

impl Timings {
    /// Each step's name and nanoseconds, in the order of the work.
    pub fn steps(&self) -> [(&'static str, u64); 12] {
        [
            ("connect", self.connect),
            ("query", self.query),
            ("fetch", self.fetch),
            ("encode", self.encode),
            ("decode", self.decode),
            ("flush", self.flush),
            ("commit", self.commit),
            ("vm_setup", self.vm_setup),
            ("emit_batch", self.emit_batch),
            ("next_batch", self.next_batch),
            ("compress", self.compress),
            ("decompress", self.decompress),
        ]
    }

    pub(crate) fn add_read(&mut self, perf: &ReadPerf) {
        self.connect += perf.connect_ns;
        self.query += perf.query_ns;
        self.fetch += perf.fetch_ns;
        self.encode += perf.encode_ns;
    }

    pub(crate) fn add_write(&mut self, perf: &WritePerf) {
        self.connect += perf.connect_ns;
        self.decode += perf.decode_ns;
        self.flush += perf.flush_ns;
        self.commit += perf.commit_ns;
    }
}

/// What a run did for one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamReport {
    /// Its name at the source.
    #[serde(serialize_with = "as_text")]
    pub stream: StreamName,
    /// Rows its source emitted in this run.
    pub rows_read: u64,
    /// Payload bytes its source emitted in this run.
    pub bytes_read: u64,
    /// Rows made durable in this run.
    pub rows_written: u64,
    /// Payload bytes the destination took in.
    pub bytes_written: u64,
    /// Rows that became visible with the load, those of an interrupted run before included.
    pub rows_published: u64,
    /// Rows left out by policy.
    pub rows_skipped: u64,
    /// Those of them that the stream's contract left out.
    pub rows_discarded: u64,
    /// Rows put into the dead letters.
    pub dead_letters: u64,
    /// Commits.
    pub checkpoints: u64,
    /// Shares it was read in.
    pub partitions: u64,
    /// Attempts, 1 if all went well.
    pub attempts: u32,
    /// An interrupted run's receipts were found and gone on from.
    pub resumed: bool,
    /// Where the rows are, in the destination's words.
    pub location: String,
}

impl StreamReport {
    /// Of a stream for which nothing has been done yet.
    pub(crate) fn of(stream: &StreamName) -> Self {
        Self {
            stream: stream.clone(),
            rows_read: 0,
            bytes_read: 0,
            rows_written: 0,
            bytes_written: 0,
            rows_published: 0,
            rows_skipped: 0,
            rows_discarded: 0,
            dead_letters: 0,
            checkpoints: 0,
            partitions: 0,
            attempts: 1,
            resumed: false,
            location: String::new(),
        }
    }

    /// Adds what a share of this stream alone has moved.
    pub(crate) fn add(&mut self, moved: &Moved) {
        self.rows_read += moved.read.records;
        self.bytes_read += moved.read.bytes;
        self.rows_written += moved.rows_durable();
        self.bytes_written += moved.bytes_durable();
        self.checkpoints += moved.durable.commits;
        self.dead_letters += moved.letters();
        self.rows_discarded += moved.discarded;
        self.rows_skipped += moved.discarded
            + moved.read.records_skipped
            + moved.write.records_skipped
            + moved.transformed.iter().map(|summary| summary.records_skipped).sum::<u64>();
    }

    /// Adds what a share of several streams has moved of the one at this place.
    pub(crate) fn add_of(&mut self, moved: &Moved, place: usize) {
        let (rows, bytes) = moved.emitted.get(place).copied().unwrap_or_default();
        self.rows_read += rows;
        self.bytes_read += bytes;
        if let Some(durable) = moved.durable.streams.get(place) {
            self.rows_written += durable.rows;
            self.bytes_written += durable.bytes;
            self.dead_letters += durable.letters;
        }
        self.checkpoints += moved.durable.commits;
    }
}

fn as_text<S: serde::Serializer>(name: &StreamName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunReport {
    /// The run's UUID.
    pub run_id: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// Each stream that succeeded, in the pipeline's order.
    pub streams: Vec<StreamReport>,
    /// How long it took.
    #[serde(rename = "duration_ms", serialize_with = "as_millis")]
    pub duration: Duration,
    /// Where the time went, in nanoseconds.
    pub timings_ns: Timings,
    /// A reader of the destination's output went away, which ended the run early and well.
    pub output_closed: bool,
    /// Rows left out by `on_data_error: skip` and by contracts, over all streams: the run succeeded without them.
    pub rows_dropped: u64,
}

fn as_millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
